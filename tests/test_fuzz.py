"""Some of the thousands of damaged files of `bench/fuzz.py`: each can be read, or is refused in one
line."""
import signal
import numpy as np
import pytest
from conftest import ROOT, script

fuzz = script(ROOT/'bench/fuzz.py')


@pytest.fixture(scope='module')
def sound(tmp_path_factory): return list(fuzz.files(tmp_path_factory.mktemp('sound')))


@pytest.mark.filterwarnings('ignore::UserWarning:PIL') # as in the commands
@pytest.mark.parametrize('kind, count', [('picture', 450), ('.pt', 60), ('.safetensors', 60)])
def test_damaged_files(kind, count, sound, tmp_path):
    files, read = [data for k, data in sound if k == kind], 0
    for data in files: assert fuzz.read(kind, data, tmp_path)
    for i in range(count):
        damaged = fuzz.damaged(files[i % len(files)], np.random.default_rng((1, i)))
        signal.alarm(fuzz.SECONDS)
        read += fuzz.read(kind, damaged, tmp_path)
    signal.alarm(0)
    assert 0 < read < count
