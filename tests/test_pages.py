"""Pages in Chromium: what axe finds wrong, explorers that run without a kernel, and, where `nbdev_docs` has rendered the site, each page of it."""
import json, shutil, subprocess, tarfile
import numpy as np
import pytest
from conftest import CHROMIUM, ROOT

playwright = pytest.importorskip('playwright.sync_api', reason='needs playwright: pip install playwright')
pytestmark = pytest.mark.skipif(not CHROMIUM, reason='needs Chromium: apt-get install chromium')

SITE = ROOT/'_docs'
PAGES = sorted(p.relative_to(SITE).as_posix() for p in SITE.rglob('*.html') if p.parent.name != 'demo') if SITE.is_dir() else []
AXE = 'axe-core@4.10.3'
SERIOUS = """async () => (await axe.run()).violations.filter(v => ['serious', 'critical'].includes(v.impact))
    .map(v => `${v.id}: ${v.nodes.map(n => n.html.slice(0, 150)).slice(0, 3).join(' ')} (${v.nodes.length})`)"""


@pytest.fixture(scope='session')
def axe(tmp_path_factory):
    "The source of axe-core, from npm"
    folder = tmp_path_factory.mktemp('axe')
    if not shutil.which('npm'): pytest.skip('needs npm, for axe-core')
    pack = subprocess.run(['npm', 'pack', '--silent', AXE], cwd=folder, capture_output=True, text=True)
    if pack.returncode: pytest.skip('npm has no axe-core: no network?')
    with tarfile.open(folder/pack.stdout.strip()) as tar: return tar.extractfile('package/axe.min.js').read().decode()


def serious(page, axe):
    page.evaluate(axe)
    return page.evaluate(SERIOUS)


# Explorers that need no kernel

@pytest.fixture(scope='module')
def explorers(chromium):
    "A page of what the notebook stored"
    cells = json.loads((ROOT/'nbs/workshop/show/web_explorers.ipynb').read_text(encoding='utf-8'))['cells']
    outputs = [''.join(o['data']['text/html']) for c in cells for o in c.get('outputs', []) if 'text/html' in o.get('data', {})]
    page, page_errors = chromium.new_page(), []
    page.on('pageerror', lambda error: page_errors.append(str(error)))
    page.set_content('<html lang="en"><title>explorers</title><main><h1>Explorers</h1>' + ''.join(outputs) + '</main></html>')
    page.locator('#petseg-losses [role=status]:not(:empty)').wait_for()
    yield page
    assert page_errors == []
    page.close()


def move(page, explorer, **values):
    "Set controls, and give back what the explorer says"
    box = page.locator(f'#petseg-{explorer}')
    for name, value in values.items():
        control = box.locator(f'[name={name}]')
        if control.evaluate('e => e.tagName') == 'SELECT': control.select_option(str(value))
        else: control.fill(str(value))
    return box.locator('[role=status]').inner_text()


def canvas(page, explorer, i=0):
    "What a canvas shows: `(H, W, 3)`"
    return np.array(page.locator(f'#petseg-{explorer} canvas').nth(i).evaluate("""c => {
        const {data} = c.getContext('2d').getImageData(0, 0, c.width, c.height)
        return Array.from({length: c.height}, (_, y) => Array.from({length: c.width}, (_, x) => [...data.slice(4 * (y * c.width + x), 4 * (y * c.width + x) + 3)]))
    }"""))


def stored(page, explorer, name):
    "A stored picture as an array"
    import base64, io
    from PIL import Image
    source = page.locator(f'#petseg-{explorer} [data-name={name}]').get_attribute('src')
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(',')[2]))))


@pytest.mark.parametrize('threshold', [.05, .5, .93])
def test_threshold_counts_as_the_package_does(explorers, threshold):
    import torch
    from petseg_nb.masks import error_map
    from petseg_nb.metrics import confusion, scores
    answer = stored(explorers, 'threshold', 'answer')
    pred, mask = answer[..., 0] > 255 * threshold, answer[..., 1].copy()
    swept = scores(confusion(torch.tensor(pred)[None, None], torch.tensor(mask)[None, None]))
    said = move(explorers, 'threshold', threshold=threshold)
    assert said.startswith(f"Dice {swept['dice'].item():.3f}, IoU {swept['iou'].item():.3f}.")
    assert f'Missed {(~pred & (mask == 1)).sum()}, false {(pred & (mask == 0)).sum()} pixels' in said
    assert (canvas(explorers, 'threshold') == np.round(255 * error_map(pred, mask))).all()


@pytest.mark.parametrize('x, y, radius, certainty', [(24, 24, 12, 4), (5, 40, 6, 12)])
def test_losses_are_those_of_the_package(explorers, x, y, radius, certainty):
    import torch
    from petseg_nb.losses import bce_loss, dice_loss
    mask = torch.tensor(stored(explorers, 'losses', 'truth') > 0)[None, None].float()
    row, column = torch.meshgrid(*(torch.arange(float(side)) for side in mask.shape[2:]), indexing='ij')
    z = certainty * torch.tanh((radius - torch.hypot(column - x, row - y)) / 2)[None, None].requires_grad_()
    losses = bce_loss(z, mask), dice_loss(z, mask)
    said = move(explorers, 'losses', x=x, y=y, radius=radius, certainty=certainty)
    assert said == f'BCE {losses[0]:.3f}, Dice loss {losses[1]:.3f}, sum {sum(losses):.3f}'
    for i, loss in enumerate(losses, 1):
        slope = (z.numel() * torch.autograd.grad(loss, z, retain_graph=True)[0][0, 0]).clamp(-1, 1).numpy()
        assert abs(canvas(explorers, 'losses', i)[..., 1] - (255 - 255 * abs(slope))).max() <= 1 # green falls with steepness


def test_augmentation_shows_the_draw_that_is_asked_for(explorers):
    sheet = stored(explorers, 'augmentation', 'sheet').astype(int)
    move(explorers, 'augmentation', preset=1, seed=3)
    shown = canvas(explorers, 'augmentation')
    high, wide = shown.shape[:2]
    tile = lambda row, column: sheet[high * row:high * (row + 1), wide * column:wide * (column + 1)]
    assert abs(shown - tile(1, 3)).mean() < 3 < abs(shown - tile(1, 4)).mean() # JPEG is decoded by another library


def test_explorers_are_accessible(explorers, axe):
    assert serious(explorers, axe) == []


# The page made by hand

@pytest.mark.parametrize('theme', ['light', 'dark'])
def test_demo_is_accessible(chromium, axe, serve, theme):
    page = chromium.new_page(color_scheme=theme)
    page.goto(f"{serve(ROOT/'nbs')}/demo/index.html")
    # As with a picture, which needs the network that git does not hold
    page.evaluate("document.querySelector('#result').hidden = false; document.querySelector('#picture').ariaLabel = 'a cat'")
    assert serious(page, axe) == []
    page.close()


# The rendered site

FAULTS = """width => {
    const shown = selector => [...document.querySelectorAll(selector)].filter(e => e.getClientRects().length)
    const name = e => (e.innerText || e.outerHTML).trim().slice(0, 60)
    const wide = selector => shown(selector).filter(e => e.scrollWidth > e.clientWidth + 1).map(name)
    const right = document.documentElement.clientWidth
    const main = document.querySelector('main'), margin = document.querySelector('#quarto-margin-sidebar')
    const edge = width >= 1280 ? main.getBoundingClientRect().right + 1 : right
    const ids = [...document.querySelectorAll('main [id]')].map(e => e.id)
    const found = {
        'page scrolls sideways': document.documentElement.scrollWidth > right ? [document.documentElement.scrollWidth] : [],
        'code scrolls sideways': width >= 1280 ? wide('main pre') : [],
        'table leaves its column': shown('main table').filter(e => width >= 1280 && e.getBoundingClientRect().right > edge).map(name),
        'word broken': width >= 1280 ? shown('main td code, main td a').filter(e => !e.innerText.includes(' ') && e.getClientRects().length > 1
            && !/[\\s/.(),=…|-]/.test(e.innerText)).map(name) : [],
        'small text in diagram': shown('main svg.mermaid-js, main .mermaid svg').flatMap(svg => {
            const scale = svg.getBoundingClientRect().width / (svg.viewBox.baseVal.width || 1)
            return 16 * scale < 12 ? [`${(16 * scale).toFixed(1)} pixels`] : []
        }),
        'link in link': shown('main a').filter(e => /\\]\\(/.test(e.innerText)).map(name),
        'doubled id': ids.filter((id, i) => ids.indexOf(id) != i),
        'empty output': shown('main .cell-output pre, main .cell-output-display').filter(e => !e.innerText.trim() && !e.querySelector('img, svg, canvas, div')).map(e => e.outerHTML.slice(0, 80)),
        'caption without its figure': shown('main figcaption').filter(e => /^(\\([a-z]\\)|Figure \\d+:?)$/.test(e.innerText.trim())).map(name),
        'nameless fold': [...document.querySelectorAll('main summary')].filter(e => ['Code', 'Exported source'].includes(e.innerText)).map(name),
        'broken image': [...document.images].filter(i => i.complete && !i.naturalWidth && !i.hidden).map(i => i.src.slice(0, 80)),
        'image without text': [...document.querySelectorAll('main img')].filter(i => !i.alt && !i.hidden).map(i => i.src.slice(-40)),
        'small logo': shown('.navbar-logo').filter(e => e.getBoundingClientRect().height < 16).map(name),
        'raw TeX or markup': shown('main p, main li, main td').filter(e => /\\\\\\(|\\$\\$|\\]\\(http|:::/.test(e.cloneNode(true).innerText.replace(/`.*?`/g, '')) && !e.querySelector('code')).map(name),
    }
    return Object.fromEntries(Object.entries(found).filter(([, evidence]) => evidence.length))
}"""


@pytest.mark.skipif(not PAGES, reason='the site is not rendered: run nbdev_docs, which needs Quarto')
@pytest.mark.parametrize('theme', ['light', 'dark'])
@pytest.mark.parametrize('name', PAGES or ['none'])
def test_rendered_page(chromium, axe, serve, name, theme):
    context = chromium.new_context(color_scheme=theme)
    context.add_init_script(f"localStorage.setItem('quarto-color-scheme', '{'alternate' if theme == 'dark' else 'default'}')")
    page, errors = context.new_page(), []
    page.on('console', lambda message: errors.append(message.text) if message.type == 'error' else None)
    page.goto(f'{serve(SITE)}/{name}', wait_until='networkidle')
    found = {}
    for width in (390, 1280, 1920):
        page.set_viewport_size({'width': width, 'height': 900})
        if faults := page.evaluate(FAULTS, width): found[width] = faults
    if trouble := serious(page, axe): found['axe'] = trouble
    if errors: found['console'] = errors
    context.close()
    assert found == {}
