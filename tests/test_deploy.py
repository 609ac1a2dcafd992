"""`petseg_export` as a user runs it, and what it writes in the hands of ONNX Runtime."""
import json, shutil
import numpy as np
import pytest
import torch
from petseg_nb.checkpoints import load_model, model_for
from petseg_nb.core.config import TrainConfig, portable
from petseg_nb.core.disk import save_checkpoint, write_json
from petseg_nb.data import PetDataset, pet_dataloaders
from petseg_nb.datasets.own import split_records
from petseg_nb.inference import predict_probabilities
from petseg_nb.runs import export
from petseg_nb.runs.export import (
    as_function, differences, export_checkpoint, export_int8, read_onnx, sample_pixels)
from petseg_nb.runs.fit import resumable_fit
from conftest import ROOT, call

SHAPES = [(1, 64, 64), (3, 65, 97), (8, 96, 70), (1, 200, 66), (2, 127, 129)]


@pytest.fixture(scope='session')
def own_run(toy_pets, small_checkpoint, tmp_path_factory):
    "A run on pictures of your own, whose masks have three values, of which 1 is the object"
    data, run = tmp_path_factory.mktemp('own'), tmp_path_factory.mktemp('run')
    shutil.copytree(toy_pets/'images', data/'images')
    shutil.copytree(toy_pets/'annotations'/'trimaps', data/'masks')
    state = torch.load(small_checkpoint, weights_only=True)
    state['config'] |= dict(mask_value='1')
    save_checkpoint(state, run/'best.pt')
    about = dict(data_path=str(data), weights='', out_dir='runs')
    write_json(state['config'] | about, run/'config.json')
    return run


@pytest.fixture(scope='session')
def onnx(own_run):
    "The small network as ONNX"
    export_checkpoint(own_run/'best.pt', path := own_run/'best.onnx')
    return path


def noise(*shape): return np.random.default_rng(sum(shape)).integers(0, 256, (*shape, 3), np.uint8)
def torch_of(checkpoint): return as_function(load_model(checkpoint, 'cpu')[0])


@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_onnx_runtime_equals_pytorch(small_checkpoint, onnx, shape):
    ours, theirs = read_onnx(onnx)[0](noise(*shape)), torch_of(small_checkpoint)(noise(*shape))
    assert ours.shape == shape and ours.dtype == np.float32 and ours.std() > .01
    assert np.abs(ours - theirs).max() < 1e-4


def test_onnx_runtime_equals_the_prediction_of_the_package(small_checkpoint, onnx):
    model, config = load_model(small_checkpoint, 'cpu')
    pixels = sample_pixels(config.size)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    theirs = predict_probabilities(model, images)[:, 0].numpy()
    ours = read_onnx(onnx)[0](pixels)
    assert np.abs(ours - theirs).max() < 1e-4 and (theirs > .5).any() and (theirs < .5).any()


def test_a_residual_network_with_attention(tmp_path):
    "Another family, other pixels, statistics that are not those of a new network"
    config = TrainConfig(model='resnet34_unet_cbam', normalization='half', size=64, device='cpu')
    model = model_for(config)
    torch.manual_seed(1)
    for name, buffer in model.named_buffers():
        if 'running' in name: buffer.add_(torch.rand_like(buffer))
    save_checkpoint(dict(config=portable(config), weights=model.state_dict()), tmp_path/'best.pt')
    found = export_checkpoint(tmp_path/'best.pt', tmp_path/'best.onnx')
    run, note = read_onnx(tmp_path/'best.onnx')
    assert found['largest'] < 1e-3 and note['config']['normalization'] == 'half'
    for shape in SHAPES[1:3]:
        assert np.abs(run(noise(*shape)) - torch_of(tmp_path/'best.pt')(noise(*shape))).max() < 1e-4


def test_onnx_is_one_file_of_standard_operations(onnx):
    import onnx as library
    graph = library.load(onnx, load_external_data=False)
    library.checker.check_model(graph, full_check=True)
    assert {o.domain for o in graph.opset_import} == {''} and not list(onnx.parent.glob('*.data'))
    axes = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
            for v in (graph.graph.input[0], graph.graph.output[0])]
    assert axes == [['batch', 'height', 'width', 3], ['batch', 'height', 'width']]


def test_onnx_says_what_it_is(own_run, onnx):
    state, (_, note) = torch.load(own_run/'best.pt', weights_only=True), read_onnx(onnx)
    assert note['config'] == state['config'] and note['format'] == 1
    assert (note['epoch'], note['valid_dice']) == (state['epoch'], state['valid_dice'])


def test_safetensors_holds_weights_and_configuration(small_checkpoint, tmp_path):
    from safetensors import safe_open
    found = export_checkpoint(small_checkpoint, tmp_path/'pet.safetensors', 'safetensors')
    state = torch.load(small_checkpoint, weights_only=True)
    with safe_open(tmp_path/'pet.safetensors', 'pt') as file:
        note = json.loads(file.metadata()['petseg_nb'])
        weights = {name: file.get_tensor(name) for name in file.keys()}
    assert note['config'] == state['config'] and note['format'] == 1
    assert (note['epoch'], note['valid_dice']) == (state['epoch'], state['valid_dice'])
    assert weights.keys() == state['weights'].keys() and 0 < found['largest'] < .05
    for name, tensor in state['weights'].items():
        half = tensor.is_floating_point() and not name.startswith('normalize.')
        assert torch.equal(weights[name], tensor.half() if half else tensor), name


def pictures_of(run): return json.loads((run/'config.json').read_text())['data_path']


def exported_before(onnx, monkeypatch):
    "What is quantised is the file that there is already: to export it again would take a minute"
    monkeypatch.setattr(export, 'export_checkpoint', lambda _, path: shutil.copy(onnx, path))


@pytest.fixture(scope='session')
def int8(own_run, onnx):
    "What the command says that makes `best-int8.onnx` of the run; `config.json` names the pictures"
    with pytest.MonkeyPatch.context() as patch:
        exported_before(onnx, patch)
        return call('export', own_run, '--quantize', 'int8')[0]


def test_int8_keeps_the_score_on_your_own_pictures(own_run, int8):
    "The scores are counted once more here"
    parts = split_records(pictures_of(own_run), '1')
    words = 'calibrated on {} training pictures; Dice on {} validation pictures '
    assert int8.startswith(words.format(len(parts['train']), len(parts['valid'])))
    before, after = (float(line.split()[-1]) for line in int8.splitlines()[0].split(', as int8'))
    images, masks = map(torch.stack, zip(*PetDataset(parts['valid'], 64)))
    run, _ = read_onnx(own_run/'best-int8.onnx')
    pets, found = masks[:, 0].numpy() == 1, run(images.permute(0, 2, 3, 1).numpy()) > .5
    dice = 2 * (found & pets).sum((1, 2)) / (found.sum((1, 2)) + pets.sum((1, 2)))
    assert after == pytest.approx(dice.mean(), abs=1e-4) and after > before - .02
    assert (own_run/'best-int8.onnx').stat().st_size < (own_run/'best.pt').stat().st_size / 2


def test_int8_that_loses_too_much_is_not_kept(onnx, own_run, tmp_path, monkeypatch):
    exported_before(onnx, monkeypatch)
    monkeypatch.setattr(export, 'LARGEST_LOSS', -1)
    message = (r'as int8 the network has a Dice of 0\.\d+ instead of 0\.\d+, '
               'and was not kept: calibrate')
    with pytest.raises(ValueError, match=message):
        export_int8(own_run/'best.pt', tmp_path/'pet-int8.onnx', pictures_of(own_run))
    assert list(tmp_path.iterdir()) == []


def test_no_file_for_others_names_a_folder_of_this_machine(
        own_run, int8, onnx, toy_pets, small_checkpoint, tmp_path):
    "`config.json`, which stays, does; the checkpoints and exports, which travel, do not"
    run = tmp_path/'run'
    config = TrainConfig(str(toy_pets), width=4, size=32, epochs=1, weights=str(small_checkpoint),
                         out_dir=str(tmp_path), precision='fp32', device='cpu')
    resumable_fit(model_for(config), pet_dataloaders(toy_pets, 32, 4), config, run, quiet=True)
    export_checkpoint(run/'best.pt', run/'best.safetensors', 'safetensors')
    files = [run/'best.pt', run/'last.pt', run/'best.safetensors', onnx, own_run/'best-int8.onnx']
    folders = toy_pets, small_checkpoint.parent, tmp_path, own_run, ROOT
    for file in files:
        data = file.read_bytes()
        # the configuration is in it, in letters that can be read
        assert b'normalization' in data, file
        for folder in folders: assert str(folder).encode() not in data, (file, folder)


def test_a_wrong_file_does_not_replace_a_right_one(small_checkpoint, tmp_path, monkeypatch):
    path = tmp_path/'pet.safetensors'
    path.write_bytes(b'the one from before')
    monkeypatch.setitem(export.LIMITS, 'safetensors', 0) # half precision always differs
    message = r'differ by up to 0\.\d+ from those of PyTorch, and 0 is allowed'
    with pytest.raises(ValueError, match=message):
        export_checkpoint(small_checkpoint, path, 'safetensors')
    assert path.read_bytes() == b'the one from before'
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_differences_by_hand():
    # masks 1100 and 1001: Dice 1/2
    a, b = np.float32([[[.9, .6, .1, .2]]]), np.float32([[[.8, .3, .1, .9]]])
    assert differences(a, b) == {'largest': pytest.approx(.7), 'dice': pytest.approx(.5)}


def test_the_command_writes_beside_the_checkpoint(small_checkpoint, tmp_path):
    (tmp_path/'best.pt').write_bytes(small_checkpoint.read_bytes())
    # a run's folder stands for its best.pt
    out, _ = call('export', tmp_path, '--format', 'safetensors')
    assert 'compared with PyTorch on eight photographs: largest difference' in out
    assert out.rstrip().endswith(' MB')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['best.pt', 'best.safetensors']
