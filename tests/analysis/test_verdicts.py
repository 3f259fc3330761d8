"""The rules between the numbers and the word: Holm, the margin, the check, the bootstrap from 20 seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from bnbench.analysis.contents import Summary
from bnbench.analysis.difference import Difference
from bnbench.analysis.family import corrected
from bnbench.analysis.methods.intervals import paired_interval
from bnbench.analysis.methods.power import detectable_difference
from bnbench.analysis.paired import compare
from bnbench.analysis.serial import as_json
from bnbench.analysis.summary import summarize
from bnbench.reports.sentences.verdicts import verdict_sentences
from bnbench.reports.tables.all import tables
from bnbench.results import Cell, StudyResults
from bnbench.study import Margin
from bnbench.study.records import RunRecord

METRIC = "test_accuracy"


def cell(name: str, values: Sequence[float]) -> Cell:
    runs = tuple(
        RunRecord(name, {}, seed, name, name, "finished", final={METRIC: value}, best={METRIC: value})
        for seed, value in enumerate(values)
    )
    return Cell(name, {}, name, tuple(range(len(values))), runs)


def against(deltas: Sequence[float], name: str = "a", margin: float | None = None) -> Difference:
    """A variant that differs from its baseline by these numbers."""
    base = cell("base", [0.5] * len(deltas))
    ours = cell(name, [0.5 + delta for delta in deltas])
    return compare(ours, base, METRIC, "final", None if margin is None else Margin(METRIC, margin))


def study(variants: dict[str, Sequence[float]], **more: object) -> Summary:
    cells = (cell("base", [0.5] * len(next(iter(variants.values())))), *(
        cell(name, [0.5 + delta for delta in deltas]) for name, deltas in variants.items()
    ))  # fmt: skip
    return summarize(StudyResults("demo", "base", (), cells, **more))  # type: ignore[arg-type]


# mean 0.02, std 0.01: t = 4.472 with 4 degrees of freedom, p = 0.0111 (tables: 4.604 is 0.01)
CLEAR = [0.01, 0.02, 0.03, 0.03, 0.01]


def test_holm_takes_a_verdict_that_one_comparison_would_have() -> None:
    alone = against(CLEAR)
    assert alone.p == pytest.approx(0.0111, abs=5e-5)
    assert (alone.verdict, alone.p_holm, alone.family) == ("better", alone.p, 1)
    five = corrected([alone, *(against([0.01, -0.01, 0.02, -0.02, 0.001], f"b{i}") for i in range(4))])
    assert five[0].p_holm == pytest.approx(5 * alone.p)
    assert (five[0].verdict, five[0].uncorrected, five[0].family) == ("undecided", "better", 5)
    deltas = [value for _, value in five[0].values]
    assert five[0].detectable == pytest.approx(detectable_difference(deltas, 0.05 / 5))
    assert five[0].detectable > alone.detectable


def test_holm_counts_each_metric_and_only_what_could_have_a_verdict() -> None:
    found = corrected([against(CLEAR), against([0.1, 0.2], "two seeds")])
    assert [c.family for c in found] == [1, 1]
    assert found[1].p_holm is None
    summary = study({"a": CLEAR, "b": [delta + 0.01 for delta in CLEAR]})
    assert {c.family for c in summary.comparisons if c.verdict} == {2}


def test_the_sentence_says_what_holm_took() -> None:
    summary = study({"a": CLEAR, **{f"b{i}": [0.01, -0.01, 0.02, -0.02, i / 1000] for i in range(4)}})
    sentence = verdict_sentences(summary)[0]
    assert "a against base is undecided in test accuracy" in sentence
    assert "; better on its own, but not among 5 comparisons (Holm p 0.055)" in sentence
    difference = next(table for table in tables(summary) if table.title == "Difference from base")
    assert "Holm's correction over 5 comparisons" in difference.caption
    row = next(row for row in difference.rows if row[:2] == ("a", "test accuracy"))
    assert row[4:] == ("0.055", "undecided")


def test_the_same_within_the_margin() -> None:
    small = [0.001, -0.001, 0.0005, -0.0005, 0.0002]
    assert against(small).verdict == "undecided"
    assert against(small, margin=0.002).verdict == "same"
    assert against(small, margin=0.0005).verdict == "undecided"
    assert against([0.1, -0.1, 0.0], margin=0.01).verdict == "undecided"
    assert against(small[:2], margin=0.5).verdict == "too_few_seeds"


def test_a_sure_but_small_difference_is_the_same_and_the_sentence_says_both() -> None:
    summary = study({"a": [0.0010, 0.0011, 0.0009, 0.0010, 0.0010]}, margin=Margin(METRIC, 0.002))
    assert verdict_sentences(summary) == [
        "a is the same as base within 0.2 points in test accuracy: 50.00% → 50.10%, +0.100 points (95% interval "
        "0.091 to 0.109, p <0.0001, 5 seeds); 90% interval 0.093 to 0.107 points; better, but by less than the study's "
        "margin."
    ]
    table = next(table for table in tables(summary) if table.title.startswith("Equivalence"))
    assert table.rows == (("a", "test accuracy", "0.2 pp", "[+0.0933, +0.1067] pp", "<0.0001", "yes"),)


def test_a_margin_belongs_to_one_metric() -> None:
    summary = study({"a": CLEAR}, margin=Margin("val_loss", 0.5))
    assert all(c.margin is None for c in summary.comparisons if c.metric != "val_loss")
    assert not any(
        table.title.startswith("Equivalence") and table.rows[0][1] != "val loss" for table in tables(summary)
    )


def test_t_and_sign_flips_that_disagree_are_said() -> None:
    # one large value: the sign-flip p is 2 / 2^6, t is far from it
    deltas = [0.001, 0.001, 0.002, 0.001, 0.002, 0.08]
    found = against(deltas)
    assert found.sign_flip_p == 0.03125
    assert found.p == pytest.approx(0.3, abs=0.1)
    assert found.checks_disagree
    summary = study({"a": deltas})
    assert "disagree" in summary.warnings[0]
    assert "but the sign-flip test says otherwise (p 0.031)" in verdict_sentences(summary)[0]
    assert not against(CLEAR).checks_disagree  # five pairs: there is no such test


def test_from_twenty_pairs_on_the_bootstrap_is_the_interval() -> None:
    deltas = np.random.default_rng(2).normal(0.01, 0.02, 20).tolist()
    few, many = against(deltas[:19]), against(deltas)
    assert (few.method, many.method) == ("t", "bootstrap")
    assert against(deltas) == many  # its draws are its own
    assert (many.p <= 0.05) == (many.ci_low > 0 or many.ci_high < 0)
    assert any("studentised bootstrap" in table.caption for table in tables(study({"a": deltas})))


def test_the_primary_metric_is_what_the_sentences_speak_of() -> None:
    assert verdict_sentences(study({"a": CLEAR}, primary="val_loss"))[0].startswith(
        "a against base: no verdict on val loss, because 5 of 5 pairs are without a number."
    )


def test_everything_shown_is_in_the_json() -> None:
    values = as_json(study({"a": [*CLEAR, 0.02]}, margin=Margin(METRIC, 0.002)))
    comparison = next(c for c in values["comparisons"] if c["metric"] == METRIC and c["at"] == "final")
    shown = {
        "p",
        "p_holm",
        "family",
        "sign_flip_p",
        "rho",
        "welch_low",
        "seeds_for_margin",
        "better_share",
        "margin_p",
        "method",
        "inner_low",
    }
    assert shown <= set(comparison)
    assert comparison["sign_flip_p"] == 0.03125
    assert (values["primary"], values["margin"]) == (METRIC, {"metric": METRIC, "value": 0.002})
    assert [row["variant"] for row in values["noise"]] == ["base"] * 2 + ["a"] * 2
    assert {"speeds", "areas", "rates", "usable_ranges", "interactions", "gates"} <= set(values)


def test_a_family_of_hundreds_can_decide_with_twenty_seeds() -> None:
    """Where no resample is as large, p is Student's: 1 / 10,000 times 460 is 0.046, times 520 more than 5 %."""
    found = against(np.random.default_rng(3).normal(0.05, 0.01, 20).tolist())
    assert found.method == "bootstrap"
    family = corrected(replace(found, variant=f"a{index}") for index in range(520))
    assert {(c.verdict, c.family) for c in family} == {("better", 520)}
    assert family[0].p_holm < 1e-6


def test_what_fits_is_the_interval_of_the_whole_family() -> None:
    """Bonferroni's: it holds 0 wherever Holm's correction took the verdict."""
    five = corrected(
        [against(CLEAR), *(against([0.01, -0.01, 0.02, -0.02, i / 1000], f"b{i}") for i in range(4))]
    )
    deltas = [value for _, value in five[0].values]
    assert (five[0].family_low, five[0].family_high) == pytest.approx(paired_interval(deltas, 0.99))
    assert five[0].ci_low > 0 > five[0].family_low
    assert five[0].verdict == "undecided"


def test_how_well_seeds_know_what_they_find() -> None:
    alone = against(CLEAR)
    factors = (alone.detectable_low / alone.detectable, alone.detectable_high / alone.detectable)
    assert factors == pytest.approx(
        (0.599, 2.874), abs=1e-3
    )  # tables of chi-square, 4 degrees: 11.143, 0.48442


def test_only_an_undecided_comparison_has_a_sentence_on_power() -> None:
    decided = verdict_sentences(study({"a": CLEAR}))[0]
    undecided = verdict_sentences(study({"a": [0.01, -0.02, 0.03, 0.0, 0.01]}))[0]
    assert decided.endswith("5 seeds).")
    assert "80%" not in decided
    # std 1.817 points; by scipy.stats.nct 5 seeds find 3.06 points with 80 % power, and 0.6 points need 74 seeds
    assert undecided.endswith(
        " With 5 seeds only differences of about 3.1 points or more are found reliably (80% power); for a true "
        "difference of +0.6 points plan about 74 seeds (`seeds=74`)."
    )


def test_the_plan_names_the_command() -> None:
    (sentence,) = verdict_sentences(
        study({"a": [0.01, -0.02, 0.03, 0.0, 0.01]}), "bnbench compare my_study.yaml"
    )
    assert sentence.endswith("plan about 74 seeds: `bnbench compare my_study.yaml seeds=74`.")


def test_no_share_differs_by_more_than_all_of_it() -> None:
    """Three seeds find 3.3 standard deviations of their differences, and know those to a factor of 6.3."""
    wide = verdict_sentences(study({"a": [0.1, -0.1, 0.0]}))[0]  # 33 pp, up to 205
    hopeless = verdict_sentences(study({"a": [0.4, -0.4, 0.0]}))[0]  # 131 pp
    assert "only differences of about 32.6 points or more are found reliably" in wide
    assert "With 3 seeds of this scatter no difference is found reliably (80% power)." in hopeless
