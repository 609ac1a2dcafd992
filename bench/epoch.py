#!/usr/bin/env python3
"""How much longer than its steps is an epoch?

    python bench/epoch.py [--size 128] [--batch_size 4] [--toys 120] [--workers -1] [--rounds 3]
        [--json FILE]

An epoch of `petseg_train` reads its pictures from the cache and augments them; the steps alone have
the same batches ready. The two take turns, network by network, after one turn that is not counted,
and the medians are compared. Validation and saving are in neither. The pictures are toys: from the
cache all pictures take the same time."""
import argparse, copy, statistics, time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from machine import save
from petseg_nb.checkpoints import model_for
from petseg_nb.cli.common import own_process
from petseg_nb.core.config import TrainConfig
from petseg_nb.core.device import resolve
from petseg_nb.datasets.toy import make_toy_pets
from petseg_nb.runs.fit import ShareCores, new_loaders, resumable_fit
from petseg_nb.training import Callback, Run, train_step
from steps import wait

NETWORKS = {'UNet, width 16': dict(model='unet', width=16),
            'UNet, width 64': dict(model='unet', width=64),
            'ResNet34UNet': dict(model='resnet34_unet')}


class Turns(Callback):
    "Times the steps of each epoch, loading included, and then as many on batches that are ready"
    def __init__(self, run, batches):
        self.run, self.batches, self.epochs, self.steps = run, batches, [], []
    def begin(self, run): self.start = time.perf_counter()
    def after_step(self, run, loss):
        if run.step < run.steps: return
        wait(run.device)
        self.epochs.append(time.perf_counter() - self.start)
    def after_epoch(self, run):
        self.run.net.train()
        start = time.perf_counter()
        for images, masks in self.batches: train_step(self.run, images, masks)
        wait(run.device)
        self.steps.append(time.perf_counter() - start)
        self.start = time.perf_counter()


def turns(config, loaders, run_dir, rounds):
    "Median seconds of an epoch, and of its steps alone"
    model = model_for(config)
    config = resolve(replace(config, epochs=rounds + 1), model)
    run = Run(copy.deepcopy(model), config, steps=1_000_000)
    batches = [tuple(x.to(run.device) for x in batch) for batch in loaders['train']]
    watch = Turns(run, batches)
    resumable_fit(model, loaders, config, run_dir, [ShareCores(), watch], quiet=True)
    return [statistics.median(seconds[1:]) for seconds in (watch.epochs, watch.steps)]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in dict(size=128, batch_size=4, toys=120, workers=-1, rounds=3).items():
        parser.add_argument(f'--{name}', type=int, default=default)
    parser.add_argument('--json')
    args = parser.parse_args()
    own_process()
    rows = {}
    with TemporaryDirectory() as folder:
        toys = make_toy_pets(Path(folder)/'toys', args.toys)
        print(f'{"":20}{"epoch, s":>10}{"steps, s":>10}{"ratio":>8}')
        for name, network in NETWORKS.items():
            config = TrainConfig(data_path=str(toys), size=args.size, batch_size=args.batch_size,
                                 workers=args.workers, **network)
            config = resolve(config, model_for(config)) # its workers are those of the loaders
            loaders = new_loaders(config, Path(folder)/'cache')
            epoch, steps = rows[name] = turns(config, loaders, Path(folder)/name, args.rounds)
            print(f'{name:20}{epoch:10.2f}{steps:10.2f}{epoch / steps:8.3f}', flush=True)
    save(args.json, seconds=rows)


if __name__ == '__main__': main()
