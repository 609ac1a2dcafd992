"""Each chapter runs from top to bottom with nbdev_test, and each is fit to be committed."""
import ast, json, os, re, subprocess, sys
from pathlib import Path
import pytest
from conftest import CHROMIUM, ROOT, has_explorers

CHAPTERS = sorted(ROOT.glob('nbs/**/*.ipynb'), key=lambda p: -p.stat().st_size)
names = lambda p: p.stem


def cells(path): return json.loads(path.read_text(encoding='utf-8'))['cells']
def source(cell): return ''.join(cell['source'])
def code_cells(path): return [c for c in cells(path) if c['cell_type'] == 'code']


def flagged(path, flag): return sum(bool(re.search(rf'^#\|\s*{flag}\b', source(c), re.M)) for c in code_cells(path))


def nbdev_test(path, flags=''):
    nbdev = Path(sys.executable).parent/'nbdev_test'
    run = subprocess.run([nbdev, '--path', path, '--flags', flags, '--n_workers', '0'], cwd=ROOT, capture_output=True, text=True,
                         env=os.environ | {'PYTHONPATH': str(ROOT)})
    assert run.returncode == 0 and 'Success.' in run.stdout, run.stdout + run.stderr


def test_there_are_chapters(): assert len(CHAPTERS) > 30


@pytest.mark.parametrize('path', [p for p in CHAPTERS if not (CHROMIUM and has_explorers(p))], ids=names)
def test_chapter_runs(path): nbdev_test(path)


@pytest.mark.parametrize('path, flag', [(p, f) for p in CHAPTERS for f in ('slow', 'cuda') if flagged(p, f)],
                         ids=lambda value: value if isinstance(value, str) else value.stem)
def test_flagged_cells_run(path, flag, pytestconfig):
    if flag not in pytestconfig.getoption('flags').split():
        pytest.skip(f'{flagged(path, flag)} {flag} cells left out: run with --flags {flag}')
    nbdev_test(path, flag)


@pytest.mark.parametrize('path', CHAPTERS, ids=names)
def test_chapter_is_fit_to_commit(path):
    nb = json.loads(path.read_text(encoding='utf-8'))
    assert (nb['nbformat'], nb['nbformat_minor']) == (4, 5) and all('id' in c for c in nb['cells'])
    assert nb['metadata']['kernelspec']['name'] == 'python3', 'JupyterLab would ask for a kernel'
    assert 'widgets' not in nb['metadata'], 'stores the state of widgets: run python scripts/clear_widgets.py'
    assert path.stat().st_size < 1_000_000, 'smaller figures, please'
    assert re.match(r'# .+\n\n> .+$', source(nb['cells'][0])), 'the first cell is a title and a > summary'
    for i, cell in enumerate(code_cells(path)):
        text = source(cell)
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith('#|')]
        wide = [line for line in lines if len(line) > 100]
        assert not wide, f'code cell {i}: over 100 characters, so it scrolls sideways: {wide[0]}'
        if re.search(r'^#\|\s*exports?\b', text, re.M): assert len(lines) <= 25, f'code cell {i} exports {len(lines)} lines'
        elif 'eval: false' not in text: # the site runs each cell that imports, but not the cells before it
            tree = ast.parse(text)
            imports = [n for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom))]
            assert not imports or len(imports) == len(tree.body), f'code cell {i}: an import cell holds only imports'
        if '#| label: fig-' in text: assert 'fig-cap' in text and 'fig-alt' in text, f'code cell {i}: a figure needs a caption and alt text'
        for output in cell['outputs']:
            stored, where = json.dumps(output), f'code cell {i}'
            assert output['output_type'] != 'error' or 'shows-error' in cell['metadata'].get('tags', []), f'{where} ends in an error'
            assert output.get('name') != 'stderr', f'{where} stores a warning'
            assert 'widget-view' not in stored, f'{where} stores a widget, which is dead without its kernel: run python scripts/clear_widgets.py'
            text = json.dumps({k: v for k, v in output.get('data', output).items() if not k.startswith('image/')})
            assert not re.search(r'/(root|home|tmp|Users)/', text), f'{where} stores a path of one machine'


@pytest.mark.parametrize('path', CHAPTERS, ids=names)
def test_markdown_is_portable(path):
    for cell in cells(path):
        if cell['cell_type'] != 'markdown': continue
        text = re.sub(r'```.*?```|`[^`]*`', '', source(cell), flags=re.S)
        assert not re.search(r'^:::|@fig-|@tbl-|\{#|\]\{\.', text, re.M), f'Quarto-only markup, which JupyterLab shows raw:\n{text}'
        assert text.count('<div') == text.count('</div>') and text.count('<details') == text.count('</details>'), text
