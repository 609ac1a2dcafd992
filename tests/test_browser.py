"""Every chapter in a real JupyterLab in Chromium: opened and looked at, and run where it has explorers. DEVELOPERS.md names the traps."""
import json, re, shutil
from configparser import ConfigParser
import nbformat, pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from conftest import CHROMIUM, ROOT, has_explorers
from lab import Lab, copy_tree

playwright = pytest.importorskip('playwright.sync_api', reason='needs playwright: pip install playwright')
pytestmark = pytest.mark.skipif(not CHROMIUM, reason='needs Chromium: apt-get install chromium')

NBS = ROOT/'nbs'
CHAPTERS = sorted(p.relative_to(NBS).as_posix() for p in NBS.rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)
CONFIG = ConfigParser(delimiters=['='])
CONFIG.read(ROOT/'settings.ini', encoding='utf-8')
LEFT_OUT = rf"^#\|\s*({CONFIG['DEFAULT']['tst_flags'].replace(' ', '|')})\b" # as nbdev_test leaves them out
BADGE = 'https://colab.research.google.com/assets/colab-badge.svg' # the one thing that chapters show from elsewhere

# Asking pages nothing, staying as they are, and holding every cell in the page, also those out of sight
SETTINGS = {'@jupyterlab/apputils-extension/notification': {'fetchNews': 'false', 'checkForUpdates': False},
            '@jupyterlab/docmanager-extension/plugin': {'autosave': False},
            '@jupyterlab/notebook-extension/tracker': {'windowingMode': 'none', 'scrollPastEnd': False}}
RAW = [r'\$', r'\\\(', r'\\\[', r':::', r'\*\*', r'</?\w+[^>]*>', r'@(fig|tbl|eq|sec)-', r'\]\(', r'\{[#.]', r'```', r'\|\s*-{3}', r'(?m)^\s*#+ ']
DEAD = ['Error displaying widget', 'Error creating widget', 'Loading widget', 'Javascript Error', r'\w\(children=\(']

READY = """() => {
    const kernel = window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel;
    return kernel?.status == 'idle' && kernel.connectionStatus == 'connected'
}"""
RUN = """flagged => {
    const notebook = jupyterapp.shell.currentWidget.content, left_out = new RegExp(flagged, 'm')
    for (const cell of notebook.widgets)
        left_out.test(cell.model.sharedModel.getSource()) ? notebook.deselect(cell) : notebook.select(cell)
    window.finished = false
    jupyterapp.commands.execute('notebook:run-cell').then(() => { notebook.deselectAll(); window.finished = true })
}"""
RENDERED = """() => [...document.querySelectorAll('.jp-OutputArea-output img, .jp-RenderedMarkdown img')].every(image => image.complete)
    && !document.querySelector('.jp-MarkdownCell .jp-MarkdownOutput:empty')"""
HEIGHT = "() => document.querySelector('.jp-WindowedPanel-viewport').scrollHeight"
PAGE = """() => {
    const notebook = jupyterapp.shell.currentWidget.content, page = notebook.node
    const texts = (selector, without) => [...page.querySelectorAll(selector)].map(element => {
        const copy = element.cloneNode(true)
        copy.querySelectorAll(without).forEach(part => part.remove())
        return copy.textContent
    })
    const widget = 'application/vnd.jupyter.widget-view+json'
    return {
        cells: notebook.model.toJSON().cells,
        prose: texts('.jp-RenderedMarkdown', 'code, pre, mjx-container, .jp-RenderedMermaid, style'),
        outputs: texts('.jp-OutputArea-output', 'style, script'),
        formula_errors: texts('mjx-merror, mjx-container [style*="color: red"]', 'none'),
        mermaids: page.querySelectorAll('.jp-RenderedMermaid:not(.jp-mod-warning) img').length,
        broken_images: [...page.querySelectorAll('img')].filter(image => !image.naturalWidth).map(image => image.src),
        missing_widgets: notebook.widgets.filter(cell => cell.model.sharedModel.toJSON().outputs?.some(o => o.data?.[widget])
            && ![...cell.node.querySelectorAll('.jupyter-widgets')].some(e => e.offsetHeight)).map(cell => cell.model.sharedModel.getSource())
    }
}"""
DRAWS = """new MutationObserver(changes => { // counts how often a picture of an explorer is drawn
    for (const {target} of changes) if (target.matches('.petseg-picture')) target.dataset.draws = +(target.dataset.draws ?? 0) + 1
}).observe(document, {subtree: true, attributes: true, attributeFilter: ['src']})"""


def control(box, label): return box.locator('.widget-inline-hbox, .widget-toggle-buttons', has_text=re.compile(f'^{label}'))
def choose(box, label): control(box, label).locator('select').select_option(index=1)
def press(box, label): control(box, label).locator('button:not(.mod-active)').last.click()

def drag(box, label):
    "Take the knob of a slider, and let it go 80 pixels to the left or right"
    knob = control(box, label).locator('.noUi-handle')
    knob.scroll_into_view_if_needed()
    place, middle = knob.bounding_box(), control(box, label).locator('.noUi-base').bounding_box()
    x, y = place['x'] + place['width'] / 2, place['y'] + place['height'] / 2
    box.page.mouse.move(x, y)
    box.page.mouse.down()
    box.page.mouse.move(x + (80 if x < middle['x'] + middle['width'] / 2 else -80), y, steps=4)
    box.page.mouse.up()

def upload(box, label):
    with box.page.expect_file_chooser() as chooser: box.get_by_role('button', name=label).click()
    chooser.value.set_files(ROOT/'nbs/images/pets.png')

def watch(box, label): "It moves by itself, while a model trains"

WIDGETS = dict(pets=(choose, 'breed'), layers=(press, 'layer'), maps=(choose, 'layer'), checkpoints=(drag, 'rank'),
               prediction=(upload, 'Choose a picture'), monitor=(watch, ''))
WITHOUT_KERNEL = dict(threshold='threshold', losses='x', augmentation='seed') # a slider of each
DRAWN = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(value => value)"


def explorers(page):
    "Each explorer on the page: its name and its box"
    for box in page.locator('[class*=petseg-]', has=page.locator('.petseg-picture')).all():
        yield re.search(r'petseg-(\w+)', box.get_attribute('class'))[1], box
    for box in page.locator('.petseg-web').all(): yield box.get_attribute('id').removeprefix('petseg-'), box


def is_stuck(name, box):
    "Whether using an explorer leaves its picture as it was"
    return script_is_stuck(name, box) if name in WITHOUT_KERNEL else widget_is_stuck(name, box)


def script_is_stuck(name, box):
    canvas, slider = box.locator('canvas').first, box.locator(f'[name={WITHOUT_KERNEL[name]}]')
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
    try: playwright.expect(picture).to_have_attribute('data-draws', re.compile(rf'^(?!{before}$)'), timeout=20_000)
    except AssertionError: return True


@pytest.fixture(scope='session')
def lab(tmp_path_factory):
    "JupyterLab on a copy of the tree: one for each of pytest's workers"
    folder = tmp_path_factory.mktemp('lab')
    for name, values in SETTINGS.items():
        (folder/'settings'/name).parent.mkdir(parents=True, exist_ok=True)
        (folder/'settings'/f'{name}.jupyterlab-settings').write_text(json.dumps(values))
    tree = copy_tree(folder/'tree')
    lab = Lab(tree, folder/'home', '--LabApp.expose_app_in_browser=True', '--LabApp.extension_manager=readonly',
              JUPYTERLAB_SETTINGS_DIR=str(folder/'settings'))
    lab.folder = tree/'nbs'
    yield lab
    assert lab.stop(), lab.log.read_text()


@pytest.fixture
def page(lab, chromium):
    "A new page, which notes requests to elsewhere; its kernels end with it"
    page = chromium.new_page(viewport={'width': 1250, 'height': 1000})
    page.outside = set()
    page.add_init_script(DRAWS)
    page.on('request', lambda request: page.outside.add(request.url) if not request.url.startswith((lab.url, 'data:', 'blob:')) else None)
    yield page
    page.close()
    lab.end_kernels()


def open_chapter(page, lab, name, run=True):
    "Open a chapter, run its cells but the flagged ones, which keep what is stored, and wait until the page shows everything"
    page.goto(f'{lab.url}/lab/tree/{name}?reset&token=test')
    page.wait_for_function(READY, timeout=120_000) # an earlier 'run' would be dropped without a word
    page.evaluate("() => jupyterapp.commands.execute('application:toggle-left-area')")
    if run:
        page.evaluate(RUN, LEFT_OUT)
        page.wait_for_function(f'() => window.finished && ({READY})()', timeout=300_000)
    page.wait_for_function(RENDERED, timeout=60_000)


def screenshots(page, name):
    "The whole page, in pictures of 1600 pixels height"
    folder = ROOT/'test-artifacts'/name.removesuffix('.ipynb')
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for _ in range(2): # in the first round the scroll bar goes, and what is as wide as the page grows
        height = page.evaluate(HEIGHT) + 150 # JupyterLab's bars stand above and below the notebook
        page.set_viewport_size({'width': 1250, 'height': height})
        page.wait_for_timeout(500)
    for i, y in enumerate(range(0, height, 1600)):
        page.screenshot(path=folder/f'{i:02}.png', clip={'x': 0, 'y': y, 'width': 1250, 'height': min(1600, height - y)})


def source(cell): return ''.join(cell['source'])
def found(patterns, texts): return [match[0] for pattern in patterns for text in texts for match in re.finditer(pattern, text)]


def faults(page, run=True):
    "What is wrong on the page: kind and evidence"
    seen = page.evaluate(PAGE)
    code = [c for c in seen['cells'] if c['cell_type'] == 'code' and source(c).strip()]
    is_error = lambda c: any(o['output_type'] == 'error' for o in c['outputs']) and 'shows-error' not in c['metadata'].get('tags', [])
    diagrams = sum(source(c).count('```mermaid') for c in seen['cells'] if c['cell_type'] == 'markdown')
    kinds = {'error': [source(c) for c in code if is_error(c)],
             'not run': [source(c) for c in code if run and c['execution_count'] is None and not re.search(LEFT_OUT, source(c), re.M)],
             'raw markup': found(RAW, seen['prose']),
             'formula': seen['formula_errors'],
             'dead widget': found(DEAD, seen['outputs']) + seen['missing_widgets'],
             'diagram': [f"{seen['mermaids']} of {diagrams} drawn"] if seen['mermaids'] != diagrams else [],
             'stuck explorer': [name for name, box in explorers(page) if is_stuck(name, box)],
             'broken image': [image for image in seen['broken_images'] if image != BADGE],
             'request to elsewhere': sorted(page.outside - {BADGE})}
    return {kind: evidence for kind, evidence in kinds.items() if evidence}


@pytest.mark.parametrize('name', CHAPTERS)
def test_chapter_in_jupyterlab(page, lab, name):
    run = has_explorers(NBS/name)
    open_chapter(page, lab, name, run)
    screenshots(page, name)
    assert faults(page, run) == {}
    here = {'workshop/show/look_inside.ipynb': {'layers', 'maps'}, 'workshop/show/explore.ipynb': set(WIDGETS) - {'layers', 'maps'},
            'workshop/show/web_explorers.ipynb': set(WITHOUT_KERNEL)}
    if name in here: assert {box for box, _ in explorers(page)} == here[name]


STUCK = """from ipywidgets import Image, IntSlider, VBox
VBox([IntSlider(description='rank'), Image(value=b'', _dom_classes=['petseg-picture'])], _dom_classes=['petseg-checkpoints'])"""
STILL = """from IPython.display import HTML
HTML('<div class="petseg-web" id="petseg-losses"><input type="range" name="x" max="9"><canvas></canvas></div><script>'
     'document.querySelector("canvas").getContext("2d").fillRect(0, 0, 9, 9)</script>')"""

def test_faults_are_seen(page, lab):
    cells = [new_markdown_cell('A $$ b, **c **, @fig-a, [d](e f), $\\undefined{x}$\n::: {.callout-note}\n<b>fine</b>'),
             new_markdown_cell('![](nowhere.png) ![](https://elsewhere.example/a.png)\n\n```mermaid\nflowchart nonsense -->\n```'),
             new_code_cell('#| slow\nleft out', outputs=[new_output('display_data', {'application/vnd.jupyter.widget-view+json': dict(model_id='gone')})]),
             new_code_cell(STUCK), new_code_cell(STILL), new_code_cell('print("IntSlider(children=(")'), new_code_cell('1/0'), new_code_cell('2')]
    kernel = dict(name='python3', language='python', display_name='python3') # without it JupyterLab asks for one
    nbformat.write(new_notebook(cells=cells, metadata=dict(kernelspec=kernel)), lab.folder/'faults.ipynb')
    open_chapter(page, lab, 'faults.ipynb')
    seen = faults(page)
    assert seen['stuck explorer'] == ['checkpoints', 'losses']
    assert set(seen) == {'error', 'not run', 'raw markup', 'formula', 'dead widget', 'diagram', 'stuck explorer', 'broken image',
                         'request to elsewhere'}
