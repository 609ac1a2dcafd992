"""A quiet library: importing and calling it leaves the process of the caller as it was."""
import json, sys
import pytest
from conftest import run

# Each step is taken in a new process. What the packages that we use do to a process when they are
# imported, or when PyTorch starts its first worker, happens before the first look.
PROGRAM = '''
import atexit, builtins, ctypes, gc, json, logging, multiprocessing, os, pkgutil, random, signal
import sys, threading, time, warnings
from pathlib import Path

os.environ['NO_ALBUMENTATIONS_UPDATE'] = '1'
import albumentations, cv2, filelock, ipywidgets, matplotlib, numpy as np, onnx, onnxruntime, psutil
import safetensors.torch, scipy.ndimage, segmentation_models_pytorch, skimage, torch, torch._dynamo
import torchmetrics, torchvision, tqdm
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image
from traitlets.config import Config
del os.environ['NO_ALBUMENTATIONS_UPDATE']

# a notebook's, and what is hooked into it
shell = InteractiveShell.instance(config=Config(HistoryManager=dict(enabled=False)))
import matplotlib.pyplot
list(torch.utils.data.DataLoader(range(2), num_workers=1))
os.environ.pop('TQDM_DISABLE', None)
calls = []
CDLL = ctypes.CDLL
# mallopt is called by it
ctypes.CDLL = lambda name=None, *args, **kwargs: calls.append(name) or CDLL(name, *args, **kwargs)


def look():
    "All that a library could change for others, as text"
    gc.collect()
    ours = signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM
    return dict(
        torch_threads=(torch.get_num_threads(), torch.get_num_interop_threads()),
        opencv_threads=cv2.getNumThreads(),
        python_threads=sorted(t.name for t in threading.enumerate()),
        signals={s.name: str(signal.getsignal(s)) for s in ours},
        exit_handlers=atexit._ncallbacks(),
        children=len(multiprocessing.active_children()),
        pillow=(Image.MAX_IMAGE_PIXELS, Image.core.get_block_size()),
        warning_filters=list(map(str, warnings.filters)),
        hooks={name: len(found) for name, found in shell.events.callbacks.items()},
        libc=calls.count(None),
        environment=dict(os.environ),
        arguments=sys.argv,
        path=sys.path,
        excepthook=str(sys.excepthook),
        output=(str(sys.stdout), sys.stdout.errors),
        logging=(logging.root.level, list(map(str, logging.root.handlers))),
        builtins=sorted(vars(builtins)),
        folder=sorted(map(str, Path().iterdir())),
        backend=str(dict.get(matplotlib.rcParams, 'backend')),
        torch_defaults=(str(torch.get_default_dtype()), torch.is_grad_enabled(),
                        torch.backends.cudnn.benchmark,
                        torch.are_deterministic_algorithms_enabled(),
                        torch.get_float32_matmul_precision()),
        random=[hash(random.getstate()), hash(np.random.get_state()[1].tobytes()),
                np.random.get_state()[2], hash(torch.get_rng_state().numpy().tobytes())])


def import_all():
    import petseg_nb
    modules = pkgutil.walk_packages(petseg_nb.__path__, 'petseg_nb.')
    names = [module.name for module in modules if not module.name.endswith('_modidx')]
    for name in names: __import__(name)
    return len(names)


def prepared():
    "What the other steps work on"
    from petseg_nb.checkpoints import model_for
    from petseg_nb.core.config import TrainConfig
    config = TrainConfig(width=4, size=32, epochs=1, batch_size=8, device='cpu')
    with torch.random.fork_rng(): return model_for(config), config


def load(workers):
    from petseg_nb.augment import Augment
    from petseg_nb.data import pet_dataloaders, set_epoch
    loaders = pet_dataloaders(TOYS, 32, 8, transform=Augment('strong', 32), cache_dir=sys.argv[2],
                              workers=workers)
    set_epoch(loaders['train'], 3)
    return loaders


def load_without_workers(): list(load(0)['train'])
def load_with_a_worker(): list(load(1)['train'])


def train():
    from petseg_nb.training import fit
    model, config = prepared()
    assert len(fit(model, load(1), config, quiet=True)) == 1


def train_and_save():
    from petseg_nb.runs.fit import new_loaders, resumable_fit
    model, config = prepared()
    config.data_path = TOYS
    loaders = new_loaders(config, sys.argv[2])
    resumable_fit(model, loaders, config, Path(sys.argv[2])/'run', quiet=True)


def validate():
    from petseg_nb.losses import bce_loss
    from petseg_nb.training import validate
    validate(prepared()[0], load(0)['valid'], bce_loss)


def predict():
    from petseg_nb.inference import predict_probabilities
    predict_probabilities(prepared()[0], torch.zeros(2, 3, 32, 32, dtype=torch.uint8), tta='flip')


def segment():
    from petseg_nb.inference import Segmenter
    from petseg_nb.masks import SAMPLES
    assert Segmenter.load()(SAMPLES/'images'/'Bengal_21.jpg').any()


def score():
    from functools import partial
    from petseg_nb.data import PetDataset, scan_pets
    from petseg_nb.evaluation import evaluate
    from petseg_nb.inference import predict_probabilities
    evaluate(partial(predict_probabilities, prepared()[0]), PetDataset(scan_pets(TOYS)[:3], 32))


TOYS, found = sys.argv[1], {}
import_before = look()
assert import_all() > 50
found['import_all'] = import_before, look()
for step in STEPS[1:]:
    before = look()
    globals()[step]()
    gc.collect()
    until = time.monotonic() + 10 # a worker's queue ends a moment after the worker
    while threading.active_count() > len(before['python_threads']) and time.monotonic() < until:
        time.sleep(.05)
    found[step] = before, look()
Path(sys.argv[2], 'found.json').write_text(json.dumps(found))
'''
STEPS = ('import_all', 'load_without_workers', 'load_with_a_worker', 'train', 'train_and_save',
         'validate', 'predict', 'segment', 'score')


@pytest.fixture(scope='module')
def found(toy_pets, tmp_path_factory):
    "What each step found before it and after it, and what was printed"
    folder, notes = tmp_path_factory.mktemp('quiet'), tmp_path_factory.mktemp('notes')
    (notes/'program.py').write_text(f'STEPS = {STEPS}\n{PROGRAM}')
    printed = run(sys.executable, notes/'program.py', toy_pets, notes, cwd=folder, timeout=500,
                  env=dict(OMP_NUM_THREADS='2', IPYTHONDIR=str(notes)))
    return json.loads((notes/'found.json').read_text()), printed


@pytest.mark.parametrize('step', STEPS)
def test_a_step_leaves_the_process_as_it_was(step, found):
    before, after = found[0][step]
    if step == 'import_all': # albumentations would ask the network otherwise
        before['environment']['NO_ALBUMENTATIONS_UPDATE'] = '1'
    changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    assert changed == {}


def test_nothing_is_printed(found): assert found[1] == ('', '')
