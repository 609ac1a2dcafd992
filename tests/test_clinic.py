"""The bug clinic quotes what `bench/clinic.py` measured: its table, and the price behind each fix, are those of the stored runs."""
import json, re
from statistics import fmean
from conftest import ROOT

COURSE = ROOT/'nbs'/'course'


def test_prices_are_those_of_the_stored_runs():
    cells = [''.join(c['source']) for c in json.loads((COURSE/'13_bug_clinic.ipynb').read_text(encoding='utf-8'))['cells']]
    rows = [json.loads(line) for line in (COURSE/'clinic.jsonl').read_text().splitlines()]
    runs = {(row['bug'], row['seed']): row for row in rows}
    bugs = [re.match(r'class (\w+)\(Loop\)', cells[i + 1])[1] for i, text in enumerate(cells) if re.match(r'### \d+\. ', text)]
    assert len(bugs) >= 15 and {row['bug'] for row in rows} == {'Loop', *bugs}
    table = re.findall(r'^\|\d+\|.+?\|(.+?) \((.+?) to (.+?)\)\|(.+?)\|', next(text for text in cells if '|bug|cost|' in text), re.M)
    fixes = [re.search(r'Cost: (.+?) points \((.+?) to (.+?)\)', text).groups() for text in cells if text.startswith('**Fix.**')]
    damage = []
    for bug, (*prices, shown), fix in zip(bugs, table, fixes, strict=True):
        costs = [100 * (runs['Loop', seed]['test'] - runs[bug, seed]['test']) for seed in (0, 1, 2)]
        excess = fmean(100 * (runs[bug, seed]['shown_test'] - runs[bug, seed]['test']) for seed in (0, 1, 2))
        for quoted, measured in zip([*map(float, prices), float(shown), *map(float, fix)], [fmean(costs), min(costs), max(costs), excess] + [fmean(costs), min(costs), max(costs)]):
            assert abs(quoted - measured) < .051, f'{bug}: {quoted} is quoted, {measured:.2f} was measured'
        damage.append(max(fmean(costs), abs(excess)))
    assert damage == sorted(damage, reverse=True)
