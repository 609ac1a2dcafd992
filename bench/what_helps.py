#!/usr/bin/env python3
"""How much do more breeds, another network and ImageNet weights gain?

    python bench/what_helps.py pets RESULTS.jsonl [--seeds 0 1 2] [--size 96] [--steps 480]

`pets` is the folder that scripts/pretrained.py makes. Four trainings differ in one thing each: UNet
on three breeds, UNet on all 37, LiteUNet, and LiteUNet with ImageNet weights (both with a decoder
up to full size, which the package's LiteUNet no longer has). All else is the same:
AdamW with a peak rate of 0.001, one cycle, the preset `strong`, batches of 16, BCE + Dice, and the
number of optimiser steps. The score is the mean Dice of the test pictures at their original size,
of the epoch with the best validation Dice. Each training adds a line to RESULTS.jsonl; those that
are there are not run again. At the end: mean and standard deviation over the seeds."""
import argparse
from collections import defaultdict
from functools import partial
from math import ceil
from pathlib import Path
from statistics import mean
from machine import Results
from petseg_nb.augment import Augment
from petseg_nb.checkpoints import model_for
from petseg_nb.core.config import TrainConfig
from petseg_nb.core.device import keep_memory
from petseg_nb.data import PetDataset, pet_dataloaders
from petseg_nb.datasets.own import parts_to_train
from petseg_nb.evaluation import evaluate
from petseg_nb.inference import predict_probabilities
from petseg_nb.lite_unet import LiteUNet
from petseg_nb.resnet34_unet import MODELS
from petseg_nb.show.scorecard import summarize_pictures
from petseg_nb.training import fit
from scipy.stats import ttest_rel

THREE = 'Abyssinian', 'Bengal', 'american_bulldog'
MODELS['lite_unet'] = partial(LiteUNet, widths=(128, 64, 48, 32, 16))
LITE = dict(model='lite_unet', normalization='half')
WAYS = {'UNet, three breeds': dict(breeds=THREE, model='unet', width=16),
        'UNet, 37 breeds': dict(model='unet', width=16),
        'LiteUNet, 37 breeds': LITE,
        'LiteUNet, 37 breeds, ImageNet': LITE | dict(encoder_weights='imagenet')}


def score(pets, cache, size, steps, seed, breeds=None, **settings):
    "Test scores of one training"
    parts = parts_to_train(pets)
    if breeds: # what is learned and what chooses the epoch, not what is tested
        parts |= {part: [r for r in parts[part] if r.breed in breeds] for part in ('train', 'valid')}
    config = TrainConfig(data_path=str(pets), size=size, batch_size=16, augment='strong', seed=seed,
                         epochs=round(steps / ceil(len(parts['train']) / 16)), **settings)
    loaders = pet_dataloaders(pets, size, 16, config.border, Augment(config.augment, size), cache,
                              0, seed, parts)
    model = model_for(config)
    fit(model, loaders, config, quiet=True)
    test = PetDataset(parts['test'], size, config.border, cache_dir=cache)
    found = summarize_pictures(evaluate(partial(predict_probabilities, model), test))
    return dict(train=len(parts['train']), epochs=config.epochs,
                dice=found['dice_original'], dice_at_size=found['dice'])


if __name__ == '__main__':
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pets', type=Path)
    parser.add_argument('results', type=Path)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--size', type=int, default=96)
    parser.add_argument('--steps', type=int, default=480)
    args = parser.parse_args()
    keep_memory()
    results, cache = Results(args.results), args.results.with_suffix('.cache')
    def run(way, seed): return score(args.pets, cache, args.size, args.steps, seed, **WAYS[way])
    for seed in args.seeds:
        for way in WAYS: results.add(run, way=way, seed=seed)
    dice = defaultdict(list) # of each way, by seed
    for row in sorted(results.known(), key=lambda row: row['seed']):
        dice[row['way']].append(row['dice'])
    before = None
    for way in WAYS:
        gain = ''
        if before:
            low, high = ttest_rel(dice[way], before).confidence_interval()
            gain = f'   {mean(dice[way]) - mean(before):+.3f} [{low:+.3f}, {high:+.3f}]'
        print(f'{way:32} {mean(dice[way]):.3f}{gain}')
        before = dice[way]
