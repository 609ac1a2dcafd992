"""What Quarto runs when the site is rendered: links to our own pages become relative, and a page that asks another machine for
anything fails the build."""
import os, re, sys
from configparser import ConfigParser
from html.parser import HTMLParser
from pathlib import Path

ELSEWHERE = re.compile(r'\s*(https?:)?//', re.I)
NO_REQUEST = {'canonical', 'alternate', 'next', 'prev', 'license', 'author'}  # kinds of <link> that a browser doesn't fetch
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
            fetched = name in ('src', 'srcset', 'poster', 'data') or name == 'href' and tag in ('link', 'image', 'use') and \
                not NO_REQUEST & set((dict(attributes).get('rel') or '').split())
            if fetched and ELSEWHERE.match(value or ''): self.found.append(value)


def own_links(html, page, site):
    "`html` with links to our pages on the web, and to our notebooks on GitHub, as links from `page` within `site`"
    def relative(m):
        path, hash, anchor = m['path'].partition('#')
        path = re.sub(r'\.ipynb$', '.html', re.sub(r'(^|/)\d+[a-zA-Z0-9]*_', r'\1', path)) if m['to'] == NOTEBOOKS else path or 'index.html'
        return m['before'] + os.path.relpath(site/path, page.parent) + hash + anchor if (site/path).exists() else m[0]
    return re.sub(rf'(?P<before><a\b[^>]*\bhref=")(?P<to>{re.escape(PAGES)}|{re.escape(NOTEBOOKS)})(?P<path>[^"]*)', relative, html)


def main(site):
    found = []
    for page in site.rglob('*.html'):
        html = own_links(page.read_text(encoding='utf-8'), page, site)
        page.write_text(html, encoding='utf-8')
        found += [f'{page.relative_to(site)} asks for {address}' for address in Requests(html).found]
    for sheet in site.rglob('*.css'):
        found += [f'{sheet.relative_to(site)} asks for {address}' for address in CSS.findall(sheet.read_text(encoding='utf-8'))]
    if found: sys.exit('The site must ask no other machine for anything:\n' + '\n'.join(found))


if __name__ == '__main__': main(Path(os.environ['QUARTO_PROJECT_OUTPUT_DIR']))
