"""Pages in Chromium: what axe finds wrong, and explorers that run without a kernel.

Where `nbdev_docs` has rendered the site, each page of it is looked at too."""
import json, shutil, subprocess, tarfile
import numpy as np
import pytest
from conftest import CHROMIUM, ROOT

playwright = pytest.importorskip('playwright.sync_api',
                                 reason='needs playwright: pip install playwright')
pytestmark = pytest.mark.skipif(not CHROMIUM, reason='needs Chromium: apt-get install chromium')

SITE = ROOT/'_docs'
RENDERED = SITE.rglob('*.html') if SITE.is_dir() else []
PAGES = sorted(p.relative_to(SITE).as_posix() for p in RENDERED if p.parent.name != 'demo')
AXE = 'axe-core@4.10.3'
SERIOUS = """async () => (await axe.run()).violations
    .filter(v => ['serious', 'critical'].includes(v.impact))
    .map(v => {
        const shown = v.nodes.map(n => n.html.slice(0, 150)).slice(0, 3).join(' ')
        return `${v.id}: ${shown} (${v.nodes.length})`
    })"""


@pytest.fixture(scope='session')
def axe(tmp_path_factory):
    "The source of axe-core, from npm"
    folder = tmp_path_factory.mktemp('axe')
    if not shutil.which('npm'): pytest.skip('needs npm, for axe-core')
    pack = subprocess.run(['npm', 'pack', '--silent', AXE], cwd=folder, capture_output=True,
                          text=True)
    if pack.returncode: pytest.skip('npm has no axe-core: no network?')
    with tarfile.open(folder/pack.stdout.strip()) as tar:
        return tar.extractfile('package/axe.min.js').read().decode()


def serious(page, axe):
    page.evaluate(axe)
    return page.evaluate(SERIOUS)


# Explorers that need no kernel

@pytest.fixture(scope='module')
def explorers(chromium):
    "A page of what the notebook stored"
    notebook = ROOT/'nbs/workshop/show/web_explorers.ipynb'
    cells = json.loads(notebook.read_text(encoding='utf-8'))['cells']
    found = [o.get('data', {}) for cell in cells for o in cell.get('outputs', [])]
    shown = ''.join(''.join(data['text/html']) for data in found if 'text/html' in data)
    page, page_errors = chromium.new_page(), []
    page.on('pageerror', lambda error: page_errors.append(str(error)))
    page.set_content('<html lang="en"><title>explorers</title><main><h1>Explorers</h1>'
                     f'{shown}</main></html>')
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
        const pixel = i => [...data.slice(4 * i, 4 * i + 3)]
        const row = y => Array.from({length: c.width}, (_, x) => pixel(y * c.width + x))
        return Array.from({length: c.height}, (_, y) => row(y))
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
    missed, false = (~pred & (mask == 1)).sum(), (pred & (mask == 0)).sum()
    assert f'Missed {missed}, false {false} pixels' in said
    assert (canvas(explorers, 'threshold') == np.round(255 * error_map(pred, mask))).all()


@pytest.mark.parametrize('x, y, radius, certainty', [(24, 24, 12, 4), (5, 40, 6, 12)])
def test_losses_are_those_of_the_package(explorers, x, y, radius, certainty):
    import torch
    from PIL import ImageColor
    from petseg_nb.losses import bce_loss, dice_loss
    from petseg_nb.masks import PALETTE
    mask = torch.tensor(stored(explorers, 'losses', 'truth') > 0)[None, None].float()
    sides = (torch.arange(float(side)) for side in mask.shape[2:])
    row, column = torch.meshgrid(*sides, indexing='ij')
    inside = radius - torch.hypot(column - x, row - y)
    z = certainty * torch.tanh(inside / 2)[None, None].requires_grad_()
    losses = bce_loss(z, mask), dice_loss(z, mask)
    said = move(explorers, 'losses', x=x, y=y, radius=radius, certainty=certainty)
    assert said == f'BCE {losses[0]:.3f}, Dice loss {losses[1]:.3f}, sum {sum(losses):.3f}'
    for i, loss in enumerate(losses, 1):
        slope = z.numel() * torch.autograd.grad(loss, z, retain_graph=True)[0][0, 0]
        steep = slope.clamp(-1, 1).numpy()[..., None]
        lower, higher = (ImageColor.getrgb(PALETTE[name]) for name in ('vermilion', 'blue'))
        colours = 255 + (np.where(steep > 0, lower, higher) - 255) * abs(steep)
        assert abs(canvas(explorers, 'losses', i) - colours).max() <= 1


def test_augmentation_shows_the_draw_that_is_asked_for(explorers):
    sheet = stored(explorers, 'augmentation', 'sheet').astype(int)
    move(explorers, 'augmentation', preset=1, seed=3)
    shown = canvas(explorers, 'augmentation')
    high, wide = shown.shape[:2]
    def tile(row, column):
        return sheet[high * row:high * (row + 1), wide * column:wide * (column + 1)]
    # JPEG is decoded by another library
    assert abs(shown - tile(1, 3)).mean() < 3 < abs(shown - tile(1, 4)).mean()


def test_explorers_are_accessible(explorers, axe):
    assert serious(explorers, axe) == []


# The page made by hand

@pytest.mark.parametrize('theme', ['light', 'dark'])
def test_demo_is_accessible(chromium, axe, serve, theme):
    page = chromium.new_page(color_scheme=theme)
    page.goto(f"{serve(ROOT/'nbs')}/demo/index.html")
    # As with a picture, which needs the network that git does not hold
    page.evaluate("document.querySelector('#result').hidden = false;"
                  "document.querySelector('#picture').ariaLabel = 'a cat'")
    assert serious(page, axe) == []
    page.close()


# The rendered site

FAULTS = """width => {
    const root = document.documentElement, right = root.clientWidth
    const all = selector => [...document.querySelectorAll(selector)]
    const shown = selector => all(selector).filter(e => e.getClientRects().length)
    const name = e => (e.innerText || e.outerHTML).trim().slice(0, 60)
    const wide = selector =>
        shown(selector).filter(e => e.scrollWidth > e.clientWidth + 1).map(name)
    const main = document.querySelector('main')
    const edge = width >= 1280 ? main.getBoundingClientRect().right + 1 : right
    const ids = all('main [id]').map(e => e.id)
    const broken = e => !e.innerText.includes(' ') && e.getClientRects().length > 1
        && !/[\\s/.(),=…|-]/.test(e.innerText)
    const blank = e => !e.innerText.trim() && !e.querySelector('img, svg, canvas, div')
    const prose = e => e.cloneNode(true).innerText.replace(/`.*?`/g, '')
    const raw = e => /\\\\\\(|\\$\\$|\\]\\(http|:::/.test(prose(e)) && !e.querySelector('code')
    const found = {
        'page scrolls sideways': root.scrollWidth > right ? [root.scrollWidth] : [],
        'code scrolls sideways': width >= 1280 ? wide('main pre') : [],
        'table leaves its column': shown('main table')
            .filter(e => width >= 1280 && e.getBoundingClientRect().right > edge).map(name),
        'word broken': shown('main td code, main td a')
            .filter(e => width >= 1280 && broken(e)).map(name),
        'small text in diagram': shown('main svg.mermaid-js, main .mermaid svg').flatMap(svg => {
            const scale = svg.getBoundingClientRect().width / (svg.viewBox.baseVal.width || 1)
            return 16 * scale < 12 ? [`${(16 * scale).toFixed(1)} pixels`] : []
        }),
        'link in link': shown('main a').filter(e => /\\]\\(/.test(e.innerText)).map(name),
        'doubled id': ids.filter((id, i) => ids.indexOf(id) != i),
        'empty output': shown('main .cell-output pre, main .cell-output-display').filter(blank)
            .map(e => e.outerHTML.slice(0, 80)),
        'caption without its figure': shown('main figcaption')
            .filter(e => /^(\\([a-z]\\)|Figure \\d+:?)$/.test(e.innerText.trim())).map(name),
        'nameless fold': all('main summary')
            .filter(e => ['Code', 'Exported source'].includes(e.innerText)).map(name),
        'broken image': [...document.images].filter(i => i.complete && !i.naturalWidth && !i.hidden)
            .map(i => i.src.slice(0, 80)),
        'image without text': all('main img').filter(i => !i.alt && !i.hidden)
            .map(i => i.src.slice(-40)),
        'small logo': shown('.navbar-logo')
            .filter(e => e.getBoundingClientRect().height < 16).map(name),
        'raw TeX or markup': shown('main p, main li, main td').filter(raw).map(name),
    }
    return Object.fromEntries(Object.entries(found).filter(([, evidence]) => evidence.length))
}"""


@pytest.mark.skipif(not PAGES,
                    reason='the site is not rendered: run nbdev_docs, which needs Quarto')
@pytest.mark.parametrize('theme', ['light', 'dark'])
@pytest.mark.parametrize('name', PAGES or ['none'])
def test_rendered_page(chromium, axe, serve, name, theme):
    context = chromium.new_context(color_scheme=theme)
    scheme = 'alternate' if theme == 'dark' else 'default'
    context.add_init_script(f"localStorage.setItem('quarto-color-scheme', '{scheme}')")
    page, errors = context.new_page(), []
    def note(message):
        if message.type == 'error': errors.append(message.text)
    page.on('console', note)
    page.goto(f'{serve(SITE)}/{name}', wait_until='networkidle')
    found = {}
    for width in (390, 1280, 1920):
        page.set_viewport_size({'width': width, 'height': 900})
        if faults := page.evaluate(FAULTS, width): found[width] = faults
    if trouble := serious(page, axe): found['axe'] = trouble
    if errors: found['console'] = errors
    context.close()
    assert found == {}
