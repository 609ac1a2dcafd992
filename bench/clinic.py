#!/usr/bin/env python3
"""What does each bug of the bug clinic cost?

    python bench/clinic.py --data_path DATASET --out nbs/course/clinic.jsonl
        [--seeds 0 1 2] [--only HardDice TwoDraws]

Runs the classes of `nbs/course/13_bug_clinic.ipynb` themselves: the loop without a bug, and each
loop with one, over the seeds. A line per run holds the scores that its author sees (`shown`:
validation per epoch, `shown_test`) and the true ones: Dice per image of its masks at 64 pixels,
border as pet, on pictures that it was not trained on (`true`, `test`). Bugs that only predict or
score share one training. Runs that the file has already are not made again."""
import argparse, json
from copy import deepcopy
from functools import cache
from pathlib import Path
import torch
from chapter import definitions


def true_dice(loop, part):
    "Mean over the pictures of a part, but for those that `loop` was trained on"
    trained = {record.name for record in loop.parts['train']}
    keep = [i for i, record in enumerate(right.parts[part]) if record.name not in trained]
    images, masks = (x[keep] for x in right.data[part])
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
    loop = names[trained](records, seed)
    rows = {bug: dict(bug=bug, seed=seed, shown=[], true=[]) for bug in bugs}
    for _ in loop.fit():
        for bug, row in rows.items():
            with torch.random.fork_rng():
                shown = look(bug, loop).score('valid')
                true = true_dice(look(bug, loop), 'valid')
            row['shown'].append(round(shown, 4)), row['true'].append(round(true, 4))
    for bug, row in rows.items():
        row |= dict(shown_test=round(look(bug, loop).score('test'), 4),
                    test=round(true_dice(look(bug, loop), 'test'), 4))
    return list(rows.values())


parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--data_path', type=Path, required=True)
parser.add_argument('--out', type=Path, required=True)
parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
parser.add_argument('--only', nargs='+')
args = parser.parse_args()
names = definitions('course/13_bug_clinic.ipynb')
names['read'] = cache(names['read']) # every run reads the same pictures
bugs = args.only or ['Loop', *(cls.__name__ for cls in names['Loop'].__subclasses__())]
lines = args.out.read_text().splitlines() if args.out.exists() else []
done = {(row['bug'], row['seed']) for row in map(json.loads, lines)}
records = names['scan_pets'](args.data_path)
right = names['Data'](records)
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
