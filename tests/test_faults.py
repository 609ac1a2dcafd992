"""Disks that are full, files that were damaged, processes that disappear, clocks that go back: what
is left is whole, and the next start works."""
import errno, fcntl, io, os, re, resource, signal, sys, warnings
from contextlib import contextmanager, redirect_stderr
from unittest.mock import patch
import numpy as np
import pytest
import torch
from conftest import COMMANDS, call, run, start
from petseg_nb.cli.lab import update_chapters
from petseg_nb.checkpoints import load_model, model_for
from petseg_nb.cli.common import run_command
from petseg_nb.core.config import TrainConfig
from petseg_nb.core.disk import alone_in, save_checkpoint, write_csv, write_json
from petseg_nb.core.pets import decode_once
from petseg_nb.data import scan_pets
from petseg_nb.datasets.toy import make_toy_pets
from petseg_nb.inference import Segmenter
from petseg_nb.masks import SAMPLES
from petseg_nb.runs import compare, export
from petseg_nb.runs.fit import new_loaders, resumable_fit
from petseg_nb.runs.folders import predict_files
from petseg_nb.training import Callback

PICTURES = sorted((SAMPLES/'images').iterdir())
LONG = [.5] * 3000


@contextmanager
def disk_of(size):
    "No file can grow beyond `size` bytes, as on a full disk"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try: yield
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, before)


def whole_files(folder):
    "Content of each file, by name, but for locks"
    files = [path for path in folder.rglob('*')
             if path.is_file() and not path.name.endswith('.lock')]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


# A full disk: what is written fails, and succeeds when there is room again

def weights_of(checkpoint):
    return dict(weights=load_model(checkpoint, 'cpu')[0].state_dict(), config={})


class OneLayer(torch.nn.Module):
    "To export a whole network takes long, and writes a file in the same way"
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 1, 31, padding=15)
    def forward(self, images): return self.conv(images / 255)


def export_one_layer(folder, checkpoint):
    with patch.object(export, 'load_model', lambda *_: (OneLayer(), TrainConfig(size=32))):
        export.export_checkpoint(checkpoint, folder/'pet.onnx')


WRITERS = dict(
    toys=lambda folder, checkpoint: make_toy_pets(folder/'pets', n=8),
    cache=lambda folder, checkpoint: decode_once(scan_pets(SAMPLES), 64, folder),
    checkpoint=lambda folder, checkpoint: save_checkpoint(weights_of(checkpoint), folder/'last.pt'),
    safetensors=lambda folder, checkpoint: export.export_checkpoint(
        checkpoint, folder/'pet.safetensors', 'safetensors'),
    network=lambda folder, checkpoint: Segmenter.load(
        checkpoint, 'cpu').save(folder/'pet.safetensors'),
    onnx=export_one_layer,
    json=lambda folder, checkpoint: write_json(LONG, folder/'config.json'),
    csv=lambda folder, checkpoint: write_csv([dict(dice=x) for x in LONG], folder/'history.csv'),
    result=lambda folder, checkpoint: compare.append_result(
        folder/'results.jsonl', dict(recipe='ours', model='unet', seed=0, dice=LONG)),
    chapters=lambda folder, checkpoint: update_chapters(SAMPLES/'images', folder))


@pytest.mark.parametrize('name', WRITERS)
def test_a_full_disk_leaves_what_was_there(name, small_checkpoint, tmp_path):
    write = WRITERS[name]
    with disk_of(2000), pytest.raises((OSError, ValueError)) as error:
        write(tmp_path, small_checkpoint)
    message = str(error.value)
    assert '\n' not in message and str(tmp_path) in message, message
    assert re.search('too large|No space|cannot be written', message), message
    assert whole_files(tmp_path) == {}
    write(tmp_path, small_checkpoint) # with room again
    before = whole_files(tmp_path)
    assert before
    if name in ('toys', 'cache', 'chapters'): return # which find theirs there
    with disk_of(2000), pytest.raises((OSError, ValueError)): write(tmp_path, small_checkpoint)
    assert whole_files(tmp_path) == before


def test_a_full_disk_fails_a_picture_and_not_the_next(small_checkpoint, tmp_path):
    segmenter = Segmenter.load(small_checkpoint, 'cpu', precision='fp32')
    def predict(): return list(predict_files(segmenter, PICTURES[:2], tmp_path, {'cutout'}))
    with disk_of(20_000): jobs = predict() # masks have room, photographs have not
    assert all(job.error and job.mask is None for job in jobs) and whole_files(tmp_path) == {}
    assert not any(job.error for job in predict())


# A cache that was damaged

DAMAGES = dict(
    cut=lambda data: data[:len(data) // 2], cut_by_one=lambda data: data[:-1],
    emptied=lambda data: b'', zeroed=lambda data: bytes(len(data)), grown=lambda data: data + b'\0',
    flipped_in_header=lambda data: data[:20] + bytes([data[20] ^ 4]) + data[21:],
    flipped_pixel=lambda data: data[:5000] + bytes([data[5000] ^ 64]) + data[5001:],
    flipped_at_end=lambda data: data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_cache_is_decoded_again(damage, tmp_path):
    records = scan_pets(SAMPLES)
    straight = np.array(decode_once(records, 32, tmp_path))
    cache, = tmp_path.glob('*.npy')
    whole = cache.read_bytes()
    cache.write_bytes(DAMAGES[damage](whole))
    with pytest.warns(UserWarning, match=f'{cache} is damaged: its pictures are decoded again'):
        np.testing.assert_array_equal(decode_once(records, 32, tmp_path), straight)
    decode_once(records, 32, tmp_path)
    assert cache.read_bytes() == whole


def test_a_command_says_in_one_line_that_a_cache_was_damaged(toy_pets, tmp_path):
    flags = ['--data_path', toy_pets, '--out_dir', tmp_path/'runs', '--size', 32, '--width', 4,
             '--epochs', 1]
    env = dict(XDG_CACHE_HOME=str(tmp_path/'cache'))
    call('train', *flags, env=env)
    caches = list((tmp_path/'cache'/'petseg_nb').glob('*.npy'))
    for cache in caches: cache.write_bytes(cache.read_bytes()[:-1])
    _, err = run(COMMANDS/'petseg_train', *flags, env=env)
    ends = [line.partition(' is damaged: ')[2] for line in err.splitlines()]
    assert ends == ['its pictures are decoded again'] * len(caches), err


# Two at once

def small(toy_pets, **changes):
    config = dict(width=4, size=32, epochs=3, device='cpu', precision='fp32')
    return TrainConfig(str(toy_pets), **config | changes)


def fit_small(toy_pets, run_dir, callbacks=(), **changes):
    config = small(toy_pets, **changes)
    loaders = new_loaders(config)
    callbacks = [callback(loaders['train']) for callback in callbacks]
    return resumable_fit(model_for(config), loaders, config, run_dir, callbacks, quiet=True)


def test_a_second_run_into_a_folder_is_refused(toy_pets, tmp_path):
    in_use = f'{tmp_path} is in use by another run: wait until that run ends, or stop it'
    with alone_in(tmp_path):
        with pytest.raises(ValueError, match=in_use): fit_small(toy_pets, tmp_path)
        with pytest.raises(ValueError, match='in use by another run'):
            compare.compare_recipes(
                ['crop_flip'], 1, ('unet',), (0,), tmp_path, data_path=str(toy_pets))
    assert whole_files(tmp_path) == {}


@pytest.mark.parametrize('kind', ['ENOLCK', 'ENOTSUP', 'ENOSYS'])
def test_a_run_goes_on_where_a_folder_can_not_be_locked(kind, tmp_path, monkeypatch):
    "Also if a run was killed there, or has left its lock from a machine that has locks"
    def refuse(*args): raise OSError(getattr(errno, kind), 'not here')
    monkeypatch.setattr(fcntl, 'flock', refuse)
    (tmp_path/'.lock').touch()
    for again in range(2):
        words = re.escape(f'{tmp_path} cannot be locked (not here): do not start a second run in '
                          'it')
        with pytest.warns(UserWarning, match=words), alone_in(tmp_path): (tmp_path/'file').touch()
        assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_a_second_writer_of_a_cache_says_that_it_waits(tmp_path, monkeypatch):
    records = scan_pets(SAMPLES)
    decode_once(records, 32, tmp_path)
    cache, = tmp_path.glob('*.npy')
    with open(f'{cache}.lock') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        def release(message): # whatever else it says fails here
            assert message == f'{cache} is being written by another process: waiting for it'
            fcntl.flock(lock, fcntl.LOCK_UN)
        monkeypatch.setattr(warnings, 'warn', release)
        assert len(decode_once(records, 32, tmp_path)) == len(records)


HOLDS = """
import os, sys, time
from pathlib import Path
from petseg_nb.core.disk import alone_in
with alone_in(Path(sys.argv[1])):
    if not os.fork(): print("in", flush=True) # the child has let go of its copy of the lock
    time.sleep(60)
"""


def test_a_folder_is_free_when_its_run_was_killed(tmp_path):
    "Also while a child of it lives on, as workers do for seconds"
    process = start(sys.executable, '-c', HOLDS, tmp_path, start_new_session=True)
    assert process.stdout.readline() == 'in\n'
    with pytest.raises(ValueError, match='in use'), alone_in(tmp_path): pass
    process.kill()
    process.wait()
    with alone_in(tmp_path): pass
    os.killpg(process.pid, signal.SIGKILL)


# A reader, or a helper, that is gone

TALKS = """
from petseg_nb.cli.common import run_command
def talk(argv):
    for i in range(20_000): print('a line', i, flush={})
run_command(talk, [])
"""


@pytest.mark.parametrize('flush', [True, False])
def test_a_reader_that_leaves_ends_a_command_quietly(flush):
    "As `petseg_check_data pets | head -1` does"
    process = start(sys.executable, '-c', TALKS.format(flush))
    assert process.stdout.readline() == 'a line 0\n'
    process.stdout.close()
    assert (process.stderr.read(), process.wait(60)) == ('', 128 + signal.SIGPIPE)


class KillWorker(Callback):
    "Kills the process that prepares pictures, after each epoch"
    def __init__(self, loader): self.loader = loader
    def after_epoch(self, run): os.kill(self.loader._iterator._workers[0].pid, signal.SIGKILL)


def test_a_worker_that_was_killed_is_one_line_and_nothing_is_lost(toy_pets, tmp_path):
    with pytest.raises(SystemExit) as end, redirect_stderr(io.StringIO()) as said:
        run_command(lambda argv: fit_small(toy_pets, tmp_path, [KillWorker], workers=1), [])
    line, = said.getvalue().splitlines()
    assert end.value.code == 2 and '--workers' in line
    assert 'a process that loads pictures was killed' in line
    assert len(fit_small(toy_pets, tmp_path)) == 3


LEAVES = """
import sys
from petseg_nb.cli.common import own_process
from petseg_nb.core.config import TrainConfig
from petseg_nb.runs.fit import new_loaders
if sys.argv[2] == 'command': own_process()
loaders = new_loaders(TrainConfig(sys.argv[1], size=32, batch_size=8, workers=1))
next(iter(loaders['train']))
"""


@pytest.mark.parametrize('caller', ['command', 'program'])
def test_python_ends_while_loaders_have_workers(caller, toy_pets):
    "They ignore the signal with which Python ends its children"
    assert run(sys.executable, '-c', LEAVES, toy_pets, caller, timeout=60) == ('', '')


ENDS = """
import gc, glob, os
import torch, torch._dynamo
import torch.distributed as dist
from petseg_nb.core import distributed

address = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT='0')
os.environ |= dict(LOCAL_RANK='0', RANK='0', WORLD_SIZE='1') | address
# what it does for several processes, a group of one shows as well
distributed.world_size = lambda: 2
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
gc.collect()
gc.freeze() # what is imported is not looked through by each child

for _ in range(12):
    child = os.fork()
    if not child: break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
if child: raise SystemExit

distributed.join_launch()
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
model(torch.ones(1, 2)).sum().backward()
for task in glob.glob('/proc/self/task/*'):
    if 'gloo_runloop' in open(f'{task}/comm').read():
        os.sched_setscheduler(int(os.path.basename(task)), os.SCHED_IDLE, os.sched_param(0))
for _ in range(5): distributed.add_up(1, 2)
distributed.leave_launch()
"""


NEEDED = 'needs threads that run only where nobody else does'


@pytest.mark.skipif(not hasattr(os, 'SCHED_IDLE'), reason=NEEDED)
def test_a_launched_process_ends_after_its_sums(tmp_path):
    "Four of ten such processes are aborted if Python ends while a thread still holds a tensor"
    out, err = run(sys.executable, '-c', ENDS, cwd=tmp_path)
    # older versions of gloo speak too
    ends = [line for line in out.splitlines() if line.lstrip('-').isdigit()]
    assert ends == ['0'] * 12, err
