"""What must hold for every mask, transform, score, run length and square, tried by hypothesis on
cases that nobody thought of."""
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from petseg_nb.augment import Augment, PRESETS
from petseg_nb.evaluation import THRESHOLDS, counts_at_thresholds, probability_histogram
from petseg_nb.inference import turn, turn_back
from petseg_nb.losses import LOSSES
from petseg_nb.masks import (
    ERROR_COLOURS, cutout, error_map, mask_image, overlay, silhouette_to_trimap, trimap_to_mask)
from petseg_nb.metrics import SegmentationMeter, boundary_f1, confusion, dice, iou
from petseg_nb.core.tiles import (
    count_squares, crop_square, cut_view, join_maps, look, to_mask)
from petseg_nb.runs.folders import decode_rle, encode_rle
from PIL import Image

settings.register_profile('here', deadline=None, database=None, max_examples=60, derandomize=True)
settings.load_profile('here')
sides = st.integers(1, 12)
shapes = st.tuples(sides, sides)
bools, trimaps = arrays(bool, shapes), arrays(np.uint8, shapes, elements=st.integers(1, 3))
truths = arrays(np.uint8, shapes, elements=st.sampled_from([0, 1, 255]))
probabilities = arrays(np.float32, shapes, elements=st.floats(0, 1, width=32))


def four(a): return torch.from_numpy(a)[None, None] # (1, 1, H, W)


@st.composite
def pairs(draw, ignored=True):
    "A prediction and a mask of one shape"
    shape, values = draw(shapes), [0, 1, 255] if ignored else [0, 1]
    masks = arrays(np.uint8, shape, elements=st.sampled_from(values))
    return draw(arrays(bool, shape)), draw(masks)


# Masks

@given(trimaps)
def test_the_border_alone_depends_on_its_rule(trimap):
    for border, value in dict(pet=1, background=0, ignore=255).items():
        mask = trimap_to_mask(trimap, border)
        assert (mask[trimap == 1] == 1).all() and (mask[trimap == 2] == 0).all()
        assert (mask[trimap == 3] == value).all()


@given(arrays(np.uint8, shapes))
def test_other_values_than_a_trimaps_are_refused(trimap):
    assume(not set(trimap.ravel().tolist()) <= {1, 2, 3})
    with pytest.raises(ValueError, match='a trimap has only 1, 2 and 3'): trimap_to_mask(trimap)


@given(bools)
def test_the_border_is_a_pixel_on_each_side_of_the_outline(pet):
    "Border is what has, among its up to nine neighbours, pet and background; the rest stays"
    trimap, (h, w) = silhouette_to_trimap(pet.astype(float)), pet.shape
    for y in range(h):
        for x in range(w):
            around = pet[max(y - 1, 0):y + 2, max(x - 1, 0):x + 2]
            assert trimap[y, x] == (1 if around.all() else 3 if around.any() else 2)


# prediction and mask: the name of the pixel's colour
CASES = {(1, 1): 'found', (0, 1): 'missed', (1, 0): 'false', (0, 0): 'background'}


@given(pairs())
def test_each_pixel_has_the_colour_of_its_case(pair):
    pred, mask = pair
    found = error_map(pred, mask)
    for (y, x), truth in np.ndenumerate(mask):
        case = 'ignored' if truth == 255 else CASES[int(pred[y, x]), int(truth)]
        colour = np.round(255 * found[y, x]).astype(int)
        assert '#{:02X}{:02X}{:02X}'.format(*colour) == ERROR_COLOURS[case]


@given(bools)
def test_pictures_of_a_mask_have_its_pixels(mask):
    picture = Image.new('RGB', mask.shape[::-1], (10, 200, 30))
    np.testing.assert_array_equal(np.asarray(mask_image(mask)), mask * 255)
    cut = np.asarray(cutout(picture, mask))
    np.testing.assert_array_equal(cut[..., 3], mask * 255)
    assert (cut[mask] == (10, 200, 30, 255)).all() and (cut[~mask] == 0).all()
    changed = (overlay(np.asarray(picture), mask.astype(np.uint8)) != np.asarray(picture)).any(-1)
    np.testing.assert_array_equal(changed, mask)


# Transforms

@given(st.sampled_from(sorted(PRESETS)), st.integers(0, 2**32), st.integers(0, 10**6),
       st.integers(0, 10**6))
@settings(max_examples=40)
def test_a_transform_is_a_function_of_picture_mask_and_seed(preset, seed, epoch, index):
    "The same again, with shapes, types and values of the mask; what it got stays as it was"
    rng, values = np.random.default_rng(seed), np.array([0, 1, 255], np.uint8)
    image, mask = rng.integers(0, 256, (32, 32, 3), np.uint8), rng.choice(values, (32, 32))
    before, augment = (image.copy(), mask.copy()), Augment(preset, 32)
    first, again = (augment(image, mask, (seed, epoch, index)) for _ in range(2))
    for a, b, old, kept in zip(first, again, (image, mask), before):
        assert a.shape == old.shape and a.dtype == np.uint8
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(old, kept)
    assert set(np.unique(first[1])) <= {0, 1, 255}


@given(st.sampled_from(sorted(PRESETS)), st.integers(0, 10**6))
@settings(max_examples=40)
def test_picture_and_mask_move_together(preset, seed):
    "A white square on black, and its mask: wherever it goes, they agree but for its rim"
    mask = np.zeros((48, 48), np.uint8)
    mask[8:30, 14:40] = 1
    image, moved = Augment(preset, 48)(np.repeat(mask[..., None] * np.uint8(220), 3, 2), mask, seed)
    grey = image.mean(-1)
    assume(grey.max() - grey.min() > 60) # and not all of it was cut off
    assert ((grey > (grey.max() + grey.min()) / 2) != (moved == 1)).mean() < .08


@given(arrays(np.uint8, st.tuples(sides, sides)), st.integers(0, 7))
def test_each_symmetry_is_undone(a, k):
    x = torch.from_numpy(a)
    assert torch.equal(turn_back(turn(x, k), k), x)


@given(st.integers(2, 9))
def test_the_symmetries_of_a_square_are_eight(side):
    x = torch.arange(side * side).view(side, side)
    assert len({tuple(turn(x, k).flatten().tolist()) for k in range(8)}) == 8


# Losses and metrics

@given(pairs())
def test_scores_are_those_of_sets(pair):
    pred, mask = pair
    a, b = pred & (mask != 255), mask == 1
    both, either = (a & b).sum(), (a | b).sum()
    expected = both / either if either else 1
    assert iou(four(pred), four(mask)).item() == pytest.approx(expected, abs=1e-6)
    expected = 2 * expected / (1 + expected)
    assert dice(four(pred), four(mask)).item() == pytest.approx(expected, abs=1e-6)


@given(pairs(ignored=False))
def test_dice_and_boundary_f_do_not_care_which_is_the_truth(pair):
    pred, mask = four(pair[0]), four(pair[1])
    assert dice(pred, mask) == dice(mask, pred.byte())
    swapped = boundary_f1(mask, pred.byte()).item()
    assert boundary_f1(pred, mask).item() == pytest.approx(swapped, abs=1e-6)
    assert boundary_f1(mask, mask).item() == 1


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**6))
@settings(max_examples=30)
def test_a_meter_does_not_see_batches(count, batch_size, seed):
    torch.manual_seed(seed)
    logits, masks = torch.randn(count, 1, 5, 6), torch.randint(0, 2, (count, 1, 5, 6))
    meters = SegmentationMeter(), SegmentationMeter()
    meters[0].update(logits, masks)
    for x, y in zip(logits.split(batch_size), masks.split(batch_size)): meters[1].update(x, y)
    assert meters[0].compute() == meters[1].compute()


@given(truths, st.integers(0, 10**6))
def test_a_histogram_counts_at_every_threshold(mask, seed):
    "As counting anew says; a probability on a threshold is not above it"
    percents = np.random.default_rng(seed).integers(0, 101, mask.shape)
    p = torch.from_numpy(percents.astype(np.float32)) / 100
    counts = counts_at_thresholds(probability_histogram(p[None, None], four(mask)))
    for i in (0, 24, 49, 98):
        pred = (p > THRESHOLDS[i])[None, None]
        assert counts[i].tolist() == confusion(pred, four(mask))[0].tolist()


@given(truths, st.sampled_from(sorted(LOSSES)), st.integers(0, 10**6))
def test_losses_are_finite_and_blind_for_ignored_pixels(mask, name, seed):
    torch.manual_seed(seed)
    logits = (20 * torch.randn(1, 1, *mask.shape)).requires_grad_()
    loss = LOSSES[name](logits, four(mask))
    grad, = torch.autograd.grad(loss, logits)
    assert 0 <= loss.item() < 1000 and grad.isfinite().all()
    assert (grad[four(mask) == 255] == 0).all()
    other = torch.where(four(mask) == 255, torch.randn_like(logits), logits)
    assert LOSSES[name](other, four(mask)).item() == pytest.approx(loss.item(), abs=1e-6)


# Run lengths

@given(bools)
def test_run_lengths_bring_the_mask_back(mask):
    text = encode_rle(mask)
    np.testing.assert_array_equal(decode_rle(text, mask.shape[::-1]), mask)
    numbers = list(map(int, text.split()))
    assert sum(numbers[1::2]) == mask.sum() and len(numbers) % 2 == 0
    starts, lengths = numbers[::2], numbers[1::2]
    assert all(a + n < b for a, n, b in zip(starts, lengths, starts[1:])) # runs do not touch


@given(st.lists(st.integers(-3, 40), max_size=8), sides, sides)
def test_numbers_that_are_no_run_lengths_are_refused(numbers, width, height):
    text = ' '.join(map(str, numbers))
    try: mask = decode_rle(text, (width, height))
    except ValueError as e: assert 'cannot be the run lengths' in str(e)
    else: assert mask.sum() == sum(numbers[1::2]) and mask.shape == (height, width)


# Squares of long pictures

@given(st.integers(1, 300), st.integers(1, 300), st.integers(8, 32))
def test_squares_of_a_picture_share_no_pixel_and_leave_none_out(width, height, size):
    n = count_squares((width, height))
    assert n <= 32 and (n == 1) == (max(width, height) <= 3 * min(width, height))
    image = Image.fromarray(np.arange(width * height, dtype=np.int32).reshape(height, width))
    parts = [np.array(crop_square(image, k, n)) for k in range(n)]
    np.testing.assert_array_equal(np.concatenate(parts, int(width > height)), np.array(image))
    view, full = look(Image.new('RGB', (width, height)), size)
    assert full == (width, height) and sorted(view.shape[:2]) == [size, n * size]
    assert len(cut_view(view)) == n
    np.testing.assert_array_equal(join_maps(cut_view(view), view), view)


@given(probabilities, st.integers(1, 40), st.integers(1, 40))
def test_a_mask_has_the_size_of_its_picture(probability, width, height):
    mask = to_mask(probability, (width, height), .5)
    assert mask.shape == (height, width) and mask.dtype == bool
    if (probability > .5).all() or not (probability > .5).any(): assert mask.all() or not mask.any()
