#!/usr/bin/env python3
"""How many pictures of your own are enough, from random weights and from the package's model?

    python bench/own_pictures.py

Drawn pets stand in for your pictures. The first 10, 30 or 100 train, 20 others choose the epoch,
and 60 others are the test; 40 epochs at 96 pixels, one thread. Printed is the test Dice that
`petseg_train` says."""
import re, shutil, subprocess, sys
from pathlib import Path
from tempfile import TemporaryDirectory
import numpy as np
from PIL import Image
from petseg_nb.data import scan_pets
from petseg_nb.datasets.toy import make_toy_pets

WAYS = {'random': ['--model', 'lite_unet', '--normalization', 'half'],
        'pretrained': ['--weights', 'pretrained']}


def make_own(folder, count, records):
    "A folder of images/, masks/ and lists, in which `count` pictures train"
    (folder/'images').mkdir(parents=True)
    (folder/'masks').mkdir()
    parts = dict(train=records[:count], valid=records[100:120], test=records[120:180])
    for part, chosen in parts.items():
        (folder/f'{part}.txt').write_text('\n'.join(r.name for r in chosen) + '\n')
        for record in chosen:
            shutil.copy(record.image, folder/'images')
            mask = 255 * (np.array(record.read_trimap()) != 2).astype(np.uint8)
            Image.fromarray(mask).save(folder/'masks'/f'{record.name}.png')


def test_dice(data, runs, flags):
    words = ['--data_path', data, '--size', '96', '--epochs', '40', '--threads', '1',
             '--out_dir', runs, *flags]
    done = subprocess.run([sys.executable, '-m', 'petseg_nb.cli.train', *map(str, words)],
                          check=True, capture_output=True, text=True)
    return float(re.search(r'test dice ([\d.]+)', done.stdout)[1])


if __name__ == '__main__':
    with TemporaryDirectory() as folder:
        folder = Path(folder)
        make_toy_pets(folder/'toys', n=180)
        records = sorted(scan_pets(folder/'toys'), key=lambda record: record.name)
        records = [records[i] for i in np.random.default_rng(0).permutation(len(records))]
        for count in (10, 30, 100):
            make_own(folder/f'own{count}', count, records)
            for way, flags in WAYS.items():
                print(count, way, test_dice(folder/f'own{count}', folder/'runs', flags), flush=True)
