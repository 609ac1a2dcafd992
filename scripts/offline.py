"""What Quarto runs when the site is rendered: links to our own pages become relative, and a page
that asks another machine for anything fails the build."""
import os, re, sys
from configparser import ConfigParser
from html.parser import HTMLParser
from pathlib import Path

ELSEWHERE = re.compile(r'\s*(https?:)?//', re.I)
# kinds of <link> that a browser doesn't fetch
NO_REQUEST = {'canonical', 'alternate', 'next', 'prev', 'license', 'author'}
CSS = re.compile(r'(?:url\(|@import)\s*["\']?((?:https?:)?//[^"\')\s]+)', re.I)

config = ConfigParser(delimiters=['='])
config.read(Path(__file__).parent.parent/'settings.ini', encoding='utf-8')
cfg = config['DEFAULT']
PAGES = cfg['doc_host'] + cfg['doc_baseurl'] + '/'
NOTEBOOKS = f"{cfg['git_url']}/blob/{cfg['branch']}/{cfg['nbs_path']}/"


class Requests(HTMLParser):
    "The addresses that a browser asks for when it shows a page, unless they are the site's own"
    def __init__(self, html):
        super().__init__()
        self.found = CSS.findall(html)
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            kinds = set((dict(attributes).get('rel') or '').split())
            fetched = name in ('src', 'srcset', 'poster', 'data') or (
                name == 'href' and tag in ('link', 'image', 'use') and not NO_REQUEST & kinds)
            if fetched and ELSEWHERE.match(value or ''): self.found.append(value)


def own_links(html, page, site):
    "`html` with links to our pages and notebooks on the web as links from `page` within `site`"
    def relative(m):
        path, hash, anchor = m['path'].partition('#')
        if m['to'] == NOTEBOOKS:
            path = re.sub(r'\.ipynb$', '.html', re.sub(r'(^|/)\d+[a-zA-Z0-9]*_', r'\1', path))
        else: path = path or 'index.html'
        if not (site/path).exists(): return m[0]
        return m['before'] + os.path.relpath(site/path, page.parent) + hash + anchor
    ours = f'{re.escape(PAGES)}|{re.escape(NOTEBOOKS)}'
    return re.sub(rf'(?P<before><a\b[^>]*\bhref=")(?P<to>{ours})(?P<path>[^"]*)', relative, html)


def main(site):
    found = []
    for page in site.rglob('*.html'):
        html = own_links(page.read_text(encoding='utf-8'), page, site)
        page.write_text(html, encoding='utf-8')
        found += [f'{page.relative_to(site)} asks for {address}'
                  for address in Requests(html).found]
    for sheet in site.rglob('*.css'):
        found += [f'{sheet.relative_to(site)} asks for {address}'
                  for address in CSS.findall(sheet.read_text(encoding='utf-8'))]
    if found: sys.exit('The site must ask no other machine for anything:\n' + '\n'.join(found))


if __name__ == '__main__': main(Path(os.environ['QUARTO_PROJECT_OUTPUT_DIR']))
