#!/usr/bin/env python3
"""How much longer than its steps is an epoch?

    python bench/epoch.py [--size 128] [--batch_size 4] [--toys 120] [--workers -1] [--rounds 3] [--json FILE]

An epoch of `petseg_train` reads its pictures from the cache and augments them; the steps alone have the same batches ready. The two take turns,
network by network, after one turn that is not counted, and the medians are compared. The pictures are toys: from the cache all pictures take the same time."""
import argparse, statistics, time
from pathlib import Path
from tempfile import TemporaryDirectory
import torch
from machine import save
from petseg_nb.core.config import TrainConfig
from petseg_nb.data import set_epoch
from petseg_nb.runs.fit import new_loaders, train_epoch
from petseg_nb.training import Run, train_step
from petseg_nb.checkpoints import model_for
from petseg_nb.core.device import keep_memory
from petseg_nb.datasets.toy import make_toy_pets

NETWORKS = {'UNet, width 16': dict(model='unet', width=16), 'UNet, width 64': dict(model='unet', width=64), 'ResNet34UNet': dict(model='resnet34_unet')}


def seconds(part, device):
    "Seconds that `part()` takes; a GPU's work is waited for"
    start = time.perf_counter()
    part()
    if device.type == 'cuda': torch.cuda.synchronize()
    return time.perf_counter() - start


def turns(config, cache, rounds):
    "Median seconds of an epoch, and of its steps alone"
    loader = new_loaders(config, cache)['train']
    run = Run(model_for(config), config, steps=1_000_000)
    batches = [tuple(x.to(run.device) for x in batch) for batch in loader]

    def steps():
        run.net.train()
        for images, masks in batches: train_step(run, images, masks)

    times = []
    for epoch in range(rounds + 1):
        set_epoch(loader, epoch)
        times.append((seconds(lambda: train_epoch(run, loader), run.device), seconds(steps, run.device)))
    return [statistics.median(column) for column in zip(*times[1:])]


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
for name, default in dict(size=128, batch_size=4, toys=120, workers=-1, rounds=3).items(): parser.add_argument(f'--{name}', type=int, default=default)
parser.add_argument('--json')
args = parser.parse_args()
keep_memory()
rows = {}
with TemporaryDirectory() as folder:
    toys = make_toy_pets(Path(folder)/'toys', args.toys)
    print(f'{"":20}{"epoch, s":>10}{"steps, s":>10}{"ratio":>8}')
    for name, network in NETWORKS.items():
        config = TrainConfig(data_path=str(toys), size=args.size, batch_size=args.batch_size, workers=args.workers, **network)
        epoch, steps = rows[name] = turns(config, Path(folder)/'cache', args.rounds)
        print(f'{name:20}{epoch:10.2f}{steps:10.2f}{epoch / steps:8.3f}', flush=True)
save(args.json, seconds=rows)
