"What only a GPU can show: the same numbers as a processor, mixed precision, exact continuation, and what it says when its memory is not enough."
import csv, subprocess, sys
from dataclasses import replace
import numpy as np
import pytest
import torch
import torch.distributed as dist
from petseg_nb.core.device import pick_device, pick_memory_format, pick_precision
from petseg_nb.core.config import TrainConfig
from petseg_nb.evaluation import evaluate
from petseg_nb.inference import Segmenter, predict_probabilities
from petseg_nb.resnet34_unet import create_model
from petseg_nb.runs.fit import new_loaders
from petseg_nb.training import Run, add_gradients, fit, train_step
from petseg_nb.checkpoints import load_model, model_for

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
MODELS = 'unet', 'resnet34_unet'


def small(toy_pets, **changes):
    return TrainConfig(str(toy_pets), **dict(width=8, size=64, epochs=2, batch_size=4, learning_rate=4e-3) | changes)


def batch(pictures=4, size=64):
    torch.manual_seed(0)
    images, masks = (torch.randint(0, n, (pictures, c, size, size), dtype=torch.uint8) for n, c in ((256, 3), (2, 1)))
    return images, masks


def test_a_gpu_is_taken_and_computes_in_bfloat16_if_it_has_it():
    device = pick_device('auto')
    assert device.type == 'cuda'
    has = torch.cuda.get_device_capability()[0] >= 8
    assert pick_precision('auto', device) == (torch.bfloat16 if has else torch.float32)
    assert pick_memory_format(create_model('unet', width=64).to(device), torch.bfloat16) == torch.channels_last


@pytest.mark.parametrize('model', MODELS)
def test_steps_are_those_of_a_processor(model, toy_pets):
    torch.backends.cudnn.allow_tf32 = False
    losses, images, masks = {}, *batch()
    for device in ('cpu', 'cuda'):
        config = small(toy_pets, model=model, device=device, precision='fp32', learning_rate=1e-3)
        run = Run(model_for(config), config, steps=10)
        run.net.train()
        losses[device] = [train_step(run, images.to(device), masks.to(device)).item() for _ in range(5)]
    torch.backends.cudnn.allow_tf32 = True
    np.testing.assert_allclose(losses['cuda'], losses['cpu'], rtol=2e-3)
    assert losses['cuda'][-1] < losses['cuda'][0]


@pytest.mark.parametrize('precision', ['bf16', 'fp16'])
def test_mixed_precision_learns(precision, toy_pets):
    losses, images, masks = {}, *(x.cuda() for x in batch())
    for name in ('fp32', precision):
        config = small(toy_pets, precision=name, learning_rate=1e-3)
        run = Run(model_for(config), config, steps=30)
        run.net.train()
        losses[name] = [train_step(run, images, masks).item() for _ in range(20)]
    assert run.scaler.is_enabled() == (precision == 'fp16')
    np.testing.assert_allclose(losses[precision][:3], losses['fp32'][:3], rtol=.02)
    assert losses[precision][-1] < losses[precision][0] - .1
    assert abs(losses[precision][-1] - losses['fp32'][-1]) < .01


@pytest.mark.parametrize('workers', [0, 2])
def test_a_run_learns_is_saved_and_read_on_a_processor(workers, toy_pets, tmp_path):
    config = small(toy_pets, epochs=8, workers=workers, ema=.5)
    history = fit(model_for(config), new_loaders(config, tmp_path/'cache'), config, tmp_path)
    assert history[-1]['valid_dice'] > .6
    assert [float(row['valid_dice']) for row in csv.DictReader((tmp_path/'history.csv').open())] == [row['valid_dice'] for row in history]
    weights = torch.load(tmp_path/'last.pt', weights_only=True)['weights'] # written as they lie; `load_checkpoint` maps them
    assert len(weights) == len(model_for(config).state_dict())
    images, _ = batch(2)
    found = [predict_probabilities(load_model(tmp_path/'best.pt', device)[0], images).cpu() for device in ('cpu', 'cuda')]
    np.testing.assert_allclose(*found, atol=.03)


def test_a_stopped_run_goes_on_where_it_was(toy_pets, tmp_path):
    config, rows = small(toy_pets, epochs=3), {}
    for name, stops in dict(whole=False, stopped=True).items():
        (folder := tmp_path/name).mkdir()
        loaders = new_loaders(config, tmp_path/'cache')
        def stop(model, history):
            if stops and len(history) == 2 and not (folder/'was').exists():
                (folder/'was').touch()
                raise KeyboardInterrupt
        try: rows[name] = fit(model_for(config), loaders, config, folder, [stop])
        except KeyboardInterrupt: rows[name] = fit(model_for(config), loaders, config, folder)
    for a, b in zip(rows['whole'], rows['stopped'], strict=True): np.testing.assert_allclose(a['valid_loss'], b['valid_loss'], rtol=.1)
    assert rows['whole'][1]['train_loss'] == pytest.approx(rows['stopped'][1]['train_loss'], rel=.05)


def test_too_little_memory_names_the_parts_that_fit(toy_pets):
    config = small(toy_pets, width=64, size=256, batch_size=64)
    run, (images, masks) = Run(model_for(config), config, steps=10), (x.cuda() for x in batch(64, 256))
    run.net.train()
    train_step(run, images[:16], masks[:16]) # the optimiser's memory is there
    need = torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.4 * need / torch.cuda.get_device_properties(0).total_memory)
    try:
        with pytest.raises(ValueError, match=r'too little memory for a batch of 64 pictures. It fits in (4|8) parts: set accumulate=\1'):
            train_step(run, images, masks)
    finally: torch.cuda.set_per_process_memory_fraction(1.)


def test_evaluation_and_masks_are_those_of_a_processor(small_checkpoint, toy_pets):
    found, image = {}, np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    for device in ('cpu', 'cuda'):
        model, config = load_model(small_checkpoint, device)
        data = new_loaders(replace(config, data_path=str(toy_pets)))['test'].dataset
        dice = [p.row()['dice'] for p in evaluate(lambda x: predict_probabilities(model, x), data)]
        found[device] = dice, Segmenter(model, config.size).probabilities([image])[0]
    np.testing.assert_allclose(found['cuda'][0], found['cpu'][0], atol=.02)
    np.testing.assert_allclose(found['cuda'][1], found['cpu'][1], atol=.03)


def launch(*flags):
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', '-m', 'petseg_nb.cli']
    return subprocess.run([*command, *map(str, flags)], capture_output=True, text=True, timeout=300)


def test_processes_share_processors_beside_a_gpu(toy_pets, tmp_path):
    flags = '--data_path', toy_pets, '--out_dir', tmp_path, '--width', 4, '--size', 32, '--epochs', 1
    done = launch(*flags, '--device', 'cpu')
    assert done.returncode == 0, done.stderr
    assert 'epoch   1' in done.stdout + done.stderr


@pytest.mark.skipif(torch.cuda.device_count() > 1, reason='needs more processes than GPUs')
def test_more_processes_than_gpus_are_refused(toy_pets, tmp_path):
    done = launch('--data_path', toy_pets, '--out_dir', tmp_path, '--width', 4, '--size', 32, '--epochs', 1)
    assert done.returncode and 'start one for each GPU (--nproc_per_node 1), or use device=cpu' in done.stderr


def test_gradients_of_a_data_parallel_model_are_those_of_the_model(toy_pets, monkeypatch):
    store = dist.HashStore()
    dist.init_process_group('cpu:gloo,cuda:nccl', store=store, rank=0, world_size=1)
    gradients, images, masks = [], *(x.cuda() for x in batch())
    try:
        for processes in (1, 2): # a group of one, which `data_parallel` takes for two
            monkeypatch.setattr('petseg_nb.processes.process', lambda: (0, processes))
            config = small(toy_pets, precision='fp32')
            run = Run(model_for(config), config, steps=10)
            run.net.train()
            add_gradients(run, images, masks, len(images))
            gradients.append(torch.cat([p.grad.flatten() for p in run.model.parameters()]).cpu())
            assert isinstance(run.net, torch.nn.parallel.DistributedDataParallel) == (processes == 2)
    finally: dist.destroy_process_group()
    assert any(isinstance(m, torch.nn.SyncBatchNorm) for m in run.net.modules())
    assert (gradients[0] - gradients[1]).norm() < .02 * gradients[0].norm()
