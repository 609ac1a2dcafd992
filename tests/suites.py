"""Slow suites, which pytest leaves out while what they test is as it was when they last passed.

`pytest --all` runs them anyway. `python tests/suites.py` runs them too, and if they pass, notes on
what in tests/suites.json.
"""
import json, subprocess, sys
from hashlib import sha256
from pathlib import Path
import pytest

ROOT = Path(__file__).parent.parent
PASSED = ROOT/'tests'/'suites.json'
COURSE = ('masks data blocks unet losses metrics training augment resnet34_unet lite_unet '
          'evaluation inference recipes checkpoints')
TESTS = 'conftest my_petseg students strangers newcomers'
# name: the files of tests, and what else they consist of or test
SUITES = dict(checkers=(['tests/test_check.py'],
                        [f'tests/{name}.py' for name in TESTS.split()]
                        + ['petseg_nb/check', 'petseg_nb/core']
                        + [f'petseg_nb/{name}.py' for name in ('masks', 'data', 'resnet34_unet')]),
              runs=(['tests/test_runs.py', 'tests/test_commands.py'],
                    ['tests/conftest.py']
                    + [f'petseg_nb/{name}' for name in ('core', 'datasets', 'runs', 'cli')]
                    + [f'petseg_nb/{name}.py' for name in COURSE.split()]))


def fingerprint(name, root=ROOT):
    "A hash of all that a suite consists of and tests"
    tests, others = SUITES[name]
    files = [file for part in tests + others for file in [root/part, *(root/part).rglob('*.py')]]
    texts = [path.read_text(encoding='utf-8') for path in sorted(files) if path.is_file()]
    return sha256('\0'.join(texts).encode()).hexdigest()


def if_changed(name):
    "Marks the tests of a suite"
    passed = json.loads(PASSED.read_text(encoding='utf-8')).get(name)
    condition = False if passed != fingerprint(name) else "not config.getoption('all')"
    return pytest.mark.skipif(condition, reason=f'the {name} are as they were when these tests '
                                                'last passed; --all runs them')


def main():
    tests = [name for names, _ in SUITES.values() for name in names]
    tested = {name: fingerprint(name) for name in SUITES} # before: a file may change meanwhile
    if status := subprocess.call([sys.executable, '-m', 'pytest', '--all', *tests], cwd=ROOT):
        sys.exit(status)
    PASSED.write_text(json.dumps(tested, indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__': main()
