"""The pages in a real JupyterLab in Chromium: each is opened and looked at, and explorers are used.

DEVELOPERS.md names the traps. No page is run here: nbdev_test does that."""
import json, re, shutil
import nbformat, pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from conftest import CHROMIUM, PAGES, ROOT, source
from lab import Lab, copy_tree

playwright = pytest.importorskip('playwright.sync_api', reason='needs playwright')
pytestmark = pytest.mark.skipif(not CHROMIUM, reason='needs Chromium: apt-get install chromium')

BADGE = 'https://colab.research.google.com/assets/colab-badge.svg' # the one request to elsewhere

# Asking pages nothing, staying as they are, and holding every cell in the page, also unseen ones
SETTINGS = {
    '@jupyterlab/apputils-extension/notification': {'fetchNews': 'false', 'checkForUpdates': False},
    '@jupyterlab/docmanager-extension/plugin': {'autosave': False},
    '@jupyterlab/notebook-extension/tracker': {'windowingMode': 'none', 'scrollPastEnd': False}}
RAW = [r'\$', r'\\\(', r'\\\[', r':::', r'\*\*', r'</?\w+[^>]*>', r'@(fig|tbl|eq|sec)-', r'\]\(',
       r'\{[#.]', r'```', r'\|\s*-{3}', r'(?m)^\s*#+ ']
DEAD = ['Error displaying widget', 'Error creating widget', 'Loading widget', 'Javascript Error',
        r'\w\(children=\(']

UP = '() => window.jupyterapp?.commands.hasCommand("docmanager:open")'
OPEN = """path => {
    jupyterapp.commands.execute('docmanager:open', {path})
        .then(opened => { window.opened = opened })
}"""
CLOSE = """() => {
    window.opened = null
    for (const widget of [...jupyterapp.shell.widgets('main')]) widget.dispose()
}"""
NO_KERNEL = "() => { jupyterapp.serviceManager.sessions.startNew = () => new Promise(() => {}) }"
KERNEL = "() => { delete jupyterapp.serviceManager.sessions.startNew }"
SHOWN = "path => window.opened?.context.path == path && window.opened.isRevealed"
READY = """() => {
    const kernel = window.opened?.sessionContext.session?.kernel
    return kernel?.status == 'idle' && kernel.connectionStatus == 'connected'
}"""
RUN = """() => {
    window.finished = false
    jupyterapp.commands.execute('notebook:run-all-cells').then(() => { window.finished = true })
}"""
RENDERED = """() => {
    const images = '.jp-OutputArea-output img, .jp-RenderedMarkdown img'
    return [...document.querySelectorAll(images)].every(image => image.complete)
        && document.querySelector('.jp-MarkdownCell .jp-MarkdownOutput')
        && !document.querySelector('.jp-MarkdownCell .jp-MarkdownOutput:empty')
}"""
HEIGHT = "() => document.querySelector('.jp-WindowedPanel-viewport').scrollHeight"
PAGE = """() => {
    const notebook = window.opened.content, page = notebook.node
    const texts = (selector, without) => [...page.querySelectorAll(selector)].map(element => {
        const copy = element.cloneNode(true)
        copy.querySelectorAll(without).forEach(part => part.remove())
        return copy.textContent
    })
    const widget = 'application/vnd.jupyter.widget-view+json'
    const isWidget = cell => cell.model.sharedModel.toJSON().outputs?.some(o => o.data?.[widget])
    const boxes = cell => [...cell.node.querySelectorAll('.jupyter-widgets')]
    const isSeen = cell => boxes(cell).some(box => box.offsetHeight)
    return {
        cells: notebook.model.toJSON().cells,
        prose: texts('.jp-RenderedMarkdown',
                     'code, pre, mjx-container, .jp-RenderedMermaid, style'),
        outputs: texts('.jp-OutputArea-output', 'style, script'),
        formula_errors: texts('mjx-merror, mjx-container [style*="color: red"]', 'none'),
        mermaids: page.querySelectorAll('.jp-RenderedMermaid:not(.jp-mod-warning) img').length,
        broken_images: [...page.querySelectorAll('img')].filter(image => !image.naturalWidth)
            .map(image => image.src),
        missing_widgets: notebook.widgets.filter(cell => isWidget(cell) && !isSeen(cell))
            .map(cell => cell.model.sharedModel.getSource())
    }
}"""
DRAWS = """new MutationObserver(changes => { // counts how often a picture of an explorer is drawn
    for (const {target} of changes)
        if (target.matches('.petseg-picture'))
            target.dataset.draws = +(target.dataset.draws ?? 0) + 1
}).observe(document, {subtree: true, attributes: true, attributeFilter: ['src']})"""


def control(box, label):
    return box.locator('.widget-inline-hbox, .widget-toggle-buttons',
                       has_text=re.compile(f'^{label}'))

def choose(box, label): control(box, label).locator('select').select_option(index=1)
def press(box, label): control(box, label).locator('button:not(.mod-active)').last.click()

def drag(box, label):
    "Take the knob of a slider, and let it go 80 pixels to the left or right"
    knob = control(box, label).locator('.noUi-handle')
    knob.scroll_into_view_if_needed()
    place, base = knob.bounding_box(), control(box, label).locator('.noUi-base').bounding_box()
    x, y = place['x'] + place['width'] / 2, place['y'] + place['height'] / 2
    box.page.mouse.move(x, y)
    box.page.mouse.down()
    box.page.mouse.move(x + (80 if x < base['x'] + base['width'] / 2 else -80), y, steps=4)
    box.page.mouse.up()

def upload(box, label):
    with box.page.expect_file_chooser() as chooser: box.get_by_role('button', name=label).click()
    chooser.value.set_files(ROOT/'nbs/images/pets.png')

def watch(box, label): "It moves by itself, while a model trains"

WIDGETS = dict(pets=(drag, 'opacity'), layers=(press, 'layer'), maps=(choose, 'layer'),
               prediction=(upload, 'Choose a picture'), monitor=(watch, ''))
WITHOUT_KERNEL = dict(threshold='threshold', losses='x', augmentation='seed') # a slider of each
DRAWN = """canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
    .data.some(value => value)"""


def explorers(page):
    "Each explorer on the page: its name and its box"
    for box in page.locator('[class*=petseg-]', has=page.locator('.petseg-picture')).all():
        yield re.search(r'petseg-(\w+)', box.get_attribute('class'))[1], box
    for box in page.locator('.petseg-web').all():
        yield box.get_attribute('id').removeprefix('petseg-'), box


def stuck(page):
    "The explorers whose picture stays as it was when they are used"
    kinds = {name: script_is_stuck for name in WITHOUT_KERNEL}
    return [name for name, box in explorers(page) if kinds.get(name, widget_is_stuck)(name, box)]


def script_is_stuck(name, box):
    canvas = box.locator('canvas').first
    slider = box.locator(f'[name={WITHOUT_KERNEL[name]}]')
    try: box.page.wait_for_function(DRAWN, arg=canvas.element_handle(), timeout=20_000)
    except playwright.TimeoutError: return True
    before = canvas.evaluate('canvas => canvas.toDataURL()')
    slider.fill(slider.get_attribute('max'))
    return canvas.evaluate('canvas => canvas.toDataURL()') == before


def widget_is_stuck(name, box):
    action, label = WIDGETS[name]
    picture = box.locator('.petseg-picture')
    before = '1' if action is watch else picture.get_attribute('data-draws') or '0'
    action(box, label)
    changed = re.compile(rf'^(?!{before}$)')
    try: playwright.expect(picture).to_have_attribute('data-draws', changed, timeout=20_000)
    except AssertionError: return True


@pytest.fixture(scope='session')
def lab(tmp_path_factory):
    "JupyterLab on a copy of the tree: one for each of pytest's workers"
    folder = tmp_path_factory.mktemp('lab')
    for name, values in SETTINGS.items():
        file = folder/'settings'/f'{name}.jupyterlab-settings'
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    tree = copy_tree(folder/'tree')
    lab = Lab(tree, folder/'home', '--LabApp.expose_app_in_browser=True',
              '--LabApp.extension_manager=readonly', JUPYTERLAB_SETTINGS_DIR=str(folder/'settings'))
    lab.folder = tree/'nbs'
    yield lab
    assert lab.stop(), lab.log.read_text()


@pytest.fixture(scope='session')
def opened_lab(lab, chromium):
    "JupyterLab in the browser, opened once, since loading it takes longer than looking at a page"
    page = chromium.new_page(viewport=dict(width=1250, height=1000))
    page.outside = set()
    page.add_init_script(DRAWS)
    page.on('request', lambda request: request.url.startswith((lab.url, 'data:', 'blob:'))
            or page.outside.add(request.url))
    page.goto(f'{lab.url}/lab?reset&token=test')
    page.wait_for_function(UP, timeout=120_000)
    page.evaluate("() => jupyterapp.commands.execute('application:toggle-left-area')")
    yield page
    page.close()


@pytest.fixture
def page(opened_lab, lab):
    "JupyterLab with nothing open, which notes requests to elsewhere; kernels end with the test"
    opened_lab.outside.clear()
    yield opened_lab
    opened_lab.evaluate(CLOSE)
    opened_lab.set_viewport_size(dict(width=1250, height=1000))
    lab.end_kernels()


def open_chapter(page, name):
    "Open a notebook, and wait until the page shows all that is stored in it"
    page.evaluate(OPEN, name)
    page.wait_for_function(SHOWN, arg=name, timeout=60_000)
    page.wait_for_function(RENDERED, timeout=60_000)


def run_cells(page):
    page.wait_for_function(READY, timeout=120_000) # before, a run would be dropped without a word
    page.evaluate(RUN)
    page.wait_for_function(f'() => window.finished && ({READY})()', timeout=300_000)
    page.wait_for_function(RENDERED, timeout=60_000)


def screenshots(page, name):
    "The whole page, in pictures of 1600 pixels height"
    folder = ROOT/'test-artifacts'/name.removesuffix('.ipynb')
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for _ in range(2): # in the first round the scroll bar goes, and what fills the width grows
        height = page.evaluate(HEIGHT) + 150 # JupyterLab's bars stand above and below the notebook
        page.set_viewport_size(dict(width=1250, height=height))
        page.wait_for_timeout(500)
    for i, y in enumerate(range(0, height, 1600)):
        clip = dict(x=0, y=y, width=1250, height=min(1600, height - y))
        page.screenshot(path=folder/f'{i:02}.png', clip=clip)


def found(patterns, texts):
    matches = (re.finditer(pattern, text) for pattern in patterns for text in texts)
    return [match[0] for some in matches for match in some]


def is_error(cell):
    failed = any(output['output_type'] == 'error' for output in cell['outputs'])
    return failed and 'shows-error' not in cell['metadata'].get('tags', [])


def faults(page):
    "What is wrong on the page: kind and evidence"
    seen = page.evaluate(PAGE)
    code = [c for c in seen['cells'] if c['cell_type'] == 'code' and source(c).strip()]
    prose = [source(c) for c in seen['cells'] if c['cell_type'] == 'markdown']
    drawn, diagrams = seen['mermaids'], sum(text.count('```mermaid') for text in prose)
    kinds = {'error': [source(c) for c in code if is_error(c)],
             'raw markup': found(RAW, seen['prose']),
             'formula': seen['formula_errors'],
             'dead widget': found(DEAD, seen['outputs']) + seen['missing_widgets'],
             'diagram': [f'{drawn} of {diagrams} drawn'] if drawn != diagrams else [],
             'broken image': [image for image in seen['broken_images'] if image != BADGE],
             'request to elsewhere': sorted(page.outside - {BADGE})}
    return {kind: evidence for kind, evidence in kinds.items() if evidence}


@pytest.fixture
def no_kernel(page):
    "Pages are only looked at: that their kernel starts would be a second for each"
    page.evaluate(NO_KERNEL)
    yield
    page.evaluate(KERNEL)


@pytest.mark.parametrize('name', PAGES)
def test_page_in_jupyterlab(page, no_kernel, name, request):
    open_chapter(page, name)
    for _ in range(40): # formulas and diagrams come last
        if not (found := faults(page)): break
        page.wait_for_timeout(250)
    if found or request.config.getoption('pictures'): screenshots(page, name)
    assert found == {}


def write_notebook(path, cells):
    kernel = dict(name='python3', language='python', display_name='python3') # or JupyterLab asks
    nbformat.write(new_notebook(cells=cells, metadata=dict(kernelspec=kernel)), path)


EXPLORERS = """import tempfile
from pathlib import Path
import torch
from IPython.display import HTML
from petseg_nb.core.config import TrainConfig
from petseg_nb.data import pet_dataloaders, scan_pets
from petseg_nb.datasets.toy import make_toy_pets
from petseg_nb.checkpoints import save_model
from petseg_nb.show.explore import TrainingMonitor, explore_pets, explore_prediction
from petseg_nb.show.look_inside import explore_layers, explore_maps
from petseg_nb.show.web_explorers import web_augmentation, web_losses, web_threshold
from petseg_nb.training import fit
from petseg_nb.unet import UNet

folder = Path(tempfile.mkdtemp())
root = make_toy_pets(folder/'toy_pets', n=24)
records, loaders = scan_pets(root), pet_dataloaders(root, 64, 4)
images, masks = next(iter(loaders['train'])) # (4, 3, 64, 64), (4, 1, 64, 64)
config = TrainConfig(width=4, size=64, epochs=8, precision='fp32', device='cpu')
model = UNet(width=4)
save_model(model, config, folder/'a.safetensors')
---
explore_pets(root)
---
explore_layers({'UNet': model}, images[0])
---
explore_maps(model, images, masks)
---
explore_prediction(folder/'a.safetensors', records[0].image)
---
monitor = TrainingMonitor(images, masks)
display(monitor.box)
fit(model, loaders, config, quiet=True, callbacks=[monitor]);
---
HTML(web_losses(masks[0, 0].numpy()))
---
picture = images[0].permute(1, 2, 0).numpy() # (64, 64, 3)
HTML(web_threshold(picture, torch.rand(64, 64).numpy(), masks[0, 0].numpy()))
---
HTML(web_augmentation(picture, masks[0, 0].numpy()))"""


def test_explorers_answer(page, lab):
    cells = map(new_code_cell, EXPLORERS.split('\n---\n'))
    write_notebook(lab.folder/'explorers.ipynb', [new_markdown_cell('# Explorers'), *cells])
    open_chapter(page, 'explorers.ipynb')
    run_cells(page)
    assert faults(page) == {}
    assert {name for name, _ in explorers(page)} == {*WIDGETS, *WITHOUT_KERNEL}
    assert stuck(page) == []


STUCK = """from ipywidgets import Image, IntSlider, VBox
VBox([IntSlider(description='opacity'), Image(value=b'', _dom_classes=['petseg-picture'])],
     _dom_classes=['petseg-pets'])"""
STILL = """from IPython.display import HTML
HTML('<div class="petseg-web" id="petseg-losses"><input type="range" name="x" max="9">'
     '<canvas></canvas></div><script>'
     'document.querySelector("canvas").getContext("2d").fillRect(0, 0, 9, 9)</script>')"""
MARKUP = """A $$ b, **c **, @fig-a, [d](e f), $\\undefined{x}$
::: {.callout-note}
<b>fine</b>"""
PICTURES = """![](nowhere.png) ![](https://elsewhere.example/a.png)

```mermaid
flowchart nonsense -->
```"""
GONE = {'application/vnd.jupyter.widget-view+json': dict(model_id='gone')}


def test_faults_are_seen(page, lab):
    code = [STUCK, STILL, 'print("IntSlider(children=(")', '1/0']
    write_notebook(lab.folder/'faults.ipynb', [
        new_markdown_cell(MARKUP), new_markdown_cell(PICTURES), *map(new_code_cell, code),
        new_code_cell('', outputs=[new_output('display_data', GONE)])])
    open_chapter(page, 'faults.ipynb')
    run_cells(page)
    assert stuck(page) == ['pets', 'losses']
    assert set(faults(page)) == {'error', 'raw markup', 'formula', 'dead widget', 'diagram',
                                 'broken image', 'request to elsewhere'}
