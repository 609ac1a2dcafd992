"""`petseg_evaluate`: its files, its numbers, and what it refuses."""
import csv, json, shutil
from pathlib import Path
from statistics import fmean
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as tmf
from PIL import Image
from conftest import call
from petseg_nb.core.disk import save_checkpoint, write_json
from petseg_nb.show import scorecard

FILES = {'per_image.csv', 'summary.json', 'threshold.png', 'calibration.png', 'worst.png',
         'best.png'}


def petseg(command, toy_pets, *flags, status=0):
    "What a command writes, with its cache beside the toy pets"
    cache = dict(XDG_CACHE_HOME=str(toy_pets.parent/'cache'))
    return call(command, *flags, env=cache, status=status)


@pytest.fixture(scope='module')
def checkpoint(toy_pets, small_checkpoint, tmp_path_factory):
    "In a folder as of a run, which names the pictures"
    run_dir = tmp_path_factory.mktemp('run')
    write_json(dict(data_path=str(toy_pets)), run_dir/'config.json')
    return Path(shutil.copy(small_checkpoint, run_dir))


@pytest.fixture(scope='module', params=['valid', 'test'])
def evaluation(request, checkpoint, toy_pets):
    "The part that was scored, what the command printed, its table and its summary"
    flags = '--split', request.param, '--threshold', .4
    out, err = petseg('evaluate', toy_pets, checkpoint, *flags)
    assert err == ''
    folder = checkpoint.parent/request.param
    assert {path.name for path in folder.iterdir()} == FILES
    with open(folder/'per_image.csv', encoding='utf-8') as f: rows = list(csv.DictReader(f))
    summary = json.loads((folder/'summary.json').read_text(encoding='utf-8'))
    return request.param, out, rows, summary


@pytest.fixture
def few_figures(monkeypatch):
    "Without the galleries of pictures, which take longer than all the rest"
    monkeypatch.setattr(scorecard, 'plot_gallery', lambda *_: plt.figure())


def mean(rows, name): return pytest.approx(fmean(float(row[name]) for row in rows), abs=1e-12)


def test_summary_is_the_mean_of_the_table(evaluation):
    part, out, rows, summary = evaluation
    assert len(rows) == summary['all']['pictures'] == dict(valid=3, test=10)[part]
    for name in ('dice', 'iou', 'precision', 'recall', 'boundary_f1', 'dice_original',
                 'iou_original'):
        assert summary['all'][name] == mean(rows, name)
        for group in ('species', 'breed'):
            for key, scores in summary[group].items():
                assert scores[name] == mean([row for row in rows if row[group] == key], name)
    low, high = summary['all']['dice_interval']
    assert low < summary['all']['dice'] < high
    for name in ('dice', 'dice_original', 'iou', 'dice_pooled', 'boundary_f1', 'precision',
                 'recall'):
        assert f"{summary['all'][name]:.4f}" in out
    for words in ('at 64 x 64', 'at original size', 'threshold 0.4', 'border counted as pet'):
        assert words in out


@torch.inference_mode()
def test_scores_agree_with_torchmetrics(evaluation, checkpoint, toy_pets):
    from petseg_nb.data import PetDataset, course_split, scan_pets
    from petseg_nb.checkpoints import load_model
    part, _, rows, summary = evaluation
    model, _ = load_model(checkpoint, 'cpu')
    dataset = PetDataset(course_split(scan_pets(toy_pets))[part], 64)
    images, masks = map(torch.stack, zip(*(dataset[i] for i in range(len(dataset)))))
    p = model(images).sigmoid()
    how = dict(threshold=.4, multidim_average='samplewise')
    scores = dict(dice=tmf.binary_f1_score, precision=tmf.binary_precision,
                  recall=tmf.binary_recall)
    for name, f in scores.items():
        found = [float(row[name]) for row in rows]
        np.testing.assert_allclose(found, f(p, masks, **how), atol=1e-6)
    dice, iou = tmf.binary_f1_score(p, masks, .4), tmf.binary_jaccard_index(p, masks, .4)
    assert summary['all']['dice_pooled'] == pytest.approx(dice.item(), abs=1e-6)
    assert summary['all']['iou_pooled'] == pytest.approx(iou.item(), abs=1e-6)
    for row, record, small in zip(rows, dataset.records, p[:, 0].numpy()):
        truth = torch.from_numpy(np.array(Image.open(record.trimap)) != 2)
        full = np.array(Image.fromarray(small).resize(truth.shape[::-1], Image.BILINEAR))
        dice = tmf.binary_f1_score(torch.from_numpy(full), truth, .4).item()
        assert (row['name'], row['breed']) == (record.name, record.breed)
        assert float(row['dice_original']) == pytest.approx(dice, abs=2e-4)


def test_the_sweep_never_sees_a_test_picture(checkpoint, toy_pets, few_figures):
    valid, test = (checkpoint.parent/part for part in ('valid', 'test'))
    for part in ('valid', 'test'):
        petseg('evaluate', toy_pets, checkpoint, '--split', part, '--tta', 'flip')
    assert (valid/'threshold.png').read_bytes() == (test/'threshold.png').read_bytes()
    summaries = [json.loads((folder/'summary.json').read_text()) for folder in (valid, test)]
    assert summaries[0]['best_threshold_on_valid'] == summaries[1]['best_threshold_on_valid']
    assert [(s['threshold'], s['tta']) for s in summaries] == [(.5, 'flip'), (.5, 'flip')]


def test_choosing_on_test_pictures_is_refused(toy_pets):
    from petseg_nb.data import PetDataset, course_split, scan_pets
    from petseg_nb.evaluation import choose_threshold, evaluate, sweep
    from petseg_nb.show.scorecard import plot_threshold
    split = course_split(scan_pets(toy_pets))
    pictures = {part: evaluate(lambda images: images[:, :1] / 255, PetDataset(records, 32))
                for part, records in split.items()}
    assert 0 < choose_threshold(pictures['valid'])['threshold'] < 1
    for choose in (sweep, choose_threshold, plot_threshold):
        for chosen_on in (pictures['test'], pictures['valid'] + pictures['test'][:1]):
            with pytest.raises(ValueError, match='choose a threshold on validation pictures'):
                choose(chosen_on)


def test_ignored_border_has_no_boundary_score(checkpoint, toy_pets, tmp_path):
    folder = tmp_path/'a b'
    out, _ = petseg('evaluate', toy_pets, checkpoint, '--border', 'ignore', '--out_dir', folder)
    assert 'needs the border' in out
    with open(folder/'per_image.csv') as f: rows = list(csv.DictReader(f))
    assert {row['boundary_f1'] for row in rows} == {''}
    summary = json.loads((folder/'summary.json').read_text())
    assert summary['all']['boundary_f1'] is None and summary['border'] == 'ignore'


def test_a_checkpoint_without_its_run_needs_the_pictures(
        checkpoint, toy_pets, tmp_path, few_figures):
    (tmp_path/'alone').mkdir()
    alone = shutil.copy(checkpoint, tmp_path/'alone')
    _, err = petseg('evaluate', toy_pets, alone, status=2)
    assert 'alone has no config.json, which names the pictures: give --data_path' in err
    petseg('evaluate', toy_pets, alone, '--data_path', toy_pets)
    petseg('evaluate', toy_pets, checkpoint)
    tables = [(folder/'valid'/'per_image.csv').read_text()
              for folder in (tmp_path/'alone', checkpoint.parent)]
    assert tables[0] == tables[1]


def test_your_own_masks_are_read_as_the_run_read_them(
        small_checkpoint, toy_pets, tmp_path, few_figures):
    "The folder and the value of the object are those of the run, unless flags say otherwise"
    own, run_dir = tmp_path/'own', tmp_path/'run'
    for folder in (own/'images', own/'masks', run_dir): folder.mkdir(parents=True)
    for i, path in enumerate(sorted((toy_pets/'images').glob('*.jpg'))[:12]):
        shutil.copy(path, own/'images')
        trimap = np.array(Image.open(toy_pets/'annotations'/'trimaps'/f'{path.stem}.png'))
        mask = np.array([0, 7, 0, 9], np.uint8)[trimap]
        Image.fromarray(mask).save(own/'masks'/f'{path.stem}.png')
    names = sorted(path.stem for path in (own/'images').iterdir())
    for part, some in dict(train=names[:9], valid=names[9:12]).items():
        (own/f'{part}.txt').write_text('\n'.join(some))
    state = torch.load(small_checkpoint, weights_only=True)
    state['config'] |= dict(mask_value='7')
    save_checkpoint(state, run_dir/'best.pt')
    (run_dir/'config.json').write_text(json.dumps(dict(data_path=str(own), mask_value='7')))
    def share(*flags):
        petseg('evaluate', toy_pets, run_dir/'best.pt', *flags)
        with open(run_dir/'valid'/'per_image.csv') as f:
            return fmean(float(row['pet_share']) for row in csv.DictReader(f))
    assert share('--mask_value', '9') < .5 * share()
    own.rename(moved := tmp_path/'moved')
    assert share('--data_path', moved) == share('--data_path', moved, '--mask_value', '7')
    _, err = petseg('evaluate', toy_pets, run_dir/'best.pt', '--data_path', moved, '--mask_value',
                    '', status=2) # what is not black
    assert 'has the values 0 and 7 and 9: name the value of the object with --mask_value' in err


def test_real_pictures(checkpoint, toy_pets, real_pets, tmp_path):
    flags = '--data_path', real_pets, '--out_dir', tmp_path/'real'
    out, _ = petseg('evaluate', toy_pets, checkpoint, *flags)
    assert {path.name for path in (tmp_path/'real').iterdir()} == FILES and 'by breed' in out
