"""Your own pictures, as you use them: each mistake with its line, and commands from end to end."""
import base64, csv, io, json, os, re, shutil, struct
import numpy as np
import pytest
from PIL import Image
from conftest import attempt, call
from petseg_nb.core.errors import UserError
from petseg_nb.core.pets import decode_once, read_pet
from petseg_nb.core.tiles import cut_view, look
from petseg_nb.data import PetDataset, scan_pets
from petseg_nb.datasets.audit import ADVICE
from petseg_nb.datasets.own import (
    OwnRecord, check_data, read_mask, scan_own, split_records, training_notes)
from petseg_nb.inference import Segmenter
from petseg_nb.masks import SAMPLES, read_sample

NAMES = sorted(path.stem for path in (SAMPLES/'images').iterdir())
SMALL = ['--size', 32, '--width', 4, '--epochs', 1, '--device', 'cpu']


def trained(data, folder, *flags):
    "The folder of a short run on `data`, and what the command said"
    out, err = call('train', *SMALL, '--data_path', data, '--out_dir', folder/'runs', *flags)
    assert err == ''
    run_dir, = (folder/'runs').iterdir()
    return run_dir, out


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
def add(root, name, picture, mask):
    for folder in ('images', 'masks'): (root/folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(root/'images'/f'{name}.png')
    save(root, name, mask)
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
def photo_turned(root):
    path, exif = root/'images'/'Bengal_43.jpg', Image.Exif()
    exif[0x112] = 8
    Image.open(path).save(path, exif=exif)
def three(root): save(root, 'Bengal_43', read_sample('Bengal_43')[1])
def one_and_two(root): save(root, 'Bengal_43', pixels(root, 'Bengal_43') // 255 + 1)
def colours(root):
    inside = pixels(root, 'Bengal_43')[..., None] > 0
    save(root, 'Bengal_43', np.where(inside, [255, 0, 0], [0, 0, 255]).astype(np.uint8))
def jpeg(root): save(root, 'Bengal_43', pixels(root, 'Bengal_43'), 'jpg'), no_mask(root)
def antialiased(root):
    soft = Image.open(root/'masks'/'Bengal_43.png')
    soft.reduce(4).resize(soft.size, Image.BICUBIC).save(root/'masks'/'Bengal_43.png')
def instances(root):
    cells = np.kron(np.arange(1, 31).reshape(5, 6), np.ones((37, 43)))[:183, :256] # 30 rectangles
    cells[:9, :9] = 0
    save(root, 'Bengal_43', cells.astype(np.uint8))
def photo(root):
    noise = np.random.default_rng(0).integers(256, size=(300, 300, 3), dtype=np.uint8)
    save(root, 'Bengal_43', noise)
def two_sides(root):
    suffix(root), (root/'masks'/'Bengal_43_mask.png').rename(root/'masks'/'Bengal_43_left.png')
    shutil.copy(root/'masks'/'Bengal_43_left.png', root/'masks'/'Bengal_43_right.png')
def one_more(root): shutil.copy(root/'masks'/'Bengal_43.png', root/'masks'/'Bengal_43_2.png')
def broken(root): (root/'masks'/'Bengal_43.png').write_bytes(b'no picture')
def draw(root, **shape):
    no_mask(root)
    drawing = dict(shapes=[dict(label='cat', **shape)], imageWidth=256, imageHeight=183)
    (root/'masks'/'Bengal_43.json').write_text(json.dumps(drawing))
def polyline(root): draw(root, shape_type='linestrip', points=[[1, 1], [9, 9]])
def one_point(root): draw(root, shape_type='polygon', points=[[1]])
def code_page(root):
    no_mask(root), (root/'masks'/'Bengal_43.json').write_text('{"shapes": "ä"}', 'cp1252')
def lists(root, **texts):
    for part, text in texts.items(): (root/f'{part}.txt').write_text(text)
def listed_twice(root): lists(root, train='Bengal_43\nBengal_43', valid='Bengal_30')
def on_both_sides(root): lists(root, train='Bengal_43', valid='Bengal_43.jpg')
def unknown(root): (root/'train.txt').write_text('Bengal_43\nTiger_1')
def utf16(root): (root/'train.txt').write_text('Bengal_43', encoding='utf-16')
def only_train(root): (root/'train.txt').write_text('Bengal_43')
def only_test(root): (root/'test.txt').write_text('Bengal_43')
def empty(root): shutil.rmtree(root/'images'), (root/'images').mkdir()
def nested(root):
    (root/'images').rename(root/'train'), (root/'images').mkdir()
    (root/'train').rename(root/'images'/'train')
def empty_list(root): lists(root, train='# nothing yet')
def both_layouts(root): (root/'annotations').mkdir()
def neither(root): shutil.rmtree(root/'masks')


MISTAKES = [
    (no_mask, 'images/Bengal_43.jpg has no mask: draw it, or save a black picture of the same size '
              'if it shows no object; or list the pictures to use in train.txt and valid.txt'),
    (photo_turned, 'masks/Bengal_43.png has 256 x 183 pixels, and Bengal_43.jpg is shown with '
                   '183 x 256, rotated by its EXIF orientation 8: rotate it too, or remove '
                   "the orientation from the photo's EXIF data"),
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
    (three, 'masks/Bengal_43.png has the values 1 and 2 and 3, none of them black: '
            'name the value of the object with --mask_value'),
    (one_and_two, 'masks/Bengal_43.png has the values 1 and 2, none of them black: '
                  'name the value of the object with --mask_value'),
    (colours, 'has the values 0,0,255 and 255,0,0, none of them black: '
              'name the value of the object with --mask_value'),
    (jpeg, 'Bengal_43.jpg has 66 values, so its edges are soft: count the bright pixels as '
           'the object, with --mask_value ">127"'),
    (antialiased, 'values, so its edges are soft: count the bright pixels'),
    (instances, 'masks/Bengal_43.png has 31 values (0, 1, 2, 3, … and 30): name the value of the '
                'object with --mask_value, or count all but the background as the object with '
                '--mask_value nonzero'),
    (photo, 'masks/Bengal_43.png has over 65536 colours: draw the object'),
    (broken, 'masks/Bengal_43.png cannot be read (not a picture): restore it, or leave it out'),
    (polyline, 'masks/Bengal_43.json has a linestrip labelled cat: outline the object'),
    (one_point, 'masks/Bengal_43.json is not a labelme drawing'),
    (code_page, 'masks/Bengal_43.json is not in UTF-8: open it in a text editor, and save it'),
    (two_sides, 'images/Bengal_43.jpg has 2 masks (Bengal_43_left.png, Bengal_43_right.png): let '
                'the names of masks that belong together end in numbers (_1, _2), and they are'),
    (one_more, 'images/Bengal_43.jpg has 2 masks (Bengal_43.png, Bengal_43_2.png): let the names'),
    (listed_twice, 'train.txt names Bengal_43, and so does train.txt'),
    (on_both_sides,
     'valid.txt names Bengal_43.jpg, and so does train.txt: a picture belongs to one part only'),
    (unknown, 'train.txt names Tiger_1, but images/ contains no such picture: restore it, or '
              'remove its name from the list'),
    (utf16, 'train.txt is not UTF-8: save it as UTF-8'),
    (only_train, 'has no valid pictures: '
                 'write the names of some pictures into train.txt and of others into valid.txt'),
    (only_test, 'has no train pictures: '
                'write the names of some pictures into train.txt and of others into valid.txt'),
    (empty, 'images contains no picture that can be used (nothing): save pictures in it'),
    (nested, 'images contains no picture that can be used (train/): folders in it are not read'),
    (empty_list, 'images contains no picture that can be used (8 .jpg): write names'),
    (both_layouts, 'contains masks/ and annotations/: remove one of the two'),
    (neither, 'own has an unknown layout (images/ with 8 .jpg): pictures belong in images/, and '
              'masks of the same names in masks/')]


@pytest.mark.parametrize('spoil, line', MISTAKES, ids=[spoil.__name__ for spoil, _ in MISTAKES])
def test_each_mistake_is_one_line_and_leaves_no_run(own, tmp_path, spoil, line):
    spoil(own)
    status, out, err = attempt('train', *SMALL, '--data_path', own, '--out_dir', tmp_path/'runs')
    assert (status, out, err.count('\n')) == (2, '', 1) and line in err, err
    assert not (tmp_path/'runs').exists()


KINDS = ['picture without mask', 'mask not rotated', 'mask of another name', 'mask of another name',
         'drawing beside picture', 'name used twice', 'name used twice',
         'mask of another size', 'mask of another size', 'no black', 'no black',
         'no black', 'soft edges', 'soft edges', 'more than two values', 'photo instead of a mask',
         'unreadable mask', 'shape without an area', 'not a labelme drawing',
         'drawing not in UTF-8', 'several masks', 'several masks']

@pytest.mark.parametrize('i', range(len(KINDS)),
                         ids=[spoil.__name__ for spoil, _ in MISTAKES[:len(KINDS)]])
def test_the_check_finds_each_mistake_of_a_file(own, i):
    before = attempt('check_data', own)[1]
    assert before.startswith('no defects\nreadable masks: 5 train, 2 valid, 1 test; ')
    MISTAKES[i][0](own)
    status, out, err = attempt('check_data', own)
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
    _, err = call('train', *flags, '--data_path', own, status=2)
    shown = 'masks has the value 7: Abyssinian_226.png has the values 0 and 255'
    assert shown in err
    _, err = call('check_data', own, '--mask_value', 7, status=2)
    assert shown in err
    _, err = call('train', *flags, '--data_path', SAMPLES, status=2)
    assert 'samples contains trimaps: leave out --mask_value' in err
    _, err = call('evaluate', 'pretrained', '--mask_value', 7, status=2)
    assert 'are for your own masks: give their folder with --data_path' in err


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
    _, err = call('train', *flags, '--border', 'ignore', status=2)
    assert ('--border ignore has no effect: the masks in' in err
                            and 'Name its value with --border_value (255 in PASCAL VOC)' in err)
    _, err = call('train', *flags, '--border', 'ignore', '--border_value', 7, status=2)
    assert 'so give another --border_value' in err
    run_dir, _ = trained(own, tmp_path, '--mask_value', 1, '--border', 'ignore',
                         '--border_value', 255)
    moved = own.rename(tmp_path/'moved')
    out, _ = call('evaluate', run_dir, '--data_path', moved)
    assert '2 valid pictures, mask_value 1, border_value 255, border counted as ignore' in out


@pytest.mark.parametrize('turned', [False, True])
def test_long_pictures_are_seen_alike_in_training_scoring_and_predicting(turned, tmp_path):
    root, rng = tmp_path/'own', np.random.default_rng(0)
    for i in range(6):
        picture = rng.integers(0, 256, (32, 192, 3), np.uint8)  # 6 : 1
        mask = picture[..., 0].repeat(8, 1)[:, :192] // 128 * np.uint8(255)
        add(root, i, *(picture.swapaxes(0, 1), mask.T) if turned else (picture, mask))
    lists(root, train='0\n1\n2\n3', valid='4\n5')
    run_dir, out = trained(root, tmp_path)
    assert '24 training pictures' in out
    assert 'pictures longer than 3 : 1 are cut into squares' in out
    records = split_records(root)['valid']
    for record, (image, _) in zip(records, PetDataset(records, 32)):
        square = cut_view(look(record.image, 32)[0])[record.square[0]]
        np.testing.assert_array_equal(image.permute(1, 2, 0), square)
    out, _ = call('evaluate', run_dir, '--threshold', '0.45')
    assert '2 valid pictures' in out
    with open(run_dir/'valid'/'per_image.csv') as f: rows = list(csv.DictReader(f))
    segmenter = Segmenter.load(run_dir, 'cpu', precision='fp32', threshold=.45)
    for row, name in zip(rows, '45', strict=True):
        found, true = segmenter(root/'images'/f'{name}.png'), pixels(root, name) > 0
        dice = 2 * (found & true).sum() / (found.sum() + true.sum())
        assert row['name'] == name and float(row['dice_original']) == pytest.approx(dice, abs=1e-3)


def long_masks(root, mask):
    "What is said of four pictures of noise with the same mask, by the check and before a training"
    rng = np.random.default_rng(0)
    for name in 'abcd': add(root, name, rng.integers(0, 256, (*mask.shape, 3), np.uint8), mask)
    lists(root, train='a\nb\nc', valid='d')
    def notes():
        sets = {part: PetDataset(some, 32) for part, some in split_records(root).items()}
        return '\n'.join(training_notes(root, sets))
    return lambda: check_data(root, size=32), notes


def test_a_long_mask_is_empty_only_if_all_its_squares_are(tmp_path):
    root, mask = tmp_path/'own', np.zeros((32, 192), np.uint8)  # 6 : 1
    mask[8:24, 8:24] = 255
    says = long_masks(root, mask)
    assert all('empty' not in said() for said in says)
    for name in 'ab': save(root, name, 0 * mask)
    assert all('2 of 4 masks are empty' in said() for said in says)


def test_an_object_that_vanishes_is_looked_for_in_each_square(tmp_path):
    mask = np.zeros((256, 1536), np.uint8)
    mask[102:104, 1302:1304] = 255 # in the last square
    check, notes = long_masks(tmp_path/'own', mask)
    line = 'the smallest object is 2 pixels wide in 256 x 256: try --size'
    assert line in check() and 'draw the object' not in check()
    with pytest.raises(UserError, match=line): notes()


def test_long_masks_may_be_inside_out(tmp_path):
    mask = np.full((64, 384), 255, np.uint8)
    mask[20:44, 212:236] = 0
    says = long_masks(tmp_path/'own', mask)
    line = 'if they are inverted, name the other value with --mask_value'
    assert all(line in said() for said in says)


def test_a_long_picture_is_seen_only_if_all_its_squares_are(tmp_path):
    "White squares are like each other, and the object is in one"
    root, rng = tmp_path/'own', np.random.default_rng(0)
    for i in range(6):
        picture, mask = np.full((32, 192, 3), 255, np.uint8), np.zeros((32, 192), np.uint8)
        picture[:, 64:96], mask[8:24, 70:90] = rng.integers(0, 256, (32, 32, 3), np.uint8), 255
        add(root, i, picture, mask)
    lists(root, train='0\n1\n2', valid='3', test='4\n5')
    run_dir, out = trained(root, tmp_path)
    assert 'the model has learned from' not in out, out
    out, _ = call('evaluate', run_dir, '--split', 'test')
    assert 'the model has seen none of these 2 test pictures' in out, out


def test_a_picture_keeps_its_side_when_others_come(own):
    before = {r.name: r.split for r in scan_own(own)}
    for i in range(30):
        shutil.copy(own/'images'/'Bengal_43.jpg', own/'images'/f'new {i}.jpg')
        shutil.copy(own/'masks'/'Bengal_43.png', own/'masks'/f'new {i}.png')
    after = {r.name: r.split for r in scan_own(own)}
    assert len(after) == 38 and before == {name: after[name] for name in before}
    assert set(before.values()) == {'train', 'valid', 'test'}


LINES = ['Bengal_43', 'Bengal_43.jpg', 'images/Bengal_43.jpg', 'images\\Bengal_43.jpg',
         'C:\\my data\\images\\Bengal_43.jpg', '"Bengal_43.jpg"', 'Bengal_43.jpg,Bengal_43.png',
         '"images/Bengal_43.jpg", "masks/Bengal_43.png"', 'Bengal_43.jpg\tBengal_43.png',
         './images/Bengal_43.jpg masks/Bengal_43.png']

@pytest.mark.parametrize('line', LINES)
def test_lists_as_others_write_them(own, line):
    (own/'train.txt').write_bytes(f'\ufeff# cats\r\n{line}\r\n\r\n Bengal_30 \r\n'.encode())
    listed = [(r.name, r.split) for r in scan_own(own)]
    assert listed == [('Bengal_43', 'train'), ('Bengal_30', 'train')]


def test_a_list_of_two_pictures_in_a_line_is_refused(own):
    (own/'train.txt').write_text('Bengal_43.jpg,Bengal_30.jpg')
    with pytest.raises(UserError, match='train.txt names Bengal_43.jpg,Bengal_30.jpg, but images/'):
        scan_own(own)


def test_a_folder_that_can_only_be_scored(own):
    (own/'test.txt').write_text('Bengal_43')
    listed = {part: [r.name for r in some] for part, some in split_records(own).items()}
    assert listed == dict(test=['Bengal_43'])


def base64_of(mask):
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8)).save(buffer, 'PNG') # of 0 and 1, as labelme saves it
    return base64.b64encode(buffer.getvalue()).decode()

def shape(kind, points, label='cat', **more):
    return dict(label=label, shape_type=kind, points=points) | more

BOX, CORNERS = [[10, 8], [30, 28]], [[10, 8], [30, 8], [30, 28], [10, 28]]
TRUE = np.zeros((21, 21), bool) # the right half of the box
TRUE[:, 10:] = True
POINT, LINE = shape('point', [[15, 15]], 'nose'), shape('linestrip', [[0, 0], [50, 30]], 'leash')
SQUARE, WIDTH = shape('polygon', CORNERS), dict(imageWidth=256, imageHeight=183)
DRAWINGS = dict( # shapes, the file's other entries, encoding, --mask_value, pixels
    polygon=([SQUARE], WIDTH, 'utf-8', '', 441),
    rectangle_of_four=([shape('rectangle', CORNERS)], WIDTH, 'utf-8', '', 441),
    rotation=([shape('rotation', CORNERS, direction=0)], WIDTH, 'utf-8', '', 441),
    oriented=([shape('oriented_rectangle', CORNERS)], WIDTH, 'utf-8', '', 441),
    ai_mask=([shape('mask', BOX, mask=base64_of(TRUE))], WIDTH, 'utf-8', '', 231),
    ai_mask_at_the_edge=([shape('mask', [[-10, 173], [10, 193]], mask=base64_of(TRUE))],
                         WIDTH, 'utf-8', '', 110),
    no_kind=([dict(label='cat', points=CORNERS)], WIDTH, 'utf-8', '', 441),
    number=([SQUARE | dict(label=1)], WIDTH, 'utf-8', '1', 441),
    float=([SQUARE | dict(label=1.0), POINT], WIDTH, 'utf-8', '1.0', 441),
    null=([SQUARE | dict(label=None)], WIDTH, 'utf-8', '', 441),
    no_label=([dict(points=CORNERS), POINT], WIDTH, 'utf-8', 'null', 441),
    other_labels=([SQUARE, POINT, LINE], WIDTH, 'utf-8', 'cat', 441),
    persons=([shape('rectangle', [[4 * i, 5], [4 * i + 2, 7]], f'person-{i}') for i in range(60)],
             WIDTH, 'utf-8', 'nonzero', 540),
    one_person=([shape('rectangle', [[4 * i, 5], [4 * i + 2, 7]], f'person-{i}')
                 for i in range(60)], WIDTH, 'utf-8', 'person-50', 9),
    byte_order_mark=([SQUARE], WIDTH, 'utf-8-sig', '', 441),
    utf_16=([SQUARE], WIDTH, 'utf-16', '', 441),
    no_size=([SQUARE], {}, 'utf-8', '', 441),
    null_size=([SQUARE], dict(imageWidth=None, imageHeight=None), 'utf-8', '', 441),
    float_size=([SQUARE], dict(imageWidth=256., imageHeight=183.), 'utf-8', '', 441),
    a_threshold_is_for_pictures=([SQUARE], WIDTH, 'utf-8', '>127', 441))

@pytest.mark.parametrize('name', DRAWINGS)
def test_drawings_as_programs_write_them(own, name):
    shapes, size, encoding, value, count = DRAWINGS[name]
    no_mask(own), lists(own, train='Bengal_43')
    text = json.dumps(dict(shapes=shapes, imagePath='Kätzchen.jpg') | size, ensure_ascii=False)
    (own/'masks'/'Bengal_43.json').write_text(text, encoding)
    record, = scan_own(own, value)
    assert (np.array(record.read_trimap()) == 1).sum() == count


@pytest.mark.parametrize('value', ['', 'leash', 'nonzero'])
def test_an_object_without_an_area_is_never_dropped(own, value):
    no_mask(own)
    path, shapes = own/'masks'/'Bengal_43.json', [LINE] if not value else [SQUARE, LINE]
    path.write_text(json.dumps(dict(shapes=shapes) | WIDTH))
    with pytest.raises(UserError, match='has a linestrip labelled leash: outline the object'):
        read_mask(path, value)


def numbered(side, columns, dtype=np.uint8): # squares of `side` pixels in columns, 1 pixel apart
    cells = np.pad(np.arange(1, 2 * columns + 1).reshape(2, columns), 1)
    return np.kron(cells, np.pad(np.ones((side, side)), ((0, 1), (0, 1)))).astype(dtype)

RED = np.kron(numbered(9, 2)[..., None] > 0, [[[255, 0, 0]]]).astype(np.uint8)
VALUES = [ # pixels of a PNG or TIFF, --mask_value, pixels of the object
    (numbered(9, 20), 'nonzero', 40 * 81), (numbered(3, 200, np.uint16), 'nonzero', 400 * 9),
    (numbered(9, 2), 'nonzero', 4 * 81), (numbered(9, 2), '3', 81), (numbered(9, 2), '3.0', 81),
    (numbered(9, 2, np.int32) * 10**8, '300000000', 81),
    *((RED, value, 4 * 81) for value in ('255,0,0', '255, 0, 0', '(255,0,0)', '[255 0 0]',
                                         '#ff0000', '#FF0000', 'nonzero', '>50')),
    (numbered(9, 2) * 60, '>127', 2 * 81), (numbered(9, 2) * 60, '< 127', 40 * 40 - 2 * 81)]

@pytest.mark.parametrize('i', range(len(VALUES)))
def test_what_mask_value_can_name(tmp_path, i):
    mask, value, count = VALUES[i]
    path = tmp_path/('mask.tif' if mask.dtype == np.int32 else 'mask.png')
    Image.fromarray(mask).save(path)
    assert read_mask(path, value).sum() == count


@pytest.mark.parametrize('mask', [numbered(9, 20), numbered(3, 200, np.uint16), numbered(9, 3)])
def test_numbers_of_objects_are_not_called_soft_edges(tmp_path, mask):
    Image.fromarray(mask).save(tmp_path/'mask.png')
    with pytest.raises(UserError, match='all but the background as the object .* nonzero') as error:
        read_mask(tmp_path/'mask.png')
    assert 'soft' not in str(error.value)


@pytest.mark.parametrize('radius, quality', [(60, 75), (20, 95), (4, 75), (4, 95)])
@pytest.mark.parametrize('ending', ['jpg', 'png'])
def test_a_mask_that_was_a_jpeg_is_read_by_a_threshold(tmp_path, radius, quality, ending):
    y, x = np.mgrid[:200, :260]
    disc, path = (x - 131)**2 + (y - 97)**2 <= radius**2, tmp_path/f'mask.{ending}'
    Image.fromarray(disc.astype(np.uint8) * 255).save(tmp_path/'mask.jpg', quality=quality)
    if ending == 'png': Image.open(tmp_path/'mask.jpg').save(path)
    for value in ('', '255', 'nonzero') if ending == 'jpg' else ('',):
        with pytest.raises(UserError, match='edges are soft: .* --mask_value ">127"'):
            read_mask(path, value)
    assert (read_mask(path, '>127') != disc).sum() <= .02 * disc.sum()


def test_masks_of_single_objects_are_joined(own):
    whole = {name: pixels(own, name) for name in ('Bengal_43', 'Bengal_30')}
    for name, mask in whole.items():
        (own/'masks'/f'{name}.png').unlink()
        for i, rows in enumerate((slice(0, 60), slice(60, 90), slice(90, None))):
            part = np.zeros_like(mask)
            part[rows] = mask[rows]
            ending = f'_mask_{i}' if name == 'Bengal_43' else f'-{i}'
            save(own, f'{name}{ending}', part)
    records = {r.name: r for r in scan_own(own)}
    for name, mask in whole.items():
        found = np.array(records[name].read_trimap()) == 1
        np.testing.assert_array_equal(found, mask > 0)
        assert len(records[name].files) == 4 # one that changes is noticed by the cache
    out = attempt('check_data', own)[1]
    assert out.startswith('no defects\n2 pictures have up to 3 masks, which are joined\n'), out
    shutil.copy(own/'images'/'Bengal_43.jpg', own/'images'/'Bengal_43_mask_0.jpg')
    records = {r.name: r for r in scan_own(own)}
    assert records['Bengal_43_mask_0'].mask.name == 'Bengal_43_mask_0.png'
    assert [p.name for p in records['Bengal_43'].files[1:]] == [
        'Bengal_43_mask_1.png', 'Bengal_43_mask_2.png']


def test_masks_of_different_things_are_not_joined(own):
    mask = pixels(own, 'Bengal_43')
    (own/'masks'/'Bengal_43.png').unlink()
    for ending in ('_object1', '_background1'): save(own, f'Bengal_43{ending}', mask)
    with pytest.raises(UserError, match=r'Bengal_43.jpg has 2 masks \('): scan_own(own)


def test_the_mask_of_a_picture_that_is_not_read_is_nobody_elses(own):
    shutil.move(own/'masks'/'Bengal_43.png', own/'masks'/'Bengal_43-2.png')
    (own/'images'/'Bengal_43-2.heic').touch()
    with pytest.raises(UserError, match='Bengal_43.jpg has no mask, but Bengal_43-2.png'):
        scan_own(own)


def test_a_ring_is_as_wide_as_its_line(own):
    for path in (own/'masks').iterdir():
        ring = np.zeros((400, 400), np.uint8)
        ring[100, 100:300] = ring[299, 100:300] = ring[100:300, 100] = ring[100:300, 299] = 255
        Image.fromarray(ring).save(path)
        Image.new('RGB', (400, 400)).save(own/'images'/f'{path.stem}.jpg')
    out = check_data(own, size=32)
    assert 'masks are empty at --size 32; the smallest object is 4 pixels wide in 400 x 400' in out
    assert 'try --size 224' in out
    assert 'are empty' not in check_data(own, size=224)


@pytest.mark.parametrize('values, line', [
    *(((value, ''), f'{value} is not a threshold: give a number, such as ">127"')
      for value in ('>', '>half', '<=1')), (('', '<nan'), '<nan is not a threshold'),
    (('nonzero', '255'), '--border_value 255 covers all pixels of the object'),
    (('', '255'), '--border_value 255 covers all pixels of the object')])
def test_values_that_cannot_be_right_are_named(own, values, line):
    for read in (split_records, check_data):
        with pytest.raises(UserError, match=re.escape(line)): read(own, *values)


LAYOUTS = dict( # what its files are called, and the line
    coco=(['images/a.jpg', 'annotations/instances_default.json'],
          'annotations/ with 1 .json): JSON of COCO is not supported: export masks'),
    roboflow=(['train/a.jpg', 'train/_annotations.coco.json'], 'JSON of COCO is not supported'),
    ade20k=(['images/a.jpg', 'annotations/a.png'],
            '(images/ with 1 .jpg; annotations/ with 1 .png): if annotations/ contains the masks, '
            'rename it to masks/'),
    labelme=(['images/a.jpg', 'annotations/a.json'], 'if annotations/ contains the masks, rename'),
    boxes=(['images/a.jpg', 'annotations/a.xml'], 'with 1 .xml): pictures belong in images/'),
    kaggle=(['images/images/a.jpg', 'annotations/annotations/trimaps/a.png'],
            'move what is in annotations/annotations/ up into annotations/ and what is in '
            'images/images/ up into images/'),
    parent=(['mine/images/a.jpg', 'mine/masks/a.png'], 'give D/mine'),
    splits=(['train/images/a.jpg', 'train/masks/a.png', 'val/images/b.jpg', 'val/masks/b.png'],
            '(train/, val/): put all pictures into one images/ and all masks into one masks/'),
    bowl=(['1/images/1.png', '1/masks/x.png', '1/masks/y.png', '2/images/2.png', '2/masks/z.png'],
          'copy the picture of each folder into one images/, and its masks into one masks/'),
    flat=(['a.jpg', 'a.json', 'b.jpg', 'b.json'], '(2 .jpg, 2 .json): pictures belong in'),
    cvat=(['JPEGImages/a.jpg', 'SegmentationClass/a.png', 'labelmap.txt'],
          '(JPEGImages/, SegmentationClass/, 1 .txt): pictures belong in images/'))

@pytest.mark.parametrize('name', LAYOUTS)
def test_a_folder_of_another_layout_is_described(tmp_path, name):
    files, line = LAYOUTS[name]
    for file in files:
        (tmp_path/'D'/file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path/'D'/file).touch()
    status, out, err = attempt('check_data', tmp_path/'D')
    assert (status, out, err.count('\n')) == (2, '', 1), err
    said = err.replace(f'{tmp_path}/', '')
    assert 'D has an unknown layout (' in said and line in said


@pytest.mark.parametrize('name', ['ade20k', 'kaggle'])
def test_the_advice_for_another_layout_leads_to_one_that_is_read(own, tmp_path, name):
    if name == 'ade20k': (own/'masks').rename(own/'annotations')
    else:
        own = shutil.copytree(SAMPLES, tmp_path/'pets')
        for folder in ('images', 'annotations'):
            (own/folder).rename(own/'x'), (own/folder).mkdir(), (own/'x').rename(own/folder/folder)
    assert attempt('check_data', own)[0] == 2
    if name == 'ade20k': (own/'annotations').rename(own/'masks')
    else:
        for folder in ('images', 'annotations'):
            for path in (own/folder/folder).iterdir(): path.rename(own/folder/path.name)
            (own/folder/folder).rmdir()
    assert attempt('check_data', own)[0] == 0


def exif(*entries):
    "EXIF data of entries: tag, type, count and 4 bytes, or 8 for a rational"
    start, rationals = 10 + 12 * len(entries) + 4, b''
    block = b'Exif\0\0II' + struct.pack('<HIH', 42, 8, len(entries))
    for tag, kind, count, value in entries:
        place = value if len(value) == 4 else struct.pack('<I', start + len(rationals))
        block += struct.pack('<HHI', tag, kind, count) + place
        rationals += value if len(value) == 8 else b''
    return block + bytes(4) + rationals


QUARTER = 0x112, 3, 1, b'\6\0\0\0' # turn a quarter to the right
NO_NUMBER = 0x11a, 10, 1, struct.pack('<ii', -1, 0) # -1/0
XMP = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
TURNED = dict(plain=dict(exif=exif(QUARTER)), no_number=dict(exif=exif(QUARTER, NO_NUMBER)))
AS_STORED = dict(garbage=dict(exif=b'garbage!'), cut=dict(exif=exif(QUARTER)[:20]),
                 xmp=dict(xmp=XMP), too_much=dict(exif=exif((0x112, 3, 1, b'\x09\0\0\0'))),
                 text=dict(exif=exif((0x112, 2, 4, b'six\0'))))

@pytest.mark.filterwarnings('ignore:Corrupt EXIF') # as the commands do
@pytest.mark.parametrize('ending', ['jpg', 'png', 'webp'])
@pytest.mark.parametrize('kind', TURNED | AS_STORED)
def test_a_picture_is_turned_as_a_viewer_turns_it(own, kind, ending):
    record = next(r for r in scan_own(own) if r.name == 'Bengal_43')
    before, options = read_pet(record, 64).astype(int), (TURNED | AS_STORED)[kind]
    with Image.open(record.image) as image: image = image.copy()
    image.info.clear()
    if kind in TURNED: image = image.transpose(Image.ROTATE_90)
    record.image.unlink()
    image.save(record.image.with_suffix(f'.{ending}'), **options, quality=95)
    record = next(r for r in scan_own(own) if r.name == 'Bengal_43')
    after = read_pet(record, 64).astype(int)
    np.testing.assert_array_equal(after[..., 3], before[..., 3])
    assert abs(after - before).mean() < 3 # JPEG was written twice


def test_two_folders_never_share_a_cache(own, tmp_path):
    "Files of the same names, lengths and times, as archives can make them"
    link, roots = tmp_path/'current', [shutil.copytree(own, tmp_path/name) for name in 'ab']
    for root in roots:
        for path in [*root.glob('images/*'), *root.glob('masks/*')]:
            with Image.open(path) as image: pixels = np.array(image)
            Image.fromarray(255 - pixels if root.name == 'b' else pixels).save(
                path.with_suffix('.bmp'))
            path.unlink(), os.utime(path.with_suffix('.bmp'), (0, 0))
    for folders in (roots, [link, link]):
        found = []
        for root, folder in zip(roots, folders):
            if folder is link: link.unlink(missing_ok=True), link.symlink_to(root)
            records = scan_own(folder)
            found.append(decode_once(records, 16, tmp_path/'cache'))
            np.testing.assert_array_equal(found[-1][0], read_pet(records[0], 16))
        assert (found[0] != found[1]).mean() > .9


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


def middle(root, change=lambda mask, i: mask):
    "Masks whose object is the middle of the picture, 255 on 0, changed by `change`"
    for i, record in enumerate(scan_own(root)):
        with record.open_image() as image: mask = np.zeros(image.size[::-1], np.uint8)
        height, width = mask.shape
        mask[height//3:2*height//3, width//3:2*width//3] = 255
        Image.fromarray(change(mask, i)).save(record.mask)

def dot(mask, i):
    "Three pixels wide, between two of the pixels that a mask of 32 x 32 is made of"
    step = np.array(mask.shape) / 32
    (y, x), dot = np.ceil(16.5 * step).astype(int) + 1, np.zeros_like(mask)
    dot[y:y+3, x:x+3] = 255
    return dot

def draw_labels(root):
    "labelme: every second one is by somebody who writes Cat"
    for i, record in enumerate(scan_own(root)):
        with record.open_image() as image: size = image.size
        shapes = [dict(label='Cat' if i % 2 else 'cat', points=[[9, 9], [99, 9], [99, 99]]),
                  dict(label='dog', points=[[0, 0], [9, 0], [0, 9]])]
        drawing = dict(shapes=shapes, imageWidth=size[0], imageHeight=size[1])
        record.mask.with_suffix('.json').write_text(json.dumps(drawing))
        record.mask.unlink()


DOUBTS = [ # what is wrong, --mask_value, part of the line
    ('right', lambda root: middle(root), '', ''),
    ('one empty', lambda root: middle(root, lambda m, i: m * (i > 0)), '', ''),
    ('half empty', lambda root: middle(root, lambda m, i: m * (i % 2)), '',
     '4 of 8 masks are empty, such as '),
    ('black', lambda root: middle(root, lambda m, i: m * 0), '', 'masks are empty, such as '),
    ('white', lambda root: middle(root, lambda m, i: m * 0 + 255), '', 'masks are full, such as '),
    ('dots', lambda root: middle(root, dot), '', 'masks are empty at --size 32; the smallest '
     'object is 3 pixels wide in 256 x '),
    ('inside out', lambda root: middle(root, lambda m, i: 255 - m), '', 'in all 8 masks, such as '),
    ('inside out, other value', lambda root: middle(root, lambda m, i: 255 - m), '0', ''),
    ('0/1 among 0/255', lambda root: middle(root, lambda m, i: m // (1 + 254 * (i % 2))), '255',
     '4 of 8 masks have no --mask_value 255, such as '),
    ('0/1 among 0/255, all', lambda root: middle(root, lambda m, i: m // (1 + 254 * (i % 2))), '',
     'of 8 masks, the object has the value 255 in 4, 1 in 4: if these are different things'),
    ('Cat among cat', draw_labels, 'cat', ', which has Cat and dog instead: ')]

@pytest.mark.parametrize('spoil, value, line', [case[1:] for case in DOUBTS],
                         ids=[case[0] for case in DOUBTS])
def test_masks_that_cannot_be_right_are_noticed(own, spoil, value, line):
    "By the check and before a training, at its size, which is 32 here"
    spoil(own)
    def notes(size):
        parts = split_records(own, value)
        datasets = {part: PetDataset(records, size) for part, records in parts.items()}
        try: return training_notes(own, datasets)
        except ValueError as e: return [str(e)]
    said, checked = notes(32), check_data(own, value, size=32)
    assert len(said) == bool(line) and all(line in words for words in said), said
    words = 'such as', 'are empty at', 'different things'
    assert line in checked and any(w in checked for w in words) == bool(line), checked
    if '--size' in line: # as the line says
        advised = int(said[0].rpartition('--size ')[2])
        assert advised <= 256 and notes(advised) == [], said


@pytest.mark.parametrize('value', [0, 255])
def test_nothing_is_learned_from_masks_that_are_all_alike(own, tmp_path, value):
    middle(own, lambda mask, i: mask * 0 + np.uint8(value))
    status, out, err = attempt('train', *SMALL, '--data_path', own, '--out_dir', tmp_path/'runs')
    assert (status, out, err.count('\n')) == (2, '', 1) and 'all 5 masks are ' in err, err
    assert not (tmp_path/'runs').exists()
    status, _, err = attempt('compare', 'crop_flip', *SMALL, '--data_path', own,
                             '--folder', tmp_path/'comparison')
    assert status == 2 and 'all 5 masks are ' in err, err


def test_trimaps_that_cannot_be_right_are_noticed(toy_pets, tmp_path):
    pets = shutil.copytree(toy_pets, tmp_path/'pets')
    assert 'are empty' not in check_data(pets, size=32)
    trimaps = sorted((pets/'annotations'/'trimaps').iterdir())
    for path in trimaps[::2]:
        background = np.full_like(np.array(Image.open(path)), 2)
        Image.fromarray(background).save(path)
    assert f'{len(trimaps[::2])} of {len(trimaps)} masks are empty' in check_data(pets, size=32)


def test_a_score_says_how_many_masks_were_empty(own, tmp_path):
    middle(own, lambda mask, i: mask * (i % 2))
    (own/'train.txt').write_text('\n'.join(NAMES[:3]))
    (own/'valid.txt').write_text('\n'.join(NAMES[4:7:2]))
    (own/'test.txt').write_text('\n'.join([NAMES[3], *NAMES[5:8:2]]))
    (own/'images'/'day 2').mkdir(), (own/'images'/'phone.heic').touch()
    shutil.copy(own/'images'/'Bengal_43.jpg', own/'images'/'day 2'/'another.jpg')
    middle(own, lambda mask, i: mask * (i not in (1, 3, 4, 5)))
    run_dir, out = trained(own, tmp_path)
    assert 'all 2 validation masks are empty, and they choose the best epoch' in out, out
    assert f'2 files in {own} are not used, such as images/day 2' in out, out
    assert 'where an empty answer scores 1: 1 of 3 masks\ndice of the other 2: 0.' in out, out
    out, _ = call('evaluate', run_dir, '--split', 'test')
    assert 'scores 1: 1 of 3 masks\nDice of the other 2 at original size: 0.' in out, out
    assert json.loads((run_dir/'test'/'summary.json').read_text())['not_empty']['pictures'] == 2
    out, _ = call('evaluate', run_dir)
    assert 'scores 1: 2 of 2 masks\n' in out and 'of the other' not in out, out
    out, _ = call('compare', 'crop_flip', 'jitter_clip', '--models', 'unet', *SMALL, '--seeds', 0,
                  '--data_path', own, '--folder', tmp_path/'comparison')
    assert out.count('all 2 validation masks are empty') == 1, out # once, for both runs


@pytest.mark.parametrize('turn, size, is_listed', [
    (3, (60, 40), True), (2, (60, 40), True), (6, (60, 60), True), (6, (60, 40), False),
    (1, (60, 60), False)])
def test_photos_are_listed_whose_masks_may_not_be_turned(own, turn, size, is_listed):
    record, = (r for r in scan_own(own) if r.name == 'Bengal_43')
    exif = Image.Exif()
    exif[0x112] = turn
    with record.open_image() as image: image.resize(size).save(record.image, exif=exif)
    size = size[::-1] if turn > 4 else size
    Image.open(record.mask).resize(size, Image.NEAREST).save(record.mask)
    said = check_data(own)
    assert ('rotated photo          Bengal_43.jpg (EXIF orientation' in said) == is_listed, said


def test_pictures_to_score_are_named_in_a_list(own, tmp_path):
    "The three train by their names, so the line says how to score them, and that works"
    run_dir, _ = trained(own, tmp_path)
    for record in scan_own(own):
        if record.split != 'train': record.image.unlink(), record.mask.unlink()
    _, err = call('evaluate', run_dir, status=2)
    assert 'write the names of the pictures to score into test.txt' in err, err
    (own/'test.txt').write_text('\n'.join(r.name for r in scan_own(own)))
    out, err = call('evaluate', run_dir, '--split', 'test')
    assert err == '' and '5 test pictures' in out, err


@pytest.mark.parametrize('value', ['', '255'])
def test_a_black_picture_or_a_drawing_without_shapes_is_an_empty_mask(own, value):
    "As the line about a picture without a mask says"
    Image.new('L', (256, 183)).save(own/'masks'/'Bengal_43.png')
    (own/'masks'/'Bengal_30.png').unlink()
    record, = (r for r in scan_pets(SAMPLES) if r.name == 'Bengal_30')
    with record.open_image() as image: width, height = image.size
    drawing = dict(shapes=[], imageWidth=width, imageHeight=height)
    (own/'masks'/'Bengal_30.json').write_text(json.dumps(drawing))
    empty = [r.name for r in scan_own(own, value) if not (np.array(r.read_trimap()) == 1).any()]
    assert empty == ['Bengal_30', 'Bengal_43']


def test_the_commands_from_end_to_end(own, tmp_path):
    run_dir, out = trained(own, tmp_path, '--mask_value', 255)
    for words in ('5 training pictures of 32 x 32', '1 test pictures', 'test dice'):
        assert words in out
    assert json.loads((run_dir/'config.json').read_text())['mask_value'] == '255'
    for part, count in (('valid', 2), ('test', 1)):
        out, err = call('evaluate', run_dir/'best.pt', '--split', part)
        assert err == ''
        assert f'{count} {part} pictures' in out and 'best threshold on 2 validation' in out
        assert 'by species' not in out and 'by breed' not in out
        with open(run_dir/part/'per_image.csv') as f: rows = list(csv.DictReader(f))
        assert [row['name'] for row in rows] == [r.name for r in scan_own(own) if r.split == part]
    out, err = call('compare', 'crop_flip', '--models', 'unet', '--seeds', 0, *SMALL,
                    '--data_path', own, '--folder', tmp_path/'comparison')
    assert err == '' and '| crop_flip | unet | 1 |' in out, err
    (own/'test.txt').write_text('\n'.join(NAMES[:3])) # now the folder can only be scored
    out, err = call('evaluate', run_dir/'best.pt', '--split', 'test')
    assert err == ''
    assert '3 test pictures' in out and 'no validation pictures, so no threshold is chosen' in out
    _, err = call('evaluate', run_dir/'best.pt', status=2)
    assert 'has no valid pictures: give --split test' in err
    flags = '--data_path', SAMPLES, '--split', 'test'
    out, err = call('evaluate', run_dir/'best.pt', *flags)
    assert err == '' and 'by breed' in out, err # the masks' value is not for trimaps


def test_without_test_pictures_a_run_ends_well_and_a_comparison_says_what_it_needs(own, tmp_path):
    (own/'train.txt').write_text('\n'.join(NAMES[:4]))
    (own/'valid.txt').write_text('\n'.join(NAMES[4:]))
    run_dir, out = trained(own, tmp_path)
    assert out.endswith('no test pictures, so nothing is scored\n')
    assert {'best.pt', 'curves.png', 'predictions.png'} <= {p.name for p in run_dir.iterdir()}
    _, err = call('compare', 'crop_flip', '--models', 'unet', '--seeds', 0, *SMALL,
                  '--data_path', own, '--folder', tmp_path/'comparison', status=2)
    assert 'has no test pictures, but a comparison scores them: name some in test.txt' in err


def test_pets_that_only_test_can_be_scored(toy_pets, tmp_path):
    run_dir, _ = trained(toy_pets, tmp_path)
    pets = shutil.copytree(toy_pets, tmp_path/'pets')
    (pets/'annotations'/'trainval.txt').write_text('')
    out, err = call('evaluate', run_dir, '--data_path', pets, '--split', 'test')
    assert err == ''
    assert '10 test pictures' in out and 'no threshold is chosen' in out


def test_a_corrected_mask_is_read_again(own, tmp_path):
    record, = (r for r in scan_own(own) if r.name == 'Bengal_43')
    first = np.array(decode_once([record], 32, tmp_path/'decoded'))
    save(own, 'Bengal_43', 255 - pixels(own, 'Bengal_43'))
    second = np.array(decode_once([record], 32, tmp_path/'decoded'))
    np.testing.assert_array_equal(first[..., 3], 3 - second[..., 3])
    other = OwnRecord('Bengal_43', 'train', record.image, record.mask, '0')
    third = decode_once([other], 32, tmp_path/'decoded')
    np.testing.assert_array_equal(third[..., 3], first[..., 3])
