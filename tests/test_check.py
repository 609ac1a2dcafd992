"""The checkers, as functions and as a command.

They are tried on other people's right implementations, and on bugs that were not known when they
were written."""
import ast, inspect, json, os, random, re, subprocess, sys, time
from pathlib import Path
import matplotlib
import numpy as np
import pytest
import torch
import my_petseg
from conftest import COMMANDS, ROOT, run
from petseg_nb.check import CHECKERS, check_dataset
from petseg_nb.core.config import CHOICES
import strangers
from students import NOTED, RIGHT, RawTrimap, WRONG
from suites import if_changed

EXERCISE = ROOT/'nbs'/'exercises'/'my_petseg.ipynb'
slow = if_changed('checkers')


def answer(cell):
    "The source of a cell of the exercise, with the right code in the place of each stub"
    source = ''.join(cell['source'])
    if 'raise NotImplementedError' not in source: return source
    name, = re.findall(r'^(?:class|def) (\w+)', source, re.M)[:1]
    rest = [ast.unparse(node) for node in ast.parse(source).body[1:]]
    return '\n'.join([inspect.getsource(getattr(my_petseg, name)), *rest])


@pytest.fixture(scope='module')
def solved():
    "The exercise as a notebook of a student who has got everything right"
    notebook = json.loads(EXERCISE.read_text(encoding='utf-8'))
    for cell in notebook['cells']:
        if cell['cell_type'] == 'code': cell['source'] = answer(cell)
    return notebook


def test_the_exercise_can_be_solved(solved, tmp_path, monkeypatch):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    matplotlib.use('agg')
    names = {'__name__': 'student'}
    for cell in solved['cells']:
        left_out = '#| eval: false' in cell['source']
        if cell['cell_type'] == 'code' and not left_out: exec(cell['source'], names)
    assert [str(report) for report in names['reports'] if not report.passed] == []
    assert names['history'][-1] > .85 and len(names['reports']) == 11


def test_each_checker_is_in_the_table_the_help_and_the_star_import():
    names = {}
    exec('from petseg_nb.check import *', names)
    assert list(CHECKERS) == CHOICES['checker']
    for key, kind in CHECKERS.items(): assert kind.check is names[f'check_{key}']


def named(checker, thing, *_):
    name = getattr(thing, '__name__', type(thing).__name__)
    return f'{checker.__name__}({name})'
def with_names(cases): return [pytest.param(*case, id=named(*case)) for case in cases]


@slow
@pytest.mark.parametrize('checker, thing, flags', with_names(RIGHT))
def test_right_code_passes(checker, thing, flags):
    report = checker(thing, **flags)
    assert report.passed and all(f.evidence for f in report.findings), report


@slow
@pytest.mark.parametrize('checker, thing, flags, words', with_names(NOTED))
def test_a_variant_passes_with_a_note(checker, thing, flags, words):
    report = checker(thing, **flags)
    note = report.findings[0].note
    assert report.passed and words in note and f'note: {note[:40]}' in str(report), report


def test_a_raw_trimap_is_one_finding():
    assert sum(f.ok is False for f in check_dataset(RawTrimap).findings) == 1


@slow
@pytest.mark.parametrize('checker, thing, flags, words', with_names(WRONG))
def test_a_bug_is_named(checker, thing, flags, words):
    report = checker(thing, **flags)
    assert not report.passed and words in re.sub(r'\s+', ' ', str(report)), report


def of_strangers(cases, unsolved):
    "Test parameters; a case that is known to be unsolved must stay so, or be struck from its list"
    fails = pytest.mark.xfail(strict=True, reason='listed in strangers.py as not solved yet')
    return [pytest.param(*case, id=named(*case), marks=[fails] * (case[1] in unsolved))
            for case in cases]
FAULTS = of_strangers(strangers.FAULTS + strangers.LAST_FAULTS, strangers.UNNAMED)
VARIANTS = of_strangers(strangers.VARIANTS + strangers.LAST_VARIANTS, strangers.REFUSED)

@slow
@pytest.mark.parametrize('checker, thing, flags, words', FAULTS)
def test_a_stranger_s_bug_is_named(checker, thing, flags, words):
    assert re.search(words, strangers.causes(checker(thing, **flags)))

@slow
@pytest.mark.parametrize('checker, thing, flags, words', VARIANTS)
def test_a_stranger_s_right_code_passes(checker, thing, flags, words):
    report = checker(thing, **flags)
    assert report.passed and words in strangers.notes(report), report


def loops(*_):
    while True: pass
def stubborn(*_):
    while True:
        try: time.sleep(.1)
        except: pass
def leaves(*_): sys.exit('bye')
def dies(*_): os._exit(0)
def is_killed(*_): os.kill(os.getpid(), 9)
def recurses(*_): return recurses()
def hoards(*_): return [torch.zeros(10**9) for _ in range(100)]
def starts_others(*_):
    subprocess.Popen(['sleep', '611'])
    stubborn()
def meddles(*_):
    print('noise')
    print('noise', file=sys.stderr)
    os.write(1, b'noise')
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    os.environ['MEDDLED'] = 'yes'
    os.chdir('/')
def nothing(*_): return None
class Unspeakable:
    "Breaks whoever looks at it"
    def __init__(self, *_): pass
    def __getattr__(self, name): raise SystemExit('do not touch')
    def __repr__(self): raise RuntimeError('no repr')
    __str__ = __repr__

WILD = [loops, stubborn, leaves, dies, is_killed, recurses, hoards, starts_others, meddles, nothing,
        Unspeakable, Unspeakable(), 3, None, 'text']
def states():
    return (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate(),
            torch.get_default_dtype(), torch.is_grad_enabled(),
            torch.are_deterministic_algorithms_enabled(), os.environ.get('MEDDLED'), os.getcwd())


@pytest.mark.skipif(sys.platform != 'linux' or torch.cuda.is_available(),
                    reason='probes run in a process of their own on Linux without a GPU')
@slow
@pytest.mark.parametrize('kind', CHECKERS)
def test_nothing_stops_a_checker(kind, capfd):
    before = states()
    for wild in WILD:
        report = CHECKERS[kind].check(wild, seconds=.5)
        assert not report.passed and report.findings[0].evidence, f'{wild}: {report}'
    assert states() == before and capfd.readouterr() == ('', '')
    assert 'sleep\x00611' not in [p.read_text() for p in Path('/proc').glob('[0-9]*/cmdline')]


def petseg_check(*words, cwd, status=0):
    return run(COMMANDS/'petseg_check', *words, cwd=cwd, status=status, timeout=120,
               env=dict(PYTHONPATH=str(ROOT)))


RIGHT_MODULE = 'print("noise")\n' + (ROOT/'tests'/'my_petseg.py').read_text(encoding='utf-8')

@pytest.mark.parametrize('source, name, status, words', [
    (RIGHT_MODULE, 'MyUNet', 0, 'all 13 probes passed'),
    (RIGHT_MODULE + 'my_dice_loss = lambda z, m: 1 - my_dice((z > 0).float(), m).mean()',
     'my_dice_loss', 1, 'there is a threshold in it'),
    (RIGHT_MODULE + 'def my_step(*_): import os; os._exit(0)', 'my_step', 1,
     'os._exit or the like'),
    (RIGHT_MODULE + 'def my_step(*_): raise SystemExit', 'my_step', 1, 'sys.exit()'),
    (RIGHT_MODULE + 'def my_step(*_):\n    while True: pass', 'my_step', 1,
     'a loop that does not end'),
    (RIGHT_MODULE, 'OtherUNet', 2, 'submission.py has no OtherUNet: it has Path, Dataset, MyPets'),
    ('def my_dice(:', 'my_dice', 2, 'SyntaxError'),
    ('import nowhere', 'my_dice', 2, 'No module named'),
    ('while True: pass', 'my_dice', 2, 'still running after 2 s'),
    ('import os\nos._exit(0)', 'my_dice', 2, 'the process was ended with status 0'),
    ('raise SystemExit', 'my_dice', 2, 'can not be imported: SystemExit'),
], ids=['right', 'wrong', 'os._exit', 'sys.exit', 'endless', 'missing', 'syntax', 'import',
        'endless-import', 'os._exit-import', 'sys.exit-import'])
def test_the_command_on_a_module(tmp_path, source, name, status, words):
    (tmp_path/'submission.py').write_text(source)
    seconds = 2 if 'while' in source else 20
    out, err = petseg_check(f'submission.py:{name}', '--seconds', seconds, cwd=tmp_path,
                            status=status)
    assert 'noise' not in out, out + err
    assert words in re.sub(r'\s+', ' ', err if status == 2 else out) and 'Traceback' not in err
    assert err.count('\n') == (status == 2)


ALONE = '''
import os, sys
open('me', 'w').write(str(os.getpid()))
from petseg_nb.check.command import check_thing
assert check_thing('submission.py:my_dice').passed
assert 'submission' not in sys.modules
'''


def test_a_submission_runs_once_and_in_a_process_of_its_own(tmp_path):
    noted = 'import os\nprint("run", os.getpid(), file=open("log", "a"))\n'
    (tmp_path/'submission.py').write_text(noted + RIGHT_MODULE)
    for i, name in enumerate(['MyDoubleConv', 'my_dice'], 1):
        petseg_check(f'submission.py:{name}', cwd=tmp_path)
        runs = (tmp_path/'log').read_text().splitlines()
        assert len(runs) == len(set(runs)) == i
    run(sys.executable, '-c', ALONE, cwd=tmp_path, env=dict(PYTHONPATH=str(ROOT)))
    assert (tmp_path/'me').read_text() not in (tmp_path/'log').read_text()


def test_the_command_on_a_notebook(solved, tmp_path):
    source = 'raise KeyError("a cell that nothing needs")'
    solved['cells'].append(dict(cell_type='code', source=source))
    (tmp_path/'my_petseg.ipynb').write_text(json.dumps(solved))
    for name, *flags in (['MyPets', '--augmented', 'yes'], ['MyResBlock'], ['my_evaluate'],
                         ['my_valid_pets', '--as', 'dataset', '--augmented', 'no']):
        out, err = petseg_check(f'my_petseg.ipynb:{name}', *flags, cwd=tmp_path)
        assert 'probes passed' in out, out + err
    out, _ = petseg_check(f'{EXERCISE}:MyUNet', cwd=tmp_path, status=1)
    assert 'not written yet: MyUNet: make the levels' in out


def test_the_command_on_a_folder(solved, tmp_path):
    (tmp_path/'part1').mkdir()
    (tmp_path/'part1'/'my_petseg.ipynb').write_text(json.dumps(solved))
    (tmp_path/'part1'/'broken.py').write_text('def my_dice(:')
    (tmp_path/'other.py').write_text('import nowhere\nclass MyUNet: pass\nclass MyPets: pass\n'
                                     'def train(config): pass')
    out, err = petseg_check('part1', '--json', cwd=tmp_path, status=1)
    assert not err
    broken, *records = json.loads(out)
    assert not broken['passed'] and 'SyntaxError' in broken['summary']
    assert all(f['ok'] and f['evidence'] for r in records for f in r['findings']), records
    failed = {r['where'].split(':')[1] for r in records if not r['passed']}
    assert failed == {'my_loss', 'train'}, records
    assert {r['checker'] for r in records} >= {
        'dataset', 'unet', 'resnet34_unet', 'dice_loss', 'metric', 'training_step', 'evaluate'}
    out, _ = petseg_check('other.py', cwd=tmp_path, status=1)
    rows = out.splitlines()
    assert [row[0] for row in rows] == ['✘', '✘', '–']
    assert rows[0].count("No module named 'nowhere'") == 1
    (tmp_path/'other.py').write_text('def train(config): pass')
    _, err = petseg_check('other.py', cwd=tmp_path, status=2)
    assert 'nothing to check' in err and err.count('\n') == 1


def test_three_lines_make_tests(tmp_path):
    page = json.loads((ROOT/'nbs'/'workshop'/'check'/'command.ipynb').read_text(encoding='utf-8'))
    texts = (''.join(cell['source']) for cell in page['cells'])
    text = next(text for text in texts if '## As tests' in text)
    code = re.search(r'```python\n(.*?)```', text, re.S)[1].replace('my_petseg.ipynb', 'mine.py')
    (tmp_path/'test_mine.py').write_text(code)
    (tmp_path/'mine.py').write_text(
        'def dice_loss(z, m): return (z > 0).float().mean()\n'
        'def my_dice(p, m): return 2 * (p * m).sum() / (p + m).sum().clamp(min=1)')
    out, _ = run(sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'test_mine.py',
                 cwd=tmp_path, env=dict(PYTHONPATH=str(ROOT)), status=1)
    assert '1 failed, 1 passed' in out and 'check_dice_loss(dice_loss)' in out, out
