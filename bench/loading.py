#!/usr/bin/env python3
"""How much faster is an epoch of pictures from the decode-once cache? Both ways in one process, in turns.

    python bench/loading.py [--data FOLDER] [--sizes 128 256] [--rounds 5] [--json FILE]

The peer is the way of the course reports: torchvision's OxfordIIITPet decodes each full-size picture and trimap, and albumentations
resizes, augments and normalises them. Ours reads the resized pixels from the cache, augments them with the same preset and
normalises a batch at a time. One process, no workers. The folder defaults to PETSEG_DATA, else data/oxford-iiit-pet."""
import argparse, os, tempfile, time
import albumentations as A
import numpy as np
import torch
from torchvision.datasets import OxfordIIITPet
from machine import save
from petseg_nb.augment import PRESETS, Augment
from petseg_nb.data import IMAGENET_MEAN, IMAGENET_STD, find_pets, normalize, pet_dataloaders
from petseg_nb.masks import trimap_to_mask
from petseg_nb.threads import keep_memory


def peer(root, size):
    "Decode, resize, augment and normalise each picture of trainval.txt; the number of pictures"
    transform = A.Compose([A.Resize(size, size), *PRESETS['default'](size), A.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
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
        loader = pet_dataloaders(root, size, transform=Augment('default', size), cache_dir=cache)['train']
        return [(rate(ours, loader), rate(peer, root, size)) for _ in range(rounds)]


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--data', default=os.environ.get('PETSEG_DATA', 'data/oxford-iiit-pet'), help='folder of the dataset')
parser.add_argument('--sizes', type=int, nargs='+', default=[128, 256], help='sides in pixels')
parser.add_argument('--rounds', type=int, default=5)
parser.add_argument('--json')
args = parser.parse_args()
root = find_pets(args.data)
keep_memory()  # as the commands do
found = {size: compare(root, size, args.rounds) for size in args.sizes}
for size, rounds in found.items():
    fast, slow = np.median(rounds, axis=0)
    ratios = [f / s for f, s in rounds]
    print(f'{size} x {size}: cache {fast:.0f} pictures a second, decoding {slow:.0f}; ratio {np.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})')
save(args.json, pictures_a_second=found)
