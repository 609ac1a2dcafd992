#!/usr/bin/env python3
"""How much longer does a command or a chapter take when somebody else uses the machine, and what
does that cost when nobody does?

    python bench/company.py [--rounds 3] [--only train] [--json FILE]

A small `petseg_train`, a prediction of forty pictures, and a chapter in a kernel, each with a
thread for every core that others leave free (as it is) and with a fixed thread for every core
(OMP_NUM_THREADS), in turns, quiet and beside a busy process on every core but one. Printed are
medians of seconds, and ratios: in company over quiet, and quiet over the quiet time with fixed
threads. Start it on a machine that does nothing else. A chapter with fixed threads in company may
take over ten minutes: after three it is stopped."""
import argparse, os, statistics, subprocess, sys, tempfile, time
from contextlib import contextmanager
from pathlib import Path
from machine import save

CHAPTER = Path(__file__).resolve().parent.parent/'nbs'/'course'/'05_losses.ipynb'
CORES = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
WAYS = {'as it is': {}, 'fixed threads': dict(OMP_NUM_THREADS=str(CORES))}
LIMIT = 180
PREDICT = 'from petseg_nb.cli.predict import petseg_predict; petseg_predict()'


@contextmanager
def company(busy):
    "A busy process on every core but one"
    loops = [subprocess.Popen([sys.executable, '-c', 'while True: pass'])
             for _ in range((CORES - 1) * busy)]
    try: yield
    finally:
        for loop in loops: loop.kill()
        for loop in loops: loop.wait()


def commands(folder):
    "Words of each task; the training draws the pictures and makes the checkpoint of the prediction"
    train = [sys.executable, '-m', 'petseg_nb.cli.train', '--epochs', '6']
    subprocess.run([*train, '--epochs', '1', '--out_dir', 'first'], cwd=folder, check=True,
                   capture_output=True)
    best, = Path(folder).glob('first/*/best.pt')
    pictures = sorted(map(str, Path(folder).glob('data/toy_pets/images/*.jpg')))[:40]
    return dict(train=train, predict=[sys.executable, '-c', PREDICT, str(best), *pictures],
                chapter=[sys.executable, '-m', 'jupyter', 'execute',
                         '--output', f'{folder}/out.ipynb', str(CHAPTER)])


def seconds(words, folder, way):
    "Seconds of a command; one that takes more than `LIMIT` is stopped there"
    env = {name: value for name, value in os.environ.items() if not name.startswith('OMP_')}
    env |= {'XDG_CACHE_HOME': f'{folder}/cache'} | WAYS[way]
    start = time.perf_counter()
    try: subprocess.run(words, cwd=folder, env=env, check=True, capture_output=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        print(f'stopped after {LIMIT} s, {way}:', *map(str, words), file=sys.stderr)
    return time.perf_counter() - start


parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--rounds', type=int, default=3)
parser.add_argument('--only', choices=['train', 'predict', 'chapter'])
parser.add_argument('--json', type=Path)
args = parser.parse_args()
with tempfile.TemporaryDirectory() as folder:
    tasks = {name: words for name, words in commands(folder).items() if args.only in (None, name)}
    took = {(name, way, busy): [] for name in tasks for way in WAYS for busy in (0, 1)}
    for _ in range(args.rounds):
        for name, way, busy in took:
            with company(busy): took[name, way, busy].append(seconds(tasks[name], folder, way))
median = {key: statistics.median(values) for key, values in took.items()}
print(f'{CORES} cores, {args.rounds} rounds\n')
print(f'{"":28}{"quiet":>8}{"in company":>12}{"ratio":>8}{"quiet over fixed":>18}')
for name in tasks:
    for way in WAYS:
        quiet, busy = median[name, way, 0], median[name, way, 1]
        over_fixed = quiet / median[name, 'fixed threads', 0]
        print(f'{name + ", " + way:28}{quiet:7.1f}s{busy:11.1f}s{busy / quiet:8.2f}'
              f'{over_fixed:18.3f}')
named = {f'{name}, {way}, {"in company" if busy else "quiet"}': times
         for (name, way, busy), times in took.items()}
save(args.json, seconds=named)
