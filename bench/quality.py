#!/usr/bin/env python3
"""Which Dice after how many seconds: our recipe, our settings without one, the five course reports,
and segmentation_models_pytorch's Unet?

    python bench/quality.py [--data_path DATASET] [--seconds 15] [--size 64] [--width 16]
        [--json FILE]

Each contender may use so many processor seconds, validation included, made into epochs beforehand
as `petseg_compare --seconds` does, so that its learning rate comes to its end. smp's Unet has
ResNet-34 with random weights and is trained twice: plainly (Adam at 1e-4, no schedule, mirrored
pictures), and by our recipe. Dice is the mean over pictures: of the validation pictures the best
that was reached in a quarter, half and all of the time, and of the test pictures that of the best
epoch. Without `--data_path` the pictures are toys. pip install segmentation_models_pytorch"""
import argparse, time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
import segmentation_models_pytorch as smp
from machine import save
from petseg_nb.checkpoints import model_for
from petseg_nb.core.config import CHOICES, TrainConfig
from petseg_nb.core.device import keep_memory
from petseg_nb.data import Normalize
from petseg_nb.datasets.toy import make_toy_pets
from petseg_nb.losses import LOSSES
from petseg_nb.recipes import RECIPES, recipe_config
from petseg_nb.resnet34_unet import MODELS
from petseg_nb.runs.compare import epochs_within
from petseg_nb.runs.fit import new_loaders
from petseg_nb.training import Callback, fit, validate
from torch import nn

MODELS['smp'] = lambda normalization: nn.Sequential(
    Normalize(normalization), smp.Unet('resnet34', encoder_weights=None))
CHOICES['model'].append('smp')


class Progress(Callback):
    "Pairs of processor seconds since the beginning and the best validation Dice until then"
    def __init__(self): self.reached = []
    def begin(self, run): self.start = time.process_time()
    def after_epoch(self, run):
        best = max(row['valid_dice'] for row in run.history)
        self.reached.append((time.process_time() - self.start, best))


def contenders(args):
    "Name: configuration"
    common = dict(data_path=str(args.data_path), size=args.size, seed=0)
    widths = dict(unet=dict(width=args.width), resnet34_unet={})
    ours = {f'{recipe}, {model}': recipe_config(recipe, model, **common, **width)
            for recipe in RECIPES for model, width in widths.items()}
    ours['petseg_train without a recipe'] = TrainConfig(width=args.width, **common)
    plain = TrainConfig(model='smp', optimizer='adam', learning_rate=1e-4, schedule='constant',
                        augment='flip_cbam', **common)
    return ours | {'smp.Unet, plainly': plain,
                   'smp.Unet, our recipe': replace(ours['ours, resnet34_unet'], model='smp')}


def train(config, seconds, cache):
    "Epochs; best validation Dice after each, by processor seconds; test Dice of the best epoch"
    config = replace(config, epochs=epochs_within(seconds, config))
    loaders, model, progress = new_loaders(config, cache), model_for(config), Progress()
    fit(model, loaders, config, quiet=True, callbacks=[progress])
    test = validate(model, loaders['test'], LOSSES[config.loss])['dice']
    return dict(epochs=config.epochs, reached=progress.reached, test_dice=test)


parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--data_path', type=Path)
for name, default in dict(seconds=15, size=64, width=16).items():
    parser.add_argument(f'--{name}', type=int, default=default)
parser.add_argument('--json')
args = parser.parse_args()
keep_memory()
rows = {}
with TemporaryDirectory() as folder:
    folder = Path(folder)
    args.data_path = args.data_path or make_toy_pets(folder/'toys')
    print(f'{"":32}{"epochs":>8}{"quarter":>9}{"half":>9}{"all":>9}{"test Dice":>11}')
    for name, config in contenders(args).items():
        rows[name] = row = train(config, args.seconds, folder/'cache')
        after = [[dice for when, dice in row['reached'] if when <= share * args.seconds]
                 for share in (.25, .5, 1.1)]
        best = ''.join(f'{max(scores, default=float("nan")):9.4f}' for scores in after)
        print(f'{name:32}{row["epochs"]:8}{best}{row["test_dice"]:11.4f}', flush=True)
save(args.json, seconds=args.seconds, size=args.size, contenders=rows)
