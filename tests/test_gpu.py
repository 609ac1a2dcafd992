"""What only a GPU can show.

That is the numbers of a processor, mixed precision, exact continuation, and what it says when its
memory is not enough."""
import csv, sys
from dataclasses import replace
from functools import partial
import numpy as np
import pytest
import torch
import torch.distributed as dist
from conftest import finish, start
from petseg_nb.checkpoints import load_model, model_for
from petseg_nb.core import distributed
from petseg_nb.core.config import TrainConfig
from petseg_nb.core.device import pick_precision, resolve
from petseg_nb.core.errors import out_of_memory
from petseg_nb.evaluation import evaluate
from petseg_nb.inference import Segmenter, predict_probabilities
from petseg_nb.runs.fit import new_loaders, resumable_fit, too_little_memory
from petseg_nb.training import Callback, Run, add_gradients, train_step

if not torch.cuda.is_available(): pytest.skip('needs a GPU', allow_module_level=True)
MODELS = 'unet', 'resnet34_unet'


def small(toy_pets, **changes):
    settings = dict(width=8, size=64, epochs=2, batch_size=4, learning_rate=4e-3)
    return TrainConfig(str(toy_pets), **settings | changes)


def batch(pictures=4, size=64):
    torch.manual_seed(0)
    return (torch.randint(0, n, (pictures, c, size, size), dtype=torch.uint8)
            for n, c in ((256, 3), (2, 1)))


def new_run(config, steps):
    "A run as `fit` begins it"
    model = model_for(config)
    run = Run(model, resolve(config, model), steps)
    run.net.train()
    return run


def train(config, cache, run_dir, callbacks=()):
    model = model_for(config)
    config = resolve(config, model)
    return resumable_fit(model, new_loaders(config, cache), config, run_dir, callbacks, quiet=True)


def test_a_gpu_is_taken_and_computes_in_bfloat16_if_it_has_it():
    model = model_for(TrainConfig())
    found = resolve(TrainConfig(), model)
    precision = 'bf16' if torch.cuda.get_device_capability()[0] >= 8 else 'fp32'
    decided = found.device, found.precision, found.memory_format, found.workers
    assert decided == ('cuda', precision, 'channels_last', 2)
    assert pick_precision('auto', model.cuda(), 80) == precision


@pytest.mark.parametrize('model', MODELS)
def test_steps_are_those_of_a_processor(model, toy_pets):
    torch.backends.cudnn.allow_tf32 = False
    losses, (images, masks) = {}, batch()
    for device in ('cpu', 'cuda'):
        config = small(toy_pets, model=model, device=device, precision='fp32', learning_rate=1e-3)
        run, x, y = new_run(config, steps=10), images.to(device), masks.to(device)
        losses[device] = [train_step(run, x, y).item() for _ in range(5)]
    torch.backends.cudnn.allow_tf32 = True
    np.testing.assert_allclose(losses['cuda'], losses['cpu'], rtol=2e-3)
    assert losses['cuda'][-1] < losses['cuda'][0]


@pytest.mark.parametrize('precision', ['bf16', 'fp16'])
def test_mixed_precision_learns(precision, toy_pets):
    losses, (images, masks) = {}, (x.cuda() for x in batch())
    for name in ('fp32', precision):
        run = new_run(small(toy_pets, precision=name, learning_rate=1e-3), steps=30)
        losses[name] = [train_step(run, images, masks).item() for _ in range(20)]
    assert run.scaler.is_enabled() == (precision == 'fp16')
    np.testing.assert_allclose(losses[precision][:3], losses['fp32'][:3], rtol=.02)
    assert losses[precision][-1] < losses[precision][0] - .1
    assert abs(losses[precision][-1] - losses['fp32'][-1]) < .01


@pytest.mark.parametrize('workers', [0, 2])
def test_a_run_learns_is_saved_and_read_on_a_processor(workers, toy_pets, tmp_path):
    config = small(toy_pets, epochs=8, workers=workers, ema=.5)
    history = train(config, tmp_path/'cache', tmp_path)
    assert history[-1]['valid_dice'] > .6
    with open(tmp_path/'history.csv') as file:
        saved = [float(row['valid_dice']) for row in csv.DictReader(file)]
    assert saved == [row['valid_dice'] for row in history]
    weights = torch.load(tmp_path/'last.pt', weights_only=True)['weights'] # written as they lie
    assert len(weights) == len(model_for(config).state_dict())
    images, _ = batch(2)
    found = [predict_probabilities(load_model(tmp_path/'best.pt', device)[0], images)
             for device in ('cpu', 'cuda')]
    np.testing.assert_allclose(*found, atol=.03)


class StopOnce(Callback):
    "Ctrl-C after the second epoch"
    def after_epoch(self, run):
        if len(run.history) == 2: raise KeyboardInterrupt


def test_a_stopped_run_goes_on_where_it_was(toy_pets, tmp_path):
    config = small(toy_pets, epochs=3)
    whole = train(config, tmp_path/'cache', tmp_path/'whole')
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path/'cache', tmp_path/'stopped', [StopOnce()])
    stopped = train(config, tmp_path/'cache', tmp_path/'stopped')
    for a, b in zip(whole, stopped, strict=True):
        assert a['valid_loss'] == pytest.approx(b['valid_loss'], rel=.1)
    assert whole[1]['train_loss'] == pytest.approx(stopped[1]['train_loss'], rel=.05)


def test_too_little_memory_names_the_parts_that_fit(toy_pets):
    run = new_run(small(toy_pets, width=64, size=256, batch_size=64), steps=10)
    images, masks = (x.cuda() for x in batch(64, 256))
    train_step(run, images[:16], masks[:16]) # the optimiser's memory is there
    need = torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(1.4 * need / whole)
    try:
        try: train_step(run, images, masks)
        except RuntimeError as error: assert out_of_memory(error)
        else: pytest.fail('the memory is enough')
        said = str(too_little_memory(run, images.cpu()))
    finally: torch.cuda.set_per_process_memory_fraction(1.)
    assert 'not enough memory for a batch of 64 pictures. It fits in ' in said
    assert any(f'in {parts} parts: set accumulate={parts}' in said for parts in (4, 8))


def test_evaluation_and_masks_are_those_of_a_processor(small_checkpoint, toy_pets):
    found, image = {}, np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    for device in ('cpu', 'cuda'):
        model, config = load_model(small_checkpoint, device)
        data = new_loaders(replace(config, data_path=str(toy_pets)))['test'].dataset
        scored = evaluate(partial(predict_probabilities, model), data)
        dice = [score.row()['dice'] for score in scored]
        found[device] = dice, Segmenter(model, config.size).probabilities([image])[0]
    np.testing.assert_allclose(found['cuda'][0], found['cpu'][0], atol=.02)
    np.testing.assert_allclose(found['cuda'][1], found['cpu'][1], atol=.03)


def launch(toy_pets, out_dir, *flags):
    "Start two processes that train together for an epoch"
    torchrun = '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', 2
    short = '--width', 4, '--size', 32, '--epochs', 1
    return start(sys.executable, *torchrun, '-m', 'petseg_nb.cli.train', '--data_path', toy_pets,
                 '--out_dir', out_dir, *short, *flags)


def test_processes_share_processors_beside_a_gpu(toy_pets, tmp_path):
    out, err = finish(launch(toy_pets, tmp_path, '--device', 'cpu'))
    assert 'epoch   1' in out + err


@pytest.mark.skipif(torch.cuda.device_count() > 1, reason='needs more processes than GPUs')
def test_more_processes_than_gpus_are_refused(toy_pets, tmp_path):
    process = launch(toy_pets, tmp_path)
    _, err = process.communicate(timeout=300)
    assert process.returncode
    assert 'start one for each GPU (--nproc_per_node 1), or use device=cpu' in err


def test_gradients_of_a_data_parallel_model_are_those_of_the_model(toy_pets, monkeypatch):
    dist.init_process_group('cpu:gloo,cuda:nccl', store=dist.HashStore(), rank=0, world_size=1)
    gradients, (images, masks) = [], (x.cuda() for x in batch())
    try:
        for processes in (1, 2): # a group of one, which `data_parallel` takes for two
            monkeypatch.setattr(distributed, 'world_size', lambda: processes)
            run = new_run(small(toy_pets, precision='fp32'), steps=10)
            add_gradients(run, images, masks)
            gradients.append(torch.cat([p.grad.flatten() for p in run.model.parameters()]).cpu())
            parallel = isinstance(run.net, torch.nn.parallel.DistributedDataParallel)
            assert parallel == (processes == 2)
    finally: dist.destroy_process_group()
    assert any(isinstance(m, torch.nn.SyncBatchNorm) for m in run.net.modules())
    assert (gradients[0] - gradients[1]).norm() < .02 * gradients[0].norm()
