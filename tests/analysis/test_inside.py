"""The networks' inside over seeds, against scipy and numpy; and how often a difference is said to be there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bnbench.analysis.inside.contents import Histogram, LayerNumber
from bnbench.analysis.inside.indices import IndexContrast, IndexSpread, index_contrasts, index_spreads
from bnbench.analysis.inside.layers import in_order, quantile
from bnbench.analysis.summary import summarize
from bnbench.base.histogram import bin_counts
from bnbench.results import Cell
from bnbench.study.records import ProbeRow
from tests.fabricated import cell, record, results
from tests.fabricated_probes import STEPS, probed, rows_of, usual, values_of


def cells_of(name: str, **variants: Sequence[float]) -> list[Cell]:
    """Variants whose runs have one index."""
    return [
        cell(variant, [replace(record(variant, s), inside={name: v}) for s, v in enumerate(values)])
        for variant, values in variants.items()
    ]


def only_contrast(cells: Sequence[Cell]) -> IndexContrast:
    (contrast,) = index_contrasts(cells, "none")
    return contrast


NONE, BATCH = (2.6, 2.4, 2.9, 2.2, 2.7), (0.21, 0.19, 0.2, 0.18, 0.22)


def test_a_ratio_is_that_of_scipy_on_paired_logarithms() -> None:
    contrast = only_contrast(cells_of("drift", none=NONE, batch=BATCH))
    logs = np.log(BATCH) - np.log(NONE)
    low, high = stats.t.interval(0.95, 4, logs.mean(), stats.sem(logs))
    assert contrast.scale == "ratio"
    assert (contrast.effect, contrast.low, contrast.high) == pytest.approx(np.exp([logs.mean(), low, high]))
    assert contrast.p == pytest.approx(stats.ttest_rel(np.log(BATCH), np.log(NONE)).pvalue)
    assert (contrast.p_holm, contrast.family, contrast.shown, contrast.n) == (contrast.p, 1, "lower", 5)


@pytest.mark.parametrize("name", ["shift_cosine", "dead_share", "an_index_of_a_plugin"])
def test_any_other_scale_is_a_difference(name: str) -> None:
    contrast = only_contrast(cells_of(name, none=(0.1, 0.2, 0.3, 0.0), batch=(0.5, 0.7, 0.6, 0.4)))
    differences = np.array([0.4, 0.5, 0.3, 0.4])
    interval = stats.t.interval(0.95, 3, differences.mean(), stats.sem(differences))
    assert contrast.effect == pytest.approx(0.4)
    assert (contrast.low, contrast.high) == pytest.approx(interval)
    assert contrast.shown == "higher"


def test_a_number_that_is_not_positive_has_no_ratio() -> None:
    contrast = only_contrast(cells_of("loss_range", none=(0.5, 0.4, 0.6), batch=(0.0, 0.1, 0.1)))
    assert (contrast.scale, contrast.effect) == ("difference", pytest.approx(-1.3 / 3))


def test_the_spread_of_a_ratio_is_geometric() -> None:
    spread = index_spreads(cells_of("drift", none=NONE))[0]
    low, high = stats.t.interval(0.95, 4, np.log(NONE).mean(), stats.sem(np.log(NONE)))
    assert (spread.mean, spread.low, spread.high) == pytest.approx(
        [stats.gmean(NONE), math.exp(low), math.exp(high)]
    )


def test_holm_counts_every_index_of_every_variant() -> None:
    """p values by scipy, and Holm's by hand: the i-th smallest of m times m - i + 1, never falling."""
    rng = np.random.default_rng(3)
    names = ("drift", "shift_norm", "loss_range")
    values = {v: {n: np.exp(rng.normal(size=6)) for n in names} for v in ("none", "batch", "group")}
    cells = [
        cell(v, [replace(record(v, s), inside={n: float(values[v][n][s]) for n in names}) for s in range(6)])
        for v in values
    ]
    contrasts = index_contrasts(cells, "none")
    ps = [
        stats.ttest_rel(np.log(values[c.variant][c.index]), np.log(values["none"][c.index])).pvalue
        for c in contrasts
    ]
    assert [c.p for c in contrasts] == pytest.approx(ps)
    adjusted = np.maximum.accumulate(np.sort(ps) * np.arange(6, 0, -1))
    assert sorted(c.p_holm or 0 for c in contrasts) == pytest.approx(np.minimum(adjusted, 1))
    assert {c.family for c in contrasts} == {6}


def test_a_difference_is_seldom_said_where_there_is_none() -> None:
    """300 studies of 3 variants and 4 indices without any effect: at most 5 % of them say one, within 3 se."""
    rng = np.random.default_rng(0)
    names = ("drift", "shift_norm", "loss_range", "shift_cosine")
    wrong = 0
    for _ in range(300):
        cells = [
            cell(
                v,
                [
                    replace(record(v, s), inside=dict(zip(names, np.exp(rng.normal(size=4)), strict=True)))
                    for s in range(4)
                ],
            )
            for v in ("none", "batch", "group")
        ]
        wrong += any(contrast.shown for contrast in index_contrasts(cells, "none"))
    assert wrong / 300 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


def test_a_check_is_not_compared_and_the_quality_of_a_measure_neither() -> None:
    cells = cells_of("drift", none=NONE, batch=BATCH, custom=BATCH)
    assert [c.variant for c in index_contrasts(cells, "none", ("custom",))] == ["batch"]
    assert index_contrasts(cells_of("converged_train", none=NONE, batch=BATCH), "none") == ()
    assert len(index_spreads(cells_of("converged_train", none=NONE, batch=BATCH))) == 2


def test_every_run_without_a_number_is_named_with_its_reason() -> None:
    runs = [
        replace(record("batch", 0), inside={"drift": 0.2}),
        replace(record("batch", 1, outcome="not_finite"), inside={"drift": math.nan}),
        record("batch", 2, outcome="crashed"),
        record("batch", 4),
    ]
    cells = [*cells_of("drift", none=NONE), cell("batch", runs, seeds=5)]
    spread = index_spreads(cells)[1]
    assert spread.absent == {1: "not_finite", 2: "crashed", 3: "missing", 4: "without_a_number"}
    assert (spread.n, spread.planned, spread.mean) == (1, 5, pytest.approx(0.2))
    contrast = only_contrast(cells)
    assert (contrast.n, contrast.lost, contrast.shown, contrast.low) == (1, (1, 2, 3, 4), "", None)


def test_nothing_is_said_while_a_pair_is_lost() -> None:
    whole = only_contrast(cells_of("drift", none=NONE, batch=BATCH))
    lost = only_contrast(cells_of("drift", none=NONE, batch=(*BATCH[:4], math.nan)))
    assert (whole.shown, lost.shown) == ("lower", "")
    assert lost.p is not None
    assert lost.p < 0.05


def test_seeds_that_are_equal_have_no_interval() -> None:
    contrast = only_contrast(cells_of("drift", none=(2.0,) * 4, batch=(1.0, 1.0, 1.0, 1.0 + 1e-8)))
    assert (contrast.effect, contrast.low, contrast.p, contrast.shown) == (pytest.approx(0.5), None, None, "")


@pytest.mark.parametrize(
    ("name", "value", "floor", "above"),
    [
        ("drift", (2.0, 2.2, 1.9), (0.1, 0.1, 0.1), True),
        ("drift", (0.11, 0.09, 0.1), (0.1, 0.1, 0.1), False),
        ("shift_cosine", (0.2, 0.3, 0.25), (0.9, 0.9, 0.9), True),  # a smaller cosine is a larger shift
        ("shift_cosine", (0.95, 0.91, 0.9), (0.9, 0.9, 0.9), False),
    ],
)
def test_above_the_noise_floor_means_the_whole_interval(
    name: str, value: tuple[float, ...], floor: tuple[float, ...], above: bool
) -> None:
    runs = [
        replace(record("none", s), inside={name: v, f"{name}_floor": f})
        for s, (v, f) in enumerate(zip(value, floor, strict=True))
    ]
    (spread,) = index_spreads([cell("none", runs)])
    assert spread.above_floor is above
    over = np.log(value) - np.log(floor) if name == "drift" else np.array(floor) - value
    low, high = stats.t.interval(0.95, 2, over.mean(), stats.sem(over))
    ends = (math.exp(low), math.exp(high)) if name == "drift" else (low, high)
    assert (spread.over_floor_low, spread.over_floor_high) == pytest.approx(ends)


def test_two_seeds_can_not_tell_the_noise_floor() -> None:
    runs = [replace(record("none", s), inside={"drift": 2.0 + s, "drift_floor": 0.1}) for s in range(2)]
    (spread,) = index_spreads([cell("none", runs)])
    assert (spread.above_floor, spread.floor) == (None, pytest.approx(0.1))


def number_of(
    numbers: Sequence[LayerNumber], label: str, layer: str, step: int, quantity: str
) -> LayerNumber:
    (found,) = [
        n for n in numbers if (n.label, n.layer, n.step, n.quantity) == (label, layer, step, quantity)
    ]
    return found


def test_layers_are_means_over_seeds() -> None:
    inside = summarize(probed(usual())).inside
    found = number_of(inside.numbers, "none", "blocks.1", 10, "pre_std")
    stds = [float(values_of("none", 2, 10, seed).std()) for seed in range(5)]
    assert (found.spread.mean, found.spread.std) == pytest.approx((np.mean(stds), np.std(stds, ddof=1)))
    assert (found.depth, found.spread.n) == (2, 5)


def test_histograms_of_seeds_are_added() -> None:
    inside = summarize(probed(usual())).inside
    found: Histogram = next(
        h
        for h in inside.histograms
        if (h.label, h.layer, h.step, h.kind) == ("batch", "blocks.0", 100, "pre")
    )
    together = np.concatenate([values_of("batch", 1, 100, seed) for seed in range(5)])
    assert sum(found.counts) == len(together)
    counts, _ = np.histogram(together, bins=np.array(found.edges))
    assert np.abs(counts - found.counts).sum() <= 2  # a bin has its upper edge, numpy's has its lower one


def test_the_edges_of_bins_are_those_of_the_values() -> None:
    edges, counts = in_order(bin_counts(np.array([0.6, 1.0, 3.0, 3.5], "float32")))
    assert (edges, counts) == ((0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0), (1, 1, 0, 0, 1, 1))
    edges, counts = in_order(bin_counts(np.array([0.0, 2.0], "float32")))
    assert (edges[0], edges[-1], counts[0], counts[-1]) == (0.0, 2.0, 1, 1)
    assert in_order({"82": 3, "inf": 2})[0] == (98304.0, 196608.0)
    assert in_order({"nan": 3}) == ((), ())


def test_the_unit_is_the_one_whose_drift_is_the_median_of_its_layer() -> None:
    unit = summarize(probed(usual())).inside.unit
    assert unit is not None
    assert (unit.layer, unit.seed) == ("blocks.2", 0)

    def drift(own: int) -> Any:
        p15, p50, p85 = (
            np.array([np.percentile(values_of("none", 3, step, 0)[own::4], p) for step in STEPS])
            for p in (15, 50, 85)
        )
        return np.ptp(p50) / (p85 - p15).mean()

    drifts = {str(own): drift(own) for own in range(4)}
    assert unit.unit == sorted(drifts, key=lambda own: drifts[own])[1]
    bands = [band for band in unit.bands if band.variant == "batch"]
    values = [values_of("batch", 3, step, 0)[int(unit.unit) :: 4] for step in STEPS]
    assert [band.mid for band in bands] == pytest.approx([np.percentile(v, 50) for v in values])
    assert [band.high for band in bands] == pytest.approx([np.percentile(v, 85) for v in values])


def test_losses_along_the_step_are_geometric_means() -> None:
    bands = [b for b in summarize(probed(usual())).inside.losses if b.variant == "none"]
    assert [band.at for band in bands] == list(STEPS)
    starts, lows, highs = ([(2 + f + s / 10) / 2 for s in range(5)] for f in (0, 0.5, 4))  # at step 1
    assert (bands[1].low, bands[1].mid, bands[1].high) == pytest.approx(
        [stats.gmean(v) for v in (lows, starts, highs)]
    )


def test_gamma_is_that_of_the_last_step_over_units_and_seeds() -> None:
    inside = summarize(probed(usual())).inside
    assert {(band.variant, band.at) for band in inside.gammas} == {("batch", 1), ("batch", 2), ("batch", 3)}
    values = [1 + unit / 10 + 0.1 for unit in range(4)] * 5
    band = inside.gammas[0]
    assert (band.low, band.mid, band.high) == pytest.approx(np.percentile(values, (5, 50, 95)))


def test_quantiles_are_numpys() -> None:
    values = sorted(np.random.default_rng(0).normal(size=13).tolist())
    assert [quantile(values, p) for p in (0, 0.05, 0.5, 0.61, 1)] == pytest.approx(
        np.quantile(values, (0, 0.05, 0.5, 0.61, 1))
    )


def test_a_study_without_probes_has_no_inside() -> None:
    inside = summarize(results(cell("none", [record("none", 0)]))).inside
    assert not inside.asked
    assert not inside.spreads


def test_a_further_way_of_inference_is_no_network_of_its_own() -> None:
    study = probed(usual())
    none, batch = study.cells
    metrics = batch.records[0].final
    records = tuple(replace(run, inference={"precise": metrics}) for run in batch.records)
    summary = summarize(replace(study, cells=(none, replace(batch, records=records))))
    assert "batch@precise" in {variant.variant for variant in summary.variants}
    assert {contrast.variant for contrast in summary.inside.contrasts} == {"batch"}
    assert {contrast.family for contrast in summary.inside.contrasts} == {4}


def test_rows_that_can_not_be_read_are_a_warning() -> None:
    study = probed(usual())

    def load(of: Cell, run: Any) -> tuple[ProbeRow, ...]:
        if (of.variant, run.seed) == ("batch", 3):
            raise ValueError("line 7 is no step, layer, quantity, unit and value")
        return rows_of(of.variant, run.seed)

    summary = summarize(replace(study, probes=load))
    assert "batch, seed 3: its probes can't be read: line 7 is no step, layer, quantity, unit and value." in (
        summary.warnings
    )
    assert number_of(summary.inside.numbers, "batch", "blocks.0", 0, "pre_std").spread.n == 4


def test_it_is_kept_in_order() -> None:
    inside = summarize(probed(usual())).inside
    names = [(spread.index, spread.variant) for spread in inside.spreads]
    assert names[:4] == [
        ("drift", "none"),
        ("drift", "batch"),
        ("shift_cosine", "none"),
        ("shift_cosine", "batch"),
    ]
    assert all(isinstance(spread, IndexSpread) for spread in inside.spreads)
