"""`petseg_predict` as a user runs it: on hostile pictures, on a live stream, killed, and with its
memory measured."""
import csv, os, queue, shutil, signal, subprocess, sys, threading
from pathlib import Path
import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from conftest import COMMANDS, call, png, run, start
from petseg_nb.core.config import TrainConfig, portable
from petseg_nb.core.disk import save_checkpoint
from petseg_nb.inference import Segmenter
from petseg_nb.runs.folders import decode_rle, find_pictures
from petseg_nb.resnet34_unet import MODELS
from petseg_nb.checkpoints import model_for
from petseg_nb.datasets.toy import draw_toy_pet


@pytest.fixture
def checkpoint(small_checkpoint): return small_checkpoint


def started(*words, **options):
    "The command; its pipes are of bytes, as names of files are"
    return start(COMMANDS/'petseg_predict', *words, text=False, **options)


SAME = '--precision', 'fp32', '--device', 'cpu' # on every machine


def answers(*texts):
    "The paths of each picture and its files, lines on stderr"
    out, err = (text.splitlines() for text in texts)
    assert not any('Traceback' in line or 'Warning' in line for line in err), err
    return [line.split('\t') for line in out], err


def predict(*words, status=0): return answers(*call('predict', *words, *SAME, status=status))


def pet(i=0): return Image.fromarray(draw_toy_pet(f'Toy_Tabby_{i + 1}', 0)[0])


def oriented(value):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    return exif


def grey16(image):
    return Image.fromarray(np.asarray(image.convert('L')).astype(np.uint16) * 257)


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
    grey16(image).save(folder/'grey16.png')
    frames = dict(save_all=True, append_images=[pet(1).resize((w, h))], duration=100)
    image.save(folder/'animated.gif', **frames)
    image.save(folder/'animated.webp', **frames)
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
    jpg, lossless = (folder/'t.jpg').read_bytes(), (folder/'t.png').read_bytes()
    script = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n'
    files = {'truncated.jpg': (jpg[:len(jpg) // 2], 'truncated'),
             'truncated.png': (lossless[:len(lossless) // 2], 'truncated'),
             'head.jpg': (jpg[:20], 'cannot be read'), 'empty.png': (b'', 'not a picture'),
             'text.jpg': (b'this is not a picture', 'not a picture'),
             'script.jpg': (script, 'not a picture'),
             'noise.webp': (os.urandom(3000), 'not a picture'),
             'bomb.png': (png(20_001, 20_000), 'more than 400,000,000 pixels')}
    for name in ('t.jpg', 't.png'): (folder/name).unlink()
    for name, (data, _) in files.items(): (folder/name).write_bytes(data)
    return {name: words for name, (_, words) in files.items()}


def test_a_folder_of_hostile_pictures(checkpoint, tmp_path):
    folder, missing = tmp_path/'in', tmp_path/'missing.jpg'
    folder.mkdir()
    sizes, bad = save_good(folder), save_bad(folder)
    (folder/'.hidden').write_text('not even looked at')
    os.mkfifo(folder/'pipe.jpg') # would block for ever; no file, so not looked at either
    flags = ['--overlay', '--cutout', '--probabilities', '--rle', tmp_path/'rle.csv']
    words = [checkpoint, folder, missing, folder/'pipe.jpg', '--out_dir', tmp_path/'out']
    # in a process of its own: libraries that decode pictures write to stderr themselves
    pairs, err = answers(*run(COMMANDS/'petseg_predict', *words, *flags, *SAME, status=1,
                              encoding='utf-8'))
    for name, words in bad.items():
        assert [words in line for line in err if f'{folder/name} ' in line] == [True], name
    for path in (missing, folder/'pipe.jpg'):
        assert sum(f'{path} does not exist, or is not a file' in line for line in err) == 1
    assert len(err) == len(bad) + 3 and err[-1].startswith(f'{len(sizes)} pictures in ')
    assert err[-1].endswith(f'; {len(bad) + 2} failed')
    assert {Path(picture).name for picture, *_ in pairs} == set(sizes)
    segmenter = Segmenter.load(checkpoint, 'cpu', precision='fp32')
    rows = list(csv.DictReader(open(tmp_path/'rle.csv', encoding='utf-8')))
    for (picture, mask, *others), row in zip(pairs, rows, strict=True):
        size, stem = sizes[Path(picture).name], mask.removesuffix('_mask.png')
        endings = 'cutout.png', 'overlay.jpg', 'probabilities.png'
        assert sorted(others) == [f'{stem}_{ending}' for ending in endings] # each of them is named
        with Image.open(mask) as image:
            assert (image.mode, image.size, image.format) == ('L', size, 'PNG')
        pixels = np.asarray(Image.open(mask))
        assert set(np.unique(pixels)) <= {0, 255}
        assert (pixels != 255 * segmenter(picture)).mean() < .01 # other batches round otherwise
        assert Image.open(f'{stem}_overlay.jpg').size == size
        cut = Image.open(f'{stem}_cutout.png')
        assert cut.mode == 'RGBA' and np.array_equal(np.asarray(cut)[..., 3], pixels)
        probability = Image.open(f'{stem}_probabilities.png')
        grey = np.asarray(probability)
        unlike = grey[(pixels == 255) != (grey > 32767)]
        assert probability.mode == 'I;16' and np.abs(unlike - 32767.).max(initial=0) <= 1
        assert row['ImageId'] == Path(stem).name
        assert np.array_equal(decode_rle(row['EncodedPixels'], size), pixels == 255)
    assert len(list((tmp_path/'out').iterdir())) == 4 * len(sizes) # and no .part


def test_orientation_and_mode_do_not_change_the_mask(checkpoint, tmp_path):
    "The same picture in many files, all but losslessly: nearly the same mask"
    image = pet()
    segmenter = Segmenter.load(checkpoint, 'cpu', precision='fp32')
    mask = segmenter(image)
    assert .05 < mask.mean() < .95
    # PIL's transpositions that lay the rows as orientation k says
    for k, method in {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.items():
        image.transpose(method).save(tmp_path/f'{k}.png', exif=oriented(k))
        assert np.array_equal(segmenter(tmp_path/f'{k}.png'), mask), k
    grey = segmenter(image.convert('L'))
    grey16(image).save(tmp_path/'grey16.png')
    assert np.array_equal(segmenter(tmp_path/'grey16.png'), grey)
    frames = dict(save_all=True, append_images=[pet(1).resize(image.size)])
    image.save(tmp_path/'a.webp', lossless=True, **frames)
    assert np.array_equal(segmenter(tmp_path/'a.webp'), mask) # the first frame


def test_results_replace_neither_each_other_nor_inputs(checkpoint, tmp_path):
    out = tmp_path/'out'
    for folder in ('a', 'b', 'out'): (tmp_path/folder).mkdir()
    names = 'a/cat.jpg', 'a/cat.png', 'b/cat.jpg', 'b/CAT.png', 'out/cat_mask.png'
    for i, name in enumerate(names): pet(i).save(tmp_path/name)
    before = (out/'cat_mask.png').read_bytes()
    pairs, err = predict(checkpoint, out, '--out_dir', out, '--tta', 'flip', status=1)
    assert not pairs and 'is in the output folder' in err[0]
    assert (out/'cat_mask.png').read_bytes() == before
    pictures = tmp_path/'a', tmp_path/'b'/'*'
    pairs, _ = predict(checkpoint, *pictures, '--out_dir', tmp_path/'new')
    assert len({mask.lower() for _, mask in pairs}) == 4
    for picture, mask in pairs: assert Image.open(picture).size == Image.open(mask).size


def test_the_table_of_run_lengths_may_lie_among_the_pictures(checkpoint, tmp_path):
    folder = tmp_path/'in'
    folder.mkdir()
    pet().save(folder/'cat.png')
    words = [checkpoint, folder, '--out_dir', tmp_path/'out', '--rle', folder/'rle.csv']
    for again in range(2): # the second time it is there when the folder is read
        pairs, err = predict(*words)
        assert len(err) == 1 and err[0].startswith('1 picture in '), err
        assert [Path(picture).name for picture, _ in pairs] == ['cat.png'], err
    rows = csv.DictReader(open(folder/'rle.csv'))
    assert [row['ImageId'] for row in rows] == ['cat']


def test_a_stream_is_answered_line_by_line(checkpoint, tmp_path):
    frames = b'frame 1.png', b'frame 2.png', b'caf\xe9.png', b'frame 1.png' # one is not UTF-8
    names = [os.fsencode(tmp_path/os.fsdecode(frame)) for frame in frames]
    for i, name in enumerate(names[:3]): pet(i).save(os.fsdecode(name), format='PNG')
    flags = ['--out_dir', tmp_path/'out', '--rle', tmp_path/'rle.csv']
    process, lines = started(checkpoint, '-', *flags, stdin=subprocess.PIPE), queue.Queue()
    def listen():
        for line in process.stdout: lines.put(line)
    threading.Thread(target=listen, daemon=True).start()
    for name in names: # the next path is sent only when the last one is answered
        process.stdin.write(name + b'\n\n')
        process.stdin.flush()
        picture, mask = lines.get(timeout=120).rstrip(b'\n').split(b'\t')
        sizes = [Image.open(os.fsdecode(path)).size for path in (picture, mask)]
        assert picture == name and sizes[0] == sizes[1]
    process.stdin.write(os.fsencode(tmp_path/'none.png')) # no line end
    process.stdin.close()
    err = process.stderr.read()
    assert process.wait(60) == 1 and b'none.png does not exist' in err and b'4 pictures in' in err
    # the same path again has a mask of its own
    assert (tmp_path/'out'/'frame 1-2_mask.png').exists()


def test_a_killed_command_leaves_whole_masks(checkpoint, tmp_path):
    (tmp_path/'in').mkdir()
    pet().resize((2000, 1500)).save(tmp_path/'in'/'00.jpg')
    for i in range(1, 20): shutil.copy(tmp_path/'in'/'00.jpg', tmp_path/'in'/f'{i:02}.jpg')
    flags = ['--out_dir', tmp_path/'out', '--probabilities', '--rle', tmp_path/'rle.csv']
    process = started(checkpoint, tmp_path/'in', *flags)
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
        state = dict(config=portable(config), weights=model_for(config).state_dict())
        save_checkpoint(state, tmp_path/'model.pt')
        assert Segmenter.load(tmp_path/'model.pt')(pet()).shape == pet().size[::-1]


IMPORTS = '''
import sys
from petseg_nb.cli.predict import petseg_predict
petseg_predict(sys.argv[1:])
print(*sys.modules)
'''


def test_a_prediction_imports_what_it_uses(checkpoint, tmp_path):
    pet().save(tmp_path/'cat.png')
    words = [checkpoint, tmp_path/'cat.png', '--out_dir', tmp_path/'out', '--overlay', '--cutout']
    out, _ = run(sys.executable, '-c', IMPORTS, *words)
    imported = set(out.splitlines()[-1].split())
    needless = {'albumentations', 'scipy', 'IPython', 'ipywidgets', 'petseg_nb.augment'}
    assert 'torch' in imported and not imported & needless


PEAKS = '''
import sys
from pathlib import Path
from petseg_nb.cli.predict import petseg_predict
checkpoint, small, large, *flags = sys.argv[1:]
for picture in (small, large):
    petseg_predict([checkpoint, picture, '--out_dir', 'out', *flags])
    # VmHWM is the most so far, in KiB; ru_maxrss would be the parent's at first
    print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])
'''


@pytest.mark.skipif(sys.platform != 'linux' or torch.cuda.is_available(),
                    reason="reads /proc, where a GPU's libraries count too")
@pytest.mark.parametrize('mode, suffix, flags, most', [
    ('RGB', '.jpg', [], 3),
    ('RGBA', '.png', ['--overlay', '--cutout', '--probabilities', '--rle', 'rle.csv'], 12)])
def test_memory_grows_by_few_bytes_a_pixel(checkpoint, tmp_path, mode, suffix, flags, most):
    "The difference between two large pictures: what a machine adds to both is not in it"
    sizes = (4_000, 3_000), (8_000, 6_000)
    names = [f'{width}{suffix}' for width, _ in sizes]
    for size, name in zip(sizes, names):
        pet().resize(size).convert(mode).save(tmp_path/name, compress_level=1)
    out, _ = run(sys.executable, '-c', PEAKS, checkpoint, *names, *flags, cwd=tmp_path)
    for size in sizes: assert Image.open(tmp_path/'out'/f'{size[0]}_mask.png').size == size
    before, after = (1024 * int(line) for line in out.splitlines()[1::2])
    small, large = (width * height for width, height in sizes)
    assert (after - before) / (large - small) <= most


def test_a_folder_says_that_it_does_not_look_into_subfolders(tmp_path):
    inner, trip = tmp_path/'trip'/'day 1'/'p.png', tmp_path/'trip'
    inner.parent.mkdir(parents=True), inner.touch(), (trip/'.cache').mkdir()
    with pytest.warns(UserWarning, match=r"subfolders .* \(1\): name them too, or everything"):
        assert list(find_pictures([str(trip)])) == [trip]
    assert list(find_pictures([f'{trip}/**'])) == [inner] # as the warning says
