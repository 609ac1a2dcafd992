"""The bug clinic quotes what `bench/clinic.py` measured: its table, and the price behind each fix,
are those of the stored runs."""
import json, re
from statistics import fmean, stdev
import numpy as np
from conftest import ROOT

COURSE = ROOT/'nbs'/'course'
NOTEBOOK = json.loads((COURSE/'13_bug_clinic.ipynb').read_text(encoding='utf-8'))
CONTROLS = 'Small', 'SmallOfOne', 'SmallGrouped', 'SmallGroupedOfOne' # of case 9
STUDENT = 4.303 # a 95 % interval of a mean of three


def names_of_bugs(cells):
    "The class below the heading of each case"
    return [re.match(r'class (\w+)\(Loop\)', cells[i + 1])[1]
            for i, text in enumerate(cells) if re.match(r'### \d+\. ', text)]


def test_prices_are_those_of_the_stored_runs():
    cells = [''.join(cell['source']) for cell in NOTEBOOK['cells']]
    rows = [json.loads(line) for line in (COURSE/'clinic.jsonl').read_text().splitlines()]
    runs = {(row['bug'], row['seed']): row for row in rows}
    bugs = names_of_bugs(cells)
    assert len(bugs) >= 15 and {row['bug'] for row in rows} == {'Loop', *bugs, *CONTROLS}
    text = next(text for text in cells if '|bug|cost|' in text)
    table = re.findall(r'^\|\d+\|.+?\|(.+?) ± (.+?)\|(.+?)\|', text, re.M)
    fixes = [re.search(r'Cost: (.+?) ± (.+?) points', text).groups()
             for text in cells if '**Fix.**' in text]
    damage = []
    for bug, (*prices, shown), fix in zip(bugs, table, fixes, strict=True):
        right, wrong = ([runs[name, seed] for seed in (0, 1, 2)] for name in ('Loop', bug))
        costs = [100 * (a['test'] - b['test']) for a, b in zip(right, wrong)]
        excess = fmean(100 * (row['shown_test'] - row['test']) for row in wrong)
        span = [fmean(costs), STUDENT * stdev(costs) / 3**.5]
        quotes = map(float, [*prices, shown, *fix])
        for quoted, measured in zip(quotes, [*span, excess, *span], strict=True):
            words = f'{bug}: {quoted} is quoted, {measured:.2f} was measured'
            assert abs(quoted - measured) < .051, words
        damage.append(max(fmean(costs), abs(excess)))
    assert damage == sorted(damage, reverse=True)
    own = [100 * (runs['SmallOfOne', seed]['own_statistics'] - runs['SmallOfOne', seed]['test'])
           for seed in (0, 1, 2)]
    of = {name: [100 * runs[name, seed]['test'] for seed in (0, 1, 2)] for name in CONTROLS}
    more = [a - b - c + d for a, b, c, d in zip(*of.values())]
    behind = [a - b for a, b in zip(of['Small'], of['SmallGrouped'])]
    for pattern, measured in ((r'gain (\S+) ± (\S+) points', own),
                              (r'the difference is (\S+) ± (\S+) points', more),
                              (r'it is (\S+) ± (\S+) points\sbehind BatchNorm', behind)):
        span = fmean(measured), STUDENT * stdev(measured) / 3**.5
        found = next(found for text in cells if (found := re.search(pattern, text)))
        for quoted, number in zip(map(float, found.groups()), span, strict=True):
            assert abs(quoted - number) < .051, f'{found[0]}: {number:.2f} was measured'
    listed = next(text for text in cells if 'bugs = [' in text)
    assert re.findall(r"'(\w+)'", listed.partition('bugs = [')[2]) == bugs


def test_masks_are_those_of_the_cases_that_are_shown():
    cells = [''.join(cell['source']) for cell in NOTEBOOK['cells']]
    bugs = names_of_bugs(cells)
    shown = [bugs[int(case) - 1] for cell in cells if 'fig-masks' in cell
             for case in re.search(r'show_masks\(\[(.+)\]\)', cell)[1].split(',')]
    with np.load(COURSE/'clinic_masks.npz') as stored:
        assert set(stored) == {'Loop', *shown} and len(shown) == 10
        masks = {bug: np.unpackbits(stored[bug], axis=1) for bug in stored}
    assert all(mask.shape == (2, 32 * 32) for mask in masks.values())
    assert not masks['ArgmaxOfOne'].any() and masks['TwoSigmoids'].all()
