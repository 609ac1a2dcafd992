"""What Quarto runs when the site is rendered: the search leads to the section that answers.

Quarto's index has an entry for each section of the second level. Here each question of the FAQ gets
one of its own, a few sections get the words that readers ask with, and no entry holds TeX or a
script."""
import html, json, os, re
from pathlib import Path

WORDS = { # page and section: what readers type, if the heading does not say it
    'course/losses.html#soft-dice-then-a-loss': 'Dice loss',
    'course/masks.html#from-trimap-to-mask': 'the border',
    'course/unet.html#any-size': 'odd size',
    'faq.html#why-is-my-predicted-mask-all-black': 'black mask',
    'faq.html#why-is-my-dice-0.0000-or-always-the-same-number-near-0.5': 'Dice is zero',
    'faq.html#how-do-i-resume-a-run-that-was-stopped': 'resume training',
    'workshop/cli/export.html#flags': 'export ONNX'}
UNSEEN = r'(?s)<(annotation|script|style)\b[^>]*>(.*?)</\1>'
QUESTION = r'(?s)<section id="([^"]+)" class="level3">\s*<h3[^>]*>(.*?)</h3>(.*?)</section>'


def plain(text): return ' '.join(html.unescape(re.sub('<[^>]+>', ' ', text)).split())


def questions(page, title):
    "An entry for each question of the FAQ"
    for anchor, question, answer in re.findall(QUESTION, page):
        yield dict(objectID=f'faq.html#{anchor}', href=f'faq.html#{anchor}', title=title,
                   section=plain(question), text=plain(answer))


def main(site):
    file, faq = site/'search.json', site/'faq.html'
    if not (file.is_file() and faq.is_file()): return # only README.md, or one page, was rendered
    index, pages = json.loads(file.read_text(encoding='utf-8')), {}
    for entry in index:
        name = entry['href'].partition('#')[0]
        page = pages.setdefault(name, (site/name).read_text(encoding='utf-8'))
        for _, text in re.findall(UNSEEN, page):
            entry['text'] = entry['text'].replace(html.unescape(text).strip(), '')
    title = next(entry['title'] for entry in index if entry['href'].startswith('faq.html'))
    index = [entry for entry in index if not entry['href'].startswith('faq.html')]
    index += questions(faq.read_text(encoding='utf-8'), title)
    for entry in index:
        words = WORDS.get(entry['href'])
        if words and words not in entry['section']: entry['section'] += f' ({words})'
    file.write_text(json.dumps(index, ensure_ascii=False), encoding='utf-8')


if __name__ == '__main__': main(Path(os.environ['QUARTO_PROJECT_OUTPUT_DIR']))
