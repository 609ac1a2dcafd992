"""What Quarto runs when the site is rendered: slides.html, the course's figures with their
captions, for a projector or a printer."""
import os, re
from pathlib import Path

NBS = Path(__file__).parent.parent/'nbs'
HEAD = '''<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Slides of the course – petseg_nb</title>
<link rel="icon" href="images/logo.svg">
<style>
html { scroll-snap-type: y mandatory; color: #1f2a33;
       font: 1.4rem/1.4 system-ui, "Segoe UI", Roboto, "Noto Sans", Arial, sans-serif; }
body { margin: 0; }
section { min-height: 100vh; box-sizing: border-box; padding: 3vh 5vw; scroll-snap-align: start;
          break-after: page; display: flex; flex-direction: column; justify-content: center; }
figure { margin: 0; text-align: center; }
img { max-width: 100%; max-height: 72vh; }
figcaption { margin-top: 2vh; }
h1, h2 { font-weight: 500; line-height: 1.2; margin: 0 0 2vh; }
a { color: #005a8d; }
@page { size: landscape; margin: 10mm; }
@media print { section { min-height: 0; height: 94vh; padding: 0; break-inside: avoid; } }
</style>
</head>
<body><main>
<section><h1>Which pixels are the pet?</h1><p>The figures of the course, chapter by chapter. Space
and Page Down turn the page; printed, a figure is a sheet. <a href="teaching.html">For teachers</a>
says what each session needs.</p></section>
'''


def text(pattern, html):
    "What the first match holds, without links and identifiers"
    found = re.search(pattern, html, re.S)
    return re.sub(r'</?(?:a|span)\b[^>]*>', '', found[1]).strip() if found else ''


def slides(page, folder):
    "A slide for the chapter, and one for each of its figures"
    title = text(r'<h1 class="title">(.*?)</h1>', page)
    summary = text(r'<div class="description">(.*?)</div>', page)
    yield f'<section><h2>{title}</h2><p>{summary}</p></section>'
    for figure in re.findall(r'(?s)<figure\b.*?</figure>', page):
        src, alt = (text(rf'<img\b[^>]*\b{name}="([^"]*)"', figure) for name in ('src', 'alt'))
        caption = text(r'<figcaption[^>]*>(.*?)</figcaption>', figure)
        caption = re.sub(r'^Figure&nbsp;\d+: ', '', caption)
        if src: yield (f'<section><figure><img src="{folder}/{src}" alt="{alt}">'
                       f'<figcaption>{caption}</figcaption></figure></section>')


def main(site):
    names = [re.sub(r'^\d+[a-zA-Z0-9]*_', '', path.stem)
             for path in sorted(NBS.glob('course/*.ipynb'))]
    pages = [site/'course'/f'{name}.html' for name in names]
    if not all(page.is_file() for page in pages): return # only README.md was rendered
    shown = [slide for page in pages
             for slide in slides(page.read_text(encoding='utf-8'), 'course')]
    html = HEAD + '\n'.join(shown) + '\n</main></body></html>\n'
    (site/'slides.html').write_text(html, encoding='utf-8')


if __name__ == '__main__': main(Path(os.environ['QUARTO_PROJECT_OUTPUT_DIR']))
