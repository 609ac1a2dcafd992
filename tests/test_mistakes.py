"Small mistakes that no other test noticed: `bench/mutants.py` made each of them."
import ast, io, os, re, sys
from types import SimpleNamespace
import numpy as np
import pytest
import torch
import torch.distributed as dist
from petseg_nb import checkpoints, training
from petseg_nb.book import pages
from petseg_nb.check import check_training_step, check_unet, layers
from petseg_nb.check.engine import Wrong
from petseg_nb.cli import lab, train
from petseg_nb.core import device, disk, distributed
from petseg_nb.core.config import TrainConfig
from petseg_nb.data import PetDataset, course_split, scan_pets
from petseg_nb.masks import SAMPLES
from petseg_nb.runs import compare, export
from petseg_nb.show import scorecard, web_explorers

SMALL = dict(width=4, size=32, epochs=1, device='cpu', precision='fp32')


class Terminal(io.StringIO):
    def isatty(self): return True


@pytest.fixture
def together(monkeypatch):
    "A function that makes this process one of several, and notes each of its sums"
    def join(rank, processes):
        sums = []
        def all_reduce(tensor):
            sums.append(tensor.tolist())
            tensor.mul_(processes) # all say the same
        group = SimpleNamespace(
            get_rank=lambda: rank, get_world_size=lambda: processes, all_reduce=all_reduce)
        monkeypatch.setattr(distributed, '_dist', lambda: group)
        return sums
    return join


@pytest.mark.parametrize('rank', [0, 1])
def test_only_the_first_process_shows_a_bar(rank, together, monkeypatch):
    together(rank, 2)
    monkeypatch.setattr(sys, 'stderr', Terminal())
    with disk.progress(total=3) as bar: assert bool(bar.disable) == (rank > 0)


def test_numbers_are_added_up_over_the_processes(together):
    sums = together(0, 3)
    assert distributed.add_up(2, .5) == [6, 1.5] and sums == [[2, .5]]


@pytest.mark.parametrize('rank, order', [(0, ['block', [0]]), (1, [[0], 'block'])])
def test_the_first_process_goes_through_a_block_alone(rank, order, together):
    "The others wait for a sum of nothing"
    done = together(rank, 2)
    with distributed.first_alone(): done.append('block')
    assert done == order


REFUSED = ('2 processes on a machine with 1 GPU: '
           'start one for each GPU (--nproc_per_node 1), or use device=cpu')


@pytest.mark.parametrize('gpus, said', [(1, REFUSED), (2, '')])
def test_more_processes_than_gpus_are_refused(gpus, said, together, monkeypatch):
    together(0, 2)
    model = SimpleNamespace(parameters=lambda: iter([SimpleNamespace(is_cuda=True)]))
    batch_norm, parallel = torch.nn.SyncBatchNorm, torch.nn.parallel
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: gpus)
    monkeypatch.setattr(batch_norm, 'convert_sync_batchnorm', lambda model: 'BatchNorm of all')
    monkeypatch.setattr(parallel, 'DistributedDataParallel', lambda model: f'parallel, and {model}')
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '2')
    if not said: assert distributed.data_parallel(model) == 'parallel, and BatchNorm of all'
    else:
        with pytest.raises(ValueError, match=re.escape(said)): distributed.data_parallel(model)


def test_a_training_leaves_the_group_that_it_joined(toy_pets, tmp_path, monkeypatch):
    group = dict(store=dist.HashStore(), rank=0, world_size=1)
    monkeypatch.setattr(train, 'join_launch', lambda: dist.init_process_group('gloo', **group))
    flags = '--data_path', toy_pets, '--out_dir', tmp_path, '--width', 4, '--size', 32
    train.petseg_train([str(word) for word in (*flags, '--epochs', 1)])
    assert not dist.is_initialized()


def test_weights_of_an_encoder_are_loaded_into_the_encoder(monkeypatch):
    seen = []
    def load(encoder, weights): seen.append((encoder, weights))
    monkeypatch.setattr(checkpoints, 'load_encoder', load)
    config = TrainConfig(model='resnet34_unet', encoder_weights='imagenet', size=64)
    model = checkpoints.model_for(config)
    assert seen == [(model.encoder, 'imagenet')]


def test_each_fold_is_trained_on_all_batches(toy_pets, tmp_path, monkeypatch):
    steps, fit = [], compare.resumable_fit
    def note(model, loaders, *args, **kwargs):
        steps.append([len(batch) for batch in loaders['train'].batch_sampler])
        return fit(model, loaders, *args, **kwargs)
    monkeypatch.setattr(compare, 'resumable_fit', note)
    records = course_split(scan_pets(toy_pets))['train'][:13]
    config = TrainConfig(str(toy_pets), batch_size=4, **SMALL)
    found = compare.cross_validate(records, config, None, tmp_path, folds=3)
    assert [len(fold) for _, fold in found] == [5, 4, 4]
    assert steps == [[4, 4], [4, 4, 1], [4, 4, 1]]


@pytest.mark.parametrize('there', [True, False])
def test_jupyter_is_told_where_the_pictures_are(there, tmp_path, monkeypatch):
    started, pictures = [], tmp_path/'data'/'oxford-iiit-pet'
    if there: pictures.mkdir(parents=True)
    monkeypatch.setattr(os, 'environ', {})
    monkeypatch.setattr(os, 'execv', lambda program, words: started.append(words))
    monkeypatch.setattr(lab.petseg_nb, '__file__', str(tmp_path/'petseg_nb'/'__init__.py'))
    lab.petseg_lab(['--', '--no-browser'])
    assert os.environ.get('PETSEG_DATA') == (str(pictures) if there else None)
    assert started[0][-1] == '--no-browser'
    assert f'--ServerApp.root_dir={tmp_path/"nbs"}' in started[0]


def test_a_function_of_one_line_is_shown_by_its_head():
    text = 'def half(x:float): return x / 2'
    assert pages.head(ast.parse(text).body[0], text.splitlines()) == ['def half(x:float)']


def test_a_damaged_export_says_why_it_can_not_be_read(tmp_path):
    (tmp_path/'cut.onnx').write_bytes(b'cut')
    said = r'cut\.onnx cannot be read \([^)\n]{10,}\): export it again'
    with pytest.raises(ValueError, match=said): export.read_onnx(tmp_path/'cut.onnx')


@pytest.mark.parametrize('more', [0, 1e-9])
def test_the_largest_loss_is_still_allowed(more, small_checkpoint, toy_pets, tmp_path, monkeypatch):
    scores = iter([export.LARGEST_LOSS + more, 0.])
    monkeypatch.setattr(export, '_mean_dice', lambda path, dataset: next(scores))
    # two files without a network: only the scores count here
    monkeypatch.setattr(export, 'export_checkpoint', lambda checkpoint, path: path.touch())
    monkeypatch.setattr(export, '_quantize', lambda source, path, dataset: path.touch())
    def quantize(): return export.export_int8(small_checkpoint, tmp_path/'pet.onnx', toy_pets)
    if not more: assert quantize()['dice_after'] == 0
    else:
        said = r'0\.000 instead of 0\.\d+, and was not kept'
        with pytest.raises(ValueError, match=said): quantize()
    assert (tmp_path/'pet.onnx').exists() == (not more)


def test_a_probability_at_the_threshold_is_background():
    def predict(images): return torch.full_like(images[:, :1], .5, dtype=torch.float32)
    dataset = PetDataset(scan_pets(SAMPLES)[:1], 32)
    fig = scorecard.plot_gallery(predict, dataset, [0], .5)
    assert not np.asarray(fig.axes[2].images[0].get_array()).any()
    assert fig.axes[0].get_title('left') == f'{dataset.records[0].name}: Dice 0.000'


def test_web_explorers_have_the_size_and_limits_of_their_pictures():
    tall, mask = np.zeros((6, 4, 3), np.uint8), np.zeros((6, 4), np.uint8)
    with np.errstate(all='raise'):
        page = web_explorers.web_threshold(tall, np.full((6, 4), .5), mask)
    assert '<canvas role="img"' in page
    assert re.findall(r'width="(\d+)" height="(\d+)" style', page) == [('4', '6')]
    page = web_explorers.web_losses(np.zeros((64, 64), np.uint8))
    slider = r'name="(\w+)" min="(\d+)" max="(\d+)" step="1" value="(\d+)"'
    assert re.findall(slider, page) == [
        ('x', '0', '64', '32'), ('y', '0', '64', '32'),
        ('radius', '1', '32', '16'), ('certainty', '1', '12', '4')]


def test_maps_begin_with_their_first_page():
    from petseg_nb.show.look_inside import explore_maps
    from petseg_nb.unet import UNet
    images, masks = (torch.zeros(2, c, 32, 32, dtype=torch.uint8) for c in (3, 1))
    box = explore_maps(UNet(width=4), images, masks)
    def below(widget):
        children = getattr(widget, 'children', ())
        return [widget, *(w for child in children for w in below(child))]
    page, = (w for w in below(box) if getattr(w, 'description', '') == 'page')
    assert (page.value, page.min) == (1, 1)


def test_boxes_of_a_drawing_stand_side_by_side():
    import matplotlib.pyplot as plt
    from petseg_nb.show.trace import draw_unet, trace_shapes
    from petseg_nb.unet import UNet
    ax = draw_unet(trace_shapes(UNet(width=4), (1, 3, 32, 32)))
    patches = [patch for patch in ax.patches if isinstance(patch, plt.Rectangle)]
    boxes = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in patches]
    assert len(boxes) > 9 and all(end < start for (_, end), (start, _) in zip(boxes, boxes[1:]))
    plt.close(ax.figure)


def test_a_rate_is_judged_by_its_last_ten_steps(monkeypatch):
    rates = []
    def step(run, images, masks):
        rates.append(run.config.learning_rate)
        return torch.tensor(float(len(rates) - 1))
    monkeypatch.setattr(training, 'train_step', step)
    loader = [(torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4))] * 3
    found = training.find_learning_rate(torch.nn.Conv2d(3, 1, 1), loader, rates=(.1, .2), steps=25)
    assert found == [(.1, 19.5), (.2, 44.5)] and rates == [.1] * 25 + [.2] * 25


def finding(report, probe):
    found, = (f for f in report.findings if f.probe == probe)
    return found


@pytest.mark.parametrize('first, last, learns', [(1.4, 1.0, False), (.5, .34, True)])
def test_a_step_that_learns_takes_off_three_tenths(first, last, learns):
    losses = []
    def step(model, images, masks, loss_fn, optimizer): # a constant, and another at the end
        loss_fn(model(images), masks)
        losses.append(first if len(losses) < 59 else last)
        return losses[-1]
    found = finding(check_training_step(step), 'learns one batch')
    assert found.ok == learns
    said = f'in 60 steps on one batch, the loss went from {first:.3f} to {last:.3f}'
    assert found.evidence == said


PEERS = dict(dice='f1_score', iou='jaccard_index', precision='precision', recall='recall',
             accuracy='accuracy')


@pytest.mark.parametrize('score, peer', PEERS.items())
def test_scores_that_a_checker_counts_are_those_of_torchmetrics(score, peer):
    import torchmetrics.functional.classification as peers
    from petseg_nb.check.mistakes import counted
    pred, mask = torch.rand(2, 4, 1, 9, 7, generator=torch.Generator().manual_seed(0)).round()
    theirs = getattr(peers, f'binary_{peer}')
    each = torch.stack([theirs(p, m.int()) for p, m in zip(pred, mask)])
    assert counted(score, pred, mask).item() == pytest.approx(each.mean().item())
    pooled = counted(score, pred, mask, pooled=True).item()
    assert pooled == pytest.approx(theirs(pred, mask.int()).item())


class Hides(torch.nn.Conv2d):
    "Multiplies its answer by zero"
    def __init__(self): super().__init__(3, 1, 1)
    def forward(self, x): return 0 * super().forward(x)


def test_a_hidden_change_is_no_place():
    found = finding(check_unet(Hides), 'answers where the picture changes')
    assert found.ok and found.evidence == 'the end of the model hides it'


@pytest.mark.parametrize('args, kernels, cause', [
    ((8, 8, 1), (3, 3, 1), 'projected although the shapes agree'),
    ((8, 16, 1), (3, 3), 'has no 1×1 convolution'), ((8, 8, 1), (3,), '')])
def test_a_wrong_shortcut_is_named(args, kernels, cause, monkeypatch):
    calls = [SimpleNamespace(name='conv2d', kernel=k) for k in kernels]
    def weights(call): return [torch.zeros(8, 8, call.kernel, call.kernel)]
    monkeypatch.setattr(layers, 'weights_of', weights)
    monkeypatch.setattr(layers, 'story_of', lambda calls: 'CC')
    with pytest.raises(Wrong) as wrong: layers.as_res_block(args, None, None, calls)
    assert cause in str(wrong.value.cause) and bool(wrong.value.cause) == bool(cause)


@pytest.fixture
def share(monkeypatch):
    "`share_cores` on four cores, `age` seconds after a look; others keep `worked` of them busy"
    def run(age, worked=0., threads=4, first=False):
        waited, chosen, clock = [], [], [100. + age]
        def sleep(seconds):
            waited.append(seconds)
            clock[0] += seconds
        def seconds_worked(): return clock[0], 50. + worked * (clock[0] - 100.), 0.
        monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
        monkeypatch.setattr(torch, 'get_num_threads', lambda: threads)
        monkeypatch.setattr(torch, 'set_num_threads', chosen.append)
        time = SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep, process_time=lambda: 0.)
        monkeypatch.setattr(device, 'time', time)
        monkeypatch.setattr(device, 'seconds_worked', seconds_worked)
        seen = {} if first else dict(seen=(100., 50., 0.), most=4, threads=4)
        monkeypatch.setattr(device, '_SHARE', seen)
        device.share_cores()
        return waited, chosen
    return run


def test_cores_are_looked_at_once_a_second(share):
    assert share(.9) == ([], [])
    assert share(1.1) == ([], [4])
    assert share(2., worked=1.) == ([], [3])


def test_the_first_look_waits_for_a_tenth_of_a_second(share):
    assert share(0, first=True) == ([.1], [4])
    assert share(0, worked=2., first=True) == ([.1], [2])


def test_threads_that_somebody_chose_stay(share):
    assert share(2., threads=2) == ([], [])


def test_a_core_that_is_not_counted_is_no_error(monkeypatch):
    times = [SimpleNamespace(user=1., system=2.), SimpleNamespace(user=4., system=0.)]
    monkeypatch.setattr(device.psutil, 'cpu_times', lambda percpu: times)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: {1, 2}, raising=False)
    assert device.seconds_worked()[1] == 4.
