"""`petseg_lab` from an installed package: the chapters travel with the wheel, an older copy is brought up to date, and nothing stays behind."""
import hashlib, json, os, shutil, signal, subprocess, sys, zipfile
import numpy as np
import psutil, pytest
from PIL import Image
from lab import Lab, copy_tree


def build(kind, source, to):
    "Build a 'sdist' or 'wheel' from the folder `source`, as pip does, and return its path"
    code = 'import sys; from setuptools import build_meta; getattr(build_meta, f"build_{sys.argv[1]}")(sys.argv[2])'
    run = subprocess.run([sys.executable, '-c', code, kind, to], cwd=source, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return next(to.glob('*.whl' if kind == 'wheel' else '*.tar.gz'))


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    "A folder with what a wheel, built from the source distribution, holds"
    folder = tmp_path_factory.mktemp('wheel')
    source = build('sdist', copy_tree(folder/'tree'), folder)
    shutil.unpack_archive(source, folder)
    zipfile.ZipFile(build('wheel', folder/source.name.removesuffix('.tar.gz'), folder)).extractall(folder/'installed')
    return folder/'installed'


def test_wheel_brings_all_chapters(installed):
    names = lambda folder: {p.relative_to(folder).as_posix() for p in folder.rglob('*') if p.is_file() and p.suffix not in ('.yml', '.scss', '.txt')}
    assert names(installed/'petseg_nb/nbs') == names(installed.parent/'tree/nbs')


def test_wheel_brings_the_model_that_predicts_without_a_checkpoint(installed, tmp_path):
    photo = installed/'petseg_nb/samples/images/Bengal_43.jpg'
    run = subprocess.run([sys.executable, '-c', 'import petseg_nb, sys; from petseg_nb.cli.predict import petseg_predict; petseg_predict(); print(petseg_nb.__file__)',
                          photo, '--out_dir', 'masks'], cwd=tmp_path, env=os.environ | {'PYTHONPATH': str(installed)}, capture_output=True, text=True)
    assert run.returncode == 0 and run.stdout.splitlines()[-1] == str(installed/'petseg_nb/__init__.py'), run
    assert (installed/'petseg_nb/pretrained.safetensors').stat().st_size < 4_000_000
    mask, trimap = np.array(Image.open(tmp_path/'masks/Bengal_43_mask.png')) == 255, np.array(Image.open(installed/'petseg_nb/samples/annotations/trimaps/Bengal_43.png'))
    assert (mask == (trimap != 2)).mean() > .95


def old_copy(folder):
    "Chapters of an earlier version, as `petseg_lab` copied them, one of which a student has run, and a notebook of the student's own"
    folder.mkdir(parents=True)
    for name in ('index.ipynb', 'faq.ipynb'): (folder/name).write_text(f'the old {name}')
    log = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}
    (folder/'.copied.json').write_text(json.dumps(log))
    (folder/'faq.ipynb').write_text('run by a student')
    (folder/'mine.ipynb').write_text('made by a student')


def test_lab_of_an_installed_package(installed, tmp_path):
    folder = tmp_path/'home/petseg_lab/chapters'
    old_copy(folder)
    wrong = tmp_path/'home/.local/share/jupyter/kernels/python3' # as `ipykernel install --user` of another Python leaves it
    wrong.mkdir(parents=True)
    (wrong/'kernel.json').write_text(json.dumps(dict(argv=['/nowhere/python', '{connection_file}'], display_name='wrong', language='python')))
    lab = Lab(installed, tmp_path/'home', JUPYTER_PREFER_ENV_PATH='0')
    try:
        assert {f['name'] for f in lab.ask('contents')['content']} == {p.name for p in folder.iterdir() if p.name != '.copied.json'}
        log = lab.log.read_text()
        assert f'Chapters: {folder}. Begin with course/00_first_hour.ipynb.' in log
        assert log.count('kept as you changed it') == 1 and f'{folder}/faq.ipynb: kept as you changed it.' in log
        assert {p.name for p in folder.glob('*.ipynb')} == {p.name for p in (installed/'petseg_nb/nbs').glob('*.ipynb')} | {'mine.ipynb'}
        assert (folder/'faq.ipynb').read_text() == 'run by a student' and 'the old' not in (folder/'index.ipynb').read_text()
        assert len(list((folder/'course').glob('*.ipynb'))) == len(list((installed/'petseg_nb/nbs/course').glob('*.ipynb'))) > 10
        lab.ask('kernels', 'POST', name='python3')
        assert [psutil.Process(p.pid).cmdline()[0] for p in lab.process.children()] == [sys.executable]
    finally: clean = lab.stop(signal.SIGINT)
    assert clean and lab.process.wait() == 0, lab.log.read_text()
