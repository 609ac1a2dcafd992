"""Every public symbol is documented, used in a chapter, and listed on the reference page and in
llms.txt."""
import ast, inspect, re
from importlib import import_module
import pytest
from conftest import NBS, PAGES, ROOT, cells, script, source

pages = script(ROOT/'scripts/reference.py')
MODULES = [module for *_, module in pages.chapters() if module]
CALLABLES = [(module, name) for module in MODULES
             for name, symbol, _ in pages.symbols(module) if callable(symbol)]
CELLS = [source(cell) for name in PAGES if name != 'reference.ipynb' for cell in cells(NBS/name)]


def arguments(function):
    "The nodes of a function's arguments, but for `self` and `cls`"
    args = function.args
    named = [*args.posonlyargs, *args.args, args.vararg, *args.kwonlyargs, args.kwarg]
    return [arg for arg in named if arg and arg.arg not in ('self', 'cls')]


def uncommented(source):
    "Parameters, and fields of a dataclass, without a comment on their line or above it"
    tree, lines = ast.parse(source).body[0], source.splitlines()
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    inits = [node for node in body if getattr(node, 'name', '') == '__init__'] if body else [tree]
    named = [(node.target.id, node) for node in body if isinstance(node, ast.AnnAssign)]
    named += [(arg.arg, arg) for function in inits for arg in arguments(function)]
    def said(node):
        above = lines[node.lineno - 2].lstrip()
        return '#' in lines[node.end_lineno - 1] or above.startswith('#')
    return [name for name, node in named if not said(node)]


def test_uncommented_parameters_are_found():
    function = 'def f(\n    a, # the first\n    b:int=1,\n    **rest,\n): pass'
    assert uncommented(function) == ['b', 'rest']
    data = ('class A:\n    x:int # one\n    y:int\n'
            '    def __init__(self,\n        z, # last\n    ): pass')
    assert uncommented(data) == ['y']
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
        used = any(re.search(rf'\b{name}\b', defines.sub('', cell)) for cell in CELLS)
        assert used, f'no chapter mentions {module}.{name}'


def test_reference_page_and_llms_are_up_to_date():
    made = {'reference.ipynb': pages.notebook(pages.reference()),
            'llms.txt': '\n'.join(pages.llms()) + '\n'}
    for name, text in made.items():
        same = (ROOT/'nbs'/name).read_text(encoding='utf-8') == text
        assert same, f'run python scripts/reference.py: nbs/{name} is not what the modules say'
