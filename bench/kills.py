#!/usr/bin/env python3
"""Does a kill lose anything?

    python bench/kills.py --n 60 [--seed 0]

Draws toy pets, decodes, trains, exports, predicts and compares in processes that get a SIGKILL at a
random moment, some of them three times in a row, and are started again. After each kill, what is
there must be whole, and what was reported as finished must be there. At the end, everything must be
what it is where nobody was killed, to the last bit."""
import argparse, csv, hashlib, os, random, shutil, signal, tempfile, time, traceback
from contextlib import redirect_stdout
from pathlib import Path
import torch
from PIL import Image
from petseg_nb.checkpoints import load_checkpoint
from petseg_nb.cli.train import petseg_train
from petseg_nb.core.pets import decode_once
from petseg_nb.data import scan_pets
from petseg_nb.datasets.toy import make_toy_pets
from petseg_nb.inference import Segmenter
from petseg_nb.masks import SAMPLES
from petseg_nb.runs.compare import compare_recipes, load_results
from petseg_nb.runs.export import export_checkpoint
from petseg_nb.runs.folders import predict_files

SMALL = dict(size=32, width=4, device='cpu', precision='fp32', memory_format='contiguous')
FLAGS = [str(word) for name, value in SMALL.items() for word in (f'--{name}', value)]


def digest(data): return hashlib.sha256(data).hexdigest()


def digests(folder):
    "A digest of each file, by name"
    files = [path for path in folder.rglob('*')
             if path.is_file() and path.suffix not in ('.lock', '.part')]
    return {path.relative_to(folder).as_posix(): digest(path.read_bytes()) for path in files}


def lines_of(path): return path.read_text().splitlines() if path.exists() else []


class Drawing:
    "All pets or none"
    def work(self, folder): make_toy_pets(folder/'pets', n=40)
    def look(self, folder):
        assert not (folder/'pets').exists() or digests(folder/'pets') == self.straight
    def result(self, folder): return digests(folder/'pets')


class Caching:
    def __init__(self, pets): self.records = scan_pets(pets)
    def work(self, folder): decode_once(self.records, 128, folder)
    def look(self, folder): assert digests(folder) in ({}, self.straight)
    def result(self, folder): return digests(folder)


class Training:
    "Each epoch that was reported is in `last.pt`, and the best of them in `best.pt`"
    def __init__(self, pets):
        self.flags = ['--data_path', str(pets), *FLAGS, '--epochs', '8', '--ema', '.9',
                      '--threads', '1']
    def run(self, folder): return next(iter(folder.glob('runs/*/config.json')), None)
    def work(self, folder):
        with open(folder/'said', 'a') as said, redirect_stdout(said):
            run = self.run(folder)
            begin = [*self.flags, '--out_dir', str(folder/'runs')]
            petseg_train(['--resume', str(run.parent)] if run else begin)
    def look(self, folder):
        said = [int(line.split()[1]) for line in lines_of(folder/'said')
                if line.startswith('epoch ')]
        if not said: return
        run = self.run(folder)
        last, best = (load_checkpoint(run.with_name(name)) for name in ('last.pt', 'best.pt'))
        scores = [row['valid_dice'] for row in last['history']]
        assert len(scores) >= max(said) and best['epoch'] >= scores.index(max(scores)) + 1
    def result(self, folder):
        run, = folder.glob('runs/*/last.pt')
        with open(run.with_name('history.csv')) as f: history = list(csv.DictReader(f))
        weights = [load_checkpoint(run.with_name(name))['weights']
                   for name in ('last.pt', 'best.pt')]
        said = {line for line in lines_of(folder/'said') if line.startswith('test dice')}
        sums = [digest(b''.join(t.numpy().tobytes() for t in w.values())) for w in weights]
        return history, sums, said


class Exporting:
    "The file from before, or the new one"
    def __init__(self, checkpoint, format):
        self.checkpoint, self.format, self.name = checkpoint, format, f'pet.{format}'
    def prepare(self, folder): (folder/self.name).write_bytes(b'the one from before')
    def work(self, folder): export_checkpoint(self.checkpoint, folder/self.name, self.format)
    def look(self, folder): assert self.result(folder) in (b'the one from before', self.straight)
    def result(self, folder): return (folder/self.name).read_bytes()


class Predicting:
    def __init__(self, checkpoint):
        self.checkpoint, self.pictures = checkpoint, sorted((SAMPLES/'images').iterdir()) * 4
    def work(self, folder):
        (folder/'out').mkdir(exist_ok=True)
        segmenter = Segmenter.load(self.checkpoint, 'cpu', precision='fp32')
        for job in predict_files(segmenter, self.pictures, folder/'out', {'overlay', 'cutout'}):
            with open(folder/'said', 'a') as said: said.write(f'{job.mask}\n')
    def look(self, folder):
        for path in lines_of(folder/'said'): Image.open(path).load()
        for path in folder.glob('out/*.[pj][np]g'): Image.open(path).load()
    def result(self, folder): return digests(folder/'out')


class Comparing:
    "Each run that has its line keeps it"
    def __init__(self, pets): self.pets, self.rows = pets, []
    def prepare(self, folder): self.rows = []
    def work(self, folder):
        compare_recipes(['crop_flip', 'jitter_clip'], 3, ('unet',), (0,), folder/'out',
                        folder/'cache', data_path=str(self.pets), **SMALL)
    def look(self, folder):
        rows = load_results(folder/'out'/'results.jsonl')
        assert [r['dice'] for r in rows][:len(self.rows)] == self.rows
        self.rows = [r['dice'] for r in rows]
    def result(self, folder):
        rows = load_results(folder/'out'/'results.jsonl')
        return [(row['recipe'], row['dice'], row['valid_dice']) for row in rows]


def start(work, folder):
    "The number of a process that does the work; what it says is in the file `log` beside `folder`"
    if pid := os.fork(): return pid
    log = os.open(folder.parent/'log', os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(log, 1), os.dup2(log, 2)
    status = 1
    try: status = work(folder) or 0
    except BaseException: traceback.print_exc()
    finally: os._exit(status)


def finish(work, folder):
    if os.waitpid(start(work, folder), 0)[1]:
        raise AssertionError((folder.parent/'log').read_text())


def prepare(job, folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if hasattr(job, 'prepare'): job.prepare(folder)


def kill(job, folder, seconds):
    "Whether the work was killed at that moment; False if it was done before"
    pid = start(job.work, folder)
    end = time.monotonic() + seconds
    def runs(): return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    while time.monotonic() < end and runs(): time.sleep(.005)
    os.kill(pid, signal.SIGKILL)
    killed = os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    job.look(folder)
    return killed


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--n', type=int, default=60, help='kills, of all kinds of work together')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1) # threads do not survive a fork
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        os.environ['XDG_CACHE_HOME'] = str(scratch/'cache')
        pets = make_toy_pets(scratch/'pets', n=40)
        flags = ['--data_path', str(pets), *FLAGS, '--epochs', '2',
                 '--out_dir', str(scratch/'runs')]
        finish(lambda folder: petseg_train(flags), scratch)
        checkpoint, = scratch.glob('runs/*/best.pt')
        jobs = [Drawing(), Caching(pets), Training(pets), Exporting(checkpoint, 'safetensors'),
                Exporting(checkpoint, 'onnx'), Predicting(checkpoint), Comparing(pets)]
        for job in jobs:
            prepare(job, folder := scratch/'straight')
            begun = time.monotonic()
            finish(job.work, folder)
            job.seconds, job.straight, job.kills = time.monotonic() - begun, job.result(folder), 0
        while sum(job.kills for job in jobs) < args.n:
            job = min(jobs, key=lambda job: job.kills)
            prepare(job, folder := scratch/'killed')
            for _ in range(rng.randint(1, 3)):
                job.kills += kill(job, folder, rng.uniform(0, job.seconds))
            finish(job.work, folder)
            same = job.result(folder) == job.straight
            assert same, f'{type(job).__name__} ends in something else'
            print(f'{type(job).__name__}: {job.kills} kills so far', flush=True)
        counts = ', '.join(f'{type(job).__name__} {job.kills} ({job.seconds:.1f} s)'
                           for job in jobs)
        print(f'{counts}: nothing was lost')


if __name__ == '__main__': main()
