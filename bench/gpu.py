#!/usr/bin/env python3
"""What does a GPU make of the two networks at 256 pixels?

    python bench/gpu.py --data_path DATASET --out gpu.jsonl [--seeds 0 1 2] [--epochs 100]
        [--minutes 9]
    python bench/gpu.py --data_path DATASET --out gpu.jsonl --loading   # an epoch over its steps
    python bench/gpu.py --data_path DATASET --out dry.jsonl --dry_run   # small, on a processor

Trains UNet of width 64 and ResNet34UNet at 256 pixels, bfloat16 where it is faster, with the recipe
`ours`, but for batches of 16 and twice its rate (a step of 4 pictures takes a GPU as long as one of
8). After `--minutes` it stops behind the step it is in, and the same command goes on. A line per
run holds: pictures a second of an epoch as long as the whole dataset's, its seconds over those of
its steps on batches that are there already, share of the fastest matrix product in the same
precision (FLOP by PyTorch's counter), seconds to each level of validation Dice and of an epoch with
validation and saving, largest memory, and the test Dice per image of the best epoch (border as
pet)."""
import argparse, json, os, signal, threading, time
from functools import partial
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
import torch
from torch.utils.flop_counter import FlopCounterMode
from epoch import turns
from petseg_nb.augment import Augment
from petseg_nb.checkpoints import load_model, model_for
from petseg_nb.cli.common import own_process
from petseg_nb.core.device import PRECISIONS, resolve
from petseg_nb.core.disk import write_json
from petseg_nb.data import pet_dataloaders
from petseg_nb.datasets.own import parts_to_train
from petseg_nb.evaluation import evaluate
from petseg_nb.inference import predict_probabilities
from petseg_nb.recipes import recipe_config
from petseg_nb.runs.fit import ShareCores, new_loaders, resumable_fit
from petseg_nb.training import Callback
from steps import peak

LEVELS = .7, .8, .85, .9
SMALL = dict(size=32, width=4, epochs=2, device='cpu')
WHOLE = 3312 # pictures to train with in Oxford-IIIT Pet: nine tenths of trainval.txt


def flops(config):
    "FLOP of a training step, a picture"
    model = model_for(config).train()
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(2, 3, config.size, config.size, dtype=torch.uint8)).sum().backward()
    return counter.get_total_flops() / 2


def speed(config, cache, pictures):
    "Seconds of an epoch of `pictures`, from the cache and augmented, and of its steps alone"
    parts = parts_to_train(config.data_path, config.mask_value, config.border_value)
    train = parts['train'] * -(-pictures // len(parts['train']))
    some = dict(train=train[:pictures], valid=parts['valid'][:2])
    transform = Augment(config.augment, config.size)
    loaders = pet_dataloaders(config.data_path, config.size, config.batch_size, config.border,
                              transform, cache, config.workers, parts=some)
    with TemporaryDirectory() as folder: return turns(config, loaders, Path(folder)/'run', rounds=1)


class Stopwatch(Callback):
    "Notes the seconds of each epoch, with validation and saving; earlier calls' are in a file"
    def __init__(self, file):
        self.file, self.start = file, time.perf_counter()
        self.took = json.loads(file.read_text()) if file.exists() else []
    def after_epoch(self, run):
        self.took.append(time.perf_counter() - self.start)
        self.start = time.perf_counter()
        write_json(self.took, self.file)


def reached(history, took):
    "Seconds after which each level of validation Dice was reached; None for one that was not"
    clock = [sum(took[:i + 1]) for i in range(len(took))]
    def first(level):
        return (round(t, 1) for t, row in zip(clock, history) if row['valid_dice'] >= level)
    return {level: next(first(level), None) for level in LEVELS}


def measure(config, args, folder):
    "The line of one run"
    cache = args.out.with_suffix('')/'cache'
    model = model_for(config)
    config = resolve(config, model)
    loaders, gpu = new_loaders(config, cache), config.device == 'cuda'
    watch = Stopwatch(folder/'seconds.json')
    if gpu: torch.cuda.reset_peak_memory_stats()
    history = resumable_fit(model, loaders, config, folder, [ShareCores(), watch])
    memory = round(torch.cuda.max_memory_allocated() / 1e9, 1) if gpu else None
    pictures = len(loaders['train'].dataset) if args.dry_run else WHOLE
    epoch, steps = speed(config, cache, pictures)
    best, _ = load_model(folder, config.device)
    scores = evaluate(partial(predict_probabilities, best), loaders['test'].dataset)
    fastest = peak(PRECISIONS[config.precision], torch.device(config.device))
    return dict(device=torch.cuda.get_device_name() if gpu else 'processor',
                precision=config.precision, pictures_a_second=round(pictures / epoch, 1),
                epoch_over_steps=round(epoch / steps, 3),
                share_of_peak=round(flops(config) * pictures / steps / fastest, 3),
                seconds_to_dice=reached(history, watch.took),
                seconds_an_epoch=round(median(watch.took), 3), memory_gb=memory,
                valid_dice=max(row['valid_dice'] for row in history),
                test_dice=round(fmean(score.row()['dice'] for score in scores), 4),
                epochs=config.epochs, size=config.size)


def note(row, file):
    with file.open('a') as out: out.write(json.dumps(row) + '\n')
    print(json.dumps(row), flush=True)


def loading(args):
    "An epoch and its steps, by the number of workers"
    for workers in (0, 2, 6, 12):
        for name in ('unet', 'resnet34_unet'):
            changes = SMALL if args.dry_run else dict(size=256, batch_size=16)
            config = recipe_config('ours', name, **changes, data_path=args.data_path,
                                   workers=workers)
            cache, pictures = args.out.with_suffix('')/'cache', 32 if args.dry_run else 1600
            epoch, steps = speed(config, cache, pictures)
            took = dict(epoch=round(epoch, 4), steps=round(steps, 4))
            note(dict(name='epoch', model=name, workers=workers) | took, args.out)


def training(args):
    "A line for each network and seed that has none yet"
    lines = args.out.read_text().splitlines() if args.out.exists() else []
    done = [json.loads(line) for line in lines]
    for seed in args.seeds[:1] if args.dry_run else args.seeds:
        for name in ('unet', 'resnet34_unet'):
            if any((row['model'], row.get('seed')) == (name, seed) for row in done): continue
            changes = SMALL if args.dry_run else dict(size=256, epochs=args.epochs, batch_size=16)
            rate = 2 * recipe_config('ours', name).learning_rate
            config = recipe_config('ours', name, **changes, learning_rate=rate, seed=seed,
                                   data_path=args.data_path, workers=args.workers)
            folder = args.out.with_suffix('')/f'{name}-{seed}'
            folder.mkdir(parents=True, exist_ok=True)
            row = dict(name='training', model=name, seed=seed)
            note(row | measure(config, args, folder), args.out)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data_path', required=True)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--epochs', type=int, default=100)
    parser.add_argument('--minutes', type=float, default=9)
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument('--loading', action='store_true')
    parser.add_argument('--dry_run', action='store_true')
    args = parser.parse_args()
    own_process()
    # a run finishes its step and saves
    timer = threading.Timer(60 * args.minutes, os.kill, (os.getpid(), signal.SIGINT))
    timer.daemon = True
    timer.start()
    (loading if args.loading else training)(args)


if __name__ == '__main__': main()
