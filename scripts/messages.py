"""All that the package can say, to be read once from top to bottom: `python scripts/messages.py`.

A line each: where, kind, text. The kinds are doc (the first line of a docstring), help (a
setting's comment, which becomes its flag's help), message (in a raise, a warning or a print) and
text (any other string of three words or more).
"""
import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent/'petseg_nb'
SAYS = 'print', 'warn', 'exit', 'UserError', 'Wrong'


def shown(node):
    "The text of a string or f-string, its values in braces; '' for any other node"
    if isinstance(node, ast.Constant): return node.value if isinstance(node.value, str) else ''
    if not isinstance(node, ast.JoinedStr): return ''
    return ''.join(part.value if isinstance(part, ast.Constant)
                   else f'{{{ast.unparse(part.value)}}}' for part in node.values)


def is_message(node):
    "Whether a node raises, warns or prints"
    called = getattr(node, 'func', None)
    return isinstance(node, ast.Raise) or getattr(called, 'attr', getattr(called, 'id', '')) in SAYS


def strings(node, kind='text'):
    "The strings below a node that are not docstrings: line, kind, text"
    if is_message(node): kind = 'message'
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant): return
    if text := shown(node): yield node.lineno, kind, text
    else:
        for child in ast.iter_child_nodes(node): yield from strings(child, kind)


def docs(tree):
    "The first lines of the docstrings of everything public: line, kind, text"
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)): continue
        name, doc = getattr(node, 'name', 'module'), ast.get_docstring(node)
        if doc and not name.startswith('_'):
            yield getattr(node, 'lineno', 1), 'doc', f'{name}: {doc.splitlines()[0]}'


def settings(tree, lines):
    "The comments behind the fields of `TrainConfig`: line, kind, text"
    for node in tree.body:
        if getattr(node, 'name', '') != 'TrainConfig': continue
        for field in (part for part in node.body if isinstance(part, ast.AnnAssign)):
            yield field.lineno, 'help', lines[field.lineno - 1].strip()


def rows(path):
    "All that a module can say, in the order of its lines"
    source = path.read_text(encoding='utf-8')
    tree = ast.parse(source)
    said = [row for row in strings(tree) if row[1] == 'message' or len(row[2].split()) > 2]
    return sorted([*docs(tree), *settings(tree, source.splitlines()), *said])


def main():
    for path in sorted(PACKAGE.rglob('*.py')):
        if path.name == '_modidx.py': continue
        print(f'\n{path.relative_to(PACKAGE)}')
        for line, kind, text in rows(path): print(f'{line:5} {kind:8}', ' '.join(text.split()))


if __name__ == '__main__': main()
