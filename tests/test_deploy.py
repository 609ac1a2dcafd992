"""`petseg_export` as a user runs it, and what it writes in the hands of ONNX Runtime and of a PyTorch that knows nothing of this package."""
import json, subprocess, sys
from dataclasses import asdict
from pathlib import Path
import numpy as np
import pytest
import torch
from petseg_nb import deploy
from petseg_nb.core.config import TrainConfig
from petseg_nb.data import PetDataset, course_split, scan_pets
from petseg_nb.runs.export import as_function, differences, export_checkpoint, export_int8
from petseg_nb.runs.export import read_exported, segment, with_preprocessing
from petseg_nb.cli.export import petseg_export
from petseg_nb.inference import Segmenter, predict_probabilities
from petseg_nb.masks import SAMPLES
from petseg_nb.checkpoints import load_model, model_for, save_checkpoint
from conftest import ROOT

PICTURES = sorted((SAMPLES/'images').iterdir())
SHAPES = [(1, 64, 64), (3, 65, 97), (8, 96, 70), (1, 200, 66), (2, 127, 129)]


@pytest.fixture(scope='session')
def onnx(small_checkpoint):
    "The small network as ONNX"
    export_checkpoint(small_checkpoint, path := small_checkpoint.with_suffix('.onnx'))
    return path


def noise(*shape): return np.random.default_rng(sum(shape)).integers(0, 256, (*shape, 3), np.uint8)
def torch_of(checkpoint): return as_function(with_preprocessing(load_model(checkpoint, 'cpu')[0]))


def said(capsys, *argv):
    "Status, output and errors of the command"
    status = 0
    try: petseg_export([str(a) for a in argv])
    except SystemExit as e: status = e.code
    return status, *capsys.readouterr()


@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_onnx_runtime_equals_pytorch(small_checkpoint, onnx, shape):
    ours, theirs = read_exported(onnx)[0](noise(*shape)), torch_of(small_checkpoint)(noise(*shape))
    assert ours.shape == shape and ours.dtype == np.float32 and ours.std() > .01
    assert np.abs(ours - theirs).max() < 1e-4


def test_the_graph_normalises_as_the_network_was_trained(small_checkpoint):
    "`with_preprocessing` against the prediction of the package, which has tests of its own"
    model, _ = load_model(small_checkpoint, 'cpu')
    for name in ('imagenet', 'half', 'none'):
        model.normalization, pixels = name, noise(2, 64, 80)
        theirs = predict_probabilities(model, torch.from_numpy(pixels).permute(0, 3, 1, 2))[:, 0].numpy()
        assert np.abs(as_function(with_preprocessing(model))(pixels) - theirs).max() < 1e-5, name


def test_a_residual_network_with_attention(tmp_path):
    "Another family, other pixels, statistics that are not those of a new network"
    config = TrainConfig(model='resnet34_unet_cbam', normalization='half', size=64, device='cpu')
    model = model_for(config)
    torch.manual_seed(1)
    for name, buffer in model.named_buffers():
        if 'running' in name: buffer.add_(torch.rand_like(buffer))
    save_checkpoint(dict(config=asdict(config), weights=model.state_dict()), tmp_path/'best.pt')
    found = export_checkpoint(tmp_path/'best.pt', tmp_path/'best.onnx')
    run, about = read_exported(tmp_path/'best.onnx')
    assert found['largest'] < 1e-3 and about['config']['normalization'] == 'half'
    for shape in SHAPES[1:3]: assert np.abs(run(noise(*shape)) - torch_of(tmp_path/'best.pt')(noise(*shape))).max() < 1e-4


@pytest.mark.parametrize('path', PICTURES, ids=lambda p: p.stem)
def test_photographs_give_the_same_masks(small_checkpoint, onnx, path):
    run, about = read_exported(onnx)
    theirs = Segmenter.load(small_checkpoint, 'cpu', precision='fp32')(path)
    mask = segment(run, path, about['config']['size'])
    assert theirs.any() and (mask != theirs).mean() < 1e-3


def test_onnx_is_one_file_of_standard_operations(onnx):
    import onnx as library
    graph = library.load(onnx, load_external_data=False)
    library.checker.check_model(graph, full_check=True)
    assert {o.domain for o in graph.opset_import} == {''} and not list(onnx.parent.glob('*.data'))
    axes = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (graph.graph.input[0], graph.graph.output[0])]
    assert axes == [['batch', 'height', 'width', 3], ['batch', 'height', 'width']]
    assert str(ROOT).encode() not in onnx.read_bytes(), 'it tells where it was made'


WITHOUT_PACKAGE = '''import sys
sys.modules['petseg_nb'] = None # an import of it fails
import numpy as np, torch
run = torch.export.load(sys.argv[1]).module(check_guards=False)
with torch.inference_mode():
    for i in range(2): np.save(f'{sys.argv[2]}/out{i}.npy', run(torch.from_numpy(np.load(f'{sys.argv[2]}/in{i}.npy'))).numpy())'''

def test_torch_export_runs_without_the_package(small_checkpoint, tmp_path):
    export_checkpoint(small_checkpoint, tmp_path/'pet.pt2', 'torch_export')
    for i, shape in enumerate(SHAPES[:2]): np.save(tmp_path/f'in{i}.npy', noise(*shape))
    subprocess.run([sys.executable, '-c', WITHOUT_PACKAGE, tmp_path/'pet.pt2', tmp_path], check=True)
    for i, shape in enumerate(SHAPES[:2]): assert np.abs(np.load(tmp_path/f'out{i}.npy') - torch_of(small_checkpoint)(noise(*shape))).max() < 1e-5


def test_safetensors_holds_weights_and_configuration(small_checkpoint, tmp_path):
    from safetensors import safe_open
    found = export_checkpoint(small_checkpoint, tmp_path/'pet.safetensors', 'safetensors')
    state = torch.load(small_checkpoint, weights_only=True)
    with safe_open(tmp_path/'pet.safetensors', 'pt') as file:
        about = json.loads(file.metadata()['petseg_nb'])
        weights = {name: file.get_tensor(name) for name in file.keys()}
    assert (about['format'], about['config'], about['epoch'], about['valid_dice']) == (1, state['config'], state['epoch'], state['valid_dice'])
    assert weights.keys() == state['weights'].keys() and 0 < found['largest'] < .05
    for name, tensor in state['weights'].items():
        assert torch.equal(weights[name], tensor.half() if tensor.is_floating_point() else tensor), name


def test_int8_keeps_the_score(small_checkpoint, toy_pets, tmp_path):
    found = export_int8(small_checkpoint, path := tmp_path/'pet-int8.onnx', toy_pets)
    parts = course_split(scan_pets(toy_pets))
    assert (found['calibrated'], found['scored']) == tuple(len(parts[name]) for name in ('train', 'valid'))
    images, masks = map(torch.stack, zip(*PetDataset(parts['valid'], 64)))
    probability = read_exported(path)[0](images.permute(0, 2, 3, 1).contiguous().numpy())
    both, sizes = ((probability > .5) & (masks[:, 0].numpy() == 1)).sum((1, 2)), (probability > .5).sum((1, 2)) + masks.sum((1, 2, 3)).numpy()
    assert found['dice_after'] == pytest.approx((2 * both / sizes).mean(), abs=1e-6) # counted once more
    assert found['dice_after'] > found['dice_before'] - .02 and .001 < found['largest'] < .5
    assert path.stat().st_size < small_checkpoint.stat().st_size / 2


def test_int8_that_loses_too_much_is_not_kept(small_checkpoint, toy_pets, tmp_path, monkeypatch):
    monkeypatch.setattr(deploy, 'LARGEST_LOSS', -1)
    with pytest.raises(ValueError, match=r'as int8 the network has a Dice of 0\.\d+ instead of 0\.\d+, and was not kept: calibrate'):
        export_int8(small_checkpoint, tmp_path/'pet-int8.onnx', toy_pets)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_file_does_not_replace_a_right_one(small_checkpoint, tmp_path, monkeypatch):
    path = tmp_path/'pet.safetensors'
    path.write_bytes(b'the one from before')
    monkeypatch.setitem(deploy.LIMITS, 'safetensors', 0) # half precision always differs
    with pytest.raises(ValueError, match=r'differ by up to 0\.\d+ from those of PyTorch, and 0 is allowed'):
        export_checkpoint(small_checkpoint, path, 'safetensors')
    assert path.read_bytes() == b'the one from before' and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_differences_by_hand():
    a, b = np.float32([[[.9, .6, .1, .2]]]), np.float32([[[.8, .3, .1, .9]]]) # masks 1100 and 1001: Dice 1/2
    assert differences(a, b) == {'largest': pytest.approx(.7), 'dice': pytest.approx(.5)}


def test_the_command_writes_beside_the_checkpoint(small_checkpoint, tmp_path, capsys):
    (tmp_path/'best.pt').write_bytes(small_checkpoint.read_bytes())
    status, out, _ = said(capsys, tmp_path, '--format', 'safetensors') # a run's folder stands for its best.pt
    assert status == 0 and 'against PyTorch, on eight photographs: largest difference' in out and out.rstrip().endswith(' MB')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['best.pt', 'best.safetensors']


@pytest.mark.parametrize('flags, words', [
    (['--format', 'torch_export', '--quantize', 'int8'], '--quantize int8 is for --format onnx, not torch_export'),
    (['--data_path', 'pets'], 'give both or none'), (['--out', 'pet.pb'], 'a file of --format onnx ends in .onnx'),
    (['--out', 'nowhere/pet.onnx'], 'nowhere is not there: make that folder'),
    (['--quantize', 'int8', '--data_path', 'nowhere'], 'nowhere holds no pets')])
def test_bad_input_is_one_line(small_checkpoint, tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    status, out, err = said(capsys, small_checkpoint, *flags)
    assert status == 2 and words in err and err.count('\n') == 1 and not out and not list(tmp_path.iterdir())


def test_what_is_no_checkpoint_is_one_line(tmp_path, capsys):
    (tmp_path/'notes.pt').write_text('hello')
    for path in (tmp_path/'notes.pt', tmp_path/'none.pt'):
        status, _, err = said(capsys, path, '--format', 'safetensors')
        assert status == 2 and str(path) in err and err.count('\n') == 1


def test_a_missing_package_is_named(small_checkpoint, monkeypatch, capsys):
    monkeypatch.setattr(deploy, 'find_spec', lambda name: None if name.startswith('onnx') else name)
    status, _, err = said(capsys, small_checkpoint)
    assert status == 2 and 'pip install onnx onnxruntime onnxscript' in err and err.count('\n') == 1


def test_another_ending_is_refused():
    with pytest.raises(ValueError, match='a.pt is not an exported network: use a file that ends in .onnx, .pt2, .safetensors'): read_exported(Path('a.pt'))
