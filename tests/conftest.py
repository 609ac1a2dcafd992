"""Settings for all tests, and the closing line that counts them."""
import multiprocessing, os, shutil, threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
import pytest

os.environ.setdefault('OMP_NUM_THREADS', '1') # tests run side by side, one core each
os.environ['NO_ALBUMENTATIONS_UPDATE'] = '1'

ROOT = Path(__file__).parent.parent
NAMES = ('chromium', 'chromium-browser', 'google-chrome')
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None) if find_spec('playwright') else None


def has_explorers(path):
    "Whether a notebook has widgets, which only a browser can try: it runs there, and the others run with nbdev_test. So each runs once"
    text = path.read_text(encoding='utf-8')
    return 'petseg_nb.explore' in text or 'petseg_nb.look_inside' in text or '"#| default_exp explore' in text


def pytest_addoption(parser):
    parser.addoption('--flags', default='', help="notebook cells to run that are left out otherwise: 'slow', 'cuda' or both")


def pytest_unconfigure(config):
    "Print the counts on a line of their own, at the very end"
    reporter = config.pluginmanager.get_plugin('terminalreporter')
    if reporter is None or hasattr(config, 'workerinput'): return
    counts = {name: len(reporter.getreports(name)) for name in ('passed', 'failed', 'error', 'skipped')}
    if any(counts.values()):
        print(f"\n{counts['passed']} passed, {counts['failed'] + counts['error']} failed, {counts['skipped']} skipped")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args): pass


@pytest.fixture(scope='session')
def serve():
    "A function from a folder to the address of a server of it"
    servers = {}
    def start(folder):
        if folder not in servers:
            servers[folder] = ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=folder))
            threading.Thread(target=servers[folder].serve_forever, daemon=True).start()
        return f'http://127.0.0.1:{servers[folder].server_port}'
    yield start
    for server in servers.values(): server.shutdown()


@pytest.fixture(scope='session')
def chromium():
    "A browser that finds no host but this machine, one for each process: Playwright allows no second"
    from playwright.sync_api import sync_playwright
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=['--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1'])
        yield browser
        browser.close()
        for child in multiprocessing.active_children(): child.kill() # a loader's worker, forked, holds the driver's pipe open for ever


@pytest.fixture(scope='session')
def real_pets():
    "The folder of real pictures that PETSEG_DATA names"
    if 'PETSEG_DATA' not in os.environ: pytest.skip('needs real pictures: set PETSEG_DATA to the folder of Oxford-IIIT Pet')
    return Path(os.environ['PETSEG_DATA'])


@pytest.fixture(scope='session')
def toy_pets(tmp_path_factory):
    from petseg_nb.datasets.toy import make_toy_pets
    return make_toy_pets(tmp_path_factory.mktemp('toys')/'toy_pets', n=40)


@pytest.fixture(scope='session')
def small_checkpoint(toy_pets, tmp_path_factory):
    "`best.pt` of a small network that has learned toy pets a little"
    from petseg_nb.core.config import TrainConfig
    from petseg_nb.data import pet_dataloaders
    from petseg_nb.training import fit
    from petseg_nb.checkpoints import model_for
    run_dir = tmp_path_factory.mktemp('small')
    config = TrainConfig(str(toy_pets), width=4, size=64, epochs=8, precision='fp32', device='cpu')
    fit(model_for(config), pet_dataloaders(toy_pets, 64, 4), config, run_dir)
    return run_dir/'best.pt'
