"""The commands as a user runs them: in processes of their own, killed, stopped and continued."""
import csv, json, os, pickle, resource, signal, socket, subprocess, sys, time
from pathlib import Path
import pytest
import torch

COMMAND = Path(sys.executable).parent/'petseg_train'
SMALL = ['--size', '32', '--width', '4', '--epochs', '40', '--batch_size', '4']
TORCHRUN = [sys.executable, '-m', 'torch.distributed.run']
TWO = [*TORCHRUN, '--standalone', '--nproc_per_node', '2']


def start(toy_pets, out_dir, *flags, small=True, command=(COMMAND,), **options):
    "Start a command; with `out_dir`, on toy pets into that folder"
    if out_dir: flags = (*SMALL * small, '--data_path', toy_pets, '--out_dir', out_dir, *flags)
    env = os.environ | {'XDG_CACHE_HOME': str(toy_pets.parent/'cache'), 'PYTHONUNBUFFERED': '1', 'WANDB_MODE': 'offline', 'WANDB_SILENT': 'true'}
    return subprocess.Popen([*map(str, command), *map(str, flags)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, **options)


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


def same_run(a, b):
    "Two run folders hold the same history, and weights that are equal to the last bit"
    assert (a/'history.csv').read_text() == (b/'history.csv').read_text()
    for name in ('best.pt', 'last.pt'):
        first, second = (torch.load(run/name, weights_only=True)['weights'] for run in (a, b))
        assert first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_killed_and_resumed_is_the_same_run(toy_pets, tmp_path, precision):
    flags = ['--precision', precision, '--ema', '.9', '--clip', '1']
    straight = finish(start(toy_pets, tmp_path/'a', *flags))
    process = start(toy_pets, tmp_path/'b', *flags)
    for epoch, pause, number in ((2, 0, signal.SIGKILL), (12, .15, signal.SIGTERM), (22, .05, signal.SIGKILL)):
        read_until(process, f'epoch {epoch:3}') # then anywhere in an epoch, or while a checkpoint is written
        time.sleep(pause)
        process.send_signal(number)
        process.communicate()
        process = start(toy_pets, None, '--resume', run_folder(tmp_path/'b'))
    assert finish(process).splitlines()[-1] == straight.splitlines()[-1]
    same_run(run_folder(tmp_path/'a'), run_folder(tmp_path/'b'))


@pytest.mark.parametrize('number, status', [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_step_and_says_how_to_continue(toy_pets, tmp_path, number, status):
    process = start(toy_pets, tmp_path/'c', '--workers', '1', start_new_session=True)
    read_until(process, 'epoch   2')
    os.killpg(process.pid, number) # as a terminal does: to the workers as well
    _, err = process.communicate(timeout=60)
    assert process.returncode == status
    run = run_folder(tmp_path/'c')
    line, = err.splitlines()
    assert f'stopped by {signal.Signals(number).name}' in line and f'petseg_train --resume {run}' in line
    state = torch.load(run/'last.pt', weights_only=True)
    assert len(state['history']) >= 2 and not list(run.glob('*.part'))


def test_a_full_disk_keeps_the_checkpoint_before(toy_pets, tmp_path):
    process = start(toy_pets, tmp_path/'d')
    read_until(process, 'epoch   2')
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    run = run_folder(tmp_path/'d')
    before = {name: (run/name).read_bytes() for name in ('best.pt', 'last.pt', 'history.csv')}
    limit = len(before['last.pt']) // 2
    process = start(toy_pets, None, '--resume', run, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    _, err = process.communicate(timeout=60)
    line, = err.splitlines()
    assert process.returncode == 2 and 'can not be written' in line and 'the one from before is still there' in line
    assert {name: (run/name).read_bytes() for name in before} == before and not list(run.glob('*.part'))


def test_a_loss_that_is_not_a_number_names_the_pictures(toy_pets, tmp_path):
    process = start(toy_pets, tmp_path/'e', '--learning_rate', '1e30')
    _, err = process.communicate(timeout=60)
    line, = err.splitlines()
    assert process.returncode == 2 and 'step' in line and 'toy_' in line and 'lower learning_rate' in line
    assert not list(run_folder(tmp_path/'e').glob('*.pt'))


class Malicious:
    def __init__(self, path): self.path = path
    def __reduce__(self): return (Path.touch, (self.path,))


def test_a_crafted_checkpoint_runs_nothing(toy_pets, tmp_path):
    finish(start(toy_pets, tmp_path/'f', '--epochs', '1'))
    run = run_folder(tmp_path/'f')
    for write in (lambda f: torch.save(dict(weights=Malicious(tmp_path/'ran'), config={}), f), lambda f: pickle.dump(Malicious(tmp_path/'ran'), f)):
        with open(run/'last.pt', 'wb') as f: write(f)
        process = start(toy_pets, None, '--resume', run)
        _, err = process.communicate(timeout=60)
        line, = err.splitlines()
        assert process.returncode == 2 and 'last.pt can not be loaded' in line and not (tmp_path/'ran').exists()


def test_everyone_is_told_of_each_epoch(toy_pets, tmp_path):
    out = finish(start(toy_pets, tmp_path/'g', '--epochs', '3', '--wandb', '--tensorboard'))
    run = run_folder(tmp_path/'g')
    assert len(list(csv.DictReader(open(run/'history.csv')))) == 3
    assert '\r' not in out and sum(line.startswith('epoch') for line in out.splitlines()) == 3 # plain lines, no bar
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    scalars = EventAccumulator(str(run/'tensorboard')).Reload().Scalars('valid_dice')
    assert [event.step for event in scalars] == [1, 2, 3]
    assert list((run/'wandb').glob('offline-run-*/*.wandb'))


def test_two_processes_train_as_one(toy_pets, tmp_path):
    flags = ['--epochs', '6', '--precision', 'fp32', '--batch_size', '8'] # 27 pictures: the last batch has 3
    alone = finish(start(toy_pets, tmp_path/'one', *flags))
    together = finish(start(toy_pets, tmp_path/'two', *flags, command=[*TWO, '-m', 'petseg_nb.cli']))
    one, two = (list(csv.DictReader(open(run_folder(tmp_path/name)/'history.csv'))) for name in ('one', 'two'))
    assert len(alone.splitlines()) == len(together.splitlines()) # only the first process speaks
    for a, b in zip(one, two): # BatchNorm sees halves of the batches, so not the same, but close
        assert float(a['train_loss']) == pytest.approx(float(b['train_loss']), rel=.1)
    assert one[0]['learning_rate'] == two[0]['learning_rate']


def children(process): return [int(pid) for pid in subprocess.run(['pgrep', '-P', str(process.pid)], capture_output=True, text=True).stdout.split()]


def test_two_processes_survive_the_loss_of_one(toy_pets, tmp_path):
    process = start(toy_pets, tmp_path/'h', command=[*TWO, '--max-restarts', '2', '-m', 'petseg_nb.cli'])
    read_until(process, 'epoch   3')
    os.kill(children(process)[1], signal.SIGKILL)
    lines = finish(process).splitlines()
    run = run_folder(tmp_path/'h')
    assert lines[-1].startswith('test dice') and len(list(csv.DictReader(open(run/'history.csv')))) == 40
    process = start(toy_pets, None, '--resume', run, command=[*TWO, '-m', 'petseg_nb.cli']) # and a finished run is scored again
    assert finish(process).splitlines()[-1] == lines[-1]


def test_two_processes_stopped_in_an_epoch_are_the_same_run(toy_pets, tmp_path):
    flags = ['--epochs', '12', '--precision', 'fp32']
    finish(start(toy_pets, tmp_path/'calm', *flags, command=[*TWO, '-m', 'petseg_nb.cli']))
    for i in range(5): # the signal may come between two epochs: then once more, later
        process = start(toy_pets, tmp_path/f'stopped{i}', *flags, command=[*TWO, '-m', 'petseg_nb.cli'])
        read_until(process, 'epoch   4')
        time.sleep(.1 * (i + 1))
        process.send_signal(signal.SIGTERM)
        process.communicate()
        run = run_folder(tmp_path/f'stopped{i}')
        if torch.load(run/'last.pt', weights_only=True)['step']: break
    else: pytest.fail('no signal came within an epoch')
    finish(start(toy_pets, None, '--resume', run, command=[*TWO, '-m', 'petseg_nb.cli']))
    same_run(run_folder(tmp_path/'calm'), run)


def machine(toy_pets, out_dir, port):
    "A launcher that plays one of two machines"
    nodes = ['--nnodes', '2', '--nproc_per_node', '1', '--rdzv_backend', 'c10d', '--rdzv_endpoint', f'127.0.0.1:{port}', '--rdzv_id', 'pets']
    return start(toy_pets, out_dir, '--epochs', '80', command=[*TORCHRUN, *nodes, '--max-restarts', '3', '-m', 'petseg_nb.cli'])


def wait_for_epochs(out_dir, count):
    for _ in range(1200):
        for history in out_dir.glob('*/history.csv'):
            if len(history.read_text().splitlines()) > count: return
        time.sleep(.1)
    pytest.fail(f'{out_dir} has no run of {count} epochs')


def test_two_machines_lose_a_process_and_a_machine(toy_pets, tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_DISABLE_SHARE_RDZV_TCP_STORE', '1') # or the first looks for the second at its old address
    finish(start(toy_pets, tmp_path/'calm', '--epochs', '80', command=[*TWO, '-m', 'petseg_nb.cli']))
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    first = machine(toy_pets, tmp_path/'two', port)
    for _ in range(600): # it offers the endpoint at which they meet
        with socket.socket() as client:
            if client.connect_ex(('127.0.0.1', port)) == 0: break
        time.sleep(.1)
    second = machine(toy_pets, tmp_path/'two', port)
    wait_for_epochs(tmp_path/'two', 3)
    os.kill(children(second)[0], signal.SIGKILL)
    wait_for_epochs(tmp_path/'two', 12)
    second.kill()
    second.communicate()
    second = machine(toy_pets, tmp_path/'two', port)
    lines = finish(first).splitlines() + finish(second).splitlines()
    same_run(run_folder(tmp_path/'calm'), run_folder(tmp_path/'two'))
    assert run_folder(tmp_path/'two').name == 'pets-unet' and sum(line.startswith('test dice') for line in lines) == 1


def test_each_recipe_trains_both_models(toy_pets, tmp_path):
    for recipe in ('oneof_cosine', 'crop_flip', 'affine_blur', 'jitter_clip', 'flip_cbam', 'default'):
        for model in ('unet', 'resnet34_unet'):
            width = ['--width', '4'] * (model == 'unet')
            finish(start(toy_pets, tmp_path/recipe/model, '--recipe', recipe, '--model', model, '--epochs', '1', '--size', '64', '--batch_size', '14', *width, small=False))
            saved = json.loads((run_folder(tmp_path/recipe/model)/'config.json').read_text())
            assert saved['augment'] == recipe and saved['model'].startswith(model) and saved['size'] == 64


def test_a_comparison_goes_on_where_it_was_killed(toy_pets, tmp_path):
    def compare(folder):
        flags = ['default', 'jitter_clip', '--models', 'unet', '--seeds', '0', '--epochs', '6', '--size', '32', '--width', '4', '--folder', folder]
        return start(toy_pets, None, *flags, '--data_path', toy_pets, command=[sys.executable, '-c', 'from petseg_nb.compare import petseg_compare as run; run()'])
    process = compare(tmp_path/'killed')
    for _ in range(2): read_until(process, 'epoch   4') # in the second run
    process.kill()
    process.communicate()
    finish(compare(tmp_path/'killed'))
    finish(compare(tmp_path/'straight'))
    rows = [[json.loads(line) for line in (tmp_path/name/'results.jsonl').read_text().splitlines()] for name in ('killed', 'straight')]
    assert [row['dice'] for row in rows[0]] == [row['dice'] for row in rows[1]] and len(rows[0]) == 2
    assert [row['valid_dice'] for row in rows[0]] == [row['valid_dice'] for row in rows[1]]
    assert (tmp_path/'killed'/'curves.png').exists()


@pytest.mark.parametrize('flags, words', [
    (['--epochs', '0'], 'epochs=0: must be above 0'),
    (['--data_path', 'nowhere'], 'nowhere holds no pets'),
    (['--device', 'tpu'], "invalid choice: 'tpu'"),
    (['--out_dir', '/dev/null/runs', '--epochs', '1'], '/dev/null/runs'),
    (['--resume', 'nowhere'], 'nowhere/config.json is not there')])
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


def test_letters_that_a_terminal_lacks_are_escaped():
    code = "from petseg_nb.cli import _run\n_run(lambda argv: print('0.9 ± 0.1', 'küken.jpg'), [])"
    done = subprocess.run([sys.executable, '-c', code], env=os.environ | dict(PYTHONIOENCODING='ascii'), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, '0.9 \\xb1 0.1 k\\xfcken.jpg\n', '')
