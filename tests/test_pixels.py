"""Where pixels come from and what they become: mistakes in them change every number and break
nothing."""
import os, shutil
from contextlib import nullcontext
import numpy as np
import pytest
from PIL import Image
from torchvision.models import ResNet34_Weights
from petseg_nb.core.pets import decode_once, read_pet
from petseg_nb.data import IMAGENET_MEAN, IMAGENET_STD, scan_pets
from petseg_nb.masks import SAMPLES
from petseg_nb.runs.folders import probability_image

RECORDS = scan_pets(SAMPLES)


def test_statistics_are_those_that_torchvision_keeps_with_its_weights():
    "In the order red, green, blue"
    preset = ResNet34_Weights.IMAGENET1K_V1.transforms()
    assert (list(IMAGENET_MEAN), list(IMAGENET_STD)) == (preset.mean, preset.std)


@pytest.mark.parametrize('record', RECORDS, ids=lambda r: r.name)
def test_a_small_trimap_holds_pixels_of_the_large_one(record):
    "Those under the middles of its own; smoothly, pet (1) and border (3) make background (2)"
    full = np.array(record.read_trimap())
    rows, columns = (((np.arange(64) + .5) * side / 64).astype(int) for side in full.shape)
    np.testing.assert_array_equal(read_pet(record, 64)[..., 3], full[rows][:, columns])


class Red:
    "A record of a red picture that is all background"
    def open_image(self): return nullcontext(Image.new('RGB', (8, 8), (250, 20, 3)))
    def read_trimap(self): return Image.new('L', (8, 8), 2)


def test_colours_are_red_green_blue():
    assert read_pet(Red(), 8)[0, 0].tolist() == [250, 20, 3, 2]


@pytest.mark.parametrize('kind', ['image', 'trimap'])
def test_a_corrected_file_is_decoded_again(kind, toy_pets, tmp_path):
    records = scan_pets(shutil.copytree(toy_pets, tmp_path/'pets'))[:2]
    decode_once(records, 32, tmp_path)
    path = getattr(records[1], kind)
    # a clock that went back is no reason to keep it
    os.utime(path, ns=(0, path.stat().st_mtime_ns - 10**9))
    decode_once(records, 32, tmp_path)
    assert len(list(tmp_path.glob('*.npy'))) == 2


def test_grey_of_16_bits_ends_at_certain():
    for probability, grey in ((0, 0), (.5, 32768), (1, 65535)):
        image = probability_image(np.full((2, 3), probability, np.float32), (6, 4))
        assert np.unique(np.asarray(image)).tolist() == [grey]
