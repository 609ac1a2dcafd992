#!/usr/bin/env python3
"""How much longer does a command take when somebody else uses the machine, and what does that cost when nobody does?

    python bench/company.py [--rounds 3] [--json FILE]

A small `petseg_train` runs with OpenMP's threads sleeping while they wait (OMP_WAIT_POLICY=PASSIVE) and as OpenMP has them by itself
(they spin), in turns, each quiet and beside a busy process on every core but one. Printed are medians of seconds, and ratios: in
company over quiet, and quiet over the spinning run's quiet. Start it on a machine that does nothing else."""
import argparse, json, os, platform, statistics, subprocess, sys, tempfile, time
from contextlib import contextmanager
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--rounds', type=int, default=3)
parser.add_argument('--json', type=Path)
args = parser.parse_args()
CORES = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
WAYS = {'sleeping': 'PASSIVE', 'spinning': ''}


@contextmanager
def company(busy):
    "A busy process on every core but one"
    loops = [subprocess.Popen([sys.executable, '-c', 'while True: pass']) for _ in range((CORES - 1) * busy)]
    try: yield
    finally:
        for loop in loops: loop.kill()
        for loop in loops: loop.wait()


def train(folder, policy):
    "Seconds of a small training; an empty policy is what OpenMP does by itself"
    env = {k: v for k, v in os.environ.items() if k not in ('OMP_WAIT_POLICY', 'OMP_NUM_THREADS')} | {'XDG_CACHE_HOME': f'{folder}/cache', 'OMP_WAIT_POLICY': policy}
    start = time.perf_counter()
    subprocess.run([sys.executable, '-m', 'petseg_nb.cli', '--epochs', '4', '--out_dir', f'{folder}/{start}'], cwd=folder, env=env, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


with tempfile.TemporaryDirectory() as folder:
    train(folder, 'PASSIVE') # draws the pictures and warms the disk's cache
    took = {(way, busy): [] for way in WAYS for busy in (0, 1)}
    for _ in range(args.rounds):
        for way, busy in took:
            with company(busy): took[way, busy].append(train(folder, WAYS[way]))
median = {key: statistics.median(values) for key, values in took.items()}
print(f'{CORES} cores, {args.rounds} rounds\n\n{"threads that wait":20}{"quiet":>8}{"in company":>12}{"ratio":>8}')
for way in WAYS:
    quiet, busy = median[way, 0], median[way, 1]
    print(f'{way:20}{quiet:7.1f}s{busy:11.1f}s{busy / quiet:8.2f}')
print(f'\nquiet, sleeping over spinning: {median["sleeping", 0] / median["spinning", 0]:.3f}')
if args.json:
    result = dict(machine=platform.processor() or platform.machine(), cores=CORES, seconds={f'{w}, {"in company" if b else "quiet"}': v for (w, b), v in took.items()})
    args.json.write_text(json.dumps(result, indent=1) + '\n')
