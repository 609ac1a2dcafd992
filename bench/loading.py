#!/usr/bin/env python3
"""How much faster is an epoch of pictures from the decode-once cache? Both ways in one process, in
turns.

    python bench/loading.py [--data FOLDER] [--sizes 128 256] [--rounds 5] [--json FILE]
    python bench/loading.py --parts     # where the time of a picture from the cache goes

The peer is the way of the course reports: torchvision's OxfordIIITPet decodes each full-size
picture and trimap, and albumentations resizes, augments and normalises them. Ours reads the resized
pixels from the cache, augments them with the same preset and normalises a batch at a time. One
process, no workers. The folder defaults to PETSEG_DATA, else data/oxford-iiit-pet."""
import argparse, os, random, tempfile, time
from functools import partial
import albumentations as A
import cv2
import numpy as np
import torch
from torchvision.datasets import OxfordIIITPet
from torchvision.transforms import v2
from machine import save
from petseg_nb.augment import PRESETS, Augment
from petseg_nb.cli.common import own_process
from petseg_nb.core.pets import find_pets
from petseg_nb.data import (
    IMAGENET_MEAN, IMAGENET_STD, PetDataset, course_split, normalize, pet_dataloaders, scan_pets)
from petseg_nb.masks import trimap_to_mask


def peer(root, size):
    "Decode, resize, augment and normalise each picture of trainval.txt; the number of pictures"
    transform = A.Compose([A.Resize(size, size), *PRESETS['light'](size),
                           A.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    pictures = OxfordIIITPet(root.parent, 'trainval', 'segmentation')
    for image, trimap in pictures:
        out = transform(image=np.array(image), mask=trimap_to_mask(np.array(trimap)))
        torch.tensor(out['image']).permute(2, 0, 1).contiguous(), torch.tensor(out['mask'])
    return len(pictures)


def ours(loader):
    for images, masks in loader: normalize(images)
    return len(loader.dataset)


def rate(work, *args):
    start = time.perf_counter()
    return work(*args) / (time.perf_counter() - start)


def compare(root, size, rounds):
    "Pictures a second of both, by rounds in turns"
    with tempfile.TemporaryDirectory() as cache:
        loaders = pet_dataloaders(root, size, transform=Augment('light', size), cache_dir=cache)
        loader = loaders['train']
        return [(rate(ours, loader), rate(peer, root, size)) for _ in range(rounds)]


def milliseconds(work, repeats=200):
    "Of a call, the median"
    times = []
    for i in range(repeats):
        start = time.perf_counter()
        work(i)
        times.append(1e3 * (time.perf_counter() - start))
    return float(np.median(times))


def seed(compose, i):
    rng = np.random.default_rng((0, 0, i))
    compose.set_random_state(rng, random.Random(int(rng.integers(2**63))))


def parts(root, size):
    "Milliseconds a picture, in one thread: of each part, and of what others take for the same"
    torch.set_num_threads(1), cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as cache:
        records, augment = course_split(scan_pets(root))['train'][:32], Augment('light', size)
        data = PetDataset(records, size, cache_dir=cache)
        image, mask = (x.numpy() for x in data[0])
        image, mask = np.ascontiguousarray(image.transpose(1, 2, 0)), mask[0]
        batch = torch.stack([data[i][0] for i in range(16)])
        matrix = np.float32([[1.02, .05, 3], [-.05, 1.02, 2]])
        warps = (image, cv2.INTER_LINEAR), (mask, cv2.INTER_NEAREST)
        _, affine, colours = PRESETS['light'](size)
        def always(transform):
            transform.p = 1
            return A.Compose([transform])
        affine, colours = always(affine), always(colours)
        affine_v2 = v2.RandomAffine(10, (.05, .05), (.9, 1.1))
        colours_v2 = v2.ColorJitter(.2, .2, .2, .02)
        def opencv(i):
            for x, how in warps:
                cv2.warpAffine(x, matrix, (size, size), flags=how,
                               borderMode=cv2.BORDER_REFLECT_101)
        def of_a_batch(function, repeats):
            return milliseconds(lambda i: function(batch), repeats) / 16
        return {'read from the cache': milliseconds(lambda i: data[i % 32]),
                'augment': milliseconds(lambda i: augment(image, mask, (0, 0, i))),
                '  of it: seed the draws': milliseconds(partial(seed, augment.compose)),
                '  of it, in 40 % of all: warp':
                    milliseconds(lambda i: affine(image=image, mask=mask)),
                '  of it, in 40 % of all: colours':
                    milliseconds(lambda i: colours(image=image, mask=mask)),
                'normalise': of_a_batch(normalize, 30),
                "instead: OpenCV's warp alone": milliseconds(opencv),
                "instead: torchvision's warp": of_a_batch(affine_v2, 10),
                "instead: torchvision's colours": of_a_batch(colours_v2, 10)}


parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
folder = os.environ.get('PETSEG_DATA', 'data/oxford-iiit-pet')
parser.add_argument('--data', default=folder, help='folder of the dataset')
parser.add_argument('--sizes', type=int, nargs='+', default=[128, 256], help='sides in pixels')
parser.add_argument('--rounds', type=int, default=5)
parser.add_argument('--parts', action='store_true')
parser.add_argument('--json')
args = parser.parse_args()
root = find_pets(args.data)
if args.parts:
    table = {size: parts(root, size) for size in args.sizes}
    for name in table[args.sizes[0]]:
        columns = [f'{rows[name]:8.3f} ms at {size}' for size, rows in table.items()]
        print(f'{name:36}' + ''.join(columns))
    save(args.json, milliseconds=table)
    raise SystemExit
own_process() # as the commands do
found = {size: compare(root, size, args.rounds) for size in args.sizes}
for size, rounds in found.items():
    fast, slow = np.median(rounds, axis=0)
    ratios = [f / s for f, s in rounds]
    print(f'{size} x {size}: cache {fast:.0f} pictures a second, decoding {slow:.0f}; '
          f'ratio {np.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})')
save(args.json, pictures_a_second=found)
