#!/usr/bin/env python3
"""How long does a picture take, and how many does a folder give a second: the module,
torch.compile, ONNX in fp32 and in int8?

    python bench/infer.py [--checkpoint pretrained] [--data_path DATASET] [--rounds 20]
        [--json FILE]

Each contender is a function of uint8 pictures (B, S, S, 3) to probabilities (B, S, S) with the
network's own size S; they take turns. Latency is the median of one picture at a time, throughput
that of batches of eight. The int8 network needs `--data_path`, for its calibration, and
torch.compile needs a C++ compiler; a contender that lacks what it needs is left out and named.
Agreement is Dice with the module's masks on the package's photographs."""
import argparse, shutil, statistics, tempfile, time
from pathlib import Path
import torch
from machine import save
from petseg_nb.checkpoints import load_model
from petseg_nb.core.device import keep_memory
from petseg_nb.runs.export import (
    as_function, differences, export_checkpoint, export_int8, read_onnx, sample_pixels)


def contenders(args, model, folder):
    "Name: function of uint8 `(B, S, S, 3)`"
    found = {'module': as_function(model)}
    if shutil.which('g++') or shutil.which('clang++'):
        found['torch.compile'] = as_function(torch.compile(model, dynamic=True))
    export_checkpoint(args.checkpoint, folder/'whole.onnx')
    found['ONNX fp32'], _ = read_onnx(folder/'whole.onnx')
    if args.data_path:
        export_int8(args.checkpoint, folder/'int8.onnx', args.data_path)
        found['ONNX int8'], _ = read_onnx(folder/'int8.onnx')
    return found


def medians(functions, images, rounds):
    "Median seconds of a call of each, in turns, after two that are not counted"
    times = {name: [] for name in functions}
    for _ in range(rounds + 2):
        for name, function in functions.items():
            start = time.perf_counter()
            function(images)
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[2:]) for name, values in times.items()}


parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--checkpoint', default='pretrained')
parser.add_argument('--data_path', type=Path)
parser.add_argument('--rounds', type=int, default=20)
parser.add_argument('--json', type=Path)
args = parser.parse_args()
keep_memory()
with tempfile.TemporaryDirectory() as folder:
    model, config = load_model(args.checkpoint, 'cpu')
    functions = contenders(args, model, Path(folder))
    images = sample_pixels(config.size) # (8, S, S, 3)
    one, eight = (medians(functions, images[:n], args.rounds) for n in (1, 8))
    masks = {name: function(images) for name, function in functions.items()}
for name in {'torch.compile', 'ONNX int8'} - functions.keys():
    print(f'{name}: left out, see --help')
print(f'{"":16}{"one picture":>14}{"ratio":>8}{"pictures a second":>20}{"ratio":>8}'
      f'{"agreement":>12}')
for name in functions:
    same = differences(masks[name], masks['module'])['dice']
    print(f'{name:16}{one[name] * 1e3:11.1f} ms{one["module"] / one[name]:8.2f}'
          f'{8 / eight[name]:20.1f}{eight["module"] / eight[name]:8.2f}{same:12.4f}')
save(args.json, size=config.size, latency=one, batch_of_eight=eight)
