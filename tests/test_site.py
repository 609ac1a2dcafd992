"""What can be tested of the site without Quarto.

That is its configuration, and the pages that nbdev makes for it: links, colours and requests."""
import os, re, shutil, sys
from importlib import import_module
from pathlib import Path
from urllib.parse import urlparse
from xml.etree import ElementTree
import pytest, yaml
from filelock import FileLock
from PIL import Image
from conftest import CFG, NBS, PAGES, ROOT, cells, run, shared, source
from petseg_nb.book.pages import CALLOUTS, EXPORTED_SOURCE, is_empty, pandoc_id

CHAPTERS = [name for name in PAGES if name.startswith(('course/', 'workshop/'))]
MODULE = r'^#\| default_exp ([\w.]+)'
BLOB = f"{CFG['git_url']}/blob/{CFG['branch']}/"
QUARTO = yaml.safe_load((ROOT/'_quarto.yml').read_text(encoding='utf-8'))
SIDEBAR = yaml.safe_load((NBS/'sidebar.yml').read_text(encoding='utf-8'))['website']['sidebar']
FENCE = r'(?ms)^```.*?^```'

BUILD = '''
from nbdev.doclinks import _build_modidx
from nbdev.quarto import nbdev_sidebar, refresh_quarto_yml
from nbdev.serve import proc_nbs
refresh_quarto_yml(); _build_modidx(); nbdev_sidebar.__wrapped__(); proc_nbs(n_workers=0)
'''


def prose(path): return '\n\n'.join(source(c) for c in cells(path) if c['cell_type'] == 'markdown')
def plain(text): return re.sub(r'`[^`\n]*`', '', re.sub(FENCE, '', text))
def headings(text): return re.findall(r'^#{1,6} (.+?)\s*$', re.sub(FENCE, '', text), re.M)


@pytest.fixture(scope='session')
def site(tmp_path_factory):
    "The pages as nbdev leaves them to Quarto, made once for all processes of pytest"
    tree = shared(tmp_path_factory)/'site'
    with FileLock(f'{tree}.lock'):
        if not (tree/'done').exists(): build(tree)
    return tree/'_proc'


def build(tree):
    left_out = '.git', 'data', 'test-artifacts', '_proc', '_docs', '*.egg-info'
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*left_out))
    run('git', 'init', '-q', cwd=tree) # nbdev asks git for the repository's address
    run(sys.executable, '-W', 'error::UserWarning', '-c', BUILD, cwd=tree, timeout=600,
        env=dict(PYTHONPATH=str(tree)))
    (tree/'done').touch()


# The configuration

# Those that Quarto 1.6 knows and that make sense here; on others it is silent, or fails
KEYS = {
    (): 'project lang website format execute metadata-files',
    ('project',): 'type output-dir resources post-render pre-render render',
    ('website',): 'title description favicon image image-alt open-graph twitter-card site-url '
                  'site-path repo-url repo-subdir repo-branch repo-actions issue-url '
                  'page-navigation back-to-top-navigation bread-crumbs reader-mode search navbar '
                  'sidebar page-footer',
    ('website', 'search'): 'location type limit copy-button keyboard-shortcut show-item-context',
    ('website', 'navbar'): 'title logo logo-alt logo-href background foreground search pinned '
                           'collapse collapse-below left right toggle-position',
    ('website', 'sidebar'): 'id title logo search tools contents style background foreground '
                            'border alignment collapse-level pinned header footer',
    ('website', 'page-footer'): 'left right center border background foreground',
    ('format',): 'html',
    ('format', 'html'): 'theme toc toc-depth toc-title toc-location html-math-method '
                        'highlight-style code-copy code-fold code-overflow grid '
                        'include-after-body embed-resources lightbox fig-align page-layout '
                        'number-sections anchor-sections',
    ('format', 'html', 'theme'): 'light dark',
    ('format', 'html', 'grid'): 'sidebar-width body-width margin-width gutter-width',
    ('execute',): 'enabled',
}
ITEM = set('href text icon aria-label menu rel target'.split())


def unknown_keys(part, path=()):
    "Keys that are not in `KEYS`, and items of a menu with one that is not in `ITEM`"
    if isinstance(part, list):
        items = [item for item in part if isinstance(item, dict)]
        return [(*path, k) for item in items for k in item.keys() - ITEM - {'section', 'contents'}]
    if not isinstance(part, dict): return []
    known = KEYS.get(path, '').split()
    deeper = [bad for k, v in part.items() if k in known for bad in unknown_keys(v, (*path, k))]
    return [(*path, k) for k in part if k not in known] + deeper


def test_quarto_configuration_has_only_known_keys():
    assert unknown_keys(QUARTO) == [] and unknown_keys({'website': {'sidebar': SIDEBAR}}) == []
    wrong = {'navbar': {'lefty': 1, 'left': [{'herf': 'a'}]}}
    assert unknown_keys({'website': wrong}) == [
        ('website', 'navbar', 'lefty'), ('website', 'navbar', 'left', 'herf')]


def test_quarto_configuration_is_found_from_both_folders():
    inner = yaml.safe_load((NBS/'_quarto.yml').read_text())
    assert inner == {'metadata-files': ['../_quarto.yml', 'nbdev.yml', 'sidebar.yml']}
    # without it nbdev_readme writes nothing
    assert QUARTO['project']['output-dir'] == CFG['doc_path']
    assert QUARTO['format']['html']['html-math-method'] == 'mathml'
    assert 'commonmark' not in QUARTO['format']
    for script in QUARTO['project']['post-render']:
        assert (NBS/script).is_file() # seen from _proc, a sibling of nbs
    assert CFG['custom_sidebar'] == 'True', 'nbdev would write nbs/sidebar.yml anew'


def entries(contents):
    parts = [entries(item['contents']) if 'section' in item else [item] for item in contents]
    return sum(parts, [])


def test_sidebar_has_each_page_once_in_order():
    hrefs = [entry['href'] for entry in entries(SIDEBAR['contents'])]
    demo, *listed = sorted(hrefs, key=lambda href: href.endswith('.ipynb'))
    assert demo == 'demo/index.html' and (NBS/demo).is_file()
    assert sorted(listed) == PAGES, f'not the same: {set(listed) ^ set(PAGES)}'
    course = [name for name in PAGES if name.startswith('course/')]
    assert [h for h in listed if h.startswith('course/')] == course
    sections = [item['section'] for item in SIDEBAR['contents'] if 'section' in item]
    assert sections == ['Course', 'Workshop', 'Look up']


def test_files_that_the_configuration_names_exist():
    website, navbar = QUARTO['website'], QUARTO['website']['navbar']
    themes = QUARTO['format']['html']['theme'].values()
    sheets = [f for theme in themes for f in theme if f.endswith('.scss')]
    hrefs = [item['href'] for side in ('left', 'right') for item in navbar[side]]
    own = [href for href in hrefs if not href.startswith('http')]
    for name in (website['favicon'], website['image'], navbar['logo'], *sheets, *own):
        assert (NBS/name).is_file(), name
    ElementTree.parse(NBS/navbar['logo'])
    size = Image.open(NBS/website['image']).size
    assert size == (1200, 630), 'the size that is shown where a link is shared'


def test_addresses_agree_with_settings():
    website = QUARTO['website']
    said = website['title'], website['description'], website['repo-url']
    assert said == (CFG['title'], CFG['description'], CFG['git_url'])
    assert website['repo-subdir'] == CFG['nbs_path']
    files = [ROOT/'_quarto.yml', *ROOT.glob('*.md'), *ROOT.glob('*.cff'), *NBS.rglob('*.ipynb')]
    text = '\n'.join(p.read_text(encoding='utf-8') for p in files)
    user, repo, rest = CFG['user'], CFG['repo'], r'[^\s)"\'\\]*'
    ours = f'github.com/{user}/{repo}', f'{user}.github.io/{repo}', f'/github/{user}/{repo}'
    places = rf'github\.com/petseg{rest}|petseg\.github\.io{rest}|/github/petseg{rest}'
    for address in re.findall(places, text):
        assert address.startswith(ours), f'{address} is not where settings.ini says that we are'


# The colours

def luminance(colour):
    parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= .03928 else ((p + .055) / 1.055)**2.4 for p in parts]
    return sum(w * p for w, p in zip((.2126, .7152, .0722), linear))


def contrast(a, b):
    "The ratio of WCAG 2, from 1 to 21"
    low, high = sorted(map(luminance, (a, b)))
    return (high + .05) / (low + .05)


PAIRS = [('body-color', 'body-bg'), ('link-color', 'body-bg'), ('text-muted', 'body-bg'),
         ('primary', 'body-bg'), ('code-color', 'code-bg'), ('link-color', 'code-bg'),
         ('code-color', 'body-bg'), ('body-color', 'code-block-bg'), ('sidebar-fg', 'sidebar-bg'),
         ('link-color', 'sidebar-bg'), ('footer-fg', 'footer-bg'),
         ('mermaid-node-fg-color', 'mermaid-node-bg-color'),
         ('mermaid-label-fg-color', 'mermaid-label-bg-color'),
         ('mermaid-label-fg-color', 'mermaid-node-bg-color'),
         ('mermaid-edge-color', 'mermaid-bg-color')]
HIGHLIGHT = dict( # of Quarto's style `arrow`, on code-block-bg
    light='#003b4f #007ba5 #20794d #5e5e5e #4758ab #ad0000 #111111 #657422 #8f5902',
    dark='#f07178 #d4d0ab #00e0e0 #abe338 #ffd700 #ffa07a #dcc6e0 #f8f8f2')


@pytest.mark.parametrize('name', ['light', 'dark'])
def test_text_can_be_read(name):
    sheets = [f for f in QUARTO['format']['html']['theme'][name] if f.endswith('.scss')]
    sheet = '\n'.join((NBS/f).read_text(encoding='utf-8') for f in sheets)
    colours = dict(re.findall(r'^\$([\w-]+): (#\w{6});', sheet, re.M))
    navbar = QUARTO['website']['navbar']
    pairs = [(colours[a], colours[b], f'{a} on {b}') for a, b in PAIRS]
    pairs += [(c, colours['code-block-bg'], f'code in {c}') for c in HIGHLIGHT[name].split()]
    pairs += [(colours['navbar-hl'], navbar['background'], 'the chosen item of the navbar'),
              (navbar['foreground'], navbar['background'], 'the navbar')]
    assert contrast('#000000', '#ffffff') == pytest.approx(21)
    assert contrast('#767676', '#ffffff') == pytest.approx(4.54, abs=.01)
    for a, b, what in pairs:
        assert contrast(a, b) >= 4.5, f'{what}: {contrast(a, b):.2f} is below AA'
    assert '$web-font-path: false;' in sheet, 'the theme would load a font from Google'


# The notebooks

# without the one that has nothing to run in a course
IN_COLAB = [name for name in CHAPTERS if name != 'workshop/book/pages.ipynb']

@pytest.mark.parametrize('name', IN_COLAB)
def test_chapter_opens_in_colab(name):
    second, third = cells(NBS/name)[1:3]
    place = '{user}/{repo}/blob/{branch}/{nbs_path}'.format_map(CFG)
    badge = ('[![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)]'
             f'(https://colab.research.google.com/github/{place}/{name})')
    extras = 'course,export' if name.endswith('export.ipynb') else 'course'
    install = ("#| hide\n#| eval: false\nimport sys\nif 'google.colab' in sys.modules:\n"
               f"    %pip install -q \"petseg_nb[{extras}] @ git+{CFG['git_url']}\"")
    assert badge in source(second), 'the second cell has no badge of Colab that opens this chapter'
    assert source(third) == install, 'the third cell must install the package in Colab'
    assert third['metadata'] == {'jupyter': {'source_hidden': True}}, 'that cell must be hidden'


@pytest.mark.parametrize('name', PAGES)
def test_figures_have_caption_and_alternative_text(name):
    for c in cells(NBS/name):
        text = source(c)
        kinds = [kind for o in c.get('outputs', []) for kind in o.get('data', {})]
        if any(kind.startswith('image') for kind in kinds):
            for option in ('label', 'fig-cap', 'fig-alt'):
                assert re.search(rf'^#\| {option}: \S', text, re.M), text
        for diagram in re.findall(r'(?ms)^```mermaid.*?^```', text):
            assert re.search(r'^\s*accDescr: \S', diagram, re.M), diagram
        if c['cell_type'] == 'markdown':
            assert '![](' not in text, text
            assert not re.search(r'<img(?![^>]*alt=)', plain(text)), text


def targets(text):
    link = r'\]\(([^()\s]+(?:\([^()\s]*\)[^()\s]*)*)\)'
    return re.findall(link + r'|(?:src|href)="([^"]+)"', plain(text))


@pytest.mark.parametrize('name', PAGES)
def test_links_of_notebooks_resolve(name):
    for target in map(''.join, targets(prose(NBS/name))):
        if urlparse(target).scheme:
            assert re.fullmatch(r'https?://[\w.-]+\.\w+(/\S*)?', target), f'{target} is no address'
            if target.startswith(BLOB):
                there = (ROOT/target.removeprefix(BLOB)).exists()
                assert there, f'{target} is not in the repository'
            continue
        path, _, anchor = target.partition('#')
        page = (NBS/name).parent/path if path else NBS/name
        assert page.is_file(), f'{name} links {target}, which does not exist'
        if not anchor: continue
        code = '\n'.join(source(c) for c in cells(page) if c['cell_type'] == 'code')
        symbols = re.findall(r'^(?:def|class) (\w+)', code, re.M)
        named = [re.sub('[`*]', '', h).replace(' ', '-') for h in headings(prose(page))]
        assert anchor in named + symbols, f'{name} links {target}, which has no such heading'


@pytest.mark.parametrize('name', [p.name for p in ROOT.glob('*.md')])
def test_links_of_markdown_files_resolve(name):
    for target in map(''.join, targets((ROOT/name).read_text(encoding='utf-8'))):
        path = target.removeprefix(BLOB).partition('#')[0]
        if path and not path.startswith('http'):
            assert (ROOT/path).exists(), f'{name} links {target}, which does not exist'


def test_each_term_of_the_glossary_is_taught_where_it_says():
    row = r'^\| (?!term|---)(.+?) \| (.+?) \| (.+?) \| \[.+?\]\(([^)#]+)'
    rows = re.findall(row, prose(NBS/'glossary.ipynb'), re.M)
    assert len(rows) > 50
    for term, chinese, meaning, page in rows:
        assert re.search(r'[\u4e00-\u9fff]', chinese) and meaning
        # "resuming" is taught where "resume" stands
        word = re.sub(r' \(.*|,.*', '', term).split()[-1].rstrip('s')[:5].lower()
        taught = ' '.join(map(source, cells(NBS/page))).lower()
        assert word in taught, f'{page} does not speak of {term}'


def test_the_map_of_the_course_is_whole():
    row = r'\| \[.+?\]\(\S+/nbs/(course/\w+\.ipynb)\) \|.+\| \d+ min \|'
    course = [name for name in PAGES if name.startswith('course/')]
    assert re.findall(row, prose(NBS/'index.ipynb')) == course, 'the map lacks a chapter'


# The pages as nbdev leaves them to Quarto

def test_pages_have_front_matter_and_quarto_markup(site):
    for name in PAGES:
        processed = cells(site/name)
        front = yaml.safe_load(source(processed[0]).strip().strip('-'))
        assert front['title'] and front['description'], f'{name} has no title or summary'
        text = '\n\n'.join(source(c) for c in processed if c['cell_type'] == 'markdown')
        fences = re.findall(FENCE, text)
        begun, ended = (len(re.findall(p, plain(text), re.M)) for p in (r'^:::+ ', r'^:::+$'))
        assert begun == ended, f'{name}: a div is not closed'
        assert not re.search(r'class="alert|colab-badge', plain(text)), name
        assert not any(f.startswith('```mermaid') for f in fences), name
        before = prose(NBS/name)
        diagrams = sum(f.startswith('```{mermaid}') for f in fences)
        assert diagrams == len(re.findall(r'^```mermaid', before, re.M))
        for kind, callout in CALLOUTS.items():
            alerts = plain(before).count(f'<div class="alert alert-{kind}">')
            assert text.count(f'{{.callout-{callout}}}') == alerts, f'{name}: {kind}'


def test_pages_document_each_function_once_under_api(site):
    for name in CHAPTERS:
        module = re.search(MODULE, '\n'.join(map(source, cells(NBS/name))), re.M)
        if not module: continue
        processed = cells(site/name)
        documented = [source(c) for c in processed if re.search('^show_doc', source(c), re.M)]
        shown = [text.rpartition('show_doc(')[2].rstrip(')') for text in documented]
        tree = import_module(f'petseg_nb.{module[1].removesuffix(".__init__")}')
        public = {n for n in tree.__all__ # not what it imports
                  if getattr(getattr(tree, n), '__module__', '') == tree.__name__}
        assert len(shown) == len(set(shown)), f'{name}: {shown}'
        assert {s for s in shown if '.' not in s} == public, f'{name}: {set(shown) ^ public}'
        api = [i for i, c in enumerate(processed) if source(c) == '## API']
        assert len(api) == 1, f'{name}: {len(api)} sections are API'
        rest = len(processed) - api[0] - 1
        assert rest == len(shown), f'{name}: the last section must be API, and hold them all'


def test_pages_give_quarto_no_cause_to_ask_a_cdn(site):
    for name in PAGES:
        outputs = [o for c in cells(site/name) for o in c.get('outputs', [])]
        kinds = {kind for o in outputs for kind in o.get('data', {})}
        bad = kinds & {'text/html', 'application/javascript',
                       'application/vnd.jupyter.widget-view+json'}
        assert not bad, f'{name}: for {bad} Quarto loads require.js and jQuery from elsewhere'


def test_links_of_pages_resolve(site):
    ids = {'demo/index.html': set(), 'slides.html': set()} # pages that are no notebooks
    for name in PAGES:
        outputs = [o for c in cells(site/name) for o in c.get('outputs', []) if 'data' in o]
        shown = ''.join(''.join(o['data'].get('text/markdown', '')) + '\n' for o in outputs)
        titles = headings(prose(site/name) + '\n' + re.sub(FENCE, '', shown))
        found = {pandoc_id(re.sub(r'\[(.+?)\]\(.+?\)', r'\1', title)) for title in titles}
        page = re.sub(r'(^|/)\d+[a-zA-Z0-9]*_', r'\1', name).replace('.ipynb', '.html')
        ids[page] = ids[name] = found
    for name in PAGES:
        text = prose(site/name)
        pages = f"{CFG['doc_host']}{CFG['doc_baseurl']}/"
        for target in map(''.join, targets(text)):
            own = target.startswith(pages) or not urlparse(target).scheme
            page, _, anchor = target.removeprefix(pages).partition('#')
            if not own or not (anchor or page.endswith('.html')): continue
            relative = page and not target.startswith(pages)
            place = os.path.normpath(Path(name).parent/page) if relative else page or name
            assert place in ids, f'{name} links {target}: no such page on the site'
            assert not anchor or anchor in ids[place], (
                f'{name} links {target}: no such heading on the site')


def test_defects_of_pages_do_not_come_back(site):
    for name in PAGES:
        for c in cells(site/name):
            text, outputs = source(c), c.get('outputs', [])
            fold = f'code-summary: "{EXPORTED_SOURCE}"'
            assert fold not in text, f'{name}: a fold without a name'
            assert not any(map(is_empty, outputs)), f'{name}: an output that shows nothing'
            assert '<table></table>' not in str(outputs), f'{name}: Quarto warns of this table'
            if re.search(r'^#\| fig-cap', text, re.M):
                shown = sum(o['output_type'] != 'stream' for o in outputs)
                assert shown == 1, f'{name}: a caption is for one output, not for {shown}\n\n{text}'
            if c['cell_type'] != 'markdown': continue
            nested = re.search(r'\[[^]\n]*\[[^]\n]*\]\([^)\n]*\)[^]\n]*\]\(', plain(text))
            assert not nested, f'{name}: a link within a link\n\n{text}'
            alone = re.search(r'(?m)^!\[.+\]\([^)]+\)$', text)
            assert not alone, f'{name}: Quarto would drop the alternative text\n\n{text}'


def test_logo_has_a_size():
    "An SVG without one is 4 × 0 pixels in the bar"
    logo = ElementTree.parse(NBS/QUARTO['website']['navbar']['logo']).getroot()
    assert logo.get('width') and logo.get('height')


def test_llms_has_the_address_that_nbdev_gives_each_page(site):
    llms = (NBS/'llms.txt').read_text(encoding='utf-8')
    for name in CHAPTERS:
        front = yaml.safe_load(source(cells(site/name)[0]).strip().strip('-'))
        page = Path(name).with_name(front['output-file']).as_posix()
        assert f"({CFG['doc_host']}{CFG['doc_baseurl']}/{page})" in llms, f'{name} is at {page}'


# What Quarto makes of them

PAGE = '''<html><head>
<link rel="canonical" href="https://petseg.github.io/petseg_nb/unet.html">
<link rel="icon" href="images/logo.svg">
<meta property="og:image" content="https://petseg.github.io/petseg_nb/images/card.png">
<script src="site_libs/nav.js"></script></head>
<body><a href="https://petseg.github.io/petseg_nb/course/losses.html#dice_loss">a</a>
<a class="x" href="{blob}nbs/course/05_losses.ipynb">b</a>
<a href="{blob}petseg_nb/unet.py#L3">c</a> <a href="https://arxiv.org/abs/1">d</a>
<a href="{blob}nbs/course/09_none.ipynb">e</a>
<a href="https://petseg.github.io/petseg_nb/exercises/mine.html">f</a>
<img src="data:image/png;base64,AAAA"></body></html>'''


@pytest.fixture
def rendered(tmp_path):
    "A small site as Quarto leaves it"
    for folder in ('exercises', 'course'): (tmp_path/folder).mkdir()
    for name in ('unet.html', 'course/losses.html', 'exercises/mine.html'):
        (tmp_path/name).write_text(PAGE.format(blob=BLOB))
    (tmp_path/'style.css').write_text('a { background: url(data:image/svg+xml;base64,AA) }')
    return tmp_path


def run_offline(folder, status=0):
    return run(sys.executable, ROOT/'scripts/offline.py', status=status,
               env=dict(QUARTO_PROJECT_OUTPUT_DIR=str(folder)))


def test_links_to_own_pages_become_relative(rendered):
    for _ in range(2): # the second time there is nothing left to do
        run_offline(rendered)
        links = lambda name: re.findall(r'<a [^>]*href="([^"]+)"', (rendered/name).read_text())
        same = [f'{BLOB}petseg_nb/unet.py#L3', 'https://arxiv.org/abs/1',
                f'{BLOB}nbs/course/09_none.ipynb']
        assert links('unet.html') == [
            'course/losses.html#dice_loss', 'course/losses.html', *same, 'exercises/mine.html']
        assert links('exercises/mine.html') == [
            '../course/losses.html#dice_loss', '../course/losses.html', *same, 'mine.html']
    canonical = 'href="https://petseg.github.io/petseg_nb/unet.html">'
    assert canonical in (rendered/'unet.html').read_text(), 'the canonical address stays'


def test_slides_show_the_figures_of_each_chapter(tmp_path):
    chapters = [Path(name).stem for name in PAGES if name.startswith('course/')]
    (tmp_path/'course').mkdir()
    for stem in chapters:
        html = (f'<h1 class="title">{stem}</h1><figure><img src="{stem}.png" alt="{stem}">'
                '<figcaption>Figure&nbsp;1: Its figure</figcaption></figure>')
        name = re.sub(r'^\d+[a-zA-Z0-9]*_', '', stem) # nbdev's
        (tmp_path/f'course/{name}.html').write_text(html)
    run(sys.executable, ROOT/'scripts/slides.py', env=dict(QUARTO_PROJECT_OUTPUT_DIR=tmp_path))
    slides = (tmp_path/'slides.html').read_text(encoding='utf-8')
    assert re.findall(r'<img src="course/(\w+)\.png"', slides) == chapters
    assert slides.count('<figcaption>Its figure</figcaption>') == len(chapters)


@pytest.mark.parametrize('file, text', [
    ('course/losses.html', '<script src="https://cdnjs.cloudflare.com/ajax/libs/require.js/2.3.6/'
                           'require.min.js" integrity="x"></script>'),
    ('course/losses.html', '<link rel="stylesheet" href="//fonts.example/a.css">'),
    ('unet.html', '<img alt="a" srcset="https://a.example/b.png 2x">'),
    ('unet.html', '<style>@import "https://fonts.googleapis.com/css2?family=Lato";</style>'),
    ('unet.html', '<iframe src="http://a.example"></iframe>'),
    ('style.css', '@import url("https://fonts.googleapis.com/css2?family=Lato");'),
    ('style.css', 'a { background: url(https://a.example/b.png) }')])
def test_a_request_to_elsewhere_fails_the_build(rendered, file, text):
    with (rendered/file).open('a') as page: page.write(text)
    _, err = run_offline(rendered, status=1)
    assert f'{file} asks for ' in err and len(err.splitlines()) == 2, err
