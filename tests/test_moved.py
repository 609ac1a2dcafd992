"""Code that was written for older names: the changelog says where each is now, and it is there."""
import re
from importlib import import_module
import pytest
from conftest import ROOT

ROWS = [line.strip('|').split('|') for line in (ROOT/'CHANGELOG.md').read_text(encoding='utf-8').splitlines()
        if line.startswith('| `petseg_nb.')]


def names(text): return [n.split('(')[0] for n in re.findall(r'`([^`]+)`', text)]


@pytest.mark.parametrize('before, now', [(b, n) for b, n in ROWS if ':' in b], ids=lambda text: text.strip()[:60])
def test_moved_names_are_where_the_changelog_says(before, now):
    old, *moved = names(before)
    new, *renamed = names(now.partition(';')[0])
    for name in renamed or moved: assert hasattr(import_module(new), name), f'{new} has no {name}'
    assert new != old


def test_checkers_are_importable_as_before():
    from petseg_nb.check import check, check_unet, check_double_conv, check_dice_loss, check_dataset, Report, Wrong, Checker, probe, closest, CHECKERS
    assert check_unet in CHECKERS.values()
