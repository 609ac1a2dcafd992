"""The checkers, on other people's right code, and on bugs unknown when they were written."""
import os, random, re, subprocess, sys, time
from functools import partial
from pathlib import Path
import numpy as np
import pytest
import torch
from petseg_nb.check import CHECKERS, Checker, Wrong, check_dataset, try_probes
from petseg_nb.core.config import CHOICES
import newcomers, strangers
from students import NOTED, RIGHT, RawTrimap, WRONG
from suites import if_changed

slow = if_changed('checkers')
whole = pytest.mark.skipif("not config.getoption('all')", reason='the strangers\' cases take '
                           'minutes; --all runs them')


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

@whole
@pytest.mark.parametrize('checker, thing, flags, words', FAULTS)
def test_a_stranger_s_bug_is_named(checker, thing, flags, words):
    assert re.search(words, strangers.causes(checker(thing, **flags)))

@whole
@pytest.mark.parametrize('checker, thing, flags, words', VARIANTS)
def test_a_stranger_s_right_code_passes(checker, thing, flags, words):
    report = checker(thing, **flags)
    assert report.passed and words in strangers.notes(report), report


@slow
@pytest.mark.parametrize('checker, thing, flags, words',
                         with_names(newcomers.FAULTS + newcomers.REVIEWED + newcomers.LATER))
def test_the_first_cause_is_right(checker, thing, flags, words):
    report = checker(thing, **flags)
    assert not report.passed and re.search(words, report.findings[0].cause), report.all


@slow
@pytest.mark.parametrize('checker, thing, flags, words',
                         with_names(newcomers.VARIANTS + newcomers.DESIGNS
                                    + newcomers.LATER_VARIANTS))
def test_another_right_way_passes(checker, thing, flags, words):
    report = checker(thing, **flags)
    assert report.passed and words in strangers.notes(report), report
    assert not [f for f in report.findings if f.ok is None], report.all


def test_a_report_is_five_lines_and_the_rest_is_behind_all():
    wrong = [Wrong('seen 0'), Wrong('seen 1', 'a guess', sure=False),
             Wrong('seen 2', 'this, or that'), Wrong('seen 3', 'a fact', line='line 7, in f: x')]
    probes = [('gate', lambda _: 'fine')]
    probes += [(f'probe {i}', partial(fails, error)) for i, error in enumerate(wrong)]
    report = try_probes(Checker('check', 'course/03_blocks', probes), None)
    lines = str(report).splitlines()
    assert len(lines) == 5 and 'seen 3' in lines[1]
    assert lines[2] == '  → a fact; see line 7, in f: x'
    assert 'report.all shows 2 more' in lines[-1] and 'seen 0' not in str(report)
    assert 'perhaps: a guess' in str(report.all) and 'perhaps: this, or that' in str(report.all)


def fails(error, _): raise error


def test_a_bug_of_a_probe_is_not_the_student_s():
    probes = [('fine', lambda _: 'fine'), ('ours', partial(fails, KeyError('oops')))]
    report = try_probes(Checker('check', 'course/03_blocks', probes), None)
    assert report.passed and report.findings[-1].ok is None
    assert 'the probe itself failed' in report.findings[-1].evidence


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
