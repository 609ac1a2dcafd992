"""The exercise that the checkers belong to, and `petseg_check`, the checkers as a command."""
import ast, inspect, json, os, re, sys
import matplotlib
import pytest
import my_petseg
from conftest import COMMANDS, ROOT, call, run

EXERCISE = ROOT/'nbs'/'exercises'/'my_petseg.ipynb'


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


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch): monkeypatch.chdir(tmp_path)


def petseg_check(*words, status=0):
    "The command in this process: what it checks has another"
    return call('check', *words, status=status)


RIGHT_MODULE = 'print("noise")\n' + (ROOT/'tests'/'my_petseg.py').read_text(encoding='utf-8')

@pytest.mark.parametrize('source, name, status, words', [
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
    ('raise SystemExit', 'my_dice', 2, 'cannot be imported: SystemExit'),
], ids=['wrong', 'os._exit', 'sys.exit', 'endless', 'missing', 'syntax', 'import',
        'endless-import', 'os._exit-import', 'sys.exit-import'])
def test_the_command_on_a_module(tmp_path, source, name, status, words):
    (tmp_path/'submission.py').write_text(source)
    seconds = 2 if 'while' in source else 20
    out, err = petseg_check(f'submission.py:{name}', '--seconds', seconds, status=status)
    assert words in re.sub(r'\s+', ' ', err if status == 2 else out) and 'Traceback' not in err
    assert err.count('\n') == (status == 2)


def test_only_the_report_is_printed(tmp_path):
    (tmp_path/'submission.py').write_text(RIGHT_MODULE)
    out, err = run(COMMANDS/'petseg_check', 'submission.py:MyUNet', timeout=120)
    assert re.search(r'all \d+ probes passed', out) and 'noise' not in out and not err, out + err


def test_a_submission_runs_once_and_in_a_process_of_its_own(tmp_path):
    noted = 'import os\nprint("run", os.getpid(), file=open("log", "a"))\n'
    (tmp_path/'submission.py').write_text(noted + RIGHT_MODULE)
    for i, name in enumerate(['MyDoubleConv', 'my_dice'], 1):
        petseg_check(f'submission.py:{name}')
        runs = (tmp_path/'log').read_text().splitlines()
        assert len(runs) == len(set(runs)) == i
    assert f'run {os.getpid()}' not in runs and 'submission' not in sys.modules


def test_the_command_on_a_notebook(solved, tmp_path):
    source = 'raise KeyError("a cell that nothing needs")'
    solved['cells'].append(dict(cell_type='code', source=source))
    (tmp_path/'my_petseg.ipynb').write_text(json.dumps(solved))
    for name, *flags in (['MyPets', '--augmented', 'yes'], ['MyResBlock'], ['my_evaluate'],
                         ['my_valid_pets', '--as', 'dataset', '--augmented', 'no']):
        out, err = petseg_check(f'my_petseg.ipynb:{name}', *flags)
        assert 'probes passed' in out, out + err
    out, _ = petseg_check(f'{EXERCISE}:MyUNet', status=1)
    assert 'not written yet: MyUNet: make the levels' in out


def test_the_command_on_a_folder(solved, tmp_path):
    (tmp_path/'part1').mkdir()
    (tmp_path/'part1'/'my_petseg.ipynb').write_text(json.dumps(solved))
    (tmp_path/'part1'/'broken.py').write_text('def my_dice(:')
    (tmp_path/'other.py').write_text('import nowhere\nclass MyUNet: pass\nclass MyPets: pass\n'
                                     'def train(config): pass')
    out, err = petseg_check('part1', '--json', status=1)
    assert not err
    broken, *records = json.loads(out)
    assert not broken['passed'] and 'SyntaxError' in broken['summary']
    assert all(f['ok'] and f['evidence'] for r in records for f in r['findings']), records
    failed = {r['where'].split(':')[1] for r in records if not r['passed']}
    assert failed == {'my_loss', 'train'}, records
    assert {r['checker'] for r in records} >= {
        'dataset', 'unet', 'resnet34_unet', 'dice_loss', 'metric', 'training_step', 'evaluate'}
    out, _ = petseg_check('other.py', status=1)
    rows = out.splitlines()
    assert [row[0] for row in rows] == ['✘', '✘', '–']
    assert rows[0].count("No module named 'nowhere'") == 1
    (tmp_path/'other.py').write_text('def train(config): pass')
    _, err = petseg_check('other.py', status=2)
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
                 env=dict(PYTHONPATH=str(ROOT)), status=1)
    assert '1 failed, 1 passed' in out and 'check_dice_loss(dice_loss)' in out, out
