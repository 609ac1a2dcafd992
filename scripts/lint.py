"""Lines of code over 100 characters: `python scripts/lint.py FILE...`, modules or notebooks."""
import json, sys
from pathlib import Path


def lines(path):
    "The lines of a module, or of a notebook's code cells but for nbdev's and Quarto's flags"
    text = path.read_text(encoding='utf-8')
    if path.suffix == '.ipynb':
        code = [cell for cell in json.loads(text)['cells'] if cell['cell_type'] == 'code']
        text = '\n'.join(''.join(cell['source']) for cell in code)
    return [line for line in text.splitlines() if not line.startswith('#|')]


wide = [f'{path}: {line}' for path in map(Path, sys.argv[1:]) for line in lines(path)
        if len(line) > 100]
sys.exit('\n'.join(wide) or 0)
