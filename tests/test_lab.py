"""`petseg_lab` from an installed package.

The chapters travel with the wheel, an older copy is brought up to date; nothing stays behind."""
import hashlib, json, shutil, signal, sys, zipfile
import numpy as np
import psutil, pytest
from PIL import Image
from conftest import run
from lab import Lab, copy_tree


def build(kind, source, to):
    "Build a 'sdist' or 'wheel' from the folder `source`, as pip does, and return its path"
    code = f'import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])'
    run(sys.executable, '-c', code, to, cwd=source)
    return next(to.glob('*.whl' if kind == 'wheel' else '*.tar.gz'))


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    "A folder with what a wheel, built from the source distribution, holds"
    folder = tmp_path_factory.mktemp('wheel')
    source = build('sdist', copy_tree(folder/'tree'), folder)
    shutil.unpack_archive(source, folder)
    unpacked = folder/source.name.removesuffix('.tar.gz')
    zipfile.ZipFile(build('wheel', unpacked, folder)).extractall(folder/'installed')
    return folder/'installed'


def test_wheel_brings_all_chapters(installed):
    def names(folder):
        files = (p for p in folder.rglob('*') if p.is_file())
        return {p.relative_to(folder).as_posix() for p in files
                if p.suffix not in ('.yml', '.scss', '.txt')}
    assert names(installed/'petseg_nb/nbs') == names(installed.parent/'tree/nbs')
    assert (installed/'petseg_nb/toy_unet.safetensors').is_file() # which pages load


PREDICT = '''
import petseg_nb
from petseg_nb.cli.predict import petseg_predict
petseg_predict()
print(petseg_nb.__file__)
'''

def test_wheel_brings_the_model_that_predicts_without_a_checkpoint(installed, tmp_path):
    photo = installed/'petseg_nb/samples/images/Bengal_43.jpg'
    out, _ = run(sys.executable, '-c', PREDICT, photo, '--out_dir', 'masks', cwd=tmp_path,
                 env=dict(PYTHONPATH=str(installed)))
    assert out.splitlines()[-1] == str(installed/'petseg_nb/__init__.py')
    assert (installed/'petseg_nb/pretrained.safetensors').stat().st_size < 8_000_000
    mask = np.array(Image.open(tmp_path/'masks/Bengal_43_mask.png')) == 255
    trimaps = installed/'petseg_nb/samples/annotations/trimaps'
    trimap = np.array(Image.open(trimaps/'Bengal_43.png'))
    assert (mask == (trimap != 2)).mean() > .95


def old_copy(folder):
    "Chapters as `petseg_lab` once copied them, one since run by a student, and one of their own"
    folder.mkdir(parents=True)
    for name in ('index.ipynb', 'faq.ipynb'): (folder/name).write_text(f'the old {name}')
    log = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}
    (folder/'.copied.json').write_text(json.dumps(log))
    (folder/'faq.ipynb').write_text('run by a student')
    (folder/'mine.ipynb').write_text('made by a student')


def test_lab_of_an_installed_package(installed, tmp_path):
    folder = tmp_path/'home/petseg_lab/chapters'
    old_copy(folder)
    # as `ipykernel install --user` of another Python leaves it
    wrong = tmp_path/'home/.local/share/jupyter/kernels/python3'
    wrong.mkdir(parents=True)
    argv = ['/nowhere/python', '{connection_file}']
    spec = dict(argv=argv, display_name='wrong', language='python')
    (wrong/'kernel.json').write_text(json.dumps(spec))
    lab = Lab(installed, tmp_path/'home', JUPYTER_PREFER_ENV_PATH='0')
    try:
        listed = {f['name'] for f in lab.ask('contents')['content']}
        assert listed == {p.name for p in folder.iterdir() if p.name != '.copied.json'}
        log = lab.log.read_text()
        assert f'Chapters: {folder}. Begin with course/00_first_hour.ipynb.' in log
        assert log.count('you changed this file') == 1
        assert f'{folder}/faq.ipynb: you changed this file, so it is kept.' in log
        packed = installed/'petseg_nb/nbs'
        names = {p.name for p in packed.glob('*.ipynb')} | {'mine.ipynb'}
        assert {p.name for p in folder.glob('*.ipynb')} == names
        assert (folder/'faq.ipynb').read_text() == 'run by a student'
        assert 'the old' not in (folder/'index.ipynb').read_text()
        course = len(list((packed/'course').glob('*.ipynb')))
        assert len(list((folder/'course').glob('*.ipynb'))) == course > 10
        lab.ask('kernels', 'POST', name='python3')
        kernels = [psutil.Process(p.pid).cmdline() for p in lab.process.children()]
        assert [argv[0] for argv in kernels] == [sys.executable]
    finally: clean = lab.stop(signal.SIGINT)
    assert clean and lab.process.wait() == 0, lab.log.read_text()
