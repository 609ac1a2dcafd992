"""Which pictures a model has learned from, and who says so when they are scored."""
import json, shutil
import numpy as np
import pytest
from conftest import call
from PIL import Image
from petseg_nb.checkpoints import load_checkpoint, load_model
from petseg_nb.data import course_split, scan_pets
from petseg_nb.inference import Segmenter

SMALL = '--size 32 --width 2 --epochs 1 --batch_size 12 --device cpu'.split()


@pytest.fixture(scope='module')
def run_dir(toy_pets, tmp_path_factory):
    "A run on toy pets: 27 taught it, 3 chose its epoch, 10 were for the test"
    out = tmp_path_factory.mktemp('seen')
    call('train', '--data_path', toy_pets, *SMALL, '--out_dir', out)
    return next(out.iterdir())


@pytest.fixture(scope='module')
def copies(toy_pets, tmp_path_factory):
    "Other pictures to train on; of the ten to test on, four are copies with another name and size"
    root = tmp_path_factory.mktemp('copies')/'pets'
    shutil.copytree(toy_pets, root)
    train = course_split(scan_pets(toy_pets))['train']
    lists = root/'annotations'
    lines = (lists/'test.txt').read_text().splitlines()
    for i, record in enumerate(train[:4]):
        name = f'copy_{record.name[::-1]}'
        with record.open_image() as image:
            half = [side // 2 for side in image.size]
            image.resize(half).save(root/'images'/f'{name}.jpg', format='JPEG', quality=40)
        trimap = record.read_trimap().resize(half, Image.NEAREST)
        trimap.save(lists/'trimaps'/f'{name}.png')
        lines[i] = f'{name} 1 1 1'
    (lists/'test.txt').write_text('\n'.join(lines) + '\n')
    return root


def test_evaluate_finds_renamed_and_resized_copies(run_dir, copies, tmp_path):
    out, _ = call('evaluate', run_dir, '--data_path', copies, '--split', 'test',
                  '--out_dir', tmp_path)
    assert 'of these 10 test pictures, the model has learned from 4, and 0 chose its epoch' in out
    summary = json.loads((tmp_path/'summary.json').read_text())
    assert summary['seen'] == dict(train=4, valid=0) and summary['unseen']['pictures'] == 6
    rows = np.genfromtxt(tmp_path/'per_image.csv', delimiter=',', names=True, dtype=None,
                         encoding='utf-8')
    others = [row['dice'] for row in rows if not row['name'].startswith('copy_')]
    assert np.isclose(np.mean(others), summary['unseen']['dice'], atol=1e-6)


def test_an_own_validation_score_says_that_it_chose_the_epoch(run_dir, tmp_path):
    out, _ = call('evaluate', run_dir, '--out_dir', tmp_path)
    assert 'of these 3 validation pictures, the model has learned from 0, and 3 chose' in out
    assert 'of the other' not in out # there is none
    out, _ = call('evaluate', run_dir, '--split', 'test', '--out_dir', tmp_path)
    assert 'the model has seen none of these 10 test pictures' in out


@pytest.mark.parametrize('form', ['best.pt', 'last.pt', 'save', 'export'])
def test_each_file_of_a_model_remembers(run_dir, tmp_path, form):
    path = run_dir/form
    if form == 'save': Segmenter.load(run_dir, 'cpu').save(path := tmp_path/'saved.safetensors')
    if form == 'export':
        path = tmp_path/'exported.safetensors'
        call('export', run_dir, '--format', 'safetensors', '--out', path)
    seen = load_checkpoint(path)['seen']
    assert seen == load_checkpoint(run_dir/'best.pt')['seen'] and seen['own']['train'] == 27


def test_weights_pass_on_what_they_have_seen(run_dir, copies, tmp_path):
    (lists := tmp_path/'pets'/'annotations').parent.mkdir()
    shutil.copytree(copies/'images', tmp_path/'pets'/'images')
    shutil.copytree(copies/'annotations', lists)
    train = (lists/'trainval.txt').read_text().splitlines()
    few = train[10:20] # so that the first twenty pictures teach nothing to the second run
    (lists/'trainval.txt').write_text('\n'.join(few) + '\n')
    out, _ = call('train', '--data_path', tmp_path/'pets', *SMALL, '--weights', run_dir,
                  '--out_dir', tmp_path/'runs')
    assert '--weights' not in out # the picture that validates had validated before
    assert 'of these 10 test pictures, the model has learned from 4' in out
    assert 'dice of the other 6: 0.' in out and out.splitlines()[-1].startswith('test dice 0.')
    second, _ = load_model(next((tmp_path/'runs').iterdir()), 'cpu')
    assert second.seen['own'] == dict(train=9, valid=1)


def test_weights_that_know_the_validation_pictures_are_named(run_dir, toy_pets, tmp_path):
    root = shutil.copytree(toy_pets, tmp_path/'pets')
    lists = root/'annotations'
    train = (lists/'trainval.txt').read_text().splitlines()
    (lists/'trainval.txt').write_text('\n'.join(train[1:]) + '\n') # others validate now
    out, _ = call('train', '--data_path', root, *SMALL, '--weights', run_dir,
                  '--out_dir', tmp_path/'runs')
    assert out.startswith('--weights was trained on 3 of the 3 validation pictures: ')


def test_a_run_goes_on_with_its_own_pictures_alone(run_dir, toy_pets, tmp_path):
    going = shutil.copytree(run_dir, tmp_path/'run')
    moved = shutil.copytree(toy_pets, tmp_path/'moved')
    out, _ = call('train', '--resume', going, '--data_path', moved, '--epochs', 2)
    assert 'epoch   2' in out
    lists = moved/'annotations'
    lines = [(lists/f'{name}.txt').read_text().splitlines() for name in ('trainval', 'test')]
    lines[0][5], lines[1][5] = lines[1][5], lines[0][5] # as many, but one is another
    for name, its in zip(('trainval', 'test'), lines):
        (lists/f'{name}.txt').write_text('\n'.join(its) + '\n')
    _, err = call('train', '--resume', going, '--data_path', moved, '--epochs', 3, status=2)
    assert 'last.pt belongs to a run on other pictures' in err and len(err.splitlines()) == 1


def test_compare_says_that_test_pictures_are_copies(copies, toy_pets, tmp_path):
    flags = '--epochs 1 --models unet --seeds 0 --size 32 --width 2 --device cpu'.split()
    out, _ = call('compare', 'flip_cbam', *flags, '--data_path', copies, '--folder', tmp_path/'a')
    assert '4 of the 10 test pictures are copies of training or validation pictures' in out
    out, _ = call('compare', 'flip_cbam', *flags, '--data_path', toy_pets, '--folder', tmp_path/'b')
    assert 'copies' not in out


def test_check_data_reports_copies(copies, toy_pets):
    from petseg_nb.datasets.own import check_data
    assert check_data(toy_pets) == 'no defects'
    line, = (line for line in check_data(copies).splitlines() if 'test picture in train' in line)
    assert line.split()[0] == '4' and 'copy_' in line
