"""The bug clinic quotes what `bench/clinic.py` measured: its table, and the price behind each fix,
are those of the stored runs."""
import json, re
from statistics import fmean
from conftest import ROOT

COURSE = ROOT/'nbs'/'course'


def test_prices_are_those_of_the_stored_runs():
    notebook = json.loads((COURSE/'13_bug_clinic.ipynb').read_text(encoding='utf-8'))
    cells = [''.join(cell['source']) for cell in notebook['cells']]
    rows = [json.loads(line) for line in (COURSE/'clinic.jsonl').read_text().splitlines()]
    runs = {(row['bug'], row['seed']): row for row in rows}
    bugs = [re.match(r'class (\w+)\(Loop\)', cells[i + 1])[1]
            for i, text in enumerate(cells) if re.match(r'### \d+\. ', text)]
    assert len(bugs) >= 15 and {row['bug'] for row in rows} == {'Loop', *bugs}
    text = next(text for text in cells if '|bug|cost|' in text)
    table = re.findall(r'^\|\d+\|.+?\|(.+?) \((.+?) to (.+?)\)\|(.+?)\|', text, re.M)
    cost = r'Cost: (.+?) points \((.+?) to (.+?)\)'
    fixes = [re.search(cost, text).groups() for text in cells if text.startswith('**Fix.**')]
    damage = []
    for bug, (*prices, shown), fix in zip(bugs, table, fixes, strict=True):
        right, wrong = ([runs[name, seed] for seed in (0, 1, 2)] for name in ('Loop', bug))
        costs = [100 * (a['test'] - b['test']) for a, b in zip(right, wrong)]
        excess = fmean(100 * (row['shown_test'] - row['test']) for row in wrong)
        span = [fmean(costs), min(costs), max(costs)]
        quotes = map(float, [*prices, shown, *fix])
        for quoted, measured in zip(quotes, [*span, excess, *span], strict=True):
            words = f'{bug}: {quoted} is quoted, {measured:.2f} was measured'
            assert abs(quoted - measured) < .051, words
        damage.append(max(fmean(costs), abs(excess)))
    assert damage == sorted(damage, reverse=True)
