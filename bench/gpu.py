#!/usr/bin/env python3
"""What does a GPU make of the two networks at 256 pixels?

    python bench/gpu.py --data_path DATASET --out gpu.jsonl [--seeds 0 1 2] [--epochs 100] [--minutes 9]
    python bench/gpu.py --data_path DATASET --out gpu.jsonl --loading     # an epoch over its steps, by the number of workers, and no training
    python bench/gpu.py --data_path DATASET --out dry.jsonl --dry_run     # two small networks and two epochs, on a processor

Trains UNet of width 64 and ResNet34UNet at 256 pixels, bfloat16 where it is faster, with the recipe `default`, but for batches of 16 and twice its rate
(a step of 4 pictures takes a GPU as long as one of 8). After `--minutes` it stops behind the step it is in, and the same command goes on. A line per run
holds: pictures a second of an epoch as long as the whole dataset's, its seconds over those of its steps on a batch that is there already, share of the
fastest matrix product in the same precision (FLOP by PyTorch's counter), seconds to each level of validation Dice and of an epoch with validation and
saving, largest memory, and the test Dice per image of the best epoch (border as pet)."""
import argparse, json, os, signal, threading, time
from functools import partial
from pathlib import Path
from statistics import fmean, median
import torch
from torch.utils.flop_counter import FlopCounterMode
from petseg_nb.core.device import pick_device, pick_precision
from petseg_nb.augment import Augment
from petseg_nb.data import pet_dataloaders
from petseg_nb.evaluation import evaluate
from petseg_nb.core.disk import replacing
from petseg_nb.inference import predict_probabilities
from petseg_nb.datasets.own import parts_to_train
from petseg_nb.recipes import recipe_config
from petseg_nb.runs.fit import new_loaders, train_epoch
from petseg_nb.training import Run, fit, train_step
from petseg_nb.checkpoints import load_model, model_for
from petseg_nb.core.device import keep_memory
from steps import peak, seconds, wait

LEVELS = .7, .8, .85, .9
SMALL = dict(size=32, width=4, epochs=2)
WHOLE = 3312 # pictures to train with in Oxford-IIIT Pet: nine tenths of trainval.txt


def flops(config):
    "FLOP of a training step, a picture"
    model = model_for(config).train()
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(2, 3, config.size, config.size, device=next(model.parameters()).device)).sum().backward()
    return counter.get_total_flops() / 2


def speed(config, cache, pictures):
    "Seconds of an epoch of `pictures`, from the cache and augmented, and of its steps on a batch that is on the device already"
    parts = parts_to_train(config.data_path, config.mask_value)
    train = parts['train'] * -(-pictures // len(parts['train']))
    loader = pet_dataloaders(config.data_path, config.size, config.batch_size, config.border, Augment(config.augment, config.size), cache, config.workers,
                             parts=dict(train=train[:pictures]))['train']
    run = Run(model_for(config), config, steps=1_000_000)
    images, masks = (x.to(run.device) for x in next(iter(loader)))
    run.net.train()
    step = seconds(lambda: train_step(run, images, masks), run.device, 20)
    begun = time.perf_counter()
    train_epoch(run, loader)
    wait(run.device)
    return time.perf_counter() - begun, step * pictures / config.batch_size


def train(config, loaders, folder):
    "History, with the seconds of each epoch, validation and saving included; those of earlier calls lie in `seconds.json`"
    file, begun = folder/'seconds.json', time.perf_counter()
    took = json.loads(file.read_text()) if file.exists() else []
    def note(model, history):
        nonlocal begun
        took.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        with replacing(file) as part: part.write_text(json.dumps(took))
    return fit(model_for(config), loaders, config, folder, [note]), took


def reached(history, took):
    "Seconds after which each level of validation Dice was reached; None for one that was not"
    clock = [sum(took[:i + 1]) for i in range(len(took))]
    return {level: next((round(t, 1) for t, row in zip(clock, history) if row['valid_dice'] >= level), None) for level in LEVELS}


def measure(config, args, folder):
    "The line of one run"
    loaders, device = new_loaders(config, args.out.with_suffix('')/'cache'), pick_device(config.device)
    if device.type == 'cuda': torch.cuda.reset_peak_memory_stats()
    history, took = train(config, loaders, folder)
    memory = round(torch.cuda.max_memory_allocated() / 1e9, 1) if device.type == 'cuda' else None
    dtype, pictures = pick_precision(config.precision, device), len(loaders['train'].dataset) if args.dry_run else WHOLE
    epoch, steps = speed(config, args.out.with_suffix('')/'cache', pictures)
    model, _ = load_model(folder/'best.pt', config.device)
    dices = [p.row()['dice'] for p in evaluate(partial(predict_probabilities, model), loaders['test'].dataset)]
    return dict(device=torch.cuda.get_device_name() if device.type == 'cuda' else 'processor', precision=str(dtype).removeprefix('torch.'),
                pictures_a_second=round(pictures / epoch, 1), epoch_over_steps=round(epoch / steps, 3),
                share_of_peak=round(flops(config) * pictures / steps / peak(dtype, device), 3), seconds_to_dice=reached(history, took),
                seconds_an_epoch=round(median(took), 3), memory_gb=memory,
                valid_dice=max(row['valid_dice'] for row in history), test_dice=round(fmean(dices), 4), epochs=config.epochs, size=config.size)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--data_path', required=True)
parser.add_argument('--out', type=Path, required=True)
parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
parser.add_argument('--epochs', type=int, default=100)
parser.add_argument('--minutes', type=float, default=9)
parser.add_argument('--workers', type=int, default=2)
parser.add_argument('--loading', action='store_true')
parser.add_argument('--dry_run', action='store_true')
args = parser.parse_args()
keep_memory()
timer = threading.Timer(60 * args.minutes, os.kill, (os.getpid(), signal.SIGINT)) # `fit` finishes its step and saves
timer.daemon = True
timer.start()
if args.loading:
    for workers in (0, 2, 6, 12):
        for name in ('unet', 'resnet34_unet'):
            size = SMALL | dict(device='cpu') if args.dry_run else dict(size=256, batch_size=16)
            epoch, steps = speed(recipe_config('ours', name, **size, data_path=args.data_path, workers=workers), args.out.with_suffix('')/'cache', 32 if args.dry_run else 1600)
            row = dict(name='epoch', model=name, workers=workers, epoch=round(epoch, 4), steps=round(steps, 4))
            with args.out.open('a') as file: file.write(json.dumps(row) + '\n')
            print(json.dumps(row), flush=True)
    raise SystemExit
done = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
for seed in args.seeds[:1] if args.dry_run else args.seeds:
    for name in ('unet', 'resnet34_unet'):
        if any((row['model'], row.get('seed')) == (name, seed) for row in done): continue
        changes = SMALL | dict(device='cpu') if args.dry_run else dict(size=256, epochs=args.epochs, batch_size=16)
        changes['learning_rate'] = 2 * recipe_config('ours', name).learning_rate
        config = recipe_config('ours', name, **changes, seed=seed, data_path=args.data_path, workers=args.workers)
        folder = args.out.with_suffix('')/f'{name}-{seed}'
        folder.mkdir(parents=True, exist_ok=True)
        row = dict(name='training', model=name, seed=seed) | measure(config, args, folder)
        with args.out.open('a') as file: file.write(json.dumps(row) + '\n')
        print(json.dumps(row), flush=True)
