"""The commands as a user runs them: in processes of their own, killed, stopped and continued."""
import os, signal, subprocess, sys, time
from pathlib import Path
import pytest
import torch

COMMAND = Path(sys.executable).parent/'petseg_train'
SMALL = ['--size', '32', '--width', '4', '--epochs', '40', '--batch_size', '4']


def start(toy_pets, out_dir, *flags):
    flags = flags or (*SMALL, '--data_path', toy_pets, '--out_dir', out_dir)
    return subprocess.Popen([COMMAND, *map(str, flags)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=os.environ | {'XDG_CACHE_HOME': str(toy_pets.parent/'cache'), 'PYTHONUNBUFFERED': '1'})


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def read_until(process, text):
    for line in process.stdout:
        if text in line: return
    pytest.fail(f'no line with {text!r}: {process.stderr.read()}')


def run_folder(out_dir):
    folder, = out_dir.iterdir()
    return folder


def test_killed_and_resumed_is_the_same_run(toy_pets, tmp_path):
    straight = finish(start(toy_pets, tmp_path/'a'))
    killed = start(toy_pets, tmp_path/'b')
    for epoch, pause in ((2, 0), (12, .15), (22, .05)): # anywhere in an epoch, or while a checkpoint is written
        read_until(killed, f'epoch {epoch:3}')
        time.sleep(pause)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        killed = start(toy_pets, None, '--resume', run_folder(tmp_path/'b'))
    resumed = finish(killed)
    assert resumed.splitlines()[-1] == straight.splitlines()[-1]
    a, b = run_folder(tmp_path/'a'), run_folder(tmp_path/'b')
    assert (a/'history.csv').read_text() == (b/'history.csv').read_text()
    for name in ('best.pt', 'last.pt'):
        first, second = (torch.load(run/name, weights_only=True)['weights'] for run in (a, b))
        assert first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_ctrl_c_says_how_to_continue(toy_pets, tmp_path):
    process = start(toy_pets, tmp_path/'c')
    read_until(process, 'epoch   2')
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"petseg_train --resume {run_folder(tmp_path/'c')}" in err and 'Traceback' not in err


@pytest.mark.parametrize('flags, words', [
    (['--epochs', '0'], 'epochs=0: must be above 0'),
    (['--data_path', 'nowhere'], 'nowhere holds no pets'),
    (['--device', 'tpu'], "invalid choice: 'tpu'"),
    (['--resume', 'nowhere'], 'nowhere is not the folder of a run')])
def test_bad_input_is_one_line(toy_pets, flags, words):
    process = start(toy_pets, None, *flags)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2 and words in err and 'Traceback' not in err
    assert len([line for line in err.splitlines() if 'error' in line or line.startswith('petseg_train')]) == 1


def test_unreadable_picture_is_named_before_a_folder_is_made(toy_pets, tmp_path):
    import shutil
    from petseg_nb.data import scan_pets
    broken = scan_pets(shutil.copytree(toy_pets, tmp_path/'broken'))[3].image
    broken.write_bytes(broken.read_bytes()[:500])
    process = start(toy_pets, None, *SMALL, '--data_path', tmp_path/'broken', '--out_dir', tmp_path/'out')
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2 and str(broken) in err and 'Traceback' not in err
    assert not (tmp_path/'out').exists()
