"""The definitions of a chapter, for a bench that measures what the chapter shows."""
import ast, json
from pathlib import Path

NBS = Path(__file__).resolve().parent.parent/'nbs'
KINDS = ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef


def definitions(chapter):
    "The names that `chapter`, a path under `nbs/`, imports and defines, without what it runs"
    names = {}
    for cell in json.loads((NBS/chapter).read_text(encoding='utf-8'))['cells']:
        source = ''.join(cell['source'])
        if cell['cell_type'] != 'code' or 'eval: false' in source: continue
        if all(isinstance(node, KINDS) for node in ast.parse(source).body): exec(source, names)
    return names
