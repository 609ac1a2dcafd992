"""What a run promises, where a small mistake shows only after a kill, a second Ctrl-C or in another
folder."""
import json, multiprocessing, shutil, signal, time
from dataclasses import fields, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
import pytest
import torch
from conftest import call
from suites import if_changed
from torch.utils.data import DataLoader, TensorDataset
from petseg_nb import training
from petseg_nb.checkpoints import load_model, model_for
from petseg_nb.cli import train as commands
from petseg_nb.cli.train import MAY_CHANGE
from petseg_nb.core import device as devices
from petseg_nb.core.config import TrainConfig, portable
from petseg_nb.core.disk import alone_in, save_checkpoint
from petseg_nb.core.errors import UserError
from petseg_nb.data import EpochBatches
from petseg_nb.datasets.toy import make_toy_pets
from petseg_nb.runs import fit as fitting
from petseg_nb.runs.fit import check_finite, finish_step_first, new_loaders, resumable_fit
from petseg_nb.training import Run, fit, train_step

pytestmark = if_changed('runs')
SMALL = TrainConfig(width=4, size=16, device='cpu', precision='fp32', memory_format='contiguous')


def quickly(toy_pets, out_dir, *flags):
    "Train for one epoch with the command, and return its run's folder"
    call('train', '--data_path', toy_pets, '--size', 32, '--width', 4, '--epochs', 1,
         '--device', 'cpu', '--out_dir', out_dir, *flags)
    return max(out_dir.iterdir())


def refused(*words):
    "The line with which `petseg_train` ends"
    line, = call('train', *words, status=2)[1].splitlines()
    return line


@pytest.fixture(autouse=True)
def cached(toy_pets, monkeypatch):
    "All tests share the decoded pictures"
    monkeypatch.setenv('XDG_CACHE_HOME', str(toy_pets.parent/'cache'))


def test_the_best_epoch_is_written_first_and_reported_last(toy_pets, tmp_path, monkeypatch, capsys):
    "Killed between the two files, a run does the epoch again; what it reported stays"
    written, config = [], replace(SMALL, data_path=str(toy_pets), size=32, epochs=3)
    def note(state, path):
        written.append((path.name, state['epoch']))
        if path.name == 'last.pt': raise MemoryError # as good as a kill
    for module in (training, fitting): monkeypatch.setattr(module, 'save_checkpoint', note)
    with pytest.raises(ValueError, match='memory'):
        resumable_fit(model_for(config), new_loaders(config), config, tmp_path)
    assert written == [('best.pt', 1), ('last.pt', 1)] and capsys.readouterr().out == ''


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_acts_at_once(number):
    class Ended(Exception): pass
    def end(*args): raise Ended
    before = signal.signal(number, end)
    try:
        with pytest.raises(Ended), finish_step_first() as asked:
            signal.raise_signal(number) # is noted
            assert asked == [number]
            signal.raise_signal(number) # and this one is not
    finally: signal.signal(number, before)


def test_the_error_names_the_pictures_of_its_own_step():
    "The third of the last five losses, in an epoch that is at its 75th step"
    batches = EpochBatches(200, 2, seed=3)
    dataset = SimpleNamespace(records=[SimpleNamespace(name=f'pet_{i}') for i in range(200)])
    loader = SimpleNamespace(batch_sampler=batches, dataset=dataset)
    run = SimpleNamespace(step=75, history=[], config=SMALL)
    losses = [torch.tensor(x) for x in (.5, .4, float('nan'), .3, .2)]
    names = ', '.join(f'pet_{i}' for i in batches.batches()[72])
    words = f'epoch 1, step 73: the loss is nan. Its pictures: {names}. Try'
    with pytest.raises(ValueError, match=words): check_finite(losses, run, loader)


def test_a_run_with_an_average_predicts_with_it(tmp_path):
    raw, average = model_for(SMALL), model_for(replace(SMALL, seed=1))
    state = dict(config=portable(replace(SMALL, ema=.9)), weights=raw.state_dict(),
                 average=average.state_dict())
    save_checkpoint(state, tmp_path/'last.pt')
    loaded = load_model(tmp_path/'last.pt', 'cpu')[0].state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in average.state_dict().items())


WRAPPERS = dict(
    data_parallel=torch.nn.DataParallel, compiled=partial(torch.compile, backend='eager'),
    both=lambda model: torch.nn.DataParallel(torch.compile(model, backend='eager')))


@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_a_wrapped_model_leaves_a_run_like_any_other(wrapper, toy_pets, tmp_path):
    config = replace(SMALL, data_path=str(toy_pets), size=32, epochs=1, ema=.9)
    wrap, runs = WRAPPERS[wrapper], {name: tmp_path/name for name in ('plain', 'wrapped')}
    for name, folder in runs.items():
        model = model_for(config)
        resumable_fit(wrap(model) if name == 'wrapped' else model, new_loaders(config), config,
                      folder, quiet=True)
    for file in ('best.pt', 'last.pt'):
        plain, ours = (torch.load(folder/file, weights_only=True) for folder in runs.values())
        for part in {'weights', 'average'} & {*plain}:
            for key, value in plain[part].items(): assert torch.equal(value, ours[part][key]), key
    longer = replace(config, epochs=2) # a wrapped model continues a run, and a plain one
    for model in (wrap(model_for(config)), model_for(longer)):
        resumable_fit(model, new_loaders(longer), longer, runs['wrapped'], quiet=True)


@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_weights_that_were_saved_with_a_prefix_are_read(wrapper, tmp_path):
    "As loops of others save them, and ours did before it took the wrapper off"
    model = model_for(SMALL)
    wrapped = WRAPPERS[wrapper](model).state_dict()
    assert not wrapped.keys() & model.state_dict().keys()
    save_checkpoint(dict(config=portable(SMALL), weights=wrapped), tmp_path/'best.pt')
    loaded = load_model(tmp_path, 'cpu')[0].state_dict()
    for key, value in model.state_dict().items(): assert torch.equal(loaded[key], value), key


def test_clipping_acts_on_the_gradient_in_its_own_size():
    "A step of SGD is the clipped gradient times the learning rate, though fp16 scales the loss"
    config = replace(SMALL, clip=1e-3, optimizer='sgd', schedule='constant', learning_rate=1.,
                     weight_decay=0.)
    run = Run(model_for(config), config, steps=3)
    run.scaler = torch.amp.GradScaler('cpu', init_scale=1024.)
    before = [p.detach().clone() for p in run.model.parameters()]
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=generator)
    train_step(run, images, (images[:, :1] > 127).byte())
    step = torch.cat([(b - p).flatten() for b, p in zip(before, run.model.parameters())]).norm()
    assert step.item() == pytest.approx(1e-3, rel=.01)


# Resuming

def test_a_run_on_toy_pets_is_continued_from_any_folder(toy_pets, tmp_path, monkeypatch):
    (tmp_path/'here'/'data').mkdir(parents=True), (tmp_path/'there').mkdir()
    def make(folder): return shutil.copytree(toy_pets, folder)
    monkeypatch.setattr('petseg_nb.datasets.toy.make_toy_pets', make)
    monkeypatch.chdir(tmp_path/'here')
    call('train', '--epochs', 1)
    run_dir, = (tmp_path/'here'/'runs').iterdir()
    saved = json.loads((run_dir/'config.json').read_text())
    assert saved['data_path'] == str(tmp_path/'here'/'data'/'toy_pets')
    # the settings of toy pets
    assert [saved[name] for name in ('width', 'size', 'learning_rate')] == [8, 64, 4e-3]
    monkeypatch.chdir(tmp_path/'there')
    call('train', '--resume', run_dir, '--epochs', 2)
    assert len((run_dir/'history.csv').read_text().splitlines()) == 3
    assert not list((tmp_path/'there').iterdir())


def test_a_run_is_continued_with_what_changed(toy_pets, tmp_path):
    "The dataset moved to another machine, which has no GPU"
    moved = shutil.copytree(toy_pets, tmp_path/'old')
    run_dir = quickly(moved, tmp_path/'runs', '--threads', '1')
    config = json.loads((run_dir/'config.json').read_text())
    on_gpu = dict(device='cuda', precision='fp16', memory_format='contiguous')
    (run_dir/'config.json').write_text(json.dumps(config | on_gpu))
    moved.rename(tmp_path/'new')
    changes = dict(data_path=tmp_path/'new', device='cpu', workers=1, threads=2, epochs=3)
    flags = [word for name, value in changes.items() for word in (f'--{name}', value)]
    line, *_ = call('train', '--resume', run_dir, *flags)[0].splitlines()
    before = dict(data_path=moved, device='cuda', workers=0, threads=1, epochs=1)
    assert line == 'resumed with ' + ', '.join(
        f'{name} {value} instead of {before[name]}' for name, value in changes.items())
    saved = json.loads((run_dir/'config.json').read_text())
    assert {name: saved[name] for name in changes} == changes | dict(data_path=str(tmp_path/'new'))
    assert saved['precision'] in ('fp32', 'bf16') # decided again, for this device
    assert len((run_dir/'history.csv').read_text().splitlines()) == 4
    assert 'resumed with' not in call('train', '--resume', run_dir, '--epochs', 3)[0] # nothing did


def test_a_run_is_continued_with_nothing_else(toy_pets, tmp_path):
    run_dir = quickly(toy_pets, tmp_path)
    assert set(MAY_CHANGE) == {'data_path', 'device', 'workers', 'threads', 'epochs'}
    others = {'recipe': 'ours', 'config': run_dir/'config.json'}
    others |= {field.name: field.default for field in fields(TrainConfig)
               if field.name not in MAY_CHANGE}
    for name, value in others.items():
        words = [f'--{name}'] if isinstance(value, bool) else [f'--{name}', value]
        line = refused('--resume', run_dir, *words)
        assert line.endswith(f'--resume continues a run with its own settings: leave out --{name}')


def test_no_path_of_the_machine_is_in_a_checkpoint(toy_pets, tmp_path):
    first = quickly(toy_pets, tmp_path/'first')
    run_dir = quickly(toy_pets, tmp_path/'runs', '--weights', str(first/'best.pt'))
    places = tmp_path.name, toy_pets.parent.name, 'toy_pets'
    for name in ('best.pt', 'last.pt'):
        data = (run_dir/name).read_bytes()
        for place in places: assert place.encode() not in data


def test_threads_are_those_asked_for_or_what_others_leave(toy_pets, tmp_path, monkeypatch):
    looks = []
    monkeypatch.setattr(fitting, 'share_cores', lambda: looks.append('at the cores'))
    run_dir = quickly(toy_pets, tmp_path/'fixed', '--threads', '2')
    assert torch.get_num_threads() == 2 and not looks
    assert json.loads((run_dir/'config.json').read_text())['threads'] == 2
    torch.set_num_threads(1)
    call('train', '--resume', run_dir, '--epochs', 2)
    assert torch.get_num_threads() == 2 and not looks
    quickly(toy_pets, tmp_path/'free')
    assert looks


# Beside others

def test_a_run_waits_for_no_process_of_its_caller(toy_pets, tmp_path):
    "The loaders of a notebook keep their workers for as long as it lives"
    other = multiprocessing.Process(target=time.sleep, args=(60,), daemon=True)
    other.start()
    quickly(toy_pets, tmp_path)
    assert other.is_alive()
    other.kill()


def test_a_launch_goes_on_in_its_own_folder_alone(toy_pets, tmp_path, monkeypatch):
    "Given again after a machine was lost, the same command trains what is left; another is refused"
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'pets')
    run_dir = quickly(toy_pets, tmp_path)
    assert run_dir.name == 'pets-unet'
    before = {name: (run_dir/name).read_bytes() for name in ('best.pt', 'last.pt', 'history.csv')}
    quickly(toy_pets, tmp_path)
    assert {name: (run_dir/name).read_bytes() for name in before} == before
    flags = ['--data_path', toy_pets, '--size', 32, '--width', 4, '--device', 'cpu',
             '--out_dir', tmp_path]
    end = 'pets-unet has other settings: give torchrun another --rdzv_id'
    assert refused(*flags, '--epochs', 3).endswith(end)
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'none') # what torchrun calls a launch without a name
    assert quickly(toy_pets, tmp_path/'unnamed').name != 'none-unet'


@pytest.mark.filterwarnings('ignore:This DataLoader will create') # more than this machine has cores
@pytest.mark.parametrize('device, asked, workers', [
    ('cuda', -1, 2), ('cpu', -1, 0), ('cuda', 0, 0), ('cpu', 1, 1)])
def test_two_processes_prepare_pictures_beside_a_gpu(device, asked, workers, toy_pets, monkeypatch):
    monkeypatch.setattr(devices, 'pick_device', lambda name: torch.device(device))
    config = replace(SMALL, data_path=str(toy_pets), workers=asked)
    config = devices.resolve(config, model_for(SMALL))
    found = {part: loader.num_workers for part, loader in new_loaders(config).items()}
    assert found == dict(train=workers, valid=workers, test=workers)


@pytest.mark.parametrize('schedule', training.SCHEDULES)
def test_a_longer_run_goes_on_with_the_rates_of_a_long_one(schedule, toy_pets, tmp_path):
    config = replace(SMALL, data_path=str(toy_pets), size=32, schedule=schedule, epochs=6)
    short, longer = tmp_path/'short', tmp_path/'long'
    loaders = new_loaders(config)
    resumable_fit(model_for(config), loaders, replace(config, epochs=3), short, quiet=True)
    rates = [[row['learning_rate'] for row in
              resumable_fit(model_for(config), loaders, config, run_dir, quiet=True)]
             for run_dir in (short, longer)]
    assert rates[0][3:] == pytest.approx(rates[1][3:]) and len(rates[0]) == 6


def test_a_refused_resume_leaves_the_settings(toy_pets, tmp_path):
    run_dir, more = quickly(toy_pets, tmp_path/'runs'), tmp_path/'more'
    before = (run_dir/'config.json').read_bytes()
    make_toy_pets(more, n=60)
    assert 'use the same data' in refused('--resume', run_dir, '--data_path', more, '--epochs', 3)
    with alone_in(run_dir): assert 'in use' in refused('--resume', run_dir, '--epochs', 3)
    assert (run_dir/'config.json').read_bytes() == before


def test_a_run_is_not_made_shorter_than_it_is(toy_pets, tmp_path):
    run_dir = quickly(toy_pets, tmp_path/'runs', '--epochs', '2')
    assert 'has 2 epochs already' in refused('--resume', run_dir, '--epochs', 1)


@pytest.mark.parametrize('damage', [Path.unlink, lambda path: path.write_bytes(b'PK')])
def test_a_run_without_its_best_weights_does_not_go_on(damage, toy_pets, tmp_path):
    run_dir = quickly(toy_pets, tmp_path/'runs')
    damage(run_dir/'best.pt')
    line = refused('--resume', run_dir, '--epochs', 3)
    assert 'best.pt is missing or damaged' in line and f'weights={run_dir/"last.pt"}' in line


# The loop itself, with what a user of the library brings

def batches(n=3):
    images = torch.randint(0, 256, (4 * n, 3, 32, 32), dtype=torch.uint8)
    return images, (images[:, :1] > 127).byte()


@pytest.mark.parametrize('kind', [
    lambda x, y: DataLoader(TensorDataset(x, y), 4),
    lambda x, y: [*zip(x.split(4), y.split(4))]], ids=['DataLoader', 'list'])
def test_own_loaders_will_do(kind):
    loader = kind(*batches())
    history = fit(model_for(SMALL), dict(train=loader, valid=loader), SMALL, quiet=True)
    assert len(history) == SMALL.epochs


@pytest.mark.parametrize('part', ['train', 'valid'])
def test_a_loader_without_batches_is_named(part):
    loaders = dict(train=[batches()], valid=[batches()]) | {part: []}
    with pytest.raises(UserError, match=f"loaders\\['{part}'\\] has no batches"):
        fit(model_for(SMALL), loaders, SMALL, quiet=True)


class Interrupts(training.Callback):
    def begin(self, run): self.run = run
    def after_step(self, run, loss):
        if len(run.history) == 3: raise KeyboardInterrupt


def test_an_interrupted_model_has_its_best_weights():
    images, masks = batches()
    loader, model, seen = [(images, masks)], model_for(SMALL), Interrupts()
    with pytest.raises(KeyboardInterrupt):
        fit(model, dict(train=loader, valid=loader), SMALL, quiet=True, callbacks=iter([seen]))
    kept = model.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in seen.run.best.items())


def test_a_loss_that_is_not_finite_ends_a_run():
    class Breaks(training.Callback):
        def after_step(self, run, loss):
            with torch.no_grad(): run.model.head.bias.fill_(float('nan'))
    loader = [batches()]
    with pytest.raises(UserError, match='epoch 1, validation: the loss is nan. Try a lower'):
        fit(model_for(SMALL), dict(train=loader, valid=loader), SMALL, quiet=True,
            callbacks=[Breaks()])


# Recipes

RECIPES = 'oneof_cosine', 'crop_flip', 'affine_blur', 'jitter_clip', 'flip_cbam', 'ours'


@pytest.mark.parametrize('recipe', RECIPES)
def test_each_recipe_trains_both_models(recipe, toy_pets, tmp_path):
    for model in ('unet', 'resnet34_unet'):
        flags = ['--recipe', recipe, '--model', model, '--epochs', 1, '--size', 64,
                 '--batch_size', 14, '--precision', 'fp32', '--memory_format', 'contiguous',
                 *['--width', 4] * (model == 'unet')]
        call('train', *flags, '--data_path', toy_pets, '--out_dir', tmp_path/model)
        run_dir, = (tmp_path/model).iterdir()
        saved = json.loads((run_dir/'config.json').read_text())
        assert saved['augment'] == ('light' if recipe == 'ours' else recipe)
        assert saved['model'].startswith(model) and saved['size'] == 64


def test_of_two_runs_in_one_second_the_second_waits(toy_pets, tmp_path, monkeypatch):
    now = SimpleNamespace(now=lambda: datetime(2026, 1, 2, 3, 4, 5))
    first = quickly(toy_pets, tmp_path)
    first = first.rename(tmp_path/'20260102-030405-unet')
    settings = (first/'config.json').read_bytes()
    monkeypatch.setattr(commands, 'datetime', now)
    line = refused('--data_path', toy_pets, '--size', 16, '--width', 2, '--out_dir', tmp_path)
    assert 'exists already: wait a second' in line
    assert (first/'config.json').read_bytes() == settings and list(tmp_path.iterdir()) == [first]


@pytest.mark.parametrize('flags, asked', [((), ('bf16', 'contiguous')),
                                          (('--device', 'cpu'), ('auto', 'auto'))])
def test_another_device_decides_again(flags, asked, toy_pets, tmp_path, monkeypatch):
    "Number format and memory format of an earlier run hold for its device alone"
    seen, before = [], devices.resolve
    def resolve(config, model):
        seen.append((config.precision, config.memory_format))
        return before(replace(config, precision='fp32'), model)
    monkeypatch.setattr(devices, 'resolve', resolve)
    run_dir = quickly(toy_pets, tmp_path)
    saved = json.loads((run_dir/'config.json').read_text())
    path = tmp_path/'config.json'
    path.write_text(json.dumps(saved | dict(precision='bf16', memory_format='contiguous')))
    seen.clear()
    call('train', '--config', path, *flags, '--out_dir', tmp_path/'again')
    assert seen[0] == asked


def test_a_network_of_one_size_is_timed_at_that_size(monkeypatch):
    "Others are timed on pictures of 128 pixels"
    sizes = []
    class Fixed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 1, 1)
        def forward(self, images):
            if images.shape[-1] != 160: raise ValueError('160 pixels')
            sizes.append(images.shape[-1])
            return self.conv(images.float())
    config = replace(SMALL, size=160, memory_format='auto')
    assert devices.resolve(config, Fixed()).memory_format in devices.MEMORY_FORMATS
    assert set(sizes) == {160}
