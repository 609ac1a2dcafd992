"""Each chapter runs from top to bottom with nbdev_test, and each is fit to be committed."""
import ast, json, re
import pytest
from conftest import CHROMIUM, COMMANDS, ROOT, finish, has_explorers, start

CHAPTERS = sorted(ROOT.glob('nbs/**/*.ipynb'), key=lambda p: -p.stat().st_size)
names = lambda p: p.relative_to(ROOT/'nbs').with_suffix('').as_posix()


def cells(path): return json.loads(path.read_text(encoding='utf-8'))['cells']
def source(cell): return ''.join(cell['source'])
def code_cells(path): return [c for c in cells(path) if c['cell_type'] == 'code']


def flagged(path, flag):
    "How many cells of a notebook have a flag"
    return sum(bool(re.search(rf'^#\|\s*{flag}\b', source(cell), re.M)) for cell in code_cells(path))


def nbdev_test(path, flags=''):
    words = '--path', path, '--flags', flags, '--n_workers', '0'
    out, err = finish(start(COMMANDS/'nbdev_test', *words, cwd=ROOT, env=dict(PYTHONPATH=str(ROOT))), timeout=None)
    assert 'Success.' in out, out + err


def test_there_are_chapters(): assert len(CHAPTERS) > 30


@pytest.mark.parametrize('path', [p for p in CHAPTERS if not (CHROMIUM and has_explorers(p))], ids=names)
def test_chapter_runs(path): nbdev_test(path)


@pytest.mark.parametrize('path, flag', [(p, f) for p in CHAPTERS for f in ('slow', 'cuda') if flagged(p, f)],
                         ids=lambda value: value if isinstance(value, str) else names(value))
def test_flagged_cells_run(path, flag, pytestconfig):
    if flag not in pytestconfig.getoption('flags').split():
        pytest.skip(f'{flagged(path, flag)} {flag} cells left out: run with --flags {flag}')
    nbdev_test(path, flag)


@pytest.mark.parametrize('path', CHAPTERS, ids=names)
def test_chapter_is_fit_to_commit(path):
    nb = json.loads(path.read_text(encoding='utf-8'))
    assert (nb['nbformat'], nb['nbformat_minor']) == (4, 5) and all('id' in c for c in nb['cells'])
    assert nb['metadata']['kernelspec']['name'] == 'python3', 'JupyterLab would ask for a kernel'
    assert 'widgets' not in nb['metadata'], f'stores the state of widgets: {CLEAR}'
    assert path.stat().st_size < 1_000_000, 'smaller figures, please'
    assert re.match(r'# .+\n\n> .+$', source(nb['cells'][0])), 'the first cell is a title and a > summary'
    for i, cell in enumerate(code_cells(path)):
        check_code(source(cell), f'code cell {i}')
        for output in cell['outputs']: check_output(output, f'code cell {i}', cell['metadata'].get('tags', []))


CLEAR = 'run python scripts/clear_widgets.py'


def check_code(text, where):
    wide = [line for line in text.splitlines() if len(line) > 100 and not line.startswith('#|')]
    assert not wide, f'{where}: over 100 characters, so it scrolls sideways: {wide[0]}'
    if not re.search(r'^#\|\s*exports?\b|eval: false', text, re.M):
        # the site runs each cell that imports, but not the cells before it
        tree = ast.parse(text)
        imports = [n for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom))]
        assert not imports or len(imports) == len(tree.body), f'{where}: an import cell holds only imports'
    if '#| label: fig-' in text:
        assert 'fig-cap' in text and 'fig-alt' in text, f'{where}: a figure needs a caption and alt text'


def check_output(output, where, tags):
    assert output['output_type'] != 'error' or 'shows-error' in tags, f'{where} ends in an error'
    assert output.get('name') != 'stderr', f'{where} stores a warning'
    assert 'widget-view' not in json.dumps(output), f'{where} stores a widget, dead without its kernel: {CLEAR}'
    data = output.get('data', output)
    text = json.dumps({kind: value for kind, value in data.items() if not kind.startswith('image/')})
    assert not re.search(r'/(root|home|tmp|Users)/', text), f'{where} stores a path of one machine'


@pytest.mark.parametrize('path', CHAPTERS, ids=names)
def test_markdown_is_portable(path):
    for cell in cells(path):
        if cell['cell_type'] != 'markdown': continue
        text = re.sub(r'```.*?```|`[^`]*`', '', source(cell), flags=re.S)
        raw = re.search(r'^:::|@fig-|@tbl-|\{#|\]\{\.', text, re.M)
        assert not raw, f'Quarto-only markup, which JupyterLab shows raw:\n{text}'
        for tag in ('div', 'details'): assert text.count(f'<{tag}') == text.count(f'</{tag}>'), text
