"""The page that predicts in the browser, in real Chromium: its masks, its messages, its width, and
what it requests."""
import io, re, shutil, subprocess, sys, time
from contextlib import contextmanager
import numpy as np
import pytest
from PIL import ExifTags, Image
from conftest import CHROMIUM, ROOT
from petseg_nb.inference import Segmenter
from petseg_nb.masks import SAMPLES

playwright = pytest.importorskip('playwright.sync_api',
                                 reason='needs playwright: pip install playwright')
pytestmark = [pytest.mark.skipif(not CHROMIUM, reason='needs Chromium: apt-get install chromium'),
              pytest.mark.skipif(not shutil.which('npm'), reason='needs npm, for the runtime')]
PICTURES = sorted((SAMPLES/'images').iterdir())


@pytest.fixture(scope='session')
def demo(small_checkpoint, tmp_path_factory, serve):
    "On a server, with a small network: its address, and a function from a picture to Python's mask"
    site = tmp_path_factory.mktemp('site')
    (site/'demo').mkdir()
    for name in ('index.html', 'demo.css', 'demo.js'):
        shutil.copy(ROOT/'nbs'/'demo'/name, site/'demo'/name)
    shutil.copytree(ROOT/'nbs'/'images', site/'images')
    script = [sys.executable, ROOT/'scripts/demo.py', small_checkpoint, site/'demo']
    run = subprocess.run(script, capture_output=True, text=True)
    if "'npm', 'pack'" in run.stderr: pytest.skip('npm has no onnxruntime-web: no network?')
    assert run.returncode == 0, run.stderr
    def predict(picture, threshold=.5):
        options = dict(precision='fp32', threshold=threshold)
        return Segmenter.load(small_checkpoint, 'cpu', **options)(picture)
    return f'{serve(site)}/demo/index.html', predict


@contextmanager
def opened(chromium, address):
    "The page, with its requests and errors in lists; in the end it must have asked nobody else"
    page = chromium.new_page(viewport={'width': 1280, 'height': 900}, accept_downloads=True)
    page.requests, page.errors = [], []
    def note(message):
        if message.type == 'error': page.errors.append(message.text)
    page.on('request', lambda request: page.requests.append((request.method, request.url)))
    page.on('console', note)
    page.on('pageerror', lambda error: page.errors.append(str(error)))
    page.goto(address)
    wait(page, 'ready')
    yield page
    page.close()
    ours = address.removesuffix('demo/index.html')
    others = [(method, url) for method, url in page.requests
              if method != 'GET' or not url.startswith((ours, f'blob:{ours}'))]
    assert page.requests and not others, others


@pytest.fixture(scope='module')
def page(demo, chromium):
    "One for the tests of a process; in the end it must have met no error but that of `notes.jpg`"
    with opened(chromium, demo[0]) as page: yield page
    assert [error for error in page.errors if 'notes.jpg' not in error] == []


def wait(page, state):
    reached = f'() => document.body.dataset.state == "{state}"'
    page.wait_for_function(reached, timeout=120_000)


def status(page): return page.get_by_role('status').inner_text()


def says(page, words):
    "Wait until the page's message begins with `words`"
    begins = "words => document.getElementById('status').textContent.startsWith(words)"
    page.wait_for_function(begins, arg=words, timeout=60_000)


def choose(page, name, data, state='done'):
    "Give the page a file, and wait until it has answered"
    page.evaluate("document.body.dataset.state = ''")
    page.set_input_files('#file', dict(name=name, mimeType='image/jpeg', buffer=data))
    wait(page, state)


def downloaded(page, kind):
    with page.expect_download() as download: page.locator(f'[data-download={kind}]').click()
    return download.value.suggested_filename, np.array(Image.open(download.value.path()))


def encoded(image, **kwargs):
    image.save(file := io.BytesIO(), **kwargs)
    return file.getvalue()


def same(page, predict, data, name='pet.jpg'):
    "The share of pixels in which the page's mask is Python's"
    choose(page, name, data)
    mask = downloaded(page, 'mask')[1][..., 0] > 0
    ours = predict(data)
    assert mask.shape == ours.shape and ours.any() and not ours.all()
    return (mask == ours).mean()


@pytest.mark.parametrize('path', PICTURES, ids=lambda p: p.stem)
def test_masks_are_those_of_python(demo, page, path):
    start = time.perf_counter()
    assert same(page, demo[1], path.read_bytes()) >= .995
    print(f'{path.stem}: {status(page)} With the download {time.perf_counter() - start:.2f} s')


def photo(width, height): return Image.open(PICTURES[0]).resize((width, height))

@pytest.mark.parametrize('size', [(2000, 1500), (61, 40), (900, 200), (120, 800), (1, 1)], ids=str)
def test_other_sizes(demo, page, size):
    data = encoded(photo(*size), format='PNG')
    if size == (1, 1): # all or nothing: only the shape can be wrong
        choose(page, 'dot.png', data)
        assert downloaded(page, 'mask')[1].shape[:2] == (1, 1)
    else: assert same(page, demo[1], data) >= .995


@pytest.mark.parametrize('orientation', [3, 6, 7])
def test_a_photo_is_turned_upright(demo, page, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encoded(photo(300, 200), format='JPEG', quality=95, exif=exif)
    assert same(page, demo[1], data) >= .995


def test_the_threshold_acts_at_once_and_the_cutout_has_the_mask(demo, page):
    data, canvas = PICTURES[0].read_bytes(), page.locator('#picture')
    choose(page, 'my.cat.jpg', data)
    before, drawn = len(page.requests), canvas.evaluate('canvas => canvas.toDataURL()')
    page.locator('#threshold').fill('0.3')
    assert canvas.evaluate('canvas => canvas.toDataURL()') != drawn
    assert page.locator('#value').inner_text() == '0.30'
    name, cutout = downloaded(page, 'cutout')
    assert name == 'my.cat_cutout.png' and cutout.shape[2] == 4
    mask = demo[1](data, threshold=.3)
    assert ((cutout[..., 3] > 0) == mask).mean() >= .995
    pet = (cutout[..., 3] > 0) & mask
    colours = np.array(Image.open(PICTURES[0]))
    assert np.abs(cutout[pet][:, :3].astype(int) - colours[pet]).max() <= 8 # JPEG decoders differ
    assert len(page.requests) - before <= 1 # the download itself
    page.locator('#threshold').fill('0.5')


def test_views_can_be_chosen_from_the_keyboard(page):
    choose(page, 'cat.jpg', PICTURES[0].read_bytes())
    page.get_by_role('radio', name='Overlay').focus()
    seen = set()
    for _ in range(3):
        page.keyboard.press('ArrowRight')
        seen.add(page.get_by_role('img', name='cat.jpg').get_attribute('aria-label').split(':')[0])
    assert seen == {'cat.jpg, overlay', 'cat.jpg, cutout', 'cat.jpg, mask'}


def test_a_sample_and_a_dropped_file(page):
    page.get_by_role('button', name='A striped cat on a sofa').click()
    says(page, 'Bengal_43.jpg: the pet takes')
    page.evaluate("""async () => {
        const blob = await (await fetch('Abyssinian_24.jpg')).blob()
        const dataTransfer = new DataTransfer()
        dataTransfer.items.add(new File([blob], 'dropped.jpg'))
        const drop = new DragEvent('drop', {dataTransfer, bubbles: true, cancelable: true})
        document.getElementById('drop').dispatchEvent(drop)
    }""")
    says(page, 'dropped.jpg: ')
    wait(page, 'done')


def test_what_cannot_be_read_is_named(page):
    choose(page, 'notes.jpg', b'not a picture', 'error')
    assert status(page).startswith("notes.jpg can't be read. Use a JPEG")
    assert not page.locator('#result').is_visible()
    choose(page, 'cat.jpg', PICTURES[0].read_bytes())
    assert page.locator('#result').is_visible()


@pytest.mark.parametrize('width, scheme', [
    (390, 'light'), (390, 'dark'), (1280, 'light'), (1280, 'dark')])
def test_fits_and_can_be_read(page, width, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({'width': width, 'height': 900})
    name = 'a cat with a long name that somebody gave to this file of theirs.jpg'
    choose(page, name, encoded(photo(1500, 500), format='JPEG'))
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    folder = ROOT/'test-artifacts'/'demo'
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder/f'{width}-{scheme}.png', full_page=True)
    colours = page.evaluate("""() => {
        const names = ['#status', '#hint', 'h1', 'footer a', '.button', '.quiet']
        const behind = getComputedStyle(document.body).backgroundColor
        return names.map(name => {
            const own = getComputedStyle(document.querySelector(name))
            return [name, own.color, own.backgroundColor, behind]
        })
    }""")
    for name, text, own, behind in colours:
        assert contrast(text, behind if own == 'rgba(0, 0, 0, 0)' else own) >= 4.5, name


def contrast(*colours):
    "WCAG's ratio of two colours, as a browser names them"
    def light(colour):
        x = np.array([int(n) for n in re.findall(r'\d+', colour)[:3]]) / 255
        return np.where(x <= .04045, x / 12.92, ((x + .055) / 1.055)**2.4) @ (.2126, .7152, .0722)
    low, high = sorted(map(light, colours))
    return (high + .05) / (low + .05)


def test_everything_has_a_name(page):
    unnamed = page.evaluate("""() => {
        const named = e => e.textContent.trim() || e.getAttribute('aria-label') ||
            e.labels?.length || e.querySelector('img[alt]:not([alt=""])')
        const all = [...document.querySelectorAll('button, input, a, canvas')]
        return all.filter(e => !named(e)).map(e => e.outerHTML)
    }""")
    assert unnamed == []


def test_nothing_leaves_the_page(demo, chromium):
    "Sample, file and download ask nobody else, and the browser would refuse a script that does"
    with opened(chromium, demo[0]) as page:
        page.locator('[data-sample]').first.click()
        wait(page, 'done')
        choose(page, 'cat.jpg', PICTURES[0].read_bytes())
        downloaded(page, 'cutout')
        assert page.errors == []
        assert page.evaluate("fetch('https://elsewhere.example/').then(() => false, error => true)")
        assert 'Content Security Policy' in ' '.join(page.errors)
