#!/usr/bin/env python3
"""What is each measure against slowness worth, and how far from the processor's limits is a
training step?

    python bench/speed.py --out speed.jsonl [--data_path DATASET] [--rounds 3]
    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 \\
        python bench/speed.py --out speed.jsonl

The second command measures as on a processor without AVX-512. Each contender is a process of its
own, and they take turns. The shortest of all rounds is kept. A step is one of a UNet of width 16 on
eight pictures of 128 x 128, unless it says otherwise: plain (float32, contiguous, a loop over the
weights, memory given back), with one measure each, and with all that `petseg_train` takes. Peaks
are those of bench/steps.py. Loading needs `--data_path`. `nbs/workshop/runs/speed.ipynb` draws what
this stores.
"""
import argparse, json, os, resource, shutil, subprocess, sys, time
from pathlib import Path
from machine import describe
from steps import peak, seconds
import torch

CPU = torch.device('cpu')
MEASURES = ('plain', 'channels_last', 'bf16', 'keep_memory', 'fused', 'compile', 'checkpoint',
            'accumulate', 'one_thread', 'petseg_train')
SIZES, BATCHES = (64, 96, 128, 192, 256), (1, 2, 4, 8, 16)
LOADERS = ('decode', 'cache', 'cache, 1 worker', 'cache, 2 workers', 'decode, 2 workers')


def batch(pictures, size):
    images = torch.randint(0, 256, (pictures, 3, size, size), dtype=torch.uint8)
    return images, torch.randint(0, 2, (pictures, 1, size, size), dtype=torch.uint8)


def checkpoint_blocks(model):
    "Keep only what goes into a block; compute the rest again in the backward pass"
    from torch.utils.checkpoint import checkpoint
    from petseg_nb.blocks import DoubleConv
    for block in model.modules():
        if isinstance(block, DoubleConv):
            block.forward = lambda x, run=block.forward: checkpoint(run, x, use_reentrant=False)


def plain_step(model, images, masks, measure):
    from petseg_nb.data import normalize
    from petseg_nb.losses import BCEDiceLoss
    loss_fn = BCEDiceLoss()
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, foreach=False, fused=measure == 'fused')
    network = torch.compile(model) if measure == 'compile' else model
    parts = 4 if measure == 'accumulate' else 1

    def step():
        for x, y in zip(images.chunk(parts), masks.chunk(parts)):
            x = normalize(x)
            if measure == 'channels_last': x = x.contiguous(memory_format=torch.channels_last)
            with torch.autocast('cpu', torch.bfloat16, enabled=measure == 'bf16'):
                loss = loss_fn(network(x), y)
            (loss / parts).backward()
        optimizer.step()
        optimizer.zero_grad()
    return step


def our_step(model, images, masks):
    from petseg_nb.core.config import TrainConfig
    from petseg_nb.core.device import resolve
    from petseg_nb.training import Run, train_step
    config = resolve(TrainConfig(size=images.shape[-1], device='cpu'), model)
    run = Run(model, config, steps=1_000_000)
    run.net.train()
    return lambda: train_step(run, images, masks)


def time_step(measure, name='unet', pictures=8, size=128, **settings):
    "Seconds a picture, and MB beyond those of the imports"
    from petseg_nb.core.device import keep_memory
    from petseg_nb.resnet34_unet import create_model
    if measure in ('keep_memory', 'petseg_train'): keep_memory()
    if measure == 'one_thread': torch.set_num_threads(1)
    model = create_model(name, **settings).train()
    if measure == 'channels_last': model = model.to(memory_format=torch.channels_last)
    if measure == 'checkpoint': checkpoint_blocks(model)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    images, masks = batch(pictures, size)
    if measure == 'petseg_train': step = our_step(model, images, masks)
    else: step = plain_step(model, images, masks, measure)
    took = seconds(step, CPU, 5) / pictures
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return dict(seconds=took, mb=(most - before) / 1024)


def bandwidth():
    "Bytes a second that a copy of 256 MB reads and writes"
    a, b = torch.rand(2**26), torch.empty(2**26)
    return dict(bytes=2 * 2**28 / seconds(lambda: b.copy_(a), CPU, 5))


def peaks():
    "FLOP a second; bfloat16 is emulated on AVX2, and takes minutes"
    avx2 = os.environ.get('ATEN_CPU_CAPABILITY') == 'avx2'
    types = ['float32'] if avx2 else ['float32', 'bfloat16']
    return {name: peak(getattr(torch, name), CPU) for name in types}


def time_loader(how, root):
    "Seconds a picture of 128 x 128, augmented and normalised, in the second epoch"
    import tempfile
    from petseg_nb.augment import Augment
    from petseg_nb.data import normalize, pet_dataloaders
    with tempfile.TemporaryDirectory() as folder:
        workers = int(how.split()[1]) if ',' in how else 0
        cache = folder if 'cache' in how else None
        loaders = pet_dataloaders(root, 128, transform=Augment('light', 128), workers=workers,
                                  cache_dir=cache)
        loader = loaders['train']

        def epoch():
            for images, masks in loader: normalize(images)
        epoch()
        start = time.perf_counter()
        epoch()
        return dict(seconds=(time.perf_counter() - start) / len(loader.dataset))


def contenders(data_path):
    "Name: a call that gives a dictionary of numbers"
    measures = [m for m in MEASURES if m != 'compile' or shutil.which('g++')]
    jobs = {f'measure {m}': lambda m=m: time_step(m, width=16) for m in measures}
    jobs |= {f'size {s}': lambda s=s: time_step('petseg_train', size=s, pictures=4, width=16)
             for s in SIZES}
    jobs |= {f'batch {b}': lambda b=b: time_step('petseg_train', pictures=b, width=16)
             for b in BATCHES}
    jobs |= {'network unet': lambda: time_step('petseg_train', pictures=2, width=64),
             'network resnet34_unet':
                 lambda: time_step('petseg_train', 'resnet34_unet', pictures=4),
             'bandwidth': bandwidth, 'peak': peaks}
    if data_path:
        jobs |= {f'load {how}': lambda how=how: time_loader(how, data_path) for how in LOADERS}
    return jobs


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path)
    parser.add_argument('--data_path')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--only', help=argparse.SUPPRESS)
    args = parser.parse_args()
    jobs = contenders(args.data_path)
    if args.only: return print(json.dumps(jobs[args.only]()))
    rows = {name: [] for name in jobs}
    for _ in range(args.rounds):
        for name in jobs:
            words = [sys.executable, __file__, *sys.argv[1:], '--only', name]
            done = subprocess.run(words, capture_output=True, text=True)
            if done.returncode:
                print(f'{name} is left out:', *done.stderr.splitlines()[-1:], flush=True)
            else: rows[name].append(json.loads(done.stdout.splitlines()[-1]))
    machine = describe()
    for name, found in rows.items():
        if not found: continue
        better = max if name in ('bandwidth', 'peak') else min
        best = {key: better(row[key] for row in found) for key in found[0]}
        print(name, *(f'{key} {value:.4g}' for key, value in best.items()), flush=True)
        if args.out:
            line = json.dumps(dict(name=name, **best, machine=machine))
            with args.out.open('a') as file: file.write(line + '\n')


if __name__ == '__main__': main()
