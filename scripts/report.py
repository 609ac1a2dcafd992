"""What the project has grown to: `python scripts/report.py`.

Reading times, words, lines of code, and the cells that `nbdev_test` leaves out.
"""
import json, re
from pathlib import Path

ROOT = Path(__file__).parent.parent
NBS = ROOT/'nbs'


def cells_of(path): return json.loads(path.read_text(encoding='utf-8'))['cells']


def sources(path, kind):
    "The texts of a notebook's cells of one kind: 'markdown' or 'code'"
    return [''.join(cell['source']) for cell in cells_of(path) if cell['cell_type'] == kind]


def words(path): return sum(len(text.split()) for text in sources(path, 'markdown'))


def code_lines(path):
    "Lines that a reader sees: those that JupyterLab does not fold, and the solutions"
    code = [(''.join(cell['source']), cell['metadata'].get('jupyter', {}).get('source_hidden'))
            for cell in cells_of(path) if cell['cell_type'] == 'code']
    shown = [text for text, folded in code if not folded or '"Solution"' in text]
    lines = '\n'.join(shown).splitlines()
    return sum(bool(line.strip()) and not line.startswith('#|') for line in lines)


def minutes(path):
    "Reading time: 200 words and 12 lines of code a minute, half a minute for each figure"
    figures = sum('#| fig-cap' in text for text in sources(path, 'code'))
    return words(path) / 200 + code_lines(path) / 12 + figures / 2


def left_out(path):
    "The flags that keep cells from being run by `nbdev_test`; each page's for Colab is not counted"
    code = '\n'.join(text for text in sources(path, 'code') if 'google.colab' not in text)
    return re.findall(r'^#\|\s*(slow|eval: false)', code, re.M)


def python_lines(folder):
    "Lines of a folder that are not blank, without the index that nbdev generates"
    files = [path.read_text(encoding='utf-8') for path in (ROOT/folder).rglob('*.py')
             if path.name != '_modidx.py']
    return sum(bool(line.strip()) for text in files for line in text.splitlines())


def table(rows):
    for *texts, last in rows: print(*(f'{text:>7}' for text in texts), f'  {last}')
    print()


def main():
    course = sorted(NBS.glob('course/*.ipynb'))
    print('The course')
    table([('minutes', 'words', 'code', 'chapter'),
           *((round(minutes(p)), words(p), code_lines(p), p.stem) for p in course)])
    walked = sum(minutes(path) for path in course if 'clinic' not in path.stem)
    print(f'{walked / 60:.1f} hours without the clinic\n')
    print('Lines that are not blank')
    table([(python_lines(folder), folder) for folder in ('petseg_nb', 'tests', 'bench', 'scripts')])
    print('Cells that nbdev_test leaves out (nbdev_test --flags slow runs the slow ones)')
    table([('slow', 'eval', 'notebook')] +
          [(flags.count('slow'), len(flags) - flags.count('slow'), path.relative_to(NBS))
           for path in sorted(NBS.rglob('*.ipynb')) if (flags := left_out(path))])


if __name__ == '__main__': main()
