#!/usr/bin/env python3
"""Does memory grow with the dataset?

    python bench/memory.py [--pictures 500 5000 20000] [--json FILE]

Draws 50 toy pets and lists them under as many names as asked, builds the decode-once cache at 64
pixels and goes through one epoch of it, each number of pictures in a process of its own. Printed is
the largest resident memory that is not a file's (`RssAnon` of Linux): pages of the cache can be
given back at any time and do not count. A dataset in memory would grow by 16 KiB a picture, 320 MB
for 20,000."""
import argparse, os, re, subprocess, sys, tempfile
from pathlib import Path
from machine import save


def anonymous():
    "MB of this process that are not backed by a file"
    return int(re.search(r'RssAnon:\s+(\d+)', Path('/proc/self/status').read_text())[1]) / 1024


def measure(root):
    "The largest memory of an epoch from the cache, batch by batch"
    from petseg_nb.augment import Augment
    from petseg_nb.data import pet_dataloaders
    loaders = pet_dataloaders(root, 64, transform=Augment('light', 64), cache_dir=root/'cache')
    loader = loaders['train']
    return max(anonymous() for _ in loader)


def draw(root, pictures):
    "A dataset of links to 50 toy pets"
    from petseg_nb.datasets.toy import make_toy_pets
    source = make_toy_pets(root/'source', n=50)
    text = (source/'annotations'/'trainval.txt').read_text()
    first = [line.split() for line in text.splitlines()]
    target = root/'many'
    for folder in ('images', 'annotations/trimaps'): (target/folder).mkdir(parents=True)
    names = [(f'{name}_{i}', name, rest) for i in range(pictures // len(first))
             for name, *rest in first]
    for new, old, _ in names:
        for folder, ending in (('images', 'jpg'), ('annotations/trimaps', 'png')):
            os.link(source/folder/f'{old}.{ending}', target/folder/f'{new}.{ending}')
    lines = [f'{new} {" ".join(rest)}\n' for new, _, rest in names]
    (target/'annotations'/'trainval.txt').write_text(''.join(lines[1:]))
    (target/'annotations'/'test.txt').write_text(lines[0])
    return target


parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--pictures', type=int, nargs='+', default=[500, 5000, 20000])
parser.add_argument('--json')
parser.add_argument('--measure', type=Path, help=argparse.SUPPRESS)
args = parser.parse_args()
if args.measure: sys.exit(print(measure(args.measure)))
found = {}
for pictures in args.pictures:
    with tempfile.TemporaryDirectory() as folder:
        root = draw(Path(folder), pictures)
        words = [sys.executable, __file__, '--measure', root]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
        mb = found[pictures] = float(done.stdout.split()[-1])
        ratio = mb / next(iter(found.values()))
        print(f'{pictures:6} pictures: {mb:7.1f} MB, {ratio:.3f} times the first', flush=True)
save(args.json, mb=found)
