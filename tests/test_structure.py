"""The house that the chapters make: modules of a size that can be held in the head, imports without a circle, a course of eight hours."""
import ast, json, re
from graphlib import TopologicalSorter
import pytest
from conftest import ROOT

PACKAGE = ROOT/'petseg_nb'
FILES = {'.'.join(p.relative_to(PACKAGE).with_suffix('').parts).removesuffix('.__init__'): p
         for p in PACKAGE.rglob('*.py') if p.name != '_modidx.py'}
COURSE = sorted(ROOT.glob('nbs/course/*.ipynb'))


def imported(name):
    "The modules of the package that a module imports when it is imported itself"
    package = name.split('.') if FILES[name].name == '__init__.py' else name.split('.')[:-1]
    for node in ast.parse(FILES[name].read_text(encoding='utf-8')).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            start = package[:len(package) - node.level + 1]
            yield '.'.join([*start, *(node.module or '').split('.')]).strip('.')


def minutes(path):
    "Reading time: 200 words and 12 lines of code per minute, half a minute per figure"
    cells = [(c['cell_type'], ''.join(c['source'])) for c in json.loads(path.read_text(encoding='utf-8'))['cells']]
    words = sum(len(text.split()) for kind, text in cells if kind == 'markdown')
    lines = sum(bool(l.strip()) and not l.startswith('#|') for kind, text in cells if kind == 'code' for l in text.splitlines())
    return words / 200 + lines / 12 + sum('#| fig-cap' in text for _, text in cells) / 2


def test_each_notebook_exports_a_module_of_its_name():
    for path in [*COURSE, *ROOT.glob('nbs/workshop/*.ipynb')]:
        module = re.search(r'"#\| default_exp ([\w.]+)', path.read_text(encoding='utf-8'))
        name = re.sub(r'^\d+_', '', path.stem).replace('check_', 'check.')
        assert path.stem in ('00_first_hour', '13_bug_clinic', 'parts', 'speed') or module[1].removesuffix('.__init__') == name, path


@pytest.mark.parametrize('name', FILES)
def test_module_can_be_held_in_the_head(name):
    assert len(FILES[name].read_text(encoding='utf-8').splitlines()) <= 500, f'{name} has over 500 lines: divide it'


def test_imports_make_no_circle():
    graph = {name: [m for m in imported(name) if m in FILES and m != name] for name in FILES}
    assert len(list(TopologicalSorter(graph).static_order())) == len(FILES) and any(graph.values())


def test_the_course_can_be_read_in_eight_hours():
    times = {path.stem: minutes(path) for path in COURSE}
    assert len(times) >= 13 and max(times.values()) <= 45, times
    walked = sum(times.values()) - times['13_bug_clinic'] # which is looked up, by symptom
    assert walked <= 8 * 60, times


def test_chapters_show_photographs():
    for path in COURSE: assert re.search(r'read_sample|SAMPLES', path.read_text(encoding='utf-8')), f'{path.stem} shows no photograph'
