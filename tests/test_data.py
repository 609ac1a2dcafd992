"""What a notebook can't test of the dataset: killed and concurrent cache writers, the official
lists, real pictures."""
import multiprocessing, os, shutil, signal, sys, time
from collections import Counter
from types import SimpleNamespace
import numpy as np
import pytest
from conftest import run
from PIL import Image
from petseg_nb.core import pets
from petseg_nb.core.pets import decode_once, read_list, read_pet
from petseg_nb.data import PetDataset, course_split, scan_pets
from petseg_nb.datasets.audit import check_pets

spawn = multiprocessing.get_context('spawn')


def slow_decode(root, folder, pause):
    "Decode, but wait before each picture"
    def slowly(record, size):
        time.sleep(pause)
        return read_pet(record, size)
    pets.read_pet = slowly
    decode_once(scan_pets(root), 32, folder)


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'waited too long'
        time.sleep(.02)


def test_killed_writer_leaves_no_cache(toy_pets, tmp_path):
    writer = spawn.Process(target=slow_decode, args=(toy_pets, tmp_path, .2))
    writer.start()
    wait_for(lambda: any(p.stat().st_size for p in tmp_path.glob('*.part')))
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert not list(tmp_path.glob('*.npy'))
    records = scan_pets(toy_pets)
    cache = decode_once(records, 32, tmp_path) # the lock died with its owner
    np.testing.assert_array_equal(cache[-1], read_pet(records[-1], 32))
    assert not list(tmp_path.glob('*.part'))


def test_two_writers_at_once_agree(toy_pets, tmp_path):
    writers = [spawn.Process(target=slow_decode, args=(toy_pets, tmp_path, .02)) for _ in range(2)]
    for w in writers: w.start()
    for w in writers: w.join(120)
    assert [w.exitcode for w in writers] == [0, 0]
    cache, = tmp_path.glob('*.npy')
    records = scan_pets(toy_pets)
    np.testing.assert_array_equal(np.load(cache), [read_pet(r, 32) for r in records])


def test_full_disk_is_one_line_and_leaves_no_cache(toy_pets, tmp_path, monkeypatch):
    def full(*args): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(os, 'replace', full)
    with pytest.raises(OSError, match='No space left'):
        decode_once(scan_pets(toy_pets), 16, tmp_path)
    assert not list(tmp_path.glob('*.npy'))


SPAWNED = '''
import multiprocessing, sys
import torch
from petseg_nb.augment import Augment
from petseg_nb.data import pet_dataloaders, set_epoch

def batches(workers):
    data, cache, augment = sys.argv[1], sys.argv[2], Augment('strong', 32)
    loaders = pet_dataloaders(data, 32, 8, transform=augment, cache_dir=cache, workers=workers)
    loader = loaders['train']
    for epoch in range(2):
        set_epoch(loader, epoch)
        yield from (torch.cat([images, masks], 1) for images, masks in loader)

if __name__ == '__main__':
    multiprocessing.set_start_method(sys.argv[3])
    assert all(map(torch.equal, batches(0), batches(2)))
    print('same')
'''


ALONE = """
import numpy as np, psutil
from petseg_nb.augment import Augment
from petseg_nb.cli.common import own_process

own_process()
augment, picture = Augment('strong', 256), np.zeros((256, 256, 4), np.uint8)
before = psutil.Process().num_threads()
for seed in range(20): augment(picture[..., :3], picture[..., 3], seed)
print(psutil.Process().num_threads() - before)
"""


@pytest.mark.parametrize('flip', [np.fliplr, np.flipud, np.rot90])
def test_what_numpy_flips_or_rotates_is_a_transform(flip, toy_pets):
    "Views whose strides are negative, or in another order"
    records = scan_pets(toy_pets)[:1]
    dataset = PetDataset(records, 32, transform=lambda image, mask, seed: (flip(image), flip(mask)))
    for plain, flipped in zip(PetDataset(records, 32)[0], dataset[0]):
        assert np.array_equal(flipped.permute(1, 2, 0), flip(plain.permute(1, 2, 0).numpy()))


@pytest.mark.skipif(os.cpu_count() == 1, reason='OpenCV has no other thread here')
def test_a_command_augments_on_one_core(tmp_path):
    assert run(sys.executable, '-c', ALONE, cwd=tmp_path)[0] == '0\n'


@pytest.mark.parametrize('method', ['spawn', 'forkserver'])
def test_workers_that_begin_anew_give_the_same_batches(method, toy_pets, tmp_path):
    script = tmp_path/'spawned.py'
    script.write_text(SPAWNED)
    out, err = run(sys.executable, script, toy_pets, tmp_path/'cache', method)
    assert out == 'same\n', err


def test_course_split_of_the_official_lists(real_pets, tmp_path):
    lists = real_pets.parent/'official-lists'
    if not lists.exists():
        pytest.skip('needs the lists of the full dataset in official-lists/, beside the pictures')
    shutil.copytree(lists, tmp_path/'annotations')
    (tmp_path/'images').mkdir()
    parts = course_split(scan_pets(tmp_path))
    sizes = {name: len(part) for name, part in parts.items()}
    assert sizes == dict(train=3312, valid=368, test=3669)
    trainval = [row[0] for row in read_list(lists/'trainval.txt')]
    assert [r.name for r in parts['valid']] == trainval[::10]
    assert len({r.class_id for r in parts['valid']}) == 37
    assert Counter(r.species for p in parts.values() for r in p) == Counter(cat=2371, dog=4978)


def test_real_files_are_checked_and_read(real_pets):
    found = {(d.kind, d.path.stem) for d in check_pets(scan_pets(real_pets))}
    assert found >= {
        ('GIF named .jpg', 'Abyssinian_34'), ('no pet pixel', 'Abyssinian_34'),
        ('picture in no list', 'Abyssinian_34'), ('PNG named .jpg', 'Abyssinian_5'),
        ('foreign file', 'Abyssinian_100')}
    names = 'Abyssinian_5', 'Bengal_10', 'american_bulldog_100'
    records = [r for r in scan_pets(real_pets) if r.name in names]
    assert [read_pet(r, 64).shape for r in records] == [(64, 64, 4)] * 3


def test_decoding_runs_ahead_of_the_disk_by_few_pictures(tmp_path, monkeypatch):
    "Or those that wait to be written fill the memory, as many as the dataset has"
    read = []
    def read_pet(record, size):
        read.append(record.number)
        return np.full((size, size, 4), record.number % 256, np.uint8)
    def slow_disk(pixels, *args):
        for n, p in enumerate(pixels):
            if n % 500 == 0: time.sleep(.1)
            assert len(read) <= n + 512
            yield p
    monkeypatch.setattr(pets, 'read_pet', read_pet)
    monkeypatch.setattr(pets, 'progress', slow_disk)
    cache = decode_once([SimpleNamespace(files=(), number=n) for n in range(2000)], 2, tmp_path)
    assert sorted(read) == list(range(2000))
    np.testing.assert_array_equal(cache[:, 0, 0, 0], np.arange(2000) % 256)


def test_a_file_that_is_replaced_is_decoded_again(toy_pets, tmp_path):
    "Even if its size and time are those of the file before"
    record = scan_pets(shutil.copytree(toy_pets, tmp_path/'pets'))[0]
    before = np.array(decode_once([record], 32, tmp_path/'cache'))
    trimap, stat = record.trimap, record.trimap.stat()
    data = bytearray(trimap.read_bytes())
    other = Image.fromarray(4 - np.array(record.read_trimap()))  # 1 and 3 change places
    other.save(trimap)
    size = max(len(data), trimap.stat().st_size)
    for content in (bytes(data), trimap.read_bytes()): # two files of one size
        trimap.write_bytes(content.ljust(size, b'\0'))
        os.utime(trimap, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        after = np.array(decode_once([record], 32, tmp_path/'cache'))
    np.testing.assert_array_equal(after[..., :3], before[..., :3])
    np.testing.assert_array_equal(after[..., 3], 4 - before[..., 3])
