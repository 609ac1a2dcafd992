"""What lets nothing in: no code out of files, no path out of a folder, no download without a
checksum, no server for others."""
import ast, io, re, tarfile
import pytest, torch, yaml
from conftest import ROOT
from petseg_nb.core.errors import UserError

SOURCES = sorted((ROOT/'petseg_nb').rglob('*.py'))
# a student's code, because that is what is asked for
RUNS_CODE = {('check/command.py', 'compile'), ('check/command.py', 'exec')}
FORBIDDEN = re.compile(r'(c?[Pp]ickle|dill|joblib|marshal|shelve)\.|os\.(system|popen)|'
                       r'yaml\.load$|subprocess\.getoutput')


def calls(path):
    "The name and the keyword arguments of each call in a module"
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}


@pytest.mark.parametrize('path', SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_module_runs_what_it_reads(path):
    name = path.relative_to(ROOT/'petseg_nb').as_posix()
    for called, kwargs in calls(path):
        if called == 'torch.load':
            assert kwargs.get('weights_only') == 'True', 'torch.load runs code'
        if called in ('eval', 'exec', 'compile'): assert (name, called) in RUNS_CODE, called
        assert not FORBIDDEN.match(called), called
        for flag in ('shell', 'allow_pickle'): assert kwargs.get(flag, 'False') == 'False', called
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
    came = [path.name for path in tmp_path.rglob('*') if path.is_file()]
    assert came == ['images.tar.gz'] # packed


def test_the_encoder_is_downloaded_with_its_checksum(monkeypatch):
    from torchvision.models import _api
    from petseg_nb.resnet34_unet import ResNet34Encoder, load_encoder
    asked = []
    def refuse(url, **kwargs):
        asked.append((url, kwargs))
        raise OSError('no network')
    monkeypatch.setattr(_api, 'load_state_dict_from_url', refuse)
    words = 'connect to the internet, or save .*resnet34-b627a593.pth into .*checkpoints'
    with pytest.raises(UserError, match=words):
        load_encoder(ResNet34Encoder(), 'imagenet')
    (url, kwargs), = asked
    # the hash is a part of the name
    assert kwargs['check_hash'] and re.search(r'-[0-9a-f]{8}\.pth$', url)


@pytest.mark.parametrize('content', [b'', b'<html>Please sign in</html>', 'cut', 'other'])
def test_an_encoder_that_was_cut_off_is_named(content, tmp_path, monkeypatch):
    "A file that was put there by hand, or that a proxy answered with: PyTorch does not look at it"
    from torchvision.models import ResNet34_Weights
    from petseg_nb.resnet34_unet import ResNet34Encoder, load_encoder
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    file = tmp_path/'hub'/'checkpoints'/ResNet34_Weights.IMAGENET1K_V1.url.rpartition('/')[2]
    file.parent.mkdir(parents=True)
    torch.save({'bn1.weight': torch.ones(3)}, file)
    if content == 'cut': content = file.read_bytes()[:-100]
    if content != 'other': file.write_bytes(content)
    words = re.escape(f"{file} does not contain all of the encoder's weights: delete it")
    with pytest.raises(UserError, match=words): load_encoder(ResNet34Encoder(), 'imagenet')


def test_the_server_is_for_this_machine(tmp_path, monkeypatch):
    from jupyter_server.serverapp import ServerApp
    from petseg_nb.cli import lab
    started = []
    monkeypatch.setattr(lab.os, 'execv', lambda program, words: started.append(words))
    monkeypatch.setattr(lab.sys, 'platform', 'linux')
    lab.petseg_lab([])
    opens = re.compile('ip=|--ip|token|password|allow_origin|allow_remote')
    assert len(started) == 1 and not any(map(opens.search, started[0]))
    ip = ServerApp.ip
    default = ip.default() if callable(getattr(ip, 'default', None)) else ip.default_value
    assert default == 'localhost'


def test_dependencies_are_audited_and_holes_have_an_address():
    jobs = yaml.safe_load((ROOT/'.github/workflows/test.yml').read_text(encoding='utf-8'))['jobs']
    assert any(step.get('run', '').startswith('pip-audit') for step in jobs['audit']['steps'])
    text = (ROOT/'.github'/'SECURITY.md').read_text(encoding='utf-8')
    assert '/security/advisories/new' in text and 'PETSEG_MAX_PIXELS' in text
