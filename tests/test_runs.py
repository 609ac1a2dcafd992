"""What a run promises, tried where a small mistake would show only after a kill, a second Ctrl-C, a long night or in another folder."""
import io, json, multiprocessing, signal, time
from contextlib import redirect_stderr
from dataclasses import asdict, replace
from types import SimpleNamespace
import pytest
import torch
from petseg_nb import runs
from petseg_nb.cli.train import petseg_train
from petseg_nb.core.config import TrainConfig
from petseg_nb.data import EpochBatches
from petseg_nb.runs.fit import check_finite, finish_step_first, save_run
from petseg_nb.training import Run, train_step
from petseg_nb.checkpoints import load_model, model_for, save_checkpoint

SMALL = TrainConfig(width=4, size=16, device='cpu', precision='fp32')


def test_the_best_epoch_is_written_before_the_run_moves_past_it(tmp_path, monkeypatch):
    "Killed between the two files, a run does the epoch again and finds its best again; the other way round it would be lost"
    run, written = Run(model_for(SMALL), SMALL, steps=3), []
    def killed_at_the_second(state, path):
        if written: raise MemoryError
        written.append(path.name)
    monkeypatch.setattr(runs, 'save_checkpoint', killed_at_the_second)
    run.history = [dict(epoch=1, valid_dice=.5)]
    with pytest.raises(MemoryError): save_run(run, tmp_path)
    assert written == ['best.pt']


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
    records, batches = [SimpleNamespace(name=f'pet_{i}') for i in range(200)], EpochBatches(200, 2, seed=3)
    loader = SimpleNamespace(batch_sampler=batches, dataset=SimpleNamespace(records=records))
    run = SimpleNamespace(step=75, history=[], config=SMALL)
    losses = [torch.tensor(x) for x in (.5, .4, float('nan'), .3, .2)]
    names = ', '.join(f'pet_{i}' for i in batches.batches()[72])
    with pytest.raises(ValueError, match=f'epoch 1, step 73: the loss is nan. Its pictures: {names}. Try'): check_finite(losses, run, loader)


def test_a_run_with_an_average_predicts_with_it(tmp_path):
    raw, average = model_for(SMALL), model_for(replace(SMALL, seed=1))
    state = dict(config=asdict(replace(SMALL, ema=.9)), weights=raw.state_dict(), average=average.state_dict())
    save_checkpoint(state, tmp_path/'last.pt')
    loaded = load_model(tmp_path/'last.pt', 'cpu')[0].state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in average.state_dict().items())


def test_clipping_acts_on_the_gradient_in_its_own_size():
    "With fp16 the loss is scaled up, so that no gradient is lost; a step of plain SGD is the clipped gradient times the learning rate"
    config = replace(SMALL, clip=1e-3, optimizer='sgd', schedule='constant', learning_rate=1., weight_decay=0.)
    run = Run(model_for(config), config, steps=3)
    run.scaler = torch.amp.GradScaler('cpu', init_scale=1024.)
    before = [p.detach().clone() for p in run.model.parameters()]
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    train_step(run, images, (images[:, :1] > 127).byte())
    step = torch.cat([(b - p).flatten() for b, p in zip(before, run.model.parameters())]).norm()
    assert step.item() == pytest.approx(1e-3, rel=.01)


def test_a_run_is_continued_from_any_folder(toy_pets, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(toy_pets.parent/'cache'))
    monkeypatch.chdir(toy_pets.parent)
    flags = ['--size', '32', '--width', '4', '--epochs', '1', '--device', 'cpu', '--out_dir', str(tmp_path/'runs')]
    petseg_train(['--data_path', toy_pets.name, *flags])
    run_dir, = (tmp_path/'runs').iterdir()
    assert json.loads((run_dir/'config.json').read_text())['data_path'] == str(toy_pets.resolve())
    monkeypatch.chdir(tmp_path)
    petseg_train(['--resume', str(run_dir)])


def test_a_run_waits_for_no_process_of_its_caller(toy_pets, tmp_path, monkeypatch):
    "The loaders of a notebook keep their workers for as long as it lives"
    monkeypatch.setenv('XDG_CACHE_HOME', str(toy_pets.parent/'cache'))
    other = multiprocessing.Process(target=time.sleep, args=(60,), daemon=True)
    other.start()
    petseg_train(['--data_path', str(toy_pets), '--size', '32', '--width', '4', '--epochs', '1', '--device', 'cpu', '--out_dir', str(tmp_path)])
    assert other.is_alive()
    other.kill()


def test_a_launch_goes_on_in_its_own_folder_alone(toy_pets, tmp_path, monkeypatch):
    "Given again after a machine was lost, the same command trains what is left; another command does not touch the run"
    monkeypatch.setenv('XDG_CACHE_HOME', str(toy_pets.parent/'cache'))
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'pets')
    flags = ['--data_path', str(toy_pets), '--size', '32', '--width', '4', '--epochs', '2', '--device', 'cpu', '--out_dir', str(tmp_path)]
    petseg_train(flags)
    files = {path.name: path.read_bytes() for path in (tmp_path/'pets-unet').iterdir()}
    petseg_train(flags)
    assert {name: (tmp_path/'pets-unet'/name).read_bytes() for name in ('best.pt', 'last.pt', 'history.csv')}.items() <= files.items()
    with pytest.raises(SystemExit) as end, redirect_stderr(io.StringIO()) as said: petseg_train([*flags, '--epochs', '3'])
    assert end.value.code == 2 and 'pets-unet has other settings: give torchrun another --rdzv_id' in said.getvalue()
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'none') # what torchrun calls a launch without a name
    (tmp_path/'pets-unet').rename(tmp_path/'none-unet')
    with pytest.raises(SystemExit) as end, redirect_stderr(io.StringIO()) as said: petseg_train(flags)
    assert end.value.code == 2 and 'none-unet is there already' in said.getvalue()


@pytest.mark.parametrize('device, asked, workers', [('cuda', -1, 2), ('cpu', -1, 0), ('cuda', 0, 0), ('cpu', 1, 1)])
def test_two_processes_prepare_pictures_beside_a_gpu(device, asked, workers, toy_pets, monkeypatch):
    monkeypatch.setattr(runs, 'pick_device', lambda name: torch.device(device))
    loaders = runs.new_loaders(replace(SMALL, data_path=str(toy_pets), workers=asked))
    assert {part: loader.num_workers for part, loader in loaders.items()} == dict.fromkeys(('train', 'valid', 'test'), workers)
