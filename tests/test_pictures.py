"""What a network sees of a file: depths, pages, bands and kinds of pictures, and masks in them."""
import re
import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from petseg_nb.core.errors import UserError
from petseg_nb.core.tiles import look
from petseg_nb.datasets.audit import picture_defects
from petseg_nb.datasets.own import read_mask
from petseg_nb.masks import SAMPLES

RAMP = np.tile(np.linspace(0, 1, 64), (48, 1))  # (48, 64), from black to white


def deep(white, kind, **tags):
    "Writes a ramp up to `white` as TIFF, in colour where the tags say so"
    def write(path):
        pixels = (RAMP * white).astype(kind)
        if tags.get('photometric') == 'rgb': pixels = pixels[..., None].repeat(3, 2)
        tifffile.imwrite(path, pixels, **tags)
    return write


def deep_png(channels):
    def write(path):
        pixels = (RAMP[..., None] * 4095).astype(np.uint16).repeat(channels, 2)
        path.write_bytes(cv2.imencode('.png', pixels)[1])
    return write


RGB = dict(photometric='rgb')
@pytest.mark.parametrize('write', [
    deep(4095, np.uint16), deep(255, np.uint16), deep(65535, np.uint16), deep(1023, np.int16),
    deep(255, np.int32), deep(2**24 - 1, np.int32), deep(4095, np.uint32), deep(4095, np.int64),
    deep(65535, np.uint64, bigtiff=True), deep(1, np.float32), deep(255, np.float32),
    deep(65535, np.float32), deep(1, np.float64, byteorder='>'), deep(4095, np.uint16, **RGB),
    deep(65535, np.uint16, **RGB, compression='zlib'), deep(1, np.float32, **RGB),
    deep_png(1), deep_png(3), deep_png(4)])
def test_a_deep_picture_has_its_contrast(write, tmp_path):
    write(path := tmp_path/'deep.tif')
    seen = look(path, 64)[0].astype(int)                     # (64, 64, 3)
    assert np.abs(seen - 255 * RAMP[0, :, None]).max() <= 2


def stack(path, **tags): tifffile.imwrite(path, np.zeros((3, 48, 64), np.uint8), **tags)
@pytest.mark.parametrize('write, line', [
    (deep(1, np.float16), 'cannot be read (a TIFF with 1 x 16-bit floats per pixel): save the part '
                          'that you need as PNG, in grey or RGB'),
    (lambda path: tifffile.imwrite(path, np.zeros((48, 64, 8), np.uint16), planarconfig='contig'),
     'cannot be read (a TIFF with 8 x 16-bit whole numbers per pixel): save the part'),
    (lambda path: stack(path, photometric='minisblack'), 'cannot be read (3 pages of the same'),
    (lambda path: tifffile.imwrite(path, np.zeros((3, 48, 64), np.uint16), **RGB),
     'cannot be read (a TIFF with 3 x 16-bit whole numbers per pixel): save the part'),
    (deep(-1000, np.int16), 'deep.tif: pixels from -1000 to 0, but nothing says which values are '
                            'black and white: choose both, and save it with 8 bits'),
    (deep(np.nan, np.float32), 'deep.tif: pixels from nan to nan')])
def test_a_picture_of_which_nothing_tells_what_to_see_has_one_line(write, line, tmp_path):
    write(path := tmp_path/'deep.tif')
    with pytest.raises(UserError, match=re.escape(line)) as error: look(path, 64)
    defect, = picture_defects(path)
    assert defect.kind == 'unreadable picture' and defect.detail in str(error.value)


def test_a_deep_picture_is_upright(tmp_path):
    "Of TIFF and PNG, as one of 8 bits with the same tag"
    grey = (RAMP * 4095).astype(np.uint16)[..., None].repeat(3, 2)  # (48, 64, 3)
    for depth in (1, 16): # 12 bits in 16, and 8 bits
        pixels = (grey // 16).astype(np.uint8) if depth == 1 else grey
        tifffile.imwrite(tmp_path/f'{depth}.tif', pixels, extratags=[(274, 'H', 1, 6, True)], **RGB)
    views = [look(tmp_path/f'{depth}.tif', 64) for depth in (1, 16)]
    assert views[0][1] == views[1][1] == (48, 64)
    np.testing.assert_allclose(views[0][0], views[1][0], atol=1)


def test_a_thumbnail_is_not_a_page(tmp_path):
    with tifffile.TiffWriter(path := tmp_path/'a.tif') as tif:
        tif.write((RAMP * 255).astype(np.uint8))
        tif.write(np.zeros((12, 16), np.uint8))
    assert look(path, 64)[0].max() > 250 and picture_defects(path) == []


def test_what_is_read_as_rgb_is_no_defect(tmp_path):
    photo = Image.open(next((SAMPLES/'images').iterdir()))
    photo.save(tmp_path/'phone.jpg', format='MPO', save_all=True, append_images=[photo])
    for mode in ('1', 'L', 'CMYK'): photo.convert(mode).save(tmp_path/f'{mode}.tif')
    for mode in ('LA', 'P', 'RGBA'): photo.convert(mode).save(tmp_path/f'{mode}.png')
    photo.save(tmp_path/'profile.png', icc_profile=bytes(2**19))
    assert [d for path in tmp_path.iterdir() for d in picture_defects(path)] == []


MASK = np.zeros((40, 60), bool)
MASK[10:30, 15:45] = True
GREY = np.where(MASK, 0, 255).astype(np.uint8) # drawn in black, on what becomes transparent


def clear(mode, transparency):
    def write(path):
        if mode == 'P':
            image = Image.fromarray(MASK.astype(np.uint8))
            image.putpalette([255, 255, 255, 0, 0, 0])
        else: image = Image.fromarray(GREY).convert(mode)
        image.save(path, transparency=transparency)
    return write


def labels(kind): return lambda path: tifffile.imwrite(path, MASK.astype(kind))


@pytest.mark.parametrize('name, write', [
    ('a.png', clear('P', 0)), ('a.png', clear('P', bytes([0, 255]))), ('a.gif', clear('P', 0)),
    ('a.png', clear('L', 255)), ('a.png', clear('RGB', (255, 255, 255))), ('a.png', clear('1', 1)),
    ('a.tif', labels(bool)), ('a.tif', labels(np.int64)), ('a.tif', labels(np.uint64)),
    ('a.tif', labels(np.float64)), ('a.tif', labels(np.uint16))])
def test_a_mask_is_where_its_program_put_it(name, write, tmp_path):
    write(tmp_path/name)
    np.testing.assert_array_equal(read_mask(tmp_path/name), MASK)


def test_a_transparent_value_can_be_named(tmp_path):
    "By that word, its number and its colour"
    clear('P', 0)(path := tmp_path/'a.png')
    for value in ('transparent', '0', '255,255,255'):
        np.testing.assert_array_equal(read_mask(path, value), ~MASK, err_msg=value)
    np.testing.assert_array_equal(read_mask(path, '1'), MASK)


def test_black_and_white_of_other_programs_is_as_the_file_says(tmp_path):
    tifffile.imwrite(path := tmp_path/'a.tif', MASK, software='scanner') # white is zero
    np.testing.assert_array_equal(read_mask(path), ~MASK)


@pytest.mark.parametrize('kind', [np.uint8, np.uint16])
def test_a_tiff_that_is_stored_turned_is_turned_once(kind, tmp_path):
    upright = (200 * RAMP).astype(kind)                      # (48, 64)
    turned = Image.fromarray(np.rot90(upright).copy())       # (64, 48)
    turned.save(path := tmp_path/'turned.tif', tiffinfo={0x112: 6}) # show it turned to the right
    assert read_mask(path, '>100').tolist() == (upright > 100).tolist()


def test_numbers_of_objects_in_a_grey_mask_of_16_bits_are_kept(tmp_path):
    pixels = np.zeros((20, 30, 3), np.uint16)
    pixels[2:9, 2:9], pixels[12:17, 12:17] = 5, 3000
    (path := tmp_path/'mask.png').write_bytes(cv2.imencode('.png', pixels)[1])
    assert [read_mask(path, value).sum() for value in ('nonzero', '5', '3000', '>1000')] == [
        74, 49, 25, 25]
    with pytest.raises(UserError, match='has the values 0 and 5 and 3000'): read_mask(path)


def test_floats_a_little_beyond_white_are_not_taken_for_black(tmp_path):
    deep(1.02, np.float32)(path := tmp_path/'deep.tif')
    with pytest.raises(UserError, match='pixels from 0 to 1.02, but nothing says'): look(path, 64)
