"""Workflows, forms and metadata: each file can be read, and says the same as settings.ini."""
import re
from configparser import ConfigParser
import pytest, yaml
from conftest import ROOT

config = ConfigParser(delimiters=['='])
config.read(ROOT/'settings.ini', encoding='utf-8')
CFG = config['DEFAULT']
FILES = [p for pattern in ('.github/**/*.yml', '*.cff', '.pre-commit-config.yaml', '_quarto.yml', 'nbs/*.yml') for p in ROOT.glob(pattern)]
read = lambda name: (ROOT/name).read_text(encoding='utf-8')


@pytest.mark.parametrize('path', FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_yaml_can_be_read(path): assert isinstance(yaml.safe_load(path.read_text(encoding='utf-8')), dict)


def test_version_is_the_same_everywhere():
    citation = yaml.safe_load(read('CITATION.cff'))
    assert str(citation['version']) == CFG['version'] and citation['repository-code'] == CFG['git_url']
    assert re.search(rf"^## {re.escape(CFG['version'])}\b", read('CHANGELOG.md'), re.M), 'CHANGELOG.md does not speak of this version'


@pytest.mark.parametrize('path', sorted(ROOT.glob('.github/workflows/*.yml')), ids=lambda p: p.stem)
def test_workflows_are_bounded(path):
    text = path.read_text(encoding='utf-8')
    workflow = yaml.safe_load(text)
    assert workflow['permissions'] == {'contents': 'read'}, 'a job that needs more asks for it itself'
    for name, job in workflow['jobs'].items():
        assert 'timeout-minutes' in job or all('run' not in step for step in job['steps']), f'{name} could run for hours'
    assert all(re.search(r'@(v\d+|release/v\d+)$', use) for use in re.findall(r'uses: (\S+)', text))
    for script in re.findall(r'python (scripts/\w+\.py)', text): assert (ROOT/script).is_file()
    for test in re.findall(r'tests/\w+\.py', text): assert (ROOT/test).is_file()


def test_workflows_do_what_the_project_promises():
    tests = yaml.safe_load(read('.github/workflows/test.yml'))['jobs']
    assert tests['test']['strategy']['matrix']['python'] == ['3.10', '3.11', '3.12', '3.13'] and CFG['min_python'] == '3.10'
    quarto = next(s for s in yaml.safe_load(read('.github/workflows/docs.yml'))['jobs']['build']['steps'] if 'quarto' in s.get('uses', ''))
    assert re.fullmatch(r'1\.6\.\d+', quarto['with']['version']), 'Quarto must be pinned'
    assert 'id-token' in yaml.safe_load(read('.github/workflows/release.yml'))['jobs']['publish']['permissions']


def test_hooks_name_what_is_there():
    hooks = yaml.safe_load(read('.pre-commit-config.yaml'))['repos'][0]['hooks']
    assert {'nbdev_export', 'nbdev_clean'} <= {h['entry'] for h in hooks}
    for hook in hooks:
        if hook['entry'].startswith('python '): assert (ROOT/hook['entry'].split()[1]).is_file()
