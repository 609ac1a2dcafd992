"""What does a command take before it begins to work? Each is a ratio to `import torch`, measured in
the same rounds.

python bench/startup.py --rounds 5

Rows are processes of their own: the help of each command, a prediction of one small picture, and
the first cell of each chapter. They take turns, so that company on the machine meets all of them.
Printed are medians of processor seconds, which company changes least. Of the prediction, its work
is taken off as well: what a second call in the same process takes.
"""
import argparse, ast, json, os, subprocess, sys, tempfile
from pathlib import Path
from statistics import median
from machine import save

ROOT = Path(__file__).resolve().parent.parent
HELP = ['train', 'evaluate', 'predict', 'check_data', 'check', 'lab']
WORK = '''
import sys, time
from petseg_nb.cli.predict import petseg_predict
for _ in range(2):
    start = time.process_time()
    petseg_predict(sys.argv[1:])
print(time.process_time() - start)
'''


def command(name):
    module = dict(check_data='check').get(name, name)
    return f'from petseg_nb.cli.{module} import petseg_{name}; petseg_{name}()'


def first_cell(path):
    "The first cell of a chapter that does anything: its imports"
    for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
        source = ''.join(cell['source'])
        shown = cell['cell_type'] == 'code' and 'eval: false' not in source
        if shown and ast.parse(source).body: return source


def stage(folder):
    "A checkpoint of an untrained network and a small picture, as words of `petseg_predict`"
    from PIL import Image
    from petseg_nb.checkpoints import model_for
    from petseg_nb.core.config import TrainConfig, portable
    from petseg_nb.core.disk import save_checkpoint
    config, folder = TrainConfig(), Path(folder)
    state = dict(weights=model_for(config).state_dict(), config=portable(config))
    save_checkpoint(state, folder/'model.pt')
    Image.linear_gradient('L').convert('RGB').resize((120, 80)).save(folder/'small.png')
    return [folder/'model.pt', folder/'small.png', '--out_dir', folder/'masks']


def run(code, *words):
    "Processor seconds of a Python that runs `code`, and the last word that it printed"
    with tempfile.TemporaryFile('w+') as out, tempfile.TemporaryFile('w+') as err:
        env = os.environ | {'PYTHONPATH': str(ROOT), 'MPLBACKEND': 'agg'}
        process = subprocess.Popen([sys.executable, '-c', code, *map(str, words)], stdout=out,
                                   stderr=err, cwd=ROOT/'nbs'/'course', env=env)
        _, status, used = os.wait4(process.pid, 0)
        out.seek(0), err.seek(0)
        if status: raise RuntimeError(f'{code}\n{err.read()}')
        return used.ru_utime + used.ru_stime, (out.read().split() or [''])[-1]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=5,
                        help='times that each process runs (default: 5)')
    parser.add_argument('--json')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        words = stage(folder)
        rows = {'import torch': ('import torch',),
                **{f'petseg_{name} --help': (command(name), '--help') for name in HELP},
                'petseg_predict, one small picture': (command('predict'), *words),
                'its work': (WORK, *words)}
        chapters = sorted((ROOT/'nbs'/'course').glob('*.ipynb'))
        rows |= {f'first cell of {path.stem}': (first_cell(path),) for path in chapters}
        seconds = {name: [] for name in rows}
        for _ in range(args.rounds + 1): # the first round only fills the disk's cache
            for name, row in rows.items():
                used, said = run(*row)
                seconds[name].append(float(said) if name == 'its work' else used)
    middle = {name: median(values[1:]) for name, values in seconds.items()}
    whole = middle['petseg_predict, one small picture']
    middle['petseg_predict without its work'] = whole - middle['its work']
    print(f'{"":34} {"seconds":>8} {"x import torch":>15}')
    for name, value in middle.items():
        print(f'{name:34} {value:8.2f} {value / middle["import torch"]:15.2f}')
    save(args.json, seconds=middle)


if __name__ == '__main__': main()
