"""Settings for all tests, and the closing line that counts them."""
import io, json, multiprocessing, os, shutil, struct, subprocess, sys, threading, zlib
from configparser import ConfigParser
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from unittest.mock import patch
import pytest

os.environ.setdefault('OMP_NUM_THREADS', '1') # tests run side by side, one core each
os.environ['NO_ALBUMENTATIONS_UPDATE'] = '1'

ROOT = Path(__file__).parent.parent
NBS = ROOT/'nbs'
PAGES = sorted(p.relative_to(NBS).as_posix() for p in NBS.rglob('*.ipynb')
               if '.ipynb_checkpoints' not in p.parts)
_settings = ConfigParser(delimiters=['='])
_settings.read(ROOT/'settings.ini', encoding='utf-8')
CFG = _settings['DEFAULT']
COMMANDS = Path(sys.executable).parent # where pip puts petseg_train and the others
NAMES = ('chromium', 'chromium-browser', 'google-chrome')
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None) if find_spec('playwright') else None


def cells(path): return json.loads(path.read_text(encoding='utf-8'))['cells']
def source(cell): return ''.join(cell['source'])


def script(path):
    "A script of this repository as a module"
    spec = spec_from_file_location(path.stem, path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start(*words, env=(), **options):
    "Start a process; `words` may be paths and numbers, and `env` is added to the environment"
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen([*map(str, words)], env=os.environ | dict(env), **pipes | options)


def finish(process, status=0, timeout=300):
    "What a process wrote, output and errors, once it has ended with `status`"
    try: out, err = process.communicate(timeout=timeout)
    finally: process.kill() # if it did not end
    ended = process.returncode
    assert ended == status, f'status {ended} instead of {status}: {out}{err}'
    return out, err


def run(*words, status=0, timeout=300, **options):
    "What a process wrote, output and errors; it must end with `status`"
    return finish(start(*words, **options), status, timeout)


def attempt(command, *words, env=()):
    "Status, output and errors of a command of ours in this process: it starts six seconds sooner"
    module = import_module(f'petseg_nb.cli.{command.partition("_")[0]}')
    out, err, status = io.StringIO(), io.StringIO(), 0
    here = patch.object(sys, 'argv', [f'petseg_{command}']), patch.dict(os.environ, env)
    with redirect_stdout(out), redirect_stderr(err), here[0], here[1]:
        try: getattr(module, f'petseg_{command}')([*map(str, words)])
        except SystemExit as e: status = e.code
    return status, out.getvalue(), err.getvalue()


def call(command, *words, status=0, env=()):
    "As `run`, for a command of ours in this process"
    ended, out, err = attempt(command, *words, env=env)
    assert ended == status, f'status {ended} instead of {status}: {err}'
    return out, err


def png(width, height, data=b''):
    "The bytes of a grey PNG that claims to have this size"
    def chunk(kind, data):
        length, check = (struct.pack('>I', n) for n in (len(data), zlib.crc32(kind + data)))
        return length + kind + data + check
    head = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', data) + chunk(b'IEND', b'')


def shared(tmp_path_factory):
    "A folder that all processes of this run of pytest share"
    base = tmp_path_factory.getbasetemp() # of a worker it lies in that of the run
    return base.parent if 'PYTEST_XDIST_WORKER' in os.environ else base


class Crafted:
    "A pickle of it makes a file when somebody loads it"
    def __init__(self, path): self.path = path
    def __reduce__(self): return Path.touch, (self.path,)


def pytest_addoption(parser):
    parser.addoption('--all', action='store_true', help='also the slow suites of tests/suites.py')
    parser.addoption('--pictures', action='store_true',
                     help='write pictures of each page in JupyterLab into test-artifacts/')


def pytest_unconfigure(config):
    "Print the counts on a line of their own, at the very end"
    reporter = config.pluginmanager.get_plugin('terminalreporter')
    if reporter is None or hasattr(config, 'workerinput'): return
    kinds = 'passed', 'failed', 'error', 'skipped'
    passed, failed, error, skipped = (len(reporter.getreports(kind)) for kind in kinds)
    if passed + failed + error + skipped:
        print(f'\n{passed} passed, {failed + error} failed, {skipped} skipped')


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args): pass


@pytest.fixture(scope='session')
def serve():
    "A function from a folder to the address of a server of it"
    servers = {}
    def start(folder):
        if folder not in servers:
            handler = partial(Quiet, directory=folder)
            servers[folder] = ThreadingHTTPServer(('127.0.0.1', 0), handler)
            threading.Thread(target=servers[folder].serve_forever, daemon=True).start()
        return f'http://127.0.0.1:{servers[folder].server_port}'
    yield start
    for server in servers.values(): server.shutdown()


@pytest.fixture(scope='session')
def chromium():
    "A browser that finds no host but this machine: one a process, since Playwright allows no more"
    from playwright.sync_api import sync_playwright
    with sync_playwright() as driver:
        local = '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1'
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=[local])
        yield browser
        browser.close()
        # a loader's worker, forked, holds the driver's pipe open for ever
        for child in multiprocessing.active_children(): child.kill()


@pytest.fixture(autouse=True)
def calm():
    "Leaves the threads as they were, and no figure open"
    import matplotlib.pyplot as plt
    import torch
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    plt.close('all')


@pytest.fixture(scope='session')
def real_pets():
    "The folder of real pictures that PETSEG_DATA names"
    if 'PETSEG_DATA' not in os.environ:
        pytest.skip('needs real pictures: set PETSEG_DATA to the folder of Oxford-IIIT Pet')
    return Path(os.environ['PETSEG_DATA'])


@pytest.fixture(scope='session')
def toy_pets(tmp_path_factory):
    from petseg_nb.datasets.toy import make_toy_pets
    return make_toy_pets(tmp_path_factory.mktemp('toys')/'toy_pets', n=40)


@pytest.fixture(scope='session')
def small_checkpoint(toy_pets, tmp_path_factory):
    "`best.pt` of a small network that has learned toy pets a little"
    from petseg_nb.checkpoints import model_for
    from petseg_nb.core.config import TrainConfig
    from petseg_nb.data import pet_dataloaders
    from petseg_nb.training import fit
    run_dir = tmp_path_factory.mktemp('small')
    config = TrainConfig(str(toy_pets), width=4, size=64, epochs=8, precision='fp32', device='cpu')
    fit(model_for(config), pet_dataloaders(toy_pets, 64, 4), config, run_dir)
    return run_dir/'best.pt'
