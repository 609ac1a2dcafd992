"""Write nbs/reference.ipynb (all public symbols by task) and nbs/llms.txt (the same for language
models) from the modules: python scripts/reference.py"""
import inspect, json, re
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path, PurePath

ROOT = Path(__file__).parent.parent
TASKS = {
    'masks': 'Turn trimaps into masks, and show them', 'data': 'Read the dataset',
    'blocks': 'Build blocks, and measure them', 'unet': 'Build a U-Net', 'losses': 'Compute a loss',
    'metrics': 'Score predictions', 'training': 'Train',
    'augment': 'Augment pictures with their masks', 'resnet34_unet': 'Build a U-Net on ResNet-34',
    'lite_unet': 'Build a U-Net on EfficientNet-Lite0',
    'evaluation': 'Evaluate, and find what is hard', 'inference': 'Predict masks of any picture',
    'recipes': 'Use a whole recipe', 'checkpoints': 'Save and load models',
    'core.config': 'Configure a run',
    'core.device': 'Choose device, precision, memory format and threads',
    'core.distributed': 'Train in several processes', 'core.disk': 'Write files',
    'core.images': 'Open pictures', 'core.tiles': 'Handle large and long pictures',
    'core.pets': 'Read and cache pets', 'core.errors': 'Tell mistakes from bugs',
    'core.layers': 'Check inputs, fit maps to skips, and weigh maps by attention',
    'datasets.drawing': 'Draw a pet', 'datasets.toy': 'Make a dataset of toy pets',
    'datasets.own': 'Use your own pictures', 'datasets.labelme': 'Read labelme drawings',
    'datasets.layout': 'Describe a folder', 'datasets.audit': 'Check and download a dataset',
    'runs.fit': 'Stop, continue and log a training', 'runs.compare': 'Compare recipes',
    'runs.export': 'Export a model', 'runs.folders': 'Predict folders of pictures',
    'show.explore': 'Explore with sliders',
    'show.web_explorers': 'Explore without a kernel', 'show.look_inside': 'Look inside a network',
    'show.trace': 'See shapes, operations and memory', 'show.scorecard': 'Write down an evaluation',
    'check': 'Check your own code', 'check.engine': 'Write a probe',
    'check.tape': 'Record what a model runs', 'check.layers': 'Tell the order of layers',
    'check.props': 'Make data and networks for a probe',
    'check.mistakes': 'Name the mistake behind a number', 'check.blocks': 'Check a block',
    'check.models': 'Check a model', 'check.losses': 'Check a loss or a metric',
    'check.data': 'Check a dataset', 'check.training': 'Check a training step or an evaluation',
    'check.command': 'Check a whole file',
    'cli.common': 'Write a command', 'cli.train': 'petseg_train', 'cli.evaluate': 'petseg_evaluate',
    'cli.predict': 'petseg_predict', 'cli.compare': 'petseg_compare', 'cli.export': 'petseg_export',
    'cli.check': 'petseg_check and petseg_check_data', 'cli.lab': 'petseg_lab',
    'book.pages': 'Write a chapter'}
INTRO = ('Every public function and class, by what it is for. The link leads to the page that '
         'builds it: there you find why it is so, its tests and, on the site under *API*, its '
         'parameters. Import it from the module named in the heading.')


def cells_of(path):
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    return [''.join(cell['source']) for cell in cells]


def chapters():
    """Each page that a module comes from or that the course has, in the sidebar's order

    Path, title, summary, and the module's name if it has one.
    """
    sidebar = (ROOT/'nbs'/'sidebar.yml').read_text(encoding='utf-8')
    for name in re.findall(r'href: ((?:course|workshop)/[\w/]+\.ipynb)', sidebar):
        cells = cells_of(ROOT/'nbs'/name)
        title, summary = re.match(r'# (.+)\n\n> (.+)', cells[0]).groups()
        module = re.search(r'^#\| default_exp ([\w.]+)', '\n'.join(cells), re.M)
        yield name, title, summary, module and module[1].removesuffix('.__init__')


def address(notebook):
    "Where nbdev puts a page of the site: without the number in front of its name"
    return re.sub(r'(^|/)\d+[a-zA-Z0-9]*_', r'\1', notebook).replace('.ipynb', '.html')


def meaning(symbol):
    "What a symbol is: its docstring, or of a constant its type and the beginning of its value"
    if callable(symbol): return inspect.getdoc(symbol).split('\n\n')[0].replace('\n', ' ')
    kind = type(symbol).__name__
    if isinstance(symbol, int): return f'{kind}: {symbol}'
    if isinstance(symbol, PurePath): return f'path: {symbol.name}'
    if isinstance(symbol, str) and len(symbol) < 40: return f'{kind}: {symbol}'
    if not isinstance(symbol, (dict, tuple, list)): return kind
    parts = [getattr(part, '__name__', str(part)) for part in symbol]
    return f"{kind}: {', '.join(parts[:6])}{', …' * (len(parts) > 6)}"


def symbols(module):
    "The public names of a module, in the order of its chapter, with what they are"
    found = import_module(f'petseg_nb.{module}')
    named = {name: getattr(found, name) for name in found.__all__}
    # not what it imports
    own = {name: symbol for name, symbol in named.items()
           if not callable(symbol) or symbol.__module__ == found.__name__}
    return [(name, symbol, meaning(symbol)) for name, symbol in own.items()]


def reference():
    "The cells of the reference page"
    yield ('# All symbols by task\n\n'
           '> The functions and classes of the package, each with the chapter that builds it.')
    yield INTRO
    for notebook, _, _, module in chapters():
        if not module: continue
        rows = ['| symbol | what it does |', '|---|---|']
        for name, symbol, text in symbols(module):
            anchor = f'#{name}' if callable(symbol) else ''
            rows.append(f'| [{name}]({notebook}{anchor}) | {text} |')
        yield f'## {TASKS[module]}\n\n`petseg_nb.{module}`\n\n' + '\n'.join(rows)


def llms():
    "The lines of llms.txt"
    config = ConfigParser(delimiters=['='])
    config.read(ROOT/'settings.ini', encoding='utf-8')
    cfg = config['DEFAULT']
    site = f"{cfg['doc_host']}{cfg['doc_baseurl']}"
    yield f"# {cfg['title']}\n\n> {cfg['description']}\n"
    commands = ', '.join(script.split('=')[0] for script in cfg['console_scripts'].split())
    yield f"Install: `pip install git+{cfg['git_url']}`. Commands: {commands}.\n\n## Chapters\n"
    for notebook, title, summary, _ in chapters():
        yield f"- [{title}]({site}/{address(notebook)}): {summary}"
    for _, _, _, module in chapters():
        if not module: continue
        yield f'\n## petseg_nb.{module}: {TASKS[module]}\n'
        for name, symbol, text in symbols(module):
            error = isinstance(symbol, type) and issubclass(symbol, BaseException)
            arguments = ''
            if callable(symbol) and not error:
                arguments = f"({', '.join(inspect.signature(symbol).parameters)})"
            yield f'- `{name}{arguments}`: {text}'


def notebook(cells):
    "A notebook of markdown cells as nbdev_clean leaves it"
    kernel = dict(display_name='python3', language='python', name='python3')
    made = [dict(cell_type='markdown', id=f'ref{i:05}', metadata={}, source=text.splitlines(True))
            for i, text in enumerate(cells)]
    made = dict(cells=made, metadata=dict(kernelspec=kernel), nbformat=4, nbformat_minor=5)
    return json.dumps(made, indent=1, ensure_ascii=False) + '\n'


if __name__ == '__main__':
    (ROOT/'nbs'/'reference.ipynb').write_text(notebook(reference()), encoding='utf-8')
    (ROOT/'nbs'/'llms.txt').write_text('\n'.join(llms()) + '\n', encoding='utf-8')
