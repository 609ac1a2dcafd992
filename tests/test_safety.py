"""What lets nothing in: no code out of files, no path out of a folder, no download without a checksum, no server for others."""
import ast, io, os, re, sys, tarfile
from pathlib import Path
import pytest, yaml
from conftest import ROOT
from petseg_nb.core.errors import UserError

SOURCES = sorted((ROOT/'petseg_nb').rglob('*.py'))
RUNS_CODE = {('check/load.py', 'exec')} # a student's code, because that is what is asked for


def calls(path):
    "The name and the keyword arguments of each call in a module"
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Call): yield ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}


@pytest.mark.parametrize('path', SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_module_runs_what_it_reads(path):
    name = path.relative_to(ROOT/'petseg_nb').as_posix()
    for called, kwargs in calls(path):
        if called == 'torch.load': assert kwargs.get('weights_only') == 'True', 'torch.load runs code'
        assert called not in ('eval', 'exec', 'compile') or (name, called) in RUNS_CODE | {(name, 'compile')} and name == 'check/load.py', called
        assert not re.match(r'(c?[Pp]ickle|dill|joblib|marshal|shelve)\.|os\.(system|popen)|yaml\.load$|subprocess\.getoutput', called), called
        assert kwargs.get('shell', 'False') == 'False' and kwargs.get('allow_pickle', 'False') == 'False', called
        assert called.rpartition('.')[2] not in ('extractall', 'unpack_archive', 'mktemp'), called


def test_an_archive_with_another_checksum_is_not_unpacked(tmp_path, monkeypatch):
    from torchvision.datasets import utils
    from petseg_nb.datasets.audit import download_pets
    def plant(url, path, *args):
        with tarfile.open(path, 'w:gz') as tar:
            for name in ('../../escaped', 'images/a.jpg', 'annotations/trainval.txt'):
                tar.addfile(info := tarfile.TarInfo(name), io.BytesIO(bytes(info.size)))
    monkeypatch.setattr(utils, '_urlretrieve', plant)
    monkeypatch.setattr(utils, '_get_redirect_url', lambda url, max_hops: url)
    monkeypatch.setattr(utils, '_is_remote_location_available', lambda: False)
    with pytest.raises(UserError, match='could not be downloaded'): download_pets(tmp_path/'data')
    assert [p.name for p in tmp_path.rglob('*') if p.is_file()] == ['images.tar.gz'] # what came, packed


def test_the_encoder_is_downloaded_with_its_checksum(monkeypatch):
    from torchvision.models import _api
    from petseg_nb.resnet34_unet import ResNet34Encoder, load_encoder
    asked = []
    def refuse(url, **kwargs):
        asked.append((url, kwargs))
        raise OSError('no network')
    monkeypatch.setattr(_api, 'load_state_dict_from_url', refuse)
    with pytest.raises(UserError, match='connect to the network, or put .*resnet34-b627a593.pth into .*checkpoints'):
        load_encoder(ResNet34Encoder(), 'imagenet')
    (url, kwargs), = asked
    assert kwargs['check_hash'] and re.search(r'-[0-9a-f]{8}\.pth$', url) # the hash is a part of the name


def test_the_server_is_for_this_machine(tmp_path, monkeypatch):
    from jupyter_server.serverapp import ServerApp
    from petseg_nb.book import lab
    started = []
    monkeypatch.setattr(lab.os, 'execv', lambda program, words: started.append(words))
    monkeypatch.setattr(lab.sys, 'platform', 'linux')
    lab.open_lab([])
    assert len(started) == 1 and not any(re.search('ip=|--ip|token|password|allow_origin|allow_remote', word) for word in started[0])
    assert ServerApp.ip.default() == 'localhost' if callable(getattr(ServerApp.ip, 'default', None)) else ServerApp.ip.default_value == 'localhost'


def test_dependencies_are_audited_and_holes_have_an_address():
    jobs = yaml.safe_load((ROOT/'.github/workflows/test.yml').read_text(encoding='utf-8'))['jobs']
    assert any(step.get('run', '').startswith('pip-audit') for step in jobs['audit']['steps'])
    text = (ROOT/'.github'/'SECURITY.md').read_text(encoding='utf-8')
    assert '/security/advisories/new' in text and 'PETSEG_MAX_PIXELS' in text
