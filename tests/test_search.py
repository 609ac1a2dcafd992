"""The search of the site leads to the section that answers: what Quarto runs at the end."""
import json, re
import pytest
from conftest import ROOT, script
from petseg_nb.book.pages import pandoc_id

step = script(ROOT/'scripts/search.py')

PAGE = ('<section id="dice" class="level2"><h2>Dice</h2><p>Twice the overlap <math><semantics>'
        '<mi>D</mi>\n<annotation encoding="application/x-tex">D = \\frac{2 TP}{n} &lt; 1'
        '</annotation></semantics></math> by both.</p>\n'
        '<script>const draw = () => {}</script></section>')
FAQ = ('<section id="masks" class="level2"><h2>Masks</h2>'
       '<section id="why-is-my-predicted-mask-all-black" class="level3">\n'
       '<h3 data-anchor-id="a">Why is my predicted <code>mask</code> all black?</h3>'
       '<p>Look &amp; see.</p></section>\n'
       '<section id="two" class="level3"><h3>Two?</h3><p>Yes.</p></section></section>')


@pytest.fixture
def site(tmp_path):
    def entry(href, title, section, text):
        return dict(objectID=href, href=href, title=title, section=section, text=text)
    (tmp_path/'metrics.html').write_text(PAGE)
    (tmp_path/'faq.html').write_text(FAQ)
    tex = 'Twice the overlap D D = \\frac{2 TP}{n} < 1 by both.\nconst draw = () => {}'
    index = [entry('metrics.html#dice', 'Metrics', 'Dice', tex),
             entry('faq.html#masks', 'Questions', 'Masks', 'All of it')]
    (tmp_path/'search.json').write_text(json.dumps(index))
    step.main(tmp_path)
    return json.loads((tmp_path/'search.json').read_text(encoding='utf-8'))


def test_entries_hold_no_tex_and_no_script(site):
    assert site[0]['text'].split() == 'Twice the overlap D by both.'.split()


def test_each_question_has_an_entry(site):
    assert [(e['href'], e['title'], e['section'], e['text']) for e in site[1:]] == [
        ('faq.html#why-is-my-predicted-mask-all-black', 'Questions',
         'Why is my predicted mask all black? (black mask)', 'Look & see.'),
        ('faq.html#two', 'Questions', 'Two?', 'Yes.')]


def test_a_folder_without_an_index_stays_as_it_is(tmp_path):
    assert step.main(tmp_path) is None and not list(tmp_path.iterdir())


def page_of(path):
    "The address on the site of a notebook"
    name = path.relative_to(ROOT/'nbs').as_posix()
    return re.sub(r'(^|/)\d+[a-zA-Z0-9]*_', r'\1', name).replace('.ipynb', '.html')


def test_words_lead_to_sections_that_are_there():
    notebooks = {page_of(path): path for path in ROOT.glob('nbs/**/*.ipynb')}
    for place in step.WORDS:
        page, _, anchor = place.partition('#')
        cells = json.loads(notebooks[page].read_text(encoding='utf-8'))['cells']
        text = '\n'.join(''.join(cell['source']) for cell in cells)
        headings = re.findall(r'^#+ (.+)', text, re.M)
        assert anchor in map(pandoc_id, headings), f'{place}: no such section'
