#!/usr/bin/env python3
"""Which mistakes do the tests let live?

    python bench/mutants.py --n 200 [--seed 0] [--only data runs.fit] [--limit 120]

Puts one small mistake at a time into a function of the package: a comparison turned, + for -, a
number one off, `and` for `or`, a `not` lost, two arguments swapped, `None` returned, a statement or
a `no_grad` left out. It does so in a copy of the tree, in the module and in the cell that exports
it, and runs what tests that module until something fails: its notebook, the test files that mention
it, and the notebooks that import it, as far as they begin within the time limit. What only draws
(sizes, colours and labels of figures) is left alone. Modules take turns.

A line of JSON per mutant is kept in bench/mutants.jsonl: what was changed, and what killed it. One
that lived runs again with the next call, so that a new test is tried on it, unless a person has
written into its line why it is no mistake: the field `equivalent`."""
import argparse, ast, copy, hashlib, json, os, re, resource, shutil, signal, subprocess, sys
import tempfile, time, traceback
from functools import cache
from importlib import import_module
from itertools import zip_longest
from pathlib import Path

ROOT, RESULTS = Path(__file__).resolve().parent.parent, Path(__file__).with_suffix('.jsonl')
CELL = re.compile(r'^# %% (\S+\.ipynb) #\S+\n', re.M) # what nbdev writes above each exported cell
OTHER = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
         ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot,
         ast.IsNot: ast.Is, ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div,
         ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.BitAnd: ast.BitOr,
         ast.And: ast.Or, ast.Or: ast.And}
LOOKS = {*"""figsize fontsize lw linewidth linewidths alpha dpi color colors edgecolor facecolor fc
          ec ha va loc frameon xlim ylim height_ratios ncols layout style help metavar""".split()}
# names of what is drawn on
DRAWN = {*'ax axs fig plt left right top bottom place tiles picture'.split()}
# methods that are easily forgotten
CALLED = {'detach', 'clone', 'copy', 'eval', 'train', 'contiguous', 'abs', 'sigmoid', 'resolve'}
# tests of the site, the browser, and of what is written rather than of what is computed
WRITTEN = 'browser clinic demo lab notebooks public readme reference site structure'.split()
NO_TESTS = {f'test_{name}' for name in WRITTEN}
# tests that begin only if nothing else fails
SLOW = ('test_check test_check_command test_commands test_deploy test_evaluate '
        'test_predict').split()
HEAVY = """albumentations cv2 matplotlib.pyplot nbdev.test pytest scipy.ndimage
        segmentation_models_pytorch skimage torch._dynamo torchmetrics torchvision""".split()
NO_GRAD = re.compile(r'torch\.(no_grad|inference_mode)')


def changes(node):
    "Pairs of a node at or below `node`, and the text that stands in its place in a mutant"
    text, new = ast.unparse, lambda **fields: ast.unparse(copy_with(node, fields))
    kind = type(getattr(node, 'op', None))
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            if type(op) in OTHER:
                yield node, new(ops=[*node.ops[:i], OTHER[type(op)](), *node.ops[i + 1:]])
    elif isinstance(node, (ast.BinOp, ast.BoolOp)) and kind in OTHER:
        yield node, f'({new(op=OTHER[kind]())})'
    elif isinstance(node, ast.UnaryOp) and kind in (ast.Not, ast.USub):
        yield node, f'({text(node.operand)})'
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield node, str(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        yield node, repr(node.value + 1)
    elif isinstance(node, ast.Return) and node.value and text(node.value) != 'None':
        yield node, 'return None'
    elif isinstance(node, ast.IfExp): yield node, f'({new(body=node.orelse, orelse=node.body)})'
    elif isinstance(node, ast.Call):
        called = text(node.func).split('.')[-1]
        if called in CALLED and not node.args: yield node, f'({text(node.func.value)})'
        plain = called not in ('isinstance', 'getattr', 'hasattr') and len(node.args) > 1
        if plain and not any(isinstance(a, ast.Starred) for a in node.args):
            yield node, new(args=[node.args[1], node.args[0], *node.args[2:]])
    if isinstance(node, (ast.If, ast.While)): yield node.test, f'not ({text(node.test)})'
    alone = isinstance(node, ast.If) and not node.orelse
    call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    put = isinstance(node, ast.Assign) and not isinstance(node.targets[0], (ast.Name, ast.Tuple))
    if isinstance(node, (ast.Raise, ast.AugAssign)) or alone or call or put: yield node, 'pass'
    for item in getattr(node, 'items', []):
        if NO_GRAD.match(text(item.context_expr)):
            yield item.context_expr, "__import__('contextlib').nullcontext()"
    for decorator in getattr(node, 'decorator_list', []):
        if NO_GRAD.match(text(decorator)): yield decorator, '(lambda f: f)'


def copy_with(node, fields):
    new = copy.copy(node)
    vars(new).update(fields)
    return new


def sites(node):
    "All changes of a function, but of its signature, of texts, and of what only draws"
    if isinstance(node, (ast.JoinedStr, ast.arguments)): return
    if isinstance(node, ast.keyword) and node.arg in LOOKS: return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        if re.split(r'[.[]', ast.unparse(node.value))[0] in DRAWN: return
    yield from changes(node)
    for name, value in ast.iter_fields(node):
        if name in ('annotation', 'returns', 'decorator_list'): continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST): yield from sites(child)


def functions(cell):
    "The functions and methods that a cell defines"
    for node in ast.parse(cell).body:
        nodes = node.body if isinstance(node, ast.ClassDef) else [node]
        yield from (n for n in nodes if isinstance(n, ast.FunctionDef))


def short(text):
    "The text in at most 70 letters"
    text = ' '.join(text.split())
    return text if len(text) <= 70 else f'{text[:67]}...'


def parses(text):
    try: return bool(ast.parse(text))
    except SyntaxError: return False


def module_of(path): return '.'.join(path.relative_to(ROOT/'petseg_nb').with_suffix('').parts)


def mutants(path, seed):
    "Mutants of a module in a random order: row of the results, notebook, text of a cell, new text"
    module, found = module_of(path), {}
    _, *parts = CELL.split(path.read_text(encoding='utf-8'))
    for notebook, cell in zip(parts[::2], (part.strip('\n') for part in parts[1::2])):
        lines = cell.encode().splitlines(keepends=True)
        for function in functions(cell):
            for node, text in sites(function):
                places = (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)
                start, end = (sum(map(len, lines[:line - 1])) + column for line, column in places)
                before = cell.encode()[start:end].decode()
                after = (cell.encode()[:start] + text.encode() + cell.encode()[end:]).decode()
                line = short(lines[node.lineno - 1].decode())
                row = dict(module=module, function=function.name, line=line,
                           change=f'{short(before)} -> {short(text)}')
                where = (path.parent/notebook).resolve().relative_to(ROOT)
                if parses(after): found[key(row)] = row, where, cell, after
    def by_hash(k): return hashlib.sha256(f'{seed} {k}'.encode()).digest()
    return [found[k] for k in sorted(found, key=by_hash)]


def key(row): return tuple(row[name] for name in ('module', 'function', 'line', 'change'))


@cache
def tests_of(module, notebook):
    "What tests a module, the likeliest first"
    room, _, name = module.rpartition('.')
    settings = (ROOT/'settings.ini').read_text()
    commands = re.findall(rf'(petseg_\w+)=petseg_nb\.{re.escape(module)}:', settings)
    within = f'petseg_nb.{room}'.rstrip('.')
    ways = [rf'petseg_nb\.{re.escape(module)}\b',
            rf'{re.escape(within)} import [^\n]*\b{name}\b', *commands]
    mentions = re.compile('|'.join(ways))
    def concerned(paths):
        return [path.relative_to(ROOT) for path in paths
                if mentions.search(path.read_text(encoding='utf-8'))]
    files = concerned(p for p in sorted(ROOT.glob('tests/test_*.py')) if p.stem not in NO_TESTS)
    others = concerned(sorted(ROOT.glob('nbs/[cw]*/**/*.ipynb'), key=lambda p: p.stat().st_size))
    quick, slow = ([p for p in files if (p.stem in SLOW) == late] for late in (False, True))
    return [notebook, *quick, *(p for p in others if p != notebook), *slow]


def run_test(test, tree):
    "In a process of its own: run a notebook or a file of tests; status 0 if nothing fails"
    os.setsid(), os.chdir(tree), sys.path.insert(0, str(tree))
    os.environ |= dict(PYTHONPATH=str(tree), PYTHONDONTWRITEBYTECODE='1', TMPDIR=str(tree.parent),
                       XDG_CACHE_HOME=f'{tree.parent}/cache')
    tempfile.tempdir = None # so that TMPDIR counts: what a test leaves behind goes with the tree
    if test.suffix == '.ipynb':
        test_nb = import_module('nbdev.test').test_nb
        passed = test_nb(tree/test, skip_flags=['slow', 'cuda'], basepath=tree)[0]
    else:
        words = [str(tree/test), '-x', '-q', '-n', '0', '-p', 'no:cacheprovider', '--tb=line']
        passed = import_module('pytest').main(words) in (0, 5) # 5: none was found
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(not passed)


def failure(test, tree, seconds):
    "Why a test fails on the tree, in a line; empty if it passes, or has no end and is no notebook"
    with tempfile.TemporaryFile('w+') as said:
        if not (pid := os.fork()):
            os.dup2(said.fileno(), 1), os.dup2(said.fileno(), 2)
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
            try: run_test(test, tree)
            except BaseException: traceback.print_exc()
            finally: os._exit(1)
        status = waited(pid, 10 * seconds)
        if status is None or os.WIFSIGNALED(status):
            return f'{test.stem}: no end within {seconds} s' if test.suffix == '.ipynb' else ''
        if status == 0: return ''
        said.seek(0)
        bad = [line.strip() for line in said
               if re.search(r'\w(Error|Exception|Interrupt|Exit)\b|^FAILED', line)]
        last = bad[-1] if bad else 'it ended without a word'
        # without a place of this machine
        return f'{test.stem}: ' + re.sub(r'/\S*mutant\w+/', '', last)[:160]


def waited(pid, seconds):
    "The status with which a process ended; None if it had to be killed, with all that it started"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (ended := os.waitpid(pid, os.WNOHANG))[0]: return ended[1]
        time.sleep(.05)
    os.killpg(pid, signal.SIGKILL), os.waitpid(pid, 0)


def put(path, before, after):
    "Replace a text in a module of the tree, or in the cell of its notebook"
    text = path.read_text(encoding='utf-8')
    if path.suffix == '.ipynb':
        notebook = json.loads(text)
        cell, = (cell for cell in notebook['cells']
                 if cell['cell_type'] == 'code' and before in ''.join(cell['source']))
        cell['source'] = ''.join(cell['source']).replace(before, after).splitlines(keepends=True)
    text = text.replace(before, after) if path.suffix == '.py' else json.dumps(notebook)
    path.write_text(text, encoding='utf-8')


def used():
    "Seconds of a processor, whatever else it does"
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def try_mutant(mutant, limit):
    "The row of a mutant, with what killed it"
    row, notebook, before, after = mutant
    start, why, tried = used(), '', []
    with tempfile.TemporaryDirectory(prefix='mutant') as folder:
        tree = copy_tree(Path(folder).resolve()/'tree')
        module = f"petseg_nb/{row['module'].replace('.', '/')}.py"
        for place in (module, notebook): put(tree/place, before, after)
        for test in tests_of(row['module'], notebook):
            if used() - start > limit: break
            tried.append(test.stem)
            if why := failure(test, tree, 20 * limit): break
    return row | dict(tried=tried, seconds=round(used() - start, 1), killed_by=why)


def copy_tree(to):
    for name in tracked():
        (to/name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT/name, to/name)
    return to


@cache
def tracked():
    words = ['git', 'ls-files', '-coz', '--exclude-standard']
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split('\0')[:-1]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--n', type=int, default=200, help='mutants, of all modules together')
    parser.add_argument('--seed', default='0', help='of their choice')
    parser.add_argument('--only', nargs='+', help='modules')
    parser.add_argument('--limit', type=int, default=120,
                        help='seconds of a processor after which no other test is begun')
    args = parser.parse_args()
    paths = [path for path in sorted(ROOT.glob('petseg_nb/**/*.py'))
             if path.name not in ('_modidx.py', '__init__.py')]
    if args.only: paths = [p for p in paths if module_of(p) in args.only]
    turns = zip_longest(*(mutants(path, args.seed) for path in paths))
    plan = [mutant for turn in turns for mutant in turn if mutant][:args.n]
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    rows = {key(row): row for row in map(json.loads, lines)}
    for name in HEAVY: import_module(name) # once, for all the processes that are forked off
    for mutant in plan:
        before = rows.get(key(mutant[0]), {})
        if before.get('killed_by') or before.get('equivalent'): continue
        row = rows[key(mutant[0])] = try_mutant(mutant, args.limit)
        RESULTS.write_text(''.join(json.dumps(r, ensure_ascii=False) + '\n' for r in rows.values()))
        print(f"{row['module']}.{row['function']}, {row['change']}: {row['killed_by'] or 'LIVED'} "
              f"({row['seconds']} s)", flush=True)
    killed, equivalent = (sum(bool(row.get(name)) for row in rows.values())
                          for name in ('killed_by', 'equivalent'))
    lived = len(rows) - killed - equivalent
    print(f'{len(rows)} mutants: {killed} killed, {equivalent} equivalent, {lived} lived')


if __name__ == '__main__': main()
