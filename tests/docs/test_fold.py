"""The table of traps in docs/fold.md is what `fold_rivals.py` prints, and nobody but bnbench is right everywhere."""

from __future__ import annotations

import fold_rivals
import pytest

from tests.network.fold_traps import TRAPS


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_table_is_not_stale():
    text = fold_rivals.DOCUMENT.read_text()
    written = text[text.index(fold_rivals.START) + len(fold_rivals.START) : text.index(fold_rivals.END)]
    assert written.strip().splitlines() == fold_rivals.table()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "outcomes"),
    [
        ("convolution_used_twice", (fold_rivals.RIGHT, fold_rivals.WRONG, fold_rivals.WRONG)),
        ("features_on_another_axis", (fold_rivals.RIGHT, fold_rivals.WRONG, fold_rivals.WRONG)),
        ("transposed", (fold_rivals.RIGHT, fold_rivals.MISSED, fold_rivals.RAISED)),
    ],
)
def test_a_judgement(name, outcomes):
    trap = TRAPS[name]
    found = [fold_rivals.judge(trap, contender)[0] for contender in fold_rivals.CONTENDERS.values()]
    assert tuple(found) == outcomes
