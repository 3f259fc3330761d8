"""Best settings: chosen on some seeds and compared on the others; and how an effect moves along a sweep."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from bnbench.analysis.contents import Summary
from bnbench.analysis.serial import as_json
from bnbench.analysis.sweeps import part_seeds
from bnbench.reports.sentences.verdicts import verdict_sentences
from tests.sweep_studies import LRS, sweep, table

WOBBLE = (0.002, -0.002, 0.0, 0.001, -0.001, 0.0)
ALL = {"none": ["+" * 6] * 4, "batch": ["+" * 6] * 4}


@pytest.mark.parametrize(("seeds", "choosing"), [(3, 3), (4, 4), (5, 2), (6, 2), (8, 2), (9, 3), (20, 6)])
def test_a_third_of_the_seeds_chooses(seeds: int, choosing: int) -> None:
    chose, compared = part_seeds(range(seeds))
    assert len(chose) == choosing
    assert (set(chose) & set(compared) == set()) is (seeds >= 5)
    assert set(chose) | set(compared) == set(range(seeds))


def final(summary: Summary) -> dict[str, object]:
    """The comparison of batch with none, each at its best setting, in the primary metric."""
    (found,) = [
        c
        for b in summary.best_settings
        for c in b.comparisons
        if (c.metric, c.at) == ("test_accuracy", "final")
    ]
    return vars(found)


def test_the_seeds_that_chose_do_not_compare() -> None:
    def lucky(variant: str, place: int, seed: int) -> float:
        """batch at 0.1 is lucky with the two seeds that choose, and as good as the rest with the others."""
        return 0.99 if (variant, place) == ("batch", 1) and seed < 2 else 0.90 + seed / 1000

    summary = sweep(ALL, lucky)
    found = final(summary)
    assert found["setting"] == {"optimizer.lr": 0.1}
    assert (found["n"], found["n_planned"], found["difference"]) == (4, 4, pytest.approx(0))
    best = summary.best_settings[1]
    assert (best.choosing, best.comparing, best.parted) == ((0, 1), (2, 3, 4, 5), True)
    # the setting that is shown as the best is that of all seeds
    assert best.setting == {"optimizer.lr": 0.1}
    assert as_json(summary)["best_settings"][1]["comparing_seeds"] == [2, 3, 4, 5]
    assert any("chosen with 2 other seeds" in said for said in verdict_sentences(summary))


def test_too_few_seeds_to_part_have_no_verdict_at_the_best_settings() -> None:
    trains = {"none": ["++++"] * 4, "batch": ["++++"] * 4}
    summary = sweep(trains, lambda variant, place, seed: 0.9 + (variant == "batch") * 0.05 + seed / 1000)
    assert final(summary)["verdict"] == "too_few_seeds"
    assert any("no verdict, as the same 4 seeds chose" in said for said in verdict_sentences(summary))
    same_setting = [c for c in summary.comparisons if (c.metric, c.at) == ("test_accuracy", "final")]
    assert {c.verdict for c in same_setting} == {"better"}


def heights(variant: str, place: int, seed: int) -> float:
    """batch's lead: 1, 5, 20 and 0 points along the sweep, give or take 0.2."""
    base = (0.90, 0.80, 0.70, 0.60)[place] + seed / 1000
    lead = (0.01, 0.05, 0.20, 0.0)[place] + WOBBLE[(seed + place) % 6]
    return base + (lead if variant == "batch" else 0.0)


def test_the_interaction_is_a_difference_of_differences() -> None:
    summary = sweep(ALL, heights)
    rows = summary.interactions
    assert [row.value for row in rows] == list(LRS)
    assert [row.change for row in rows] == [None, *(pytest.approx(c) for c in (0.04, 0.19, -0.01))]
    changes = [0.04 + WOBBLE[(seed + 1) % 6] - WOBBLE[seed] for seed in range(6)]
    assert rows[1].p == pytest.approx(stats.ttest_1samp(changes, 0).pvalue, rel=1e-6)
    first, second, third = sorted(row.p or 0.0 for row in rows[1:])
    holm = [3 * first, max(2 * second, 3 * first), max(third, 2 * second, 3 * first)]
    assert sorted(row.p_holm or 0.0 for row in rows[1:]) == pytest.approx(holm)
    assert rows[0].p is None
    assert table(summary, "Effect at each optimizer.lr").rows[2][:2] == ("batch", "1.0")
    said = [s for s in verdict_sentences(summary) if "depends on optimizer.lr" in s]
    assert said[0].startswith(
        "The effect of batch against none on test accuracy depends on optimizer.lr: from "
    )
    assert len(as_json(summary)["interactions"]) == 4


def test_equal_changes_of_a_share_have_the_scatter_of_its_rounding() -> None:
    trains = {"none": ["+++"] * 2, "batch": ["+++"] * 2}
    rows = sweep(
        trains, lambda variant, place, seed: 0.9 + 0.0025 * (variant == "batch" and place == 1)
    ).interactions
    # one sample of 400 on every seed: t = 1/400 / (1/400/√3/√3) = 3 with 2 degrees
    assert rows[1].change == pytest.approx(1 / 400)
    assert rows[1].p == pytest.approx(2 * stats.t.sf(3, 2), rel=1e-6)
    half = stats.t.ppf(0.975, 2) / 400 / 3
    assert (rows[1].change_low, rows[1].change_high) == pytest.approx((1 / 400 - half, 1 / 400 + half))


def test_without_an_effect_the_sentence_is_undecided() -> None:
    wobble = (0.004, -0.003, 0.002, -0.004, 0.001, 0.0)
    summary = sweep(ALL, lambda v, place, s: 0.9 + (wobble[(s * (place + 2)) % 6] if v == "batch" else 0.0))
    (said,) = [s for s in verdict_sentences(summary) if "depends on" in s]
    assert said.startswith(
        "It is undecided whether the effect against none on test accuracy depends on optimizer.lr: batch (from 0.01 to "
    )


def test_the_share_that_trained_is_said_with_its_test() -> None:
    summary = sweep({"none": ["-----", "+++++", "+++++", "+++++"], "batch": ["+++++"] * 4})
    (said,) = [s for s in verdict_sentences(summary) if s.startswith("batch trained in")]
    # Fisher's exact test of 5 of 5 against 0 of 5 is 2 / 252; four settings: 0.032
    assert math.comb(10, 5) == 252
    assert said == (
        "batch trained in 20 of 20 runs of the sweep, none in 15 of 20: decided at 1 of 4 settings: 5 of 5 against "
        "0 of 5 at optimizer.lr=0.01 (Fisher's exact test, Holm p 0.032)."
    )


def test_every_setting_has_its_verdict() -> None:
    summary = sweep(ALL, heights)
    (said,) = [s for s in verdict_sentences(summary) if "at each optimizer.lr" in s]
    assert said.startswith("batch against none at each optimizer.lr, in test accuracy: better at 0.01 (")
    assert said.endswith("undecided at 10.0.")


@pytest.mark.parametrize(
    ("seeds", "variants", "said"), [(3, 20, True), (3, 4, True), (3, 3, False), (4, 20, False)]
)
def test_three_seeds_and_many_comparisons_are_the_luck_of_the_scatter(
    seeds: int, variants: int, said: bool
) -> None:
    names = ["none", *(f"v{index}" for index in range(variants))]
    trains = {name: ["+" * seeds] for name in names}
    summary = sweep(
        trains, lambda name, place, seed: 0.8 + names.index(name) / 100 + seed**2 / 400 * (name != "none")
    )
    cautions = [text for text in summary.cautions if "times its scatter" in text]
    assert bool(cautions) is said
    if said:
        assert f"{stats.t.ppf(1 - 0.05 / (2 * variants), 2) / 3**0.5:.1f} times its scatter" in cautions[0]
