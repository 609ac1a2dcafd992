"""The part of the site's build that needs no Quarto: nbdev processes every notebook."""
import json, os, shutil, subprocess, sys
import yaml
from conftest import ROOT

BUILD = '''
from nbdev.doclinks import _build_modidx
from nbdev.quarto import nbdev_sidebar, refresh_quarto_yml
from nbdev.serve import proc_nbs
refresh_quarto_yml(); _build_modidx(); nbdev_sidebar.__wrapped__(); proc_nbs(n_workers=0)
'''


def test_nbdev_processes_all_notebooks(tmp_path):
    tree = tmp_path/'tree'
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns('.git', 'data', 'runs', 'test-artifacts', '_proc', '_docs', '*.egg-info'))
    subprocess.run(['git', 'init', '-q'], cwd=tree, check=True) # nbdev asks git for the repository's address
    run = subprocess.run([sys.executable, '-c', BUILD], cwd=tree, capture_output=True, text=True,
                         env=os.environ | {'PYTHONPATH': str(tree)})
    assert run.returncode == 0, run.stdout + run.stderr
    for path in ROOT.glob('nbs/**/*.ipynb'):
        processed = json.loads((tree/'_proc'/path.relative_to(ROOT/'nbs')).read_text(encoding='utf-8'))
        front = yaml.safe_load(''.join(processed['cells'][0]['source']).strip().strip('-'))
        assert front['title'] and front['description'], f'{path.name} has no title or summary'


def test_quarto_configuration_is_found_from_both_folders():
    inner = yaml.safe_load((ROOT/'nbs/_quarto.yml').read_text())
    assert inner == {'metadata-files': ['../_quarto.yml', 'nbdev.yml', 'sidebar.yml']}
    outer = yaml.safe_load((ROOT/'_quarto.yml').read_text())
    assert outer['project'] == {'type': 'website', 'output-dir': '_docs'} # without output-dir nbdev_readme writes nothing
    assert outer['format']['html']['html-math-method'] == 'mathml' and 'commonmark' not in outer['format']
