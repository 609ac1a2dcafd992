"""Every public symbol is documented, used in a chapter, and listed on the reference page and in llms.txt."""
import ast, importlib.util, inspect, json, re
from importlib import import_module
import pytest
from conftest import ROOT

spec = importlib.util.spec_from_file_location('reference', ROOT/'scripts/reference.py')
pages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pages)

MODULES = [module for *_, module in pages.chapters() if module]
CALLABLES = [(module, name) for module in MODULES for name, symbol, _ in pages.symbols(module) if callable(symbol)]
CELLS = [''.join(c['source']) for path in ROOT.glob('nbs/**/*.ipynb') if path.name != 'reference.ipynb'
         for c in json.loads(path.read_text(encoding='utf-8'))['cells']]


def uncommented(source):
    "The parameters of a function or a class, and the fields of a dataclass, without a comment on their line or above it"
    tree, lines = ast.parse(source).body[0], source.splitlines()
    fields = [n for n in tree.body if isinstance(n, ast.AnnAssign)] if isinstance(tree, ast.ClassDef) else []
    inits = [n for n in tree.body if getattr(n, 'name', '') == '__init__'] if isinstance(tree, ast.ClassDef) else [tree]
    arguments = [a for f in inits for a in (*f.args.posonlyargs, *f.args.args, f.args.vararg, *f.args.kwonlyargs, f.args.kwarg) if a]
    named = [(n.target.id, n) for n in fields] + [(a.arg, a) for a in arguments if a.arg not in ('self', 'cls')]
    said = lambda node: '#' in lines[node.end_lineno - 1] or lines[node.lineno - 2].lstrip().startswith('#')
    return [name for name, node in named if not said(node)]


def test_uncommented_parameters_are_found():
    assert uncommented('def f(\n    a, # the first\n    b:int=1,\n    **rest,\n): pass') == ['b', 'rest']
    assert uncommented('class A:\n    x:int # one\n    y:int\n    def __init__(self,\n        z, # last\n    ): pass') == ['y']
    assert uncommented('def f(\n    # the first, at length\n    a,\n    b,\n): pass') == ['b']


@pytest.mark.parametrize('module', MODULES)
def test_public_symbols_are_documented(module):
    for name in [name for m, name in CALLABLES if m == module]:
        symbol = getattr(import_module(f'petseg_nb.{module}'), name)
        assert (inspect.getdoc(symbol) or '').strip(), f'{module}.{name} has no docstring'
        missing = uncommented(inspect.getsource(inspect.unwrap(symbol)))
        assert not missing, f"{module}.{name}: no comment says what {', '.join(missing)} is"


@pytest.mark.parametrize('module', MODULES)
def test_public_symbols_are_used_in_a_chapter(module):
    for name, *_ in pages.symbols(module):
        defines = re.compile(rf'^(?:def|class) {name}\b|^{name}\b.*=', re.M)
        assert any(re.search(rf'\b{name}\b', defines.sub('', cell)) for cell in CELLS), f'no chapter mentions {module}.{name}'


def test_reference_page_and_llms_are_up_to_date():
    made = {'reference.ipynb': pages.notebook(pages.reference()), 'llms.txt': '\n'.join(pages.llms()) + '\n'}
    for name, text in made.items():
        assert (ROOT/'nbs'/name).read_text(encoding='utf-8') == text, f'run python scripts/reference.py: nbs/{name} is not what the modules say'
