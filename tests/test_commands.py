"""The commands as a user runs them: in processes of their own, killed, stopped and continued."""
import csv, json, os, random, resource, signal, socket, sys, time
import pytest
import torch
from conftest import COMMANDS, ROOT, call, finish, run, start
from suites import if_changed
from petseg_nb.core.config import TOYS

pytestmark = if_changed('runs')
TRAIN = [COMMANDS/'petseg_train']
SMALL = ['--size', '32', '--width', '4', '--epochs', '30', '--batch_size', '4']
TORCHRUN = [sys.executable, '-m', 'torch.distributed.run']
TWO = [*TORCHRUN, '--standalone', '--nproc_per_node', '2', '-m', 'petseg_nb.cli.train']


def cache_of(toy_pets): # all tests share the decoded pictures
    return dict(XDG_CACHE_HOME=str(toy_pets.parent/'cache'))


def small(toy_pets, out_dir, *flags):
    "The flags that train a small network on toy pets"
    return [*SMALL, '--data_path', toy_pets, '--out_dir', out_dir, *flags]


def train(toy_pets, *flags, command=TRAIN, **options):
    "Start a training command"
    env = cache_of(toy_pets) | dict(PYTHONUNBUFFERED='1')
    return start(*command, *flags, env=env, **options)


def train_small(toy_pets, out_dir, *flags, **options):
    "Start to train a small network"
    return train(toy_pets, *small(toy_pets, out_dir, *flags), **options)


def train_here(toy_pets, *flags, status=0):
    "Train in this process, where it is not the process that is tested"
    return call('train', *flags, env=cache_of(toy_pets), status=status)


def read_until(process, text):
    for line in process.stdout:
        if text in line: return
    pytest.fail(f'no line with {text!r}: {process.stderr.read()}')


def run_folder(out_dir):
    folder, = out_dir.iterdir()
    return folder


def history_of(run):
    with open(run/'history.csv') as file: return list(csv.DictReader(file))


def flat(value, name=''):
    "Name and value of each tensor and each plain value, at any depth"
    if isinstance(value, (dict, list, tuple)):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in pairs: yield from flat(part, f'{name}.{key}')
    else: yield name, value


def same_run(a, b):
    "All that two runs saved is equal, to the last bit"
    assert (a/'history.csv').read_text() == (b/'history.csv').read_text()
    for file in ('best.pt', 'last.pt'):
        first, second = (dict(flat(torch.load(run/file, weights_only=True))) for run in (a, b))
        assert first.keys() == second.keys() and len(first) > 100
        for name, value in first.items():
            same = torch.equal if isinstance(value, torch.Tensor) else lambda x, y: x == y
            assert same(value, second[name]), f'{file}: {name} differs'


@pytest.mark.parametrize('kills, flags', [
    (2, []), # the settings that everybody has: precision and memory format are decided by the run
    (1, ['--precision', 'bf16', '--ema', '.9', '--clip', '1'])], ids=['default', 'bf16'])
def test_killed_at_any_moment_and_resumed_is_the_same_run(kills, flags, toy_pets, tmp_path):
    "A few moments, at random; bench/kills.py tries many"
    process = train_small(toy_pets, tmp_path/'killed', '--threads', '1', *flags)
    for i in range(kills):
        read_until(process, 'epoch') # then anywhere in an epoch, or while a checkpoint is written
        time.sleep(random.uniform(0, .4))
        process.send_signal(signal.SIGTERM if i == 1 else signal.SIGKILL)
        process.communicate()
        killed = run_folder(tmp_path/'killed')
        process = train(toy_pets, '--resume', killed)
    out, _ = finish(process)
    # what the first run decided is decided: on another day, another format may be the faster one
    flags = '--config', killed/'config.json', '--out_dir', tmp_path/'calm'
    calm, _ = train_here(toy_pets, *flags)
    assert out.splitlines()[-1] == calm.splitlines()[-1]
    same_run(killed, run_folder(tmp_path/'calm'))


@pytest.mark.parametrize('number, status', [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_step_and_says_how_to_continue(toy_pets, tmp_path, number, status):
    process = train_small(toy_pets, tmp_path/'runs', '--workers', '1', start_new_session=True)
    read_until(process, 'epoch   2')
    os.killpg(process.pid, number) # as a terminal does: to the workers as well
    _, err = finish(process, status)
    run = run_folder(tmp_path/'runs')
    line, = err.splitlines()
    assert f'stopped by {signal.Signals(number).name}' in line
    assert f'petseg_train --resume {run}' in line
    state = torch.load(run/'last.pt', weights_only=True)
    assert len(state['history']) >= 2 and not list(run.glob('*.part'))


def test_a_full_disk_keeps_the_checkpoint_before(toy_pets, tmp_path):
    train_here(toy_pets, *small(toy_pets, tmp_path/'runs', '--epochs', '2'))
    run = run_folder(tmp_path/'runs')
    before = {name: (run/name).read_bytes() for name in ('best.pt', 'last.pt', 'history.csv')}
    size = len(before['last.pt']) // 2
    def fill(): resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    process = train(toy_pets, '--resume', run, '--epochs', '3', preexec_fn=fill)
    _, err = finish(process, 2)
    line, = err.splitlines()
    assert 'cannot be written' in line and 'the previous file is still there' in line
    assert {name: (run/name).read_bytes() for name in before} == before
    assert not list(run.glob('*.part'))


def test_a_loss_that_is_not_a_number_names_the_pictures(toy_pets, tmp_path):
    flags = small(toy_pets, tmp_path/'runs', '--learning_rate', '1e30')
    _, err = train_here(toy_pets, *flags, status=2)
    line, = err.splitlines()
    assert 'epoch 1, step' in line and 'Toy_' in line and 'Try' in line


def test_everyone_is_told_of_each_epoch(toy_pets, tmp_path, monkeypatch):
    monkeypatch.setenv('WANDB_MODE', 'offline')
    monkeypatch.setenv('WANDB_SILENT', 'true')
    flags = '--epochs', '3', '--wandb', '--tensorboard'
    out, _ = finish(train_small(toy_pets, tmp_path/'runs', *flags))
    run = run_folder(tmp_path/'runs')
    assert len(history_of(run)) == 3
    lines = out.splitlines()
    assert '\r' not in out and sum(line.startswith('epoch') for line in lines) == 3 # and no bar
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    scalars = EventAccumulator(str(run/'tensorboard')).Reload().Scalars('valid_dice')
    assert [event.step for event in scalars] == [1, 2, 3]
    assert list((run/'wandb').glob('offline-run-*/*.wandb'))


# Several processes

@pytest.fixture(scope='module')
def undisturbed(toy_pets, tmp_path_factory):
    "A run by two processes that nothing happened to"
    out_dir = tmp_path_factory.mktemp('calm')
    out, _ = finish(train_small(toy_pets, out_dir, '--threads', '1', command=TWO))
    run = run_folder(out_dir)
    (run/'said.txt').write_text(out)
    return run


def test_two_processes_train_as_one(undisturbed, toy_pets, tmp_path):
    alone, _ = train_here(toy_pets, '--config', undisturbed/'config.json', '--out_dir', tmp_path)
    one, two = (history_of(run) for run in (run_folder(tmp_path), undisturbed))
    # only the first process speaks
    assert len(alone.splitlines()) == len((undisturbed/'said.txt').read_text().splitlines())
    for a, b in zip(one[:6], two): # BatchNorm sees halves of the batches: not the same, but close
        assert float(a['train_loss']) == pytest.approx(float(b['train_loss']), rel=.1)
    assert one[0]['learning_rate'] == two[0]['learning_rate']


def children(process):
    out, _ = run('pgrep', '-P', process.pid)
    return [int(number) for number in out.split()]


def test_two_processes_stopped_in_an_epoch_are_the_same_run(undisturbed, toy_pets, tmp_path):
    for i in range(5): # the signal may come between two epochs: then once more, later
        out_dir = tmp_path/f'stopped{i}'
        flags = '--config', undisturbed/'config.json', '--out_dir', out_dir
        process = train(toy_pets, *flags, command=TWO)
        read_until(process, 'epoch   4')
        time.sleep(.1 * (i + 1))
        process.send_signal(signal.SIGTERM)
        process.communicate()
        run = run_folder(out_dir)
        if torch.load(run/'last.pt', weights_only=True)['step']: break
    else: pytest.fail('no signal came within an epoch')
    finish(train(toy_pets, '--resume', run, command=TWO))
    same_run(undisturbed, run)


def machine(toy_pets, config, out_dir, port):
    "A launcher that plays one of two machines"
    nodes = ['--nnodes', 2, '--nproc_per_node', 1, '--max-restarts', 3, '--rdzv_backend', 'c10d',
             '--rdzv_endpoint', f'127.0.0.1:{port}', '--rdzv_id', 'pets']
    return train(toy_pets, '--config', config, '--out_dir', out_dir,
                 command=[*TORCHRUN, *nodes, '-m', 'petseg_nb.cli.train'])


def wait_for_epochs(out_dir, count):
    for _ in range(2400):
        for history in out_dir.glob('*/history.csv'):
            if len(history.read_text().splitlines()) > count: return
        time.sleep(.1)
    pytest.fail(f'{out_dir} has no run of {count} epochs')


def test_two_machines_lose_processes(undisturbed, toy_pets, tmp_path, monkeypatch):
    "torchrun starts them again, and the run ends with the weights that it would have had anyway"
    # each start of the processes gets a new address, or the second process looks for the first
    # at the old one
    monkeypatch.setenv('TORCH_DISABLE_SHARE_RDZV_TCP_STORE', '1')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    config = undisturbed/'config.json'
    machines = [machine(toy_pets, config, tmp_path/'two', port) for _ in range(2)]
    for i, epoch in ((1, 3), (0, 10)):
        wait_for_epochs(tmp_path/'two', epoch)
        os.kill(children(machines[i])[0], signal.SIGKILL)
    said = [finish(process) for process in machines]
    lines = [line for out, _ in said for line in out.splitlines()]
    assert sum(line.startswith('test dice') for line in lines) == 1
    assert not any('Traceback' in err for _, err in said)
    assert any('a process of this run was lost' in err for _, err in said)
    assert run_folder(tmp_path/'two').name == 'pets-unet'
    same_run(undisturbed, run_folder(tmp_path/'two'))


# Comparisons

def test_a_comparison_goes_on_where_it_was_killed(toy_pets, tmp_path):
    def flags(name):
        return ['ours', 'jitter_clip', '--models', 'unet', '--seeds', '0', '--epochs', '6',
                '--size', '32', '--width', '4', '--folder', tmp_path/name, '--data_path', toy_pets,
                '--precision', 'fp32', '--memory_format', 'contiguous', '--threads', '1']
    process = train(toy_pets, *flags('killed'), command=[COMMANDS/'petseg_compare'])
    for _ in range(2): read_until(process, 'epoch   4') # in the second run
    process.kill()
    process.communicate()
    for name in ('killed', 'straight'): call('compare', *flags(name), env=cache_of(toy_pets))
    texts = [(tmp_path/name/'results.jsonl').read_text() for name in ('killed', 'straight')]
    rows = [[json.loads(line) for line in text.splitlines()] for text in texts]
    for name in ('dice', 'valid_dice'):
        assert [row[name] for row in rows[0]] == [row[name] for row in rows[1]]
    assert len(rows[0]) == 2
    assert (tmp_path/'killed'/'curves.png').exists()


# What a command says

def test_help_tells_the_truth_for_the_first_command():
    "A command without flags trains on toy pets, with other settings than on real pictures"
    out, _ = run(*TRAIN, '--help')
    about, _, options = ' '.join(out.split()).partition(' options: ')
    # the last flag's note names others
    notes = {note.split()[0]: note for note in reversed(options.split(' --')[1:])}
    for name, value in dict(width=16, size=80, epochs=24, learning_rate=1e-3).items():
        assert f'(default: {value}; on toy pets: {TOYS[name]})' in notes[name]
    assert 'toy pets' not in notes['batch_size']
    assert 'Without --data_path, it draws toy pets' in about


RUNS = """
from petseg_nb.cli.common import run_command
from petseg_nb.core.errors import UserError
def command(argv): {}
run_command(command, [])
"""


@pytest.mark.parametrize('body, status, last', [
    ("int('x')", 1, "ValueError: invalid literal for int() with base 10: 'x'"),
    ("open('/proc/no file')", 2, '-c: /proc/no file cannot be used (No such file or directory): '
                                 'name another, or fix this'),
    ("raise UserError('size=3: use more')", 2, '-c: size=3: use more')])
def test_what_a_user_can_put_right_is_one_line_and_a_bug_shows_where_it_is(body, status, last):
    _, err = run(sys.executable, '-c', RUNS.format(body), cwd=ROOT, status=status)
    lines = err.splitlines()
    assert lines[-1] == last
    assert (lines[0] == 'Traceback (most recent call last):') == (status == 1) == (len(lines) > 1)


def test_letters_that_a_terminal_lacks_are_escaped():
    says = RUNS.format("print('0.9 ± 0.1', 'küken.jpg')")
    env = dict(PYTHONIOENCODING='ascii')
    assert run(sys.executable, '-c', says, env=env) == ('0.9 \\xb1 0.1 k\\xfcken.jpg\n', '')
