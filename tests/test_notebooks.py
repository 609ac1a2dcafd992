"""Each notebook is fit to be committed. That it runs, `nbdev_test` finds out."""
import ast, json, re
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from conftest import ROOT, cells, source

NOTEBOOKS = sorted(ROOT.glob('nbs/**/*.ipynb'))
names = lambda p: p.relative_to(ROOT/'nbs').with_suffix('').as_posix()


def is_slow(cell): return bool(re.search(r'^#\|\s*slow\b', source(cell), re.M))


CLEAR = 'run python scripts/clear_widgets.py'


@pytest.mark.parametrize('path', NOTEBOOKS, ids=names)
def test_notebook_is_fit_to_commit(path):
    nb = json.loads(path.read_text(encoding='utf-8'))
    assert (nb['nbformat'], nb['nbformat_minor']) == (4, 5) and all('id' in c for c in nb['cells'])
    assert nb['metadata']['kernelspec']['name'] == 'python3', 'JupyterLab would ask for a kernel'
    assert 'widgets' not in nb['metadata'], f'stores the state of widgets: {CLEAR}'
    assert path.stat().st_size < 1_000_000, 'smaller figures, please'
    assert re.match(r'# .+\n\n> .+$', source(nb['cells'][0])), 'begin with a title and a > summary'
    for cell in nb['cells']:
        if cell['cell_type'] != 'code': continue
        check_code(source(cell))
        for output in cell['outputs']: check_output(cell, output)


def check_code(text):
    if not re.search(r'^#\|\s*exports?\b|eval: false', text, re.M):
        # the site runs each cell that imports, but not the cells before it
        tree = ast.parse(text)
        imports = [n for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom))]
        assert not imports or len(imports) == len(tree.body), f'imports, and more:\n{text}'
    if '#| label: fig-' in text:
        assert 'fig-cap' in text and 'fig-alt' in text, f'a figure without words:\n{text}'


def check_output(cell, output):
    shown = output.get('data', output)
    text = json.dumps({kind: value for kind, value in shown.items() if 'image/' not in kind})
    is_error = output['output_type'] == 'error'
    assert not is_error or 'shows-error' in cell['metadata'].get('tags', []), source(cell)
    assert output.get('name') != 'stderr', f'a warning is stored:\n{source(cell)}'
    assert 'widget-view' not in text, f'a widget is stored, dead without its kernel: {CLEAR}'
    path = re.search(r'/(root|home|tmp|Users)/', text)
    assert not path, f'a path of one machine is stored:\n{source(cell)}'


@pytest.mark.parametrize('path', NOTEBOOKS, ids=names)
def test_markdown_is_portable(path):
    for cell in cells(path):
        if cell['cell_type'] != 'markdown': continue
        text = re.sub(r'```.*?```|`[^`]*`', '', source(cell), flags=re.S)
        raw = re.search(r'^:::|@fig-|@tbl-|\{#|\]\{\.', text, re.M)
        assert not raw, f'Quarto-only markup, which JupyterLab shows raw:\n{text}'
        for tag in ('div', 'details'):
            assert text.count(f'<{tag}') == text.count(f'</{tag}>'), text


@pytest.mark.parametrize('path', NOTEBOOKS, ids=names)
def test_hidden_cells_and_solutions_are_folded_in_jupyterlab(path):
    for cell in cells(path):
        text, folded = source(cell), cell['metadata'].get('jupyter', {})
        hidden = text.startswith('#| hide\n')
        solution = re.search('^#\\| code-summary: "Solution"$', text, re.M)
        assert folded.get('source_hidden') or not (hidden or solution), text
        assert folded.get('outputs_hidden') or not solution, text


@pytest.mark.parametrize('path', NOTEBOOKS, ids=names)
def test_a_page_with_slow_cells_lets_run_all_skip_them(path):
    code = [cell for cell in cells(path) if cell['cell_type'] == 'code']
    asks = [bool(re.search(r'^skip_slow\(\)', source(cell), re.M)) for cell in code]
    slow = [is_slow(cell) for cell in code]
    assert sum(asks) == any(slow), 'call skip_slow() once, in a hidden cell at the top'
    assert not any(slow) or asks.index(True) < slow.index(True)


@pytest.mark.parametrize('wanted, said', [({}, 'delete its line'), ({'PETSEG_SLOW': '1'}, 'ran')])
def test_a_slow_cell_is_skipped_in_a_kernel(tmp_path, monkeypatch, wanted, said):
    monkeypatch.delenv('PETSEG_SLOW', raising=False)
    for name, value in wanted.items(): monkeypatch.setenv(name, value)
    set_up = 'from petseg_nb.book.pages import skip_slow\nskip_slow()\nskip_slow()'
    sources = set_up, "#| slow\nprint('ran')", "print('the next cell')"
    nb = new_notebook(cells=[new_code_cell(text) for text in sources])
    NotebookClient(nb, kernel_name='python3', resources={'metadata': {'path': tmp_path}}).execute()
    assert said in nb.cells[1].outputs[0].text
    assert nb.cells[2].outputs[0].text == 'the next cell\n'
