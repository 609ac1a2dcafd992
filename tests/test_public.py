"""What the world sees: the names at the front, and workflows, forms and metadata that agree with
settings.ini."""
import ast, re, shutil, sys
from importlib import import_module
import pytest, yaml
import petseg_nb
from conftest import CFG, ROOT, run

PATTERNS = '.github/**/*.yml', '*.cff', '.pre-commit-config.yaml', '_quarto.yml', 'nbs/*.yml'
FILES = [path for pattern in PATTERNS for path in ROOT.glob(pattern)]
read = lambda name: (ROOT/name).read_text(encoding='utf-8')


@pytest.mark.parametrize('path', FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_yaml_can_be_read(path):
    assert isinstance(yaml.safe_load(path.read_text(encoding='utf-8')), dict)


def test_version_is_the_same_everywhere():
    citation = yaml.safe_load(read('CITATION.cff'))
    assert str(citation['version']) == CFG['version']
    assert citation['repository-code'] == CFG['git_url']
    heading = re.search(rf"^## {re.escape(CFG['version'])}\b", read('CHANGELOG.md'), re.M)
    assert heading, 'CHANGELOG.md does not mention this version'


@pytest.mark.parametrize('path', sorted(ROOT.glob('.github/workflows/*.yml')), ids=lambda p: p.stem)
def test_workflows_are_bounded(path):
    text = path.read_text(encoding='utf-8')
    workflow = yaml.safe_load(text)
    assert workflow['permissions'] == {'contents': 'read'}, 'a job that needs more asks for it'
    for name, job in workflow['jobs'].items():
        bounded = 'timeout-minutes' in job or all('run' not in step for step in job['steps'])
        assert bounded, f'{name} could run for hours'
    assert all(re.search(r'@(v\d+|release/v\d+)$', use) for use in re.findall(r'uses: (\S+)', text))
    for script in re.findall(r'python (scripts/\w+\.py)', text): assert (ROOT/script).is_file()
    for test in re.findall(r'tests/\w+\.py', text): assert (ROOT/test).is_file()


def test_workflows_do_what_the_project_promises():
    tests = yaml.safe_load(read('.github/workflows/test.yml'))['jobs']
    assert tests['test']['strategy']['matrix']['python'] == ['3.10', '3.11', '3.12', '3.13']
    assert CFG['min_python'] == '3.10'
    steps = yaml.safe_load(read('.github/workflows/docs.yml'))['jobs']['build']['steps']
    quarto = next(step for step in steps if 'quarto' in step.get('uses', ''))
    assert re.fullmatch(r'1\.6\.\d+', quarto['with']['version']), 'Quarto must be pinned'
    publish = yaml.safe_load(read('.github/workflows/release.yml'))['jobs']['publish']
    assert 'id-token' in publish['permissions']


def test_hooks_name_what_is_there():
    hooks = yaml.safe_load(read('.pre-commit-config.yaml'))['repos'][0]['hooks']
    assert {'nbdev_export', 'nbdev_clean'} <= {h['entry'] for h in hooks}
    for hook in hooks:
        if hook['entry'].startswith('python '): assert (ROOT/hook['entry'].split()[1]).is_file()


# The names at the front

FRONT = ('UNet ResNet34UNet create_model BCEDiceLoss DiceLoss PetDataset TrainConfig fit '
         'load_model Segmenter').split()


@pytest.mark.parametrize('name', FRONT)
def test_a_name_at_the_front_is_the_one_in_its_module(name):
    home = import_module(f'petseg_nb.{petseg_nb._HOMES[name]}')
    assert getattr(petseg_nb, name) is getattr(home, name)
    assert name in home.__all__ and name in dir(petseg_nb)


def test_importing_the_package_imports_nothing_else():
    code = ('import sys, petseg_nb; '
            'print([m for m in sys.modules if m == "torch" or m.startswith("petseg_nb.")])')
    assert run(sys.executable, '-c', code)[0].strip() == '[]'


def test_a_name_that_is_not_there_is_refused():
    with pytest.raises(AttributeError, match="module 'petseg_nb' has no attribute 'nothing'"):
        petseg_nb.nothing
    with pytest.raises(ImportError): exec('from petseg_nb import nothing')


def test_type_checkers_see_the_same_names():
    "They read the imports under TYPE_CHECKING; `py.typed` tells them to"
    tree = ast.parse(read('petseg_nb/__init__.py'))
    block, = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname: node.module for node in block.body for alias in node.names}
    assert seen == petseg_nb._HOMES and set(FRONT) == seen.keys()
    assert (ROOT/'petseg_nb'/'py.typed').exists() and 'petseg_nb/py.typed' in read('MANIFEST.in')


def test_nbdev_rewrites_only_the_version(tmp_path):
    from nbdev.config import update_version
    shutil.copy(ROOT/'petseg_nb'/'__init__.py', tmp_path)
    update_version(tmp_path)
    assert (tmp_path/'__init__.py').read_text() == read('petseg_nb/__init__.py')
