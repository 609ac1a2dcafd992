#!/usr/bin/env python3
"""What is each measure against slowness worth on a GPU, and how far from its limits is a training
step?

    python bench/gpu_steps.py --out speed_gpu.jsonl [--ways eager compiled graphs]
    python bench/gpu_steps.py --device cpu --size 32 --width 4 --batches 2 4     # a dry run

The contenders take turns, and kept is the shortest of all rounds. A measure is tried on a UNet of
width 64 and sixteen pictures of 256 x 256: plain (float32 without TF32, contiguous, a loop over the
weights), and with one measure each. Then `petseg_train`'s step of both networks for several
batches: as it is, compiled, and compiled to CUDA graphs (minutes each). Peaks are those of
bench/steps.py, at the precision of `auto`. `nbs/workshop/runs/speed.ipynb` shows what this
stores."""
import argparse, json, time
from functools import partial
from pathlib import Path
import torch
from machine import describe
from petseg_nb.core.config import TrainConfig
from petseg_nb.core.device import PRECISIONS, pick_device, resolve
from petseg_nb.losses import BCEDiceLoss
from petseg_nb.resnet34_unet import create_model
from petseg_nb.training import Run, train_step
from speed import checkpoint_blocks
from steps import peak, seconds, wait

MEASURES = ('plain', 'tf32', 'channels_last', 'bf16', 'fused', 'bf16 channels_last', 'checkpoint',
            'accumulate', 'compile')
COMPILED = dict(compiled={}, graphs=dict(mode='reduce-overhead')) # arguments of torch.compile
# benchmark: cuDNN tries its algorithms and keeps the fastest; alone in its process, because it
# keeps them by shape
WAYS = 'eager', 'benchmark', *COMPILED
NETWORKS = 'unet', 'resnet34_unet'


def batch(pictures, args):
    shape = pictures, 1, args.size, args.size
    images = torch.randint(0, 256, (pictures, 3, args.size, args.size), dtype=torch.uint8,
                           device=args.device)
    return images, torch.randint(0, 2, shape, dtype=torch.uint8, device=args.device)


def network(name, args):
    "On the processor, and ready to learn"
    return create_model(name, **(dict(width=args.width) if name == 'unet' else {})).train()


def plain_step(measure, pictures, args):
    "The step of the course reports with one measure"
    model, loss_fn = network('unet', args).to(args.device), BCEDiceLoss()
    images, masks = batch(pictures, args)
    if 'channels_last' in measure: model = model.to(memory_format=torch.channels_last)
    if measure == 'checkpoint': checkpoint_blocks(model)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, foreach=False, fused=measure == 'fused')
    run = torch.compile(model) if measure == 'compile' else model
    parts = 4 if measure == 'accumulate' else 1

    def step():
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = measure == 'tf32'
        for x, y in zip(images.chunk(parts), masks.chunk(parts)):
            with torch.autocast(args.device.type, torch.bfloat16, enabled='bf16' in measure):
                loss = loss_fn(run(x), y)
            (loss / parts).backward()
        optimizer.step()
        optimizer.zero_grad()
    return step


def our_step(name, way, pictures, args):
    "The step of `petseg_train`, compiled or not"
    model, (images, masks) = network(name, args), batch(pictures, args)
    config = resolve(TrainConfig(size=args.size, device=args.device.type), model)
    run = Run(model, config, steps=1_000_000)
    run.net.train()
    if way in COMPILED: run.net = torch.compile(run.net, **COMPILED[way])
    torch.backends.cudnn.benchmark = way == 'benchmark'

    def step():
        # PyTorch's defaults
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True
        train_step(run, images, masks)
    return step


def bandwidth(device):
    "Bytes a second that a copy of 1 GB reads and writes"
    a = torch.rand(2**28, device=device)
    b = torch.empty_like(a)
    return 2 * a.nbytes / seconds(lambda: b.copy_(a), device, 5)


def contenders(args):
    "Name: a function that builds its step, and pictures of a step"
    middle = args.batches[len(args.batches) // 2]
    measures = [m for m in MEASURES
                if 'eager' in args.ways and (m != 'compile' or 'compiled' in args.ways)]
    steps = [(name, n, way) for way in args.ways for name in args.networks for n in args.batches]
    jobs = {f'measure {m}': (partial(plain_step, m, middle, args), middle) for m in measures}
    return jobs | {f'step {name} {n} {way}': (partial(our_step, name, way, n, args), n)
                   for name, n, way in steps}


def first_call(build, device):
    "The step, the seconds of its first call, which chooses and compiles, and the GB it needs"
    step, begun, on_gpu = build(), time.perf_counter(), device.type == 'cuda'
    before = torch.cuda.memory_allocated() if on_gpu else 0
    if on_gpu: torch.cuda.reset_peak_memory_stats()
    step()
    wait(device)
    first = time.perf_counter() - begun
    gb = (torch.cuda.max_memory_allocated() - before) / 1e9 if on_gpu else None
    return step, dict(first=first, gb=gb)


def measure(jobs, args):
    "Name: seconds a picture, the shortest of `rounds` turns; who fails is named and left out"
    steps, rows = {}, {}
    for name, (build, pictures) in jobs.items():
        torch.compiler.reset() # or one network's other batches make its shapes dynamic
        try:
            steps[name], rows[name] = first_call(build, args.device)
            rows[name]['seconds'] = seconds(steps[name], args.device, args.repeats) / pictures
        except RuntimeError as error:
            print(f'{name} is left out:', str(error).splitlines()[0], flush=True)
    for _ in range(args.rounds - 1):
        for name, row in rows.items():
            again = seconds(steps[name], args.device, args.repeats) / jobs[name][1]
            row['seconds'] = min(row['seconds'], again)
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in dict(size=256, width=64, rounds=2, repeats=10).items():
        parser.add_argument(f'--{name}', type=int, default=default)
    parser.add_argument('--batches', type=int, nargs='+', default=[2, 4, 8, 16, 32, 64])
    parser.add_argument('--device', type=pick_device, default='auto')
    parser.add_argument('--ways', choices=WAYS, nargs='+', default=['eager'])
    parser.add_argument('--networks', choices=NETWORKS, nargs='+', default=NETWORKS)
    parser.add_argument('--out', type=Path)
    args = parser.parse_args()
    rows = measure(contenders(args), args)
    config = resolve(TrainConfig(size=args.size, device=args.device.type), network('unet', args))
    precisions = {torch.float32, PRECISIONS[config.precision]}
    rows['bandwidth'] = dict(bytes=bandwidth(args.device))
    rows['peak'] = {str(dtype).removeprefix('torch.'): peak(dtype, args.device)
                    for dtype in precisions}
    machine = describe()
    for name, row in rows.items():
        shown = [f'{key} {value:.4g}' for key, value in row.items() if value is not None]
        print(name, *shown, flush=True)
        if args.out:
            line = json.dumps(dict(name=name, **row, size=args.size, machine=machine))
            with args.out.open('a') as file: file.write(line + '\n')


if __name__ == '__main__': main()
