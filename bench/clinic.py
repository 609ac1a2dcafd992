#!/usr/bin/env python3
"""What does each bug of the bug clinic cost?

    python bench/clinic.py --data_path DATASET --out nbs/course/clinic.jsonl
        [--seeds 0 1 2] [--only HardDice TwoDraws]
    python bench/clinic.py --data_path DATASET --masks nbs/course/clinic_masks.npz

Runs the classes of `nbs/course/13_bug_clinic.ipynb` themselves: the loop without a bug, and each
loop with one, over the seeds. A line per run holds the scores that its author sees (`shown`:
validation per epoch, `shown_test`) and the true ones: Dice per image of its masks at 64 pixels,
border as pet, on pictures that it was not trained on (`true`, `test`). Bugs that only predict or
score share one training. Runs that the file has already are not made again.

The masks are those of seed 0 on two of the package's photographs, eight pixels in a byte. They come
from the small training of the chapter, with a bug in it."""
import argparse, json
from copy import deepcopy
from functools import cache
from pathlib import Path
import numpy as np
import torch
from PIL import Image
from chapter import definitions
from petseg_nb.masks import read_sample

PHOTOGRAPHS = 'Bengal_21', 'american_bulldog_69'
MASKS = ('Loop', 'ArgmaxOfOne', 'Inverted', 'RawPixels', 'TwoSigmoids', 'TwoDraws', 'StillTraining',
         'BatchOfOne', 'TrainOnce', 'HalfOfLogits', 'HardDice') # of these loops
CONTROLS = 'Small', 'SmallOfOne', 'SmallGrouped', 'SmallGroupedOfOne' # of case 9


@cache
def right(size):
    "A loop without a bug, for its pictures and masks of a size"
    return type('Right', (names['Loop'],), dict(size=size))(records)


def true_dice(loop, part):
    "Mean over the pictures of a part, but for those that `loop` was trained on"
    trained = {record.name for record in loop.parts['train']}
    truth = right(loop.size)
    keep = [i for i, record in enumerate(truth.parts[part]) if record.name not in trained]
    images, masks = (x[keep] for x in truth.data[part])
    return names['dice'](loop.predict(images), masks).mean().item()


class Plain: pass


def looks_only(bug):
    return bug == 'Loop' or set(vars(names[bug])) - set(vars(Plain)) <= {'predict', 'score'}


def look(bug, loop):
    "A loop with a bug that has the network of `loop` as it is now, in the mode of a training"
    other = object.__new__(names[bug])
    other.__dict__ = loop.__dict__ | {'model': deepcopy(loop.model).train()}
    return other


def run(trained, bugs, seed):
    "Rows of all `bugs`, which are looked at while the loop `trained` learns"
    rows = {bug: dict(bug=bug, seed=seed, shown=[], true=[]) for bug in bugs}

    class Watched(names[trained]):
        def score(self, part): # `fit` calls it at the end of each epoch
            for bug, row in rows.items():
                with torch.random.fork_rng():
                    shown = look(bug, self).score('valid')
                    true = true_dice(look(bug, self), 'valid')
                row['shown'].append(round(shown, 4)), row['true'].append(round(true, 4))
            return super().score(part)

    loop = Watched(records, seed)
    loop.fit()
    for bug, row in rows.items():
        row |= dict(shown_test=round(look(bug, loop).score('test'), 4),
                    test=round(true_dice(look(bug, loop), 'test'), 4))
    if trained == 'SmallOfOne': # case 9: the same weights, with the statistics of each picture
        own = true_dice(look('StillTraining', loop), 'test')
        rows[trained]['own_statistics'] = round(own, 4)
    return list(rows.values())


def masks(bug):
    "What the small training with a bug predicts on the photographs, eight pixels in a byte"
    loop = type(bug, (names['Small'], names[bug]), {})(records)
    loop.fit()
    pictures = (map(Image.fromarray, read_sample(name)) for name in PHOTOGRAPHS)
    images = torch.stack([right(loop.size).load(*picture)[0] for picture in pictures])
    loop.model.train() # as a training leaves it
    return np.packbits(loop.predict(images).flatten(1).numpy(), axis=1)


parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--data_path', type=Path, required=True)
parser.add_argument('--out', type=Path)
parser.add_argument('--masks', type=Path)
parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
parser.add_argument('--only', nargs='+')
args = parser.parse_args()
names = definitions('course/13_bug_clinic.ipynb')
names['read'] = cache(names['read']) # every run reads the same pictures
records = names['scan_pets'](args.data_path)
cases = [cls.__name__ for cls in names['Loop'].__subclasses__()]
bugs = args.only or ['Loop', *(case for case in cases if case != 'Small'), *CONTROLS]
if args.masks: np.savez_compressed(args.masks, **{bug: masks(bug) for bug in MASKS})
if not args.out: raise SystemExit
lines = args.out.read_text().splitlines() if args.out.exists() else []
done = {(row['bug'], row['seed']) for row in map(json.loads, lines)}
for seed in args.seeds:
    left = [bug for bug in bugs if (bug, seed) not in done]
    looking = list(filter(looks_only, left)) # they share one training
    groups = [('Loop', looking)] if looking else []
    groups += [(bug, [bug]) for bug in left if bug not in looking]
    for trained, group in groups:
        rows = run(trained, group, seed)
        with args.out.open('a') as file: file.writelines(json.dumps(row) + '\n' for row in rows)
        for row in rows:
            print(row['bug'], seed, 'true', row['test'], 'shown', row['shown_test'], flush=True)
