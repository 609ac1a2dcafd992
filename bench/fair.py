#!/usr/bin/env python3
"""Recipes and models under the same budgets: for tuning as well as for training.

    python bench/fair.py PETS RESULTS.jsonl [--recipes ours crop_flip] [--models unet resnet34_unet]
        [--epochs 8 | --seconds 100] [--size 64] [--width 16] [--rates 0.0003 0.001 0.003]

PETS is the folder that scripts/pretrained.py makes. Each pair of recipe and model is trained once
at each peak rate with seed 0, and takes the rate with the best validation Dice; seeds 1 and 2
follow at that rate. Test pictures are scored by the weights of the best epoch, at the common size,
and choose nothing. A budget in processor seconds is made into epochs beforehand, as `petseg_compare
--seconds` does, so that every schedule comes to its end. Each run adds a line to RESULTS.jsonl,
which is for one budget; runs that are there are not made again."""
import argparse, time
from functools import partial
from pathlib import Path
from machine import Results
from petseg_nb.checkpoints import model_for
from petseg_nb.core.device import keep_memory
from petseg_nb.losses import LOSSES
from petseg_nb.recipes import RECIPES, recipe_config
from petseg_nb.runs.compare import epochs_within
from petseg_nb.runs.fit import new_loaders
from petseg_nb.training import fit, validate


def configuration(args, recipe, model, **changes):
    "Of one run"
    common = dict(data_path=str(args.pets), size=args.size, **changes)
    if model == 'unet': common['width'] = args.width
    return recipe_config(recipe, model, **common)


def run(args, recipe, model, rate, seed, epochs):
    "The row of one training"
    config = configuration(args, recipe, model, learning_rate=rate, seed=seed, epochs=epochs)
    loaders, network = new_loaders(config, args.results.with_suffix('.cache')), model_for(config)
    start = time.process_time()
    history = fit(network, loaders, config, quiet=True)
    seconds = round(time.process_time() - start, 1)
    test = validate(network, loaders['test'], LOSSES[config.loss])['dice']
    return dict(valid=max(row['valid_dice'] for row in history), test=test, seconds=seconds)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pets', type=Path)
    parser.add_argument('results', type=Path)
    parser.add_argument('--recipes', nargs='+', default=list(RECIPES))
    parser.add_argument('--models', nargs='+', default=['unet', 'resnet34_unet'])
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument('--epochs', type=int)
    budget.add_argument('--seconds', type=float)
    parser.add_argument('--size', type=int, default=64)
    parser.add_argument('--width', type=int, default=16)
    parser.add_argument('--rates', type=float, nargs='+', default=[3e-4, 1e-3, 3e-3])
    args = parser.parse_args()
    keep_memory()
    results = Results(args.results)

    def epochs_of(recipe, model): # those of a budget in seconds are timed once
        if args.epochs: return args.epochs
        if rows := results.known(recipe=recipe, model=model): return rows[0]['epochs']
        return epochs_within(args.seconds, configuration(args, recipe, model))

    pairs = [(recipe, model) for recipe in args.recipes for model in args.models]
    epochs = {pair: epochs_of(*pair) for pair in pairs}
    for recipe, model in pairs:
        for rate in args.rates:
            results.add(partial(run, args), recipe=recipe, model=model,
                        epochs=epochs[recipe, model], rate=rate, seed=0)
    for seed in (1, 2):
        for recipe, model in pairs:
            tried = results.known(recipe=recipe, model=model, epochs=epochs[recipe, model], seed=0)
            best = max(tried, key=lambda row: row['valid'])
            results.add(partial(run, args), recipe=recipe, model=model,
                        epochs=epochs[recipe, model], rate=best['rate'], seed=seed)
