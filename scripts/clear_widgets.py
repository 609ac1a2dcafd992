#!/usr/bin/env python3
"""Take the widgets out of executed notebooks: `python scripts/clear_widgets.py [NOTEBOOK...]`, by
default all of them.

A widget lives in its kernel. What `jupyter execute` or JupyterLab stores of it is a name that
nothing answers to ("Error displaying widget"), and its state, a megabyte that is another one at
each run. The static figure after it is what a reader without a kernel sees."""
import json, sys
from pathlib import Path

notebooks = Path(__file__).parent.parent.glob('nbs/**/*.ipynb')
for path in map(Path, sys.argv[1:]) if sys.argv[1:] else notebooks:
    nb = json.loads(path.read_text(encoding='utf-8'))
    state = nb['metadata'].pop('widgets', None)
    dead = [(cell, output) for cell in nb['cells'] for output in cell.get('outputs', [])
            if 'application/vnd.jupyter.widget-view+json' in output.get('data', {})]
    for cell, output in dead: cell['outputs'].remove(output)
    if state or dead:
        path.write_text(json.dumps(nb, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')
