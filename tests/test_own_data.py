"""Your own pictures, as you use them: each mistake with its line, and commands from end to end."""
import csv, io, json, shutil
from contextlib import redirect_stderr, redirect_stdout
import numpy as np
import pytest
from PIL import Image
from petseg_nb.cli.check import petseg_check_data
from petseg_nb.cli.evaluate import petseg_evaluate
from petseg_nb.cli.train import petseg_train
from petseg_nb.cli.compare import petseg_compare
from petseg_nb.core.pets import read_pet
from petseg_nb.core.tiles import cut_view, look
from petseg_nb.data import PetDataset
from petseg_nb.inference import Segmenter
from petseg_nb.masks import SAMPLES, read_sample
from petseg_nb.datasets.own import ADVICE, OwnRecord, read_mask, scan_own, split_records

NAMES = sorted(path.stem for path in (SAMPLES/'images').iterdir())
SMALL = ['--size', 32, '--width', 4, '--epochs', 1, '--device', 'cpu']


def run(command, *argv):
    "Status, output and error of a command"
    out, err, status = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try: command(list(map(str, argv)))
        except SystemExit as e: status = e.code
    return status, out.getvalue(), err.getvalue()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch): monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'cache'))


@pytest.fixture
def own(tmp_path):
    "Eight photographs with masks of 255 on 0; by their names five train, two validate, one tests"
    root = tmp_path/'own'
    shutil.copytree(SAMPLES/'images', root/'images')
    (root/'masks').mkdir()
    for name in NAMES: save(root, name, (read_sample(name)[1] != 2) * np.uint8(255))
    return root


def save(root, name, pixels, ending='png'):
    Image.fromarray(pixels).save(root/'masks'/f'{name}.{ending}')
def pixels(root, name): return np.array(Image.open(root/'masks'/f'{name}.png'))


def no_mask(root): (root/'masks'/'Bengal_43.png').unlink()
def suffix(root): (root/'masks'/'Bengal_43.png').rename(root/'masks'/'Bengal_43_mask.png')
def prefix(root): (root/'masks'/'Bengal_43.png').rename(root/'masks'/'mask-Bengal_43.png')
def beside(root): (root/'images'/'Bengal_43.json').touch(), no_mask(root)
def two_masks(root): shutil.copy(root/'masks'/'Bengal_43.png', root/'masks'/'Bengal_43.bmp')
def two_pictures(root):
    Image.open(root/'images'/'Bengal_43.jpg').save(root/'images'/'Bengal_43.png')
def small(root): save(root, 'Bengal_43', pixels(root, 'Bengal_43')[::2, ::2])
def on_its_side(root): save(root, 'Bengal_43', pixels(root, 'Bengal_43').T)
def three(root): save(root, 'Bengal_43', read_sample('Bengal_43')[1])
def one_and_two(root): save(root, 'Bengal_43', pixels(root, 'Bengal_43') // 255 + 1)
def colours(root):
    inside = pixels(root, 'Bengal_43')[..., None] > 0
    save(root, 'Bengal_43', np.where(inside, [255, 0, 0], [0, 0, 255]).astype(np.uint8))
def jpeg(root): save(root, 'Bengal_43', pixels(root, 'Bengal_43'), 'jpg'), no_mask(root)
def antialiased(root):
    soft = Image.open(root/'masks'/'Bengal_43.png')
    soft.reduce(4).resize(soft.size, Image.BICUBIC).save(root/'masks'/'Bengal_43.png')
def broken(root): (root/'masks'/'Bengal_43.png').write_bytes(b'no picture')
def draw(root, **shape):
    no_mask(root)
    drawing = dict(shapes=[dict(label='cat', **shape)], imageWidth=256, imageHeight=183)
    (root/'masks'/'Bengal_43.json').write_text(json.dumps(drawing))
def polyline(root): draw(root, shape_type='linestrip', points=[[1, 1], [9, 9]])
def one_point(root): draw(root, shape_type='polygon', points=[[1]])
def lists(root, **texts):
    for part, text in texts.items(): (root/f'{part}.txt').write_text(text)
def listed_twice(root): lists(root, train='Bengal_43\nBengal_43', valid='Bengal_30')
def on_both_sides(root): lists(root, train='Bengal_43', valid='Bengal_43.jpg')
def unknown(root): (root/'train.txt').write_text('Bengal_43\nTiger_1')
def utf16(root): (root/'train.txt').write_text('Bengal_43', encoding='utf-16')
def only_train(root): (root/'train.txt').write_text('Bengal_43')
def only_test(root): (root/'test.txt').write_text('Bengal_43')
def empty(root): shutil.rmtree(root/'images'), (root/'images').mkdir()
def both_layouts(root): (root/'annotations').mkdir()
def neither(root): shutil.rmtree(root/'masks')


MISTAKES = [
    (no_mask, 'images/Bengal_43.jpg has no mask: draw it, or list in train.txt and valid.txt the '
              'pictures to use'),
    (suffix, 'images/Bengal_43.jpg has no mask, but Bengal_43_mask.png has no picture: '
             'give the mask the name of its picture'),
    (prefix, 'but mask-Bengal_43.png has no picture: give the mask the name of its picture'),
    (beside, 'images/Bengal_43.jpg has its drawing beside it: move the JSON file into masks/'),
    (two_masks,
     'masks/Bengal_43.bmp and Bengal_43.png have the same name: rename or delete one of them'),
    (two_pictures,
     'images/Bengal_43.jpg and Bengal_43.png have the same name: rename or delete one of them'),
    (small, 'masks/Bengal_43.png has 128 x 92 pixels, and Bengal_43.jpg is shown with 256 x 183: '
            'draw it on this picture'),
    (on_its_side,
     'masks/Bengal_43.png has 183 x 256 pixels, and Bengal_43.jpg is shown with 256 x 183'),
    (three, 'masks/Bengal_43.png has the values 1 and 2 and 3: '
            'name the value of the object with --mask_value'),
    (one_and_two, 'masks/Bengal_43.png has the values 1 and 2, none of them black: '
                  'name the value of the object with --mask_value'),
    (colours, 'has the values 0,0,255 and 255,0,0, none of them black: '
              'name the value of the object with --mask_value'),
    (jpeg, 'values, so its edges are soft: '
           'draw with a pencil, without anti-aliasing, and save as PNG, not JPEG'),
    (antialiased, 'values, so its edges are soft: draw with a pencil, without anti-aliasing'),
    (broken, 'masks/Bengal_43.png cannot be read (not a picture): restore it, or leave it out'),
    (polyline, 'masks/Bengal_43.json has a linestrip: use polygons, rectangles or circles'),
    (one_point, 'masks/Bengal_43.json is no drawing of labelme'),
    (listed_twice, 'train.txt names Bengal_43, and train.txt did so before'),
    (on_both_sides,
     'valid.txt names Bengal_43.jpg, and train.txt did so before: a picture is for one thing'),
    (unknown, 'train.txt names Tiger_1, and images/ holds no such picture: '
              'restore it, or take its name off the list'),
    (utf16, 'train.txt is not UTF-8: save it as such'),
    (only_train, 'has no valid pictures: '
                 'write the names of some pictures into train.txt and of others into valid.txt'),
    (only_test, 'has no train pictures: '
                'write the names of some pictures into train.txt and of others into valid.txt'),
    (empty, 'images holds no picture that is to be used'),
    (both_layouts, 'holds masks/ and annotations/: take one of them out'),
    (neither, 'holds no pets: give the folder with images/ and annotations/ in it, or its parent; '
              'of your own pictures, the folder with images/ and masks/')]


@pytest.mark.parametrize('spoil, line', MISTAKES, ids=[spoil.__name__ for spoil, _ in MISTAKES])
def test_each_mistake_is_one_line_and_leaves_no_run(own, tmp_path, spoil, line):
    spoil(own)
    status, out, err = run(petseg_train, *SMALL, '--data_path', own, '--out_dir', tmp_path/'runs')
    assert (status, out, err.count('\n')) == (2, '', 1) and line in err, err
    assert not (tmp_path/'runs').exists()


KINDS = ['picture without mask', 'mask of another name', 'mask of another name',
         'drawing beside picture', 'name used twice', 'name used twice',
         'mask of another size', 'mask of another size', 'more than two values', 'no black',
         'no black', 'soft edges', 'soft edges', 'unreadable mask', 'shape without an area',
         'no drawing of labelme']

@pytest.mark.parametrize('i', range(len(KINDS)),
                         ids=[spoil.__name__ for spoil, _ in MISTAKES[:len(KINDS)]])
def test_the_check_finds_each_mistake_of_a_file(own, i):
    before = run(petseg_check_data, own)[1]
    assert before.startswith('no defects\nreadable masks: 5 train, 2 valid, 1 test; ')
    MISTAKES[i][0](own)
    status, out, err = run(petseg_check_data, own)
    assert (status, err) == (0, '') and '4 train, 2 valid, 1 test' in out, out
    kind = KINDS[i]
    assert f'     1 {kind:22} Bengal_43.' in out and f'\n{kind}: {ADVICE[kind]}\n' in out, out


@pytest.mark.parametrize('spoil, value, foreground', [
    (three, 1, 1), (three, 3, 3), (one_and_two, 2, None), (colours, '255,0,0', None)])
def test_mask_value_answers_what_the_line_asks(own, spoil, value, foreground):
    spoil(own)
    trimap = read_sample('Bengal_43')[1]
    (own/'test.txt').write_text('Bengal_43')
    record, = split_records(own, str(value))['test']
    expected = trimap == foreground if foreground else trimap != 2
    np.testing.assert_array_equal(np.array(record.read_trimap()) == 1, expected)


def test_a_value_that_no_mask_has_is_refused(own, tmp_path):
    flags = *SMALL, '--mask_value', 7, '--out_dir', tmp_path/'runs'
    status, out, err = run(petseg_train, *flags, '--data_path', own)
    assert status == 2
    assert 'masks has the value 7: look for the right one in Abyssinian_226.png' in err
    status, _, err = run(petseg_train, *flags, '--data_path', SAMPLES)
    assert status == 2 and 'samples holds trimaps: leave out --mask_value' in err
    status, _, err = run(petseg_evaluate, 'pretrained', '--mask_value', 7)
    assert status == 2 and 'are for your own masks: give their folder with --data_path' in err


def test_a_border_is_what_border_says(own, tmp_path):
    "As PASCAL VOC has it: 0, the class, and 255 where nobody decided"
    for name in NAMES: save(own, name, np.array([0, 1, 0, 255], np.uint8)[read_sample(name)[1]])
    parts, true = split_records(own, '1', '255', 'ignore'), read_sample('Bengal_43')[1]
    record = next(r for some in parts.values() for r in some if r.name == 'Bengal_43')
    np.testing.assert_array_equal(np.array(record.read_trimap()), true)
    for border, value in dict(pet=1, background=0, ignore=255).items():
        mask = PetDataset(parts['train'], 64, border)[0][1]
        assert set(mask.unique().tolist()) == {0, 1, value}, border
    flags = *SMALL, '--data_path', own, '--mask_value', 1, '--out_dir', tmp_path/'runs'
    status, _, err = run(petseg_train, *flags, '--border', 'ignore')
    assert status == 2 and ('--border ignore does nothing: the masks in' in err
                            and 'Name its value with --border_value (255 in PASCAL VOC)' in err)
    status, _, err = run(petseg_train, *flags, '--border', 'ignore', '--border_value', 7)
    assert status == 2 and 'has the value 7: look for the right one' in err
    status, _, err = run(petseg_train, *flags, '--border', 'ignore', '--border_value', 255)
    assert status == 0, err
    run_dir, = (tmp_path/'runs').iterdir()
    moved = own.rename(tmp_path/'moved')
    status, out, err = run(petseg_evaluate, run_dir, '--data_path', moved)
    assert status == 0, err
    assert '2 valid pictures, mask_value 1, border_value 255, border counted as ignore' in out


@pytest.mark.parametrize('turned', [False, True])
def test_long_pictures_are_seen_alike_in_training_scoring_and_predicting(turned, tmp_path):
    root, rng = tmp_path/'own', np.random.default_rng(0)
    for folder in ('images', 'masks'): (root/folder).mkdir(parents=True)
    for i in range(6):
        picture = rng.integers(0, 256, (32, 192, 3), np.uint8)  # 6 : 1
        mask = picture[..., 0].repeat(8, 1)[:, :192] // 128 * np.uint8(255)
        if turned: picture, mask = picture.swapaxes(0, 1), mask.T
        Image.fromarray(picture).save(root/'images'/f'{i}.png')
        save(root, i, mask)
    lists(root, train='0\n1\n2\n3', valid='4\n5')
    status, out, err = run(petseg_train, *SMALL, '--data_path', root, '--out_dir', tmp_path/'runs')
    assert status == 0 and '24 training pictures' in out, err
    assert 'pictures longer than 3 : 1 are cut into squares' in out
    records = split_records(root)['valid']
    for record, (image, _) in zip(records, PetDataset(records, 32)):
        square = cut_view(look(record.image, 32)[0])[record.square[0]]
        np.testing.assert_array_equal(image.permute(1, 2, 0), square)
    run_dir, = (tmp_path/'runs').iterdir()
    status, out, err = run(petseg_evaluate, run_dir, '--threshold', '0.45')
    assert status == 0 and '2 valid pictures' in out, err
    with open(run_dir/'valid'/'per_image.csv') as f: rows = list(csv.DictReader(f))
    segmenter = Segmenter.load(run_dir, 'cpu', precision='fp32', threshold=.45)
    for row, name in zip(rows, '45', strict=True):
        found, true = segmenter(root/'images'/f'{name}.png'), pixels(root, name) > 0
        dice = 2 * (found & true).sum() / (found.sum() + true.sum())
        assert row['name'] == name and float(row['dice_original']) == pytest.approx(dice, abs=1e-3)


def test_a_picture_keeps_its_side_when_others_come(own):
    before = {r.name: r.split for r in scan_own(own)}
    for i in range(30):
        shutil.copy(own/'images'/'Bengal_43.jpg', own/'images'/f'new {i}.jpg')
        shutil.copy(own/'masks'/'Bengal_43.png', own/'masks'/f'new {i}.png')
    after = {r.name: r.split for r in scan_own(own)}
    assert len(after) == 38 and before == {name: after[name] for name in before}
    assert set(before.values()) == {'train', 'valid', 'test'}


def test_lists_as_windows_writes_them(own):
    (own/'train.txt').write_bytes('\ufeff# cats\r\nBengal_21.jpg\r\n\r\n Bengal_30 \r\n'.encode())
    listed = [(r.name, r.split) for r in scan_own(own)]
    assert listed == [('Bengal_21', 'train'), ('Bengal_30', 'train')]
    (own/'train.txt').unlink()
    (own/'test.txt').write_text('Bengal_43')
    listed = {part: [r.name for r in some] for part, some in split_records(own).items()}
    assert listed == dict(test=['Bengal_43'])


def test_a_picture_is_upright_before_its_mask_is_compared(own):
    record = next(r for r in scan_own(own) if r.name == 'Bengal_43')
    before, exif = read_pet(record, 64).astype(int), Image.Exif()
    exif[0x0112] = 6 # turn a quarter to the right
    with Image.open(record.image) as image: lying = image.transpose(Image.ROTATE_90)
    lying.save(record.image, exif=exif, quality=95)
    after = read_pet(record, 64).astype(int)
    np.testing.assert_array_equal(after[..., 3], before[..., 3])
    assert abs(after - before).mean() < 3 # JPEG was written twice


def test_masks_of_many_kinds_are_one(own):
    mask = pixels(own, 'Bengal_43')
    deep = Image.fromarray((mask // 255).astype(np.uint16))
    float_ = Image.fromarray((mask // 255).astype(np.float32))
    grey_alpha = Image.merge('LA', [Image.new('L', deep.size, 9), Image.fromarray(mask)])
    swapped = Image.fromarray(1 - mask // 255) # in the palette, 0 is white and 1 is black
    swapped.putpalette([255, 255, 255, 0, 0, 0])
    cmyk, rgba = (Image.fromarray(mask).convert(mode) for mode in ('CMYK', 'RGBA'))
    for image, ending in [(deep, 'png'), (deep, 'tif'), (float_, 'tif'), (grey_alpha, 'png'),
                          (swapped, 'png'), (swapped, 'gif'), (cmyk, 'tif'), (rgba, 'webp')]:
        path = own/f'mask.{ending}'
        image.save(path, **dict(lossless=True) if ending == 'webp' else {})
        np.testing.assert_array_equal(read_mask(path), mask > 0, err_msg=f'{image.mode} {ending}')
    for value, expected in ((0, 0), (255, mask.size)): # all background, all object
        save(own, 'even', np.full_like(mask, value))
        assert read_mask(own/'masks'/'even.png').sum() == expected


def test_the_commands_from_end_to_end(own, tmp_path):
    flags = '--data_path', own, '--mask_value', 255, '--out_dir', tmp_path/'runs'
    status, out, err = run(petseg_train, *SMALL, *flags)
    assert (status, err) == (0, ''), err
    for words in ('5 training pictures of 32 x 32', '1 test pictures', 'test dice'):
        assert words in out
    run_dir, = (tmp_path/'runs').iterdir()
    assert json.loads((run_dir/'config.json').read_text())['mask_value'] == '255'
    for part, count in (('valid', 2), ('test', 1)):
        status, out, err = run(petseg_evaluate, run_dir/'best.pt', '--split', part)
        assert (status, err) == (0, ''), err
        assert f'{count} {part} pictures' in out and 'best threshold on 2 validation' in out
        assert 'by species' not in out and 'by breed' not in out
        with open(run_dir/part/'per_image.csv') as f: rows = list(csv.DictReader(f))
        assert [row['name'] for row in rows] == [r.name for r in scan_own(own) if r.split == part]
    status, out, err = run(petseg_compare, 'crop_flip', '--models', 'unet', '--seeds', 0, *SMALL,
                           '--data_path', own, '--folder', tmp_path/'comparison')
    assert (status, err) == (0, '') and '| crop_flip | unet | 1 |' in out, err
    (own/'test.txt').write_text('\n'.join(NAMES[:3])) # now the folder can only be scored
    status, out, err = run(petseg_evaluate, run_dir/'best.pt', '--split', 'test')
    assert (status, err) == (0, ''), err
    assert '3 test pictures' in out and 'no validation pictures, so no threshold is chosen' in out
    status, _, err = run(petseg_evaluate, run_dir/'best.pt')
    assert status == 2 and 'has no valid pictures: give another --split' in err
    flags = '--data_path', SAMPLES, '--split', 'test'
    status, out, err = run(petseg_evaluate, run_dir/'best.pt', *flags)
    assert (status, err) == (0, '') and 'by breed' in out, err # the masks' value is not for trimaps


def test_without_test_pictures_a_run_ends_well_and_a_comparison_says_what_it_needs(own, tmp_path):
    (own/'train.txt').write_text('\n'.join(NAMES[:4]))
    (own/'valid.txt').write_text('\n'.join(NAMES[4:]))
    status, out, err = run(petseg_train, *SMALL, '--data_path', own, '--out_dir', tmp_path/'runs')
    assert (status, err) == (0, ''), err
    assert out.endswith('no test pictures, so nothing is scored\n')
    run_dir, = (tmp_path/'runs').iterdir()
    assert {'best.pt', 'curves.png', 'predictions.png'} <= {p.name for p in run_dir.iterdir()}
    status, _, err = run(petseg_compare, 'crop_flip', '--models', 'unet', '--seeds', 0, *SMALL,
                         '--data_path', own, '--folder', tmp_path/'comparison')
    assert status == 2
    assert 'has no test pictures, and a comparison scores them: name some in test.txt' in err


def test_pets_that_only_test_can_be_scored(toy_pets, tmp_path):
    run(petseg_train, *SMALL, '--data_path', toy_pets, '--out_dir', tmp_path/'runs')
    checkpoint, = tmp_path.glob('runs/*/best.pt')
    pets = shutil.copytree(toy_pets, tmp_path/'pets')
    (pets/'annotations'/'trainval.txt').write_text('')
    status, out, err = run(petseg_evaluate, checkpoint, '--data_path', pets, '--split', 'test')
    assert (status, err) == (0, ''), err
    assert '10 test pictures' in out and 'no threshold is chosen' in out


def test_a_corrected_mask_is_read_again(own, tmp_path):
    from petseg_nb.core.pets import decode_once
    record, = (r for r in scan_own(own) if r.name == 'Bengal_43')
    first = np.array(decode_once([record], 32, tmp_path/'decoded'))
    save(own, 'Bengal_43', 255 - pixels(own, 'Bengal_43'))
    second = np.array(decode_once([record], 32, tmp_path/'decoded'))
    np.testing.assert_array_equal(first[..., 3], 3 - second[..., 3])
    other = OwnRecord('Bengal_43', 'train', record.image, record.mask, '0')
    third = decode_once([other], 32, tmp_path/'decoded')
    np.testing.assert_array_equal(third[..., 3], first[..., 3])
