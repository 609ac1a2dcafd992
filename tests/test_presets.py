"""The presets are what the five course reports say that they did, number by number; without this, a
digit could change and every picture would still look plausible."""
import albumentations as A
import pytest
from petseg_nb.augment import PRESETS

TELLING = ('scale', 'translate_percent', 'rotate', 'limit', 'border_mode', 'keep_ratio',
           'brightness', 'contrast', 'saturation', 'hue', 'blur_limit', 'std_range', 'size',
           'width', 'height')


def told(transform):
    "Name, probability, and what the reports tell of a transform"
    if isinstance(transform, A.OneOf): return 'OneOf', transform.p, *map(told, transform.transforms)
    args = transform.get_transform_init_args()
    return type(transform).__name__, transform.p, {k: args[k] for k in args if k in TELLING}


def flip(p, axis='Horizontal'): return f'{axis}Flip', p, {}


def moved(p, shift, zoom, turn):
    "By a share of the side, by factors and by degrees; what comes in is mirrored (border_mode 4)"
    return 'Affine', p, dict(
        scale=dict(x=zoom, y=zoom), translate_percent=dict(x=(-shift, shift), y=(-shift, shift)),
        rotate=(-turn, turn), border_mode=4, keep_ratio=True)


def coloured(p, light, hue):
    factors = dict.fromkeys(('brightness', 'contrast', 'saturation'), (1 - light, 1 + light))
    return 'ColorJitter', p, factors | dict(hue=(-hue, hue))


def blurred(p): return 'GaussianBlur', p, dict(blur_limit=(3, 7))


REPORTS = dict(
    oneof_cosine=[
        ('OneOf', .5, ('RandomResizedCrop', 1, dict(size=(128, 128), scale=(.8, 1))),
                      ('Rotate', .5, dict(limit=(-30, 30), border_mode=4))),
        ('OneOf', .5, flip(.5), flip(.5, 'Vertical')),
        ('OneOf', .3, ('RandomBrightnessContrast', .5, {}), ('RandomGamma', .5, {})),
        ('OneOf', .2, ('GaussNoise', .5, dict(std_range=(.012, .028))), blurred(.5))],
    crop_flip=[
        ('Resize', 1, dict(height=143, width=143)), # 286 of 256
        ('RandomCrop', 1, dict(height=128, width=128, border_mode=0)), flip(.5)],
    affine_blur=[
        flip(.5), flip(.2, 'Vertical'), ('RandomRotate90', .3, {}), moved(.5, .1, (.8, 1.2), 15),
        ('RandomBrightnessContrast', .2, {}), blurred(.3)],
    jitter_clip=[flip(.5), moved(.5, .2, (.8, 1.2), 15), coloured(.5, .2, 0)],
    flip_cbam=[flip(.5)],
    none=[],
    # these two are ours
    light=[flip(.5), moved(.4, .05, (.9, 1.1), 10), coloured(.4, .2, .02)],
    strong=[flip(.5), moved(.8, .12, (.7, 1.4), 20), coloured(.8, .4, .04)])


def test_every_preset_is_told(): assert REPORTS.keys() == PRESETS.keys()


@pytest.mark.parametrize('name', PRESETS)
def test_a_preset_is_what_its_report_tells(name):
    def close(ours, theirs):
        if isinstance(theirs, dict):
            return ours.keys() == theirs.keys() and all(close(ours[k], theirs[k]) for k in theirs)
        if isinstance(theirs, (tuple, list)):
            return len(ours) == len(theirs) and all(map(close, ours, theirs))
        return ours == pytest.approx(theirs)
    made = list(map(told, PRESETS[name](128)))
    assert close(made, REPORTS[name]), made
