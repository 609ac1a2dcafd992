"""`petseg_predict` as a user runs it: on hostile pictures, on a live stream, killed, and with its memory measured."""
import csv, os, queue, shutil, signal, struct, subprocess, sys, threading, zlib
from pathlib import Path
import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from petseg_nb.core.config import TrainConfig, portable
from petseg_nb.core.disk import save_checkpoint
from petseg_nb.data import pet_dataloaders
from petseg_nb.inference import Segmenter
from petseg_nb.runs.folders import decode_rle
from petseg_nb.resnet34_unet import MODELS
from petseg_nb.training import fit
from petseg_nb.checkpoints import model_for
from petseg_nb.datasets.toy import draw_toy_pet

COMMAND = Path(sys.executable).parent/'petseg_predict'


@pytest.fixture(scope='session')
def checkpoint(toy_pets, tmp_path_factory):
    "A small network that has learned a little"
    run_dir = tmp_path_factory.mktemp('run')
    config = TrainConfig(str(toy_pets), width=4, size=32, epochs=3)
    fit(model_for(config), pet_dataloaders(toy_pets, 32, 4), config, run_dir, quiet=True)
    return run_dir/'best.pt'


def start(*words, **kwargs):
    return subprocess.Popen([COMMAND, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)


def predict(*words, stdin=None):
    "Status, pairs of picture and mask, lines on stderr"
    process = start(*words, '--precision', 'fp32', '--device', 'cpu', stdin=subprocess.PIPE)
    out, err = (os.fsdecode(s).splitlines() for s in process.communicate(stdin, timeout=240))
    assert not any('Traceback' in line or 'Warning' in line for line in err), err
    return process.returncode, [line.split('\t') for line in out], err


def pet(i=0): return Image.fromarray(draw_toy_pet(f'Toy_Tabby_{i + 1}', 0)[0])


def oriented(value):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    return exif


def save_good(folder):
    "Pictures that must be read, in formats and modes of all kinds: name to upright size"
    image = pet()
    w, h = image.size
    image.save(folder/'plain.jpg')
    image.save(folder/'progressive.jpg', progressive=True)
    image.save(folder/'webp.webp')
    image.save(folder/'bitmap.bmp')
    image.save(folder/'tiff.tif')
    image.save(folder/'disguised.jpg', format='PNG')
    image.save(folder/'no_ending', format='PNG')
    image.convert('CMYK').save(folder/'cmyk.jpg')
    image.convert('P').save(folder/'palette.png', transparency=bytes(range(256)))
    image.convert('RGBA').save(folder/'rgba.png')
    image.convert('LA').save(folder/'grey_alpha.png')
    image.convert('L').save(folder/'grey.png')
    image.convert('1').save(folder/'black_white.png')
    Image.fromarray(np.asarray(image.convert('L')).astype(np.uint16) * 257).save(folder/'grey16.png')
    image.save(folder/'animated.gif', save_all=True, append_images=[pet(1).resize((w, h))], duration=100)
    image.save(folder/'animated.webp', save_all=True, append_images=[pet(1).resize((w, h))], duration=100)
    image.save(folder/'wände und böden.png')
    image.save(folder/'猫 [1] *.png')
    image.save(folder/'--overlay.png')
    image.resize((1, 1)).save(folder/'tiny.png')
    image.resize((900, 4)).save(folder/'long.png')
    sizes = {p.name: (w, h) for p in folder.iterdir()} | {'tiny.png': (1, 1), 'long.png': (900, 4)}
    for k in range(1, 9):
        image.save(folder/f'exif{k}.jpg', exif=oriented(k), quality=95)
        sizes[f'exif{k}.jpg'] = (h, w) if k > 4 else (w, h)
    return sizes


def save_bad(folder):
    "Files that can't be used: name to words of the message"
    pet().save(folder/'t.jpg')
    pet().save(folder/'t.png')
    jpg, png = (folder/'t.jpg').read_bytes(), (folder/'t.png').read_bytes()
    files = {'truncated.jpg': (jpg[:len(jpg) // 2], 'truncated'), 'truncated.png': (png[:len(png) // 2], 'truncated'),
             'head.jpg': (jpg[:20], 'cannot be read'), 'empty.png': (b'', 'not a picture'), 'text.jpg': (b'this is not a picture', 'not a picture'),
             'script.jpg': (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n', 'not a picture'), 'noise.webp': (os.urandom(3000), 'not a picture'),
             'bomb.png': (huge_png(20_001, 20_000), 'more than 400,000,000 pixels')}
    for name in ('t.jpg', 't.png'): (folder/name).unlink()
    for name, (data, _) in files.items(): (folder/name).write_bytes(data)
    return {name: words for name, (_, words) in files.items()}


def huge_png(width, height):
    "A PNG file whose header promises that size, and which holds nothing"
    def chunk(kind, data): return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)) + chunk(b'IDAT', b'') + chunk(b'IEND', b'')


def test_a_folder_of_hostile_pictures(checkpoint, tmp_path):
    folder = tmp_path/'in'
    folder.mkdir()
    sizes, bad = save_good(folder), save_bad(folder)
    (folder/'.hidden').write_text('not even looked at')
    os.mkfifo(folder/'pipe.jpg') # would block for ever; no file, so not looked at either
    status, pairs, err = predict(checkpoint, folder, tmp_path/'missing.jpg', folder/'pipe.jpg', '--out_dir', tmp_path/'out',
                                 '--overlay', '--cutout', '--probabilities', '--rle', tmp_path/'rle.csv')
    assert status == 1
    for name, words in bad.items(): assert [words in line for line in err if f'{folder/name} ' in line] == [True], name
    for path in (tmp_path/'missing.jpg', folder/'pipe.jpg'): assert sum(f'{path} is not there, or is no file' in line for line in err) == 1
    assert len(err) == len(bad) + 3 and err[-1].startswith(f'{len(sizes)} pictures in ') and err[-1].endswith(f'; {len(bad) + 2} failed')
    assert {Path(picture).name for picture, _ in pairs} == set(sizes)
    segmenter = Segmenter.load(checkpoint, 'cpu', precision='fp32')
    rows = list(csv.DictReader(open(tmp_path/'rle.csv', encoding='utf-8')))
    for (picture, mask), row in zip(pairs, rows, strict=True):
        size, stem = sizes[Path(picture).name], mask.removesuffix('_mask.png')
        with Image.open(mask) as image: assert (image.mode, image.size, image.format) == ('L', size, 'PNG')
        pixels = np.asarray(Image.open(mask))
        assert set(np.unique(pixels)) <= {0, 255}
        assert (pixels != 255 * segmenter(picture)).mean() < .01 # other batches round otherwise
        assert Image.open(f'{stem}_overlay.jpg').size == size
        cut = Image.open(f'{stem}_cutout.png')
        assert cut.mode == 'RGBA' and np.array_equal(np.asarray(cut)[..., 3], pixels)
        probability = Image.open(f'{stem}_probabilities.png')
        assert probability.mode == 'I;16' and np.abs(np.asarray(probability)[(pixels == 255) != (np.asarray(probability) > 32767)] - 32767.).max(initial=0) <= 1
        assert row['ImageId'] == Path(stem).name and np.array_equal(decode_rle(row['EncodedPixels'], size), pixels == 255)
    assert len(list((tmp_path/'out').iterdir())) == 4 * len(sizes) # and no .part


def test_orientation_and_mode_do_not_change_the_mask(checkpoint, tmp_path):
    "The same picture in many files, all but losslessly: nearly the same mask"
    image = pet()
    segmenter = Segmenter.load(checkpoint, 'cpu', precision='fp32')
    mask = segmenter(image)
    assert .05 < mask.mean() < .95
    for k, method in {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.items(): # PIL's transpositions that lay the rows as orientation k says
        image.transpose(method).save(tmp_path/f'{k}.png', exif=oriented(k))
        assert np.array_equal(segmenter(tmp_path/f'{k}.png'), mask), k
    grey = segmenter(image.convert('L'))
    Image.fromarray(np.asarray(image.convert('L')).astype(np.uint16) * 257).save(tmp_path/'grey16.png')
    assert np.array_equal(segmenter(tmp_path/'grey16.png'), grey)
    image.save(tmp_path/'a.webp', lossless=True, save_all=True, append_images=[pet(1).resize(image.size)])
    assert np.array_equal(segmenter(tmp_path/'a.webp'), mask) # the first frame


def test_results_replace_neither_each_other_nor_inputs(checkpoint, tmp_path):
    for folder in ('a', 'b', 'out'): (tmp_path/folder).mkdir()
    for name, i in {'a/cat.jpg': 0, 'a/cat.png': 1, 'b/cat.jpg': 2, 'b/CAT.png': 3, 'out/cat_mask.png': 4}.items(): pet(i).save(tmp_path/name)
    before = (tmp_path/'out'/'cat_mask.png').read_bytes()
    status, pairs, err = predict(checkpoint, tmp_path/'out', '--out_dir', tmp_path/'out', '--tta', 'flip')
    assert status == 1 and not pairs and 'lies in the output folder' in err[0] and (tmp_path/'out'/'cat_mask.png').read_bytes() == before
    status, pairs, _ = predict(checkpoint, tmp_path/'a', f'{tmp_path}/b/*', '--out_dir', tmp_path/'new')
    assert status == 0 and len({mask.lower() for _, mask in pairs}) == 4
    for picture, mask in pairs: assert Image.open(picture).size == Image.open(mask).size


def test_the_table_of_run_lengths_may_lie_among_the_pictures(checkpoint, tmp_path):
    (tmp_path/'in').mkdir()
    pet().save(tmp_path/'in'/'cat.png')
    words = [checkpoint, tmp_path/'in', '--out_dir', tmp_path/'out', '--rle', tmp_path/'in'/'rle.csv']
    for again in range(2): # the second time it is there when the folder is read
        status, pairs, err = predict(*words)
        assert status == 0 and [Path(picture).name for picture, _ in pairs] == ['cat.png'] and len(err) == 1, err
    assert [row['ImageId'] for row in csv.DictReader(open(tmp_path/'in'/'rle.csv'))] == ['cat']


@pytest.mark.parametrize('flags, words', [
    (['--out_dir', '/proc/nothing'], '--out_dir /proc/nothing can not be used'),
    (['--out_dir', __file__], f'--out_dir {__file__} can not be used'),
    (['--rle', '/proc/nothing.csv'], '/proc/nothing.csv')])
def test_what_can_not_be_written_is_one_line(checkpoint, tmp_path, flags, words):
    pet().save(tmp_path/'cat.png')
    status, pairs, err = predict(checkpoint, tmp_path/'cat.png', '--out_dir', tmp_path/'out', *flags)
    assert status == 2 and not pairs and len(err) == 1 and words in err[0]


def test_a_broken_checkpoint_is_one_line(checkpoint, tmp_path):
    pet().save(tmp_path/'cat.png')
    data = checkpoint.read_bytes()
    (tmp_path/'cut.pt').write_bytes(data[:len(data) // 2])
    status, _, err = predict(tmp_path/'cut.pt', tmp_path/'cat.png', '--out_dir', tmp_path/'out')
    assert status == 2 and len(err) == 1 and f"{tmp_path/'cut.pt'} can not be loaded" in err[0]
    assert not (tmp_path/'out').exists()


def test_a_stream_is_answered_line_by_line(checkpoint, tmp_path):
    names = [os.fsencode(tmp_path) + name for name in (b'/frame 1.png', b'/frame 2.png', b'/caf\xe9.png', b'/frame 1.png')] # one is not UTF-8
    for i, name in enumerate(names[:3]): pet(i).save(os.fsdecode(name), format='PNG')
    process, answers = start(checkpoint, '-', '--out_dir', tmp_path/'out', '--rle', tmp_path/'rle.csv', stdin=subprocess.PIPE), queue.Queue()
    threading.Thread(target=lambda: [answers.put(line) for line in process.stdout], daemon=True).start()
    for name in names: # the next path is sent only when the last one is answered
        process.stdin.write(name + b'\n\n')
        process.stdin.flush()
        picture, mask = answers.get(timeout=120).rstrip(b'\n').split(b'\t')
        assert picture == name and Image.open(os.fsdecode(mask)).size == Image.open(os.fsdecode(picture)).size
    process.stdin.write(os.fsencode(tmp_path/'none.png')) # no line end
    process.stdin.close()
    err = process.stderr.read()
    assert process.wait(60) == 1 and b'none.png is not there' in err and b'4 pictures in' in err
    assert (tmp_path/'out'/'frame 1-2_mask.png').exists() # the same path again has a mask of its own


def test_a_killed_command_leaves_whole_masks(checkpoint, tmp_path):
    (tmp_path/'in').mkdir()
    pet().resize((2000, 1500)).save(tmp_path/'in'/'00.jpg')
    for i in range(1, 20): shutil.copy(tmp_path/'in'/'00.jpg', tmp_path/'in'/f'{i:02}.jpg')
    process = start(checkpoint, tmp_path/'in', '--out_dir', tmp_path/'out', '--probabilities', '--rle', tmp_path/'rle.csv')
    for _ in range(4): process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    masks = list((tmp_path/'out').glob('*.png'))
    assert 4 <= len([m for m in masks if m.name.endswith('_mask.png')]) < 20
    for mask in masks: Image.open(mask).load()
    assert not (tmp_path/'rle.csv').exists()


def test_every_model_needs_no_other_flag(tmp_path):
    for model in MODELS:
        config = TrainConfig(model=model, width=4, size=64)
        save_checkpoint(dict(config=portable(config), weights=model_for(config).state_dict()), tmp_path/'model.pt')
        assert Segmenter.load(tmp_path/'model.pt')(pet()).shape == pet().size[::-1]


def test_the_model_of_the_package_is_scored_on_its_eight_photographs(tmp_path):
    command = COMMAND.with_name('petseg_evaluate')
    run = subprocess.run([command, 'pretrained', '--out_dir', tmp_path/'scored'], capture_output=True, text=True, timeout=240)
    assert run.returncode == 0 and run.stdout.startswith('8 test pictures'), run


IMPORTS = '''
import sys
from petseg_nb.cli.predict import petseg_predict
petseg_predict(sys.argv[1:])
print(*sys.modules)
'''


def test_a_prediction_imports_what_it_uses(checkpoint, tmp_path):
    pet().save(tmp_path/'cat.png')
    words = [checkpoint, tmp_path/'cat.png', '--out_dir', tmp_path/'out', '--overlay', '--cutout']
    run = subprocess.run([sys.executable, '-c', IMPORTS, *map(str, words)], capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
    imported = set(run.stdout.splitlines()[-1].split())
    assert 'torch' in imported and not imported & {'albumentations', 'scipy', 'IPython', 'ipywidgets', 'petseg_nb.augment'}


PEAK = '''
import sys
from pathlib import Path
import cv2, petseg_nb.inference, petseg_nb.runs.folders # as the command does
from petseg_nb.cli.predict import petseg_predict
def used(): return int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) # the most so far, in KiB; ru_maxrss is the parent's at first
before = used()
petseg_predict(sys.argv[1:])
print(before, used())
'''


def peak(*words):
    "Peak memory in bytes of a process that runs the command, beyond what its imports took"
    run = subprocess.run([sys.executable, '-c', PEAK, *map(str, words)], capture_output=True, text=True, timeout=500)
    assert run.returncode == 0, run.stderr
    before, after = map(int, run.stdout.split()[-2:])
    print(f'{words[1].name}: {before / 1024:.0f} MiB, then {after / 1024:.0f} MiB')
    return (after - before) * 1024


@pytest.mark.skipif(sys.platform != 'linux' or torch.cuda.is_available(), reason="reads /proc, where a GPU's libraries count too")
def test_memory_of_a_huge_picture_is_bounded(checkpoint, tmp_path):
    huge, pixels = pet().resize((12_000, 9_000)), 12_000 * 9_000
    huge.save(tmp_path/'huge.jpg', quality=80)
    huge.convert('RGBA').save(tmp_path/'huge.png', compress_level=1)
    assert peak(checkpoint, tmp_path/'huge.jpg', '--out_dir', tmp_path/'out') < 3 * pixels
    assert peak(checkpoint, tmp_path/'huge.png', '--out_dir', tmp_path/'out', '--overlay', '--cutout', '--probabilities',
                '--rle', tmp_path/'rle.csv') < 12 * pixels
    for mask in (tmp_path/'out').glob('huge*_mask.png'): assert Image.open(mask).size == (12_000, 9_000)
