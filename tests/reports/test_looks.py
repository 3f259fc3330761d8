"""`seeds: auto` in words: where each variant stopped."""

from __future__ import annotations

import math

import pytest

from bnbench.analysis.summary import summarize
from bnbench.reports.sentences.verdicts import verdict_sentences
from tests.analysis.test_sequential import effect, study


@pytest.mark.parametrize(
    ("losses", "num_base", "said"),
    [
        (effect(9, 5), 5, "Stopped at 5 of up to 20 seeds; the difference shown tends to be too large."),
        (
            effect(1.7, 8),
            8,
            "batch is worse than none in test loss: 0.00 → 1.70, +1.70 (95% interval 0.27 to 3.13, p 0.02, 8 seeds)",
        ),
        (effect(0.05, 8), 8, "Stopped at 8 of up to 20 seeds: more seeds up to 20 would hardly decide it."),
        (effect(0.45, 20), 20, "All 20 seeds are used."),
        (effect(0.53, 20), 20, "Decided with all 20 seeds."),
        (effect(0.5, 5), 5, "So far 5 of up to 20 seeds are in the verdict; the next look is not complete."),
        (
            effect(0.5, 5)[:4],
            5,
            "no verdict on test loss before the first look at 5 seeds, of which 4 pairs are there.",
        ),
        (
            [9.0, 9.1, math.nan, 9.0, 9.2],
            5,
            "Stopped at 5 of up to 20 seeds: more seeds don't bring back the lost pairs",
        ),
    ],
)
def test_where_a_variant_stopped(losses: list[float], num_base: int, said: str) -> None:
    (sentence,) = verdict_sentences(summarize(study({"batch": losses}, num_base=num_base)))
    assert said in sentence


def test_the_same_is_not_too_large() -> None:
    (sentence,) = verdict_sentences(summarize(study({"batch": effect(0.05, 8)}, margin=2.0, num_base=8)))
    assert "is the same as none within 2 in test loss" in sentence
    assert sentence.endswith("Stopped at 8 of up to 20 seeds.")
