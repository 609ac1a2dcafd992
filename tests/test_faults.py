"""Disks that are full, files that were damaged, processes that disappear, clocks that go back: what is left is whole, and the next start works."""
import io, os, re, resource, signal, subprocess, sys
from contextlib import contextmanager, redirect_stderr
from datetime import datetime
import numpy as np
import pytest
from petseg_nb import cli, comparison
from petseg_nb.cli.train import petseg_train
from petseg_nb.core.config import TrainConfig
from petseg_nb.data import pet_dataloaders, scan_pets
from petseg_nb.runs.export import export_checkpoint
from petseg_nb.core.disk import alone_in
from petseg_nb.core.pets import decode_once
from petseg_nb.inference import Segmenter
from petseg_nb.book.lab import update_chapters
from petseg_nb.masks import SAMPLES
from petseg_nb.runs.folders import predict_files
from petseg_nb.training import fit
from petseg_nb.checkpoints import load_model, model_for, save_checkpoint
from petseg_nb.datasets.toy import make_toy_pets

PICTURES = sorted((SAMPLES/'images').iterdir())


@contextmanager
def disk_of(size):
    "No file can grow beyond `size` bytes, as on a full disk"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try: yield
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, before)


def whole_files(folder): return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob('*') if p.is_file() and not p.name.endswith('.lock')}


# A full disk: who writes, in how many bytes it fails, and what is there before

def draw(folder, checkpoint): make_toy_pets(folder/'pets', n=8)
def decode(folder, checkpoint): decode_once(scan_pets(SAMPLES), 64, folder)
def save(folder, checkpoint): save_checkpoint(dict(weights=load_model(checkpoint, 'cpu')[0].state_dict(), config={}), folder/'last.pt')
def safetensors(folder, checkpoint): export_checkpoint(checkpoint, folder/'pet.safetensors', 'safetensors')
def onnx(folder, checkpoint): export_checkpoint(checkpoint, folder/'pet.onnx', 'onnx')
def torch_export(folder, checkpoint): export_checkpoint(checkpoint, folder/'pet.pt2', 'torch_export')
def note(folder, checkpoint): comparison._append(folder/'results.jsonl', dict(recipe='default', model='unet', seed=0, dice=[.5] * 3000))
def copy_chapters(folder, checkpoint): update_chapters(SAMPLES/'images', folder)
WRITERS = [draw, decode, save, safetensors, onnx, torch_export, note, copy_chapters]


@pytest.mark.parametrize('write', WRITERS, ids=lambda f: f.__name__)
def test_a_full_disk_leaves_what_was_there(write, small_checkpoint, tmp_path):
    with disk_of(2000), pytest.raises(OSError) as error: write(tmp_path, small_checkpoint)
    message = str(error.value)
    assert '\n' not in message and str(tmp_path) in message and re.search('too large|No space|can not be written', message), message
    assert whole_files(tmp_path) == {}
    write(tmp_path, small_checkpoint) # with room again
    before = whole_files(tmp_path)
    assert before
    if write in (save, safetensors, note):
        with disk_of(2000), pytest.raises(OSError): write(tmp_path, small_checkpoint)
        assert whole_files(tmp_path) == before


def test_a_full_disk_fails_a_picture_and_not_the_next(small_checkpoint, tmp_path):
    segmenter = Segmenter.load(small_checkpoint, 'cpu', precision='fp32')
    with disk_of(20_000): jobs = list(predict_files(segmenter, PICTURES[:2], tmp_path, {'cutout'})) # masks have room, photographs have not
    assert all(job.error and job.mask is None for job in jobs) and whole_files(tmp_path) == {}
    assert not any(job.error for job in predict_files(segmenter, PICTURES[:2], tmp_path, {'cutout'}))


# A cache that was damaged

def cut(data): return data[:len(data) // 2]
def cut_by_one(data): return data[:-1]
def emptied(data): return b''
def zeroed(data): return bytes(len(data))
def grown(data): return data + b'\0'
def flipped_in_header(data): return data[:20] + bytes([data[20] ^ 4]) + data[21:]
def flipped_pixel(data): return data[:5000] + bytes([data[5000] ^ 64]) + data[5001:]
def flipped_at_end(data): return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize('damage', [cut, cut_by_one, emptied, zeroed, grown, flipped_in_header, flipped_pixel, flipped_at_end], ids=lambda f: f.__name__)
def test_a_damaged_cache_is_decoded_again(damage, tmp_path, capsys):
    records = scan_pets(SAMPLES)
    straight = np.array(decode_once(records, 32, tmp_path))
    cache, = tmp_path.glob('*.npy')
    whole = cache.read_bytes()
    cache.write_bytes(damage(whole))
    np.testing.assert_array_equal(decode_once(records, 32, tmp_path), straight)
    assert capsys.readouterr().err.splitlines() == [f'{cache} is damaged: its pictures are decoded again']
    decode_once(records, 32, tmp_path)
    assert cache.read_bytes() == whole and capsys.readouterr().err == ''


# Two at once

def small(toy_pets, **changes): return TrainConfig(str(toy_pets), width=4, size=32, epochs=3, device='cpu', precision='fp32', **changes)


def test_a_second_run_into_a_folder_is_refused(toy_pets, tmp_path):
    config = small(toy_pets)
    with alone_in(tmp_path):
        with pytest.raises(ValueError, match=f'{tmp_path} is in use by another run: wait for its end, or stop it'):
            fit(model_for(config), pet_dataloaders(toy_pets, 32, 8), config, tmp_path)
        with pytest.raises(ValueError, match='in use by another run'): comparison.compare(['crop_flip'], 1, ('unet',), (0,), tmp_path, data_path=str(toy_pets))
    assert whole_files(tmp_path) == {}


def test_a_folder_is_free_when_its_run_was_killed(tmp_path):
    "Also while a child of it lives on, as workers do for seconds"
    held = 'import os, sys, time\nfrom pathlib import Path\nfrom petseg_nb.files import alone_in\nwith alone_in(Path(sys.argv[1])):\n' \
           '    if not os.fork(): print("in", flush=True) # the child has let go of its copy of the lock\n    time.sleep(60)'
    process = subprocess.Popen([sys.executable, '-c', held, tmp_path], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout.readline() == b'in\n'
    with pytest.raises(ValueError, match='in use'), alone_in(tmp_path): pass
    process.kill()
    process.wait()
    with alone_in(tmp_path): pass
    os.killpg(process.pid, signal.SIGKILL)


def test_a_clock_that_goes_back_overwrites_no_run(toy_pets, tmp_path, monkeypatch):
    "The name of a run's folder is the time of its start"
    class Stopped(datetime):
        @classmethod
        def now(cls): return cls(2026, 10, 25, 2, 30)
    monkeypatch.setattr(cli, 'datetime', Stopped)
    monkeypatch.setenv('XDG_CACHE_HOME', str(toy_pets.parent/'cache'))
    flags = ['--data_path', str(toy_pets), '--size', '32', '--width', '4', '--epochs', '1', '--device', 'cpu', '--out_dir', str(tmp_path)]
    petseg_train(flags)
    before = whole_files(tmp_path)
    with pytest.raises(SystemExit) as end, redirect_stderr(io.StringIO()) as said: petseg_train(flags)
    assert end.value.code == 2 and '20261025-023000-unet is there already' in said.getvalue() and whole_files(tmp_path) == before


# Whoever should read or work is gone

@pytest.mark.parametrize('flush', [True, False])
def test_a_reader_that_leaves_ends_a_command_quietly(flush):
    "As `petseg_check_data pets | head -1` does"
    code = f'from petseg_nb.cli import _run\ndef talk(argv):\n    for i in range(20_000): print("a line", i, flush={flush})\n_run(talk, [])'
    process = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b'a line 0\n'
    process.stdout.close()
    assert (process.stderr.read(), process.wait(60)) == (b'', 128 + signal.SIGPIPE)


def test_a_worker_that_was_killed_is_one_line_and_nothing_is_lost(toy_pets, tmp_path):
    config = small(toy_pets, workers=1)
    loaders = pet_dataloaders(toy_pets, 32, 8, workers=1)
    def kill(model, history): os.kill(loaders['train']._iterator._workers[0].pid, signal.SIGKILL)
    with pytest.raises(SystemExit) as end, redirect_stderr(io.StringIO()) as said:
        cli._run(lambda argv: fit(model_for(config), loaders, config, tmp_path, [kill]), [])
    line, = said.getvalue().splitlines()
    assert end.value.code == 2 and 'a worker that prepares pictures was killed' in line and '--workers' in line
    assert len(fit(model_for(config), pet_dataloaders(toy_pets, 32, 8), config, tmp_path)) == 3


def test_python_ends_while_loaders_have_workers(toy_pets):
    "They ignore the signal with which Python ends its children"
    code = f'from petseg_nb.data import pet_dataloaders\nloaders = pet_dataloaders({str(toy_pets)!r}, 32, 8, workers=1)\nnext(iter(loaders["train"]))'
    process = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stderr) == (0, '')


ENDS = """
import gc, glob, os
import torch, torch._dynamo
import torch.distributed as dist
from petseg_nb.core.distributed import join_launch

dist.rendezvous = lambda _: iter([(dist.HashStore(), 0, 1)])
os.environ['LOCAL_RANK'] = '0'
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
gc.collect()
gc.freeze() # what is imported is not looked through by each child

def add_up(*values):
    sums = torch.tensor(values)
    dist.all_reduce(sums)
    return sums.tolist()

for _ in range(12):
    child = os.fork()
    if not child: break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
if child: raise SystemExit

join_launch()
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
model(torch.ones(1, 2)).sum().backward()
for task in glob.glob('/proc/self/task/*'):
    if 'gloo_runloop' in open(f'{task}/comm').read(): os.sched_setscheduler(int(os.path.basename(task)), os.SCHED_IDLE, os.sched_param(0))
for _ in range(5): add_up(1, 2)
dist.destroy_process_group()
"""


@pytest.mark.skipif(not hasattr(os, 'SCHED_IDLE'), reason='needs threads that run only where nobody else does')
def test_a_launched_process_ends_after_its_sums(tmp_path):
    "Four of ten such processes are aborted if Python ends while a thread still holds a tensor"
    done = subprocess.run([sys.executable, '-c', ENDS], capture_output=True, text=True, cwd=tmp_path)
    ends = [line for line in done.stdout.splitlines() if line.lstrip('-').isdigit()] # older versions of gloo speak too
    assert ends == ['0'] * 12, done.stderr
