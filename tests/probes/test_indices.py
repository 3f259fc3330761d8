"""Indices of a run against closed forms, simulations and theory; a number that can't be known is NaN or absent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bnbench.base.indices import INDICES
from bnbench.data import Sizes
from bnbench.engine.build import build_model
from bnbench.probes.gradients import gradients
from bnbench.probes.indices import Rows as Kept
from bnbench.probes.indices import drift_of, drift_rows, growth_of, indices, mean_range
from bnbench.probes.inside import Inside, Layer
from bnbench.probes.layers import find_layers
from bnbench.study import Vocabulary, load_study
from bnbench.study.records import DEPTH, HIDDEN, ProbeRow
from tests.probes.insides import inside_of, layers_of


def places(*names: str) -> list[ProbeRow]:
    """Layers in this order; the last one is the head."""
    rows = [(DEPTH, name, float(depth)) for depth, name in enumerate(names, start=1)]
    rows += [(HIDDEN, name, float(name != names[-1])) for name in names]
    return [ProbeRow(0, name, quantity, "", value) for quantity, name, value in rows]


def unit_rows(layer: str, quantity: str, values: Iterable[Iterable[float]]) -> Iterator[ProbeRow]:
    """values: by step, by unit."""
    for step, of_units in enumerate(values):
        for unit, value in enumerate(of_units):
            yield ProbeRow(step, layer, quantity, str(unit), float(value))


def moving(layer: str, medians: list[list[float]], width: float = 2.0) -> list[ProbeRow]:
    below, above = ([[m + side * width / 2 for m in row] for row in medians] for side in (-1, 1))
    named = [("unit_p15", below), ("unit_p50", medians), ("unit_p85", above)]
    return [row for name, values in named for row in unit_rows(layer, name, values)]


def test_drift_is_the_range_of_medians_in_widths() -> None:
    """Three units move by 1, 3 and 8, each 2 wide: 0.5, 1.5 and 4 widths, of which 1.5 is the median."""
    rows = [*places("a", "b", "head"), *moving("b", [[0, 0, 0], [1, 3, -5], [0.5, 1, 3]])]
    assert indices(rows)["drift"] == pytest.approx(1.5)
    assert {(row.step, row.layer, row.quantity, row.value) for row in drift_rows(rows)} == {
        (2, "b", "drift", 1.5)
    }


def test_the_index_is_that_of_the_last_hidden_layer_and_each_has_a_row() -> None:
    rows = [
        *places("a", "b", "head"),
        *moving("a", [[0], [1]]),
        *moving("b", [[0], [4]]),
        *moving("head", [[0], [9]]),
    ]
    assert indices(rows)["drift"] == pytest.approx(2)
    assert {row.layer: row.value for row in drift_rows(rows)} == pytest.approx({"a": 0.5, "b": 2})


@pytest.mark.parametrize(("count", "constant"), [(2, 1.12838), (5, 2.32593), (10, 3.07751), (25, 3.93063)])
def test_the_mean_range_of_normal_numbers(count: int, constant: float) -> None:
    """The constants d2 of control charts (ISO 7870-2, factors for ranges)."""
    assert mean_range(count) == pytest.approx(constant, abs=1e-5)


@pytest.mark.parametrize("steps", [2, 7, 20])
def test_the_floor_is_the_drift_of_a_network_that_stands_still(steps: int) -> None:
    """Simulation: every step sees another batch, so that medians scatter with σ = 0.1. Oracle: their range."""
    rng = np.random.default_rng(0)
    medians, others = rng.normal(0, 0.1, (2, steps, 4000))
    rows = [*moving("b", medians.tolist()), *unit_rows("b", "unit_p50_other", others.tolist())]
    found = drift_of(Kept(rows), "b")
    # medians over units: of ranges and of mean distances, both a little below their means, in two steps by 10 %
    assert found["drift_floor"] == pytest.approx(found["drift"], rel=0.12 if steps == 2 else 0.03)
    assert found["drift_floor"] == pytest.approx(mean_range(steps) * 0.1 / 2, rel=0.2 if steps == 2 else 0.04)


def test_drift_without_numbers() -> None:
    rows = [*places("a", "head"), *moving("a", [[0, 1, 2], [1, math.nan, 3]])]
    assert math.isnan(indices(rows)["drift"])
    assert "drift" not in indices([*places("a", "head"), *moving("a", [[0, 1]])])  # one step is no drift
    still = indices([*places("a", "head"), *moving("a", [[1, 1, 1], [1, 1, 1]], width=0)])
    assert still["drift"] == 0  # dead units do not move
    assert math.isnan(indices([*places("a", "head"), *moving("a", [[1, 1], [2, 2]], width=0)])["drift"])


def network_rows(name: str, *values: float) -> list[ProbeRow]:
    return [ProbeRow(step, "network", name, "", value) for step, value in enumerate(values)]


def test_averages_over_steps_and_layers() -> None:
    rows = places("a", "b", "head")
    for layer, cosines in (("b", (0.5, 0.7)), ("head", (0.1, 0.3))):
        rows += [ProbeRow(step, layer, "shift_cosine", "", c) for step, c in enumerate(cosines)]
    rows += [ProbeRow(step, "a", "dead_share", "", share) for step, share in enumerate((0.9, 0.2))]
    rows += [ProbeRow(1, "b", "dead_share", "", 0.4), ProbeRow(1, "head", "dead_share", "", 1.0)]
    found = indices([*rows, *network_rows("loss_range", 1, 5, 2), *network_rows("update_loss_range", 3)])
    expected = {"shift_cosine": 0.4, "dead_share": 0.3, "loss_range": 2, "update_loss_range": 3}
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("quantity", ["loss_range", "gradient_change"])
def test_a_value_that_is_not_finite_is_not_left_out(quantity: str) -> None:
    assert math.isnan(indices([*places("a"), *network_rows(quantity, 1, math.nan, 2)])[quantity])


def test_sharpness_is_that_of_converged_steps_unless_they_are_few() -> None:
    values = network_rows("sharpness_train", 1, 2, 30, 40)
    found = indices([*places("a"), *values, *network_rows("hessian_converged_train", 1, 1, 0, 1)])
    assert (found["sharpness_train"], found["converged_train"]) == (2, 0.75)
    found = indices([*places("a"), *values, *network_rows("hessian_converged_train", 1, 0, 0, 0)])
    assert math.isnan(found["sharpness_train"])
    assert found["converged_train"] == 0.25


def growth_rows(norms: Iterable[float], widths: Iterable[float]) -> list[ProbeRow]:
    names = [f"l{i}" for i, _ in enumerate(norms)]
    rows = places(*names, "head")
    for name, norm, width in zip(names, norms, widths, strict=True):
        rows += [ProbeRow(0, name, "pre_gradient_norm", "", norm), ProbeRow(0, name, "units", "", width)]
        rows += [ProbeRow(5, name, "pre_gradient_norm", "", 77.0)]  # of a later step
    return rows


def test_growth_is_that_of_squared_norms_from_the_second_hidden_layer() -> None:
    """Norms that halve from layer to layer: squares grow fourfold toward the input. The first layer does not count."""
    assert indices(growth_rows([9, 8, 4, 2, 1], [6] * 5))["gradient_growth"] == pytest.approx(4)
    assert "gradient_growth" not in indices(growth_rows([9, 8, 4], [6] * 3))
    assert "gradient_growth" not in indices(growth_rows([9, 8, 4, 2], [6, 6, 5, 6]))
    for odd in (math.nan, math.inf, 0.0):
        assert math.isnan(indices(growth_rows([9, 8, odd, 2, 1], [6] * 5))["gradient_growth"])


def measured_growth(inside: Inside, layers: tuple[Layer, ...]) -> float:
    rows = places(*[layer.name for layer in layers])
    rows += [ProbeRow(0, row.layer, row.quantity, "", row.value) for row in gradients(inside)]
    growth = growth_of(Kept(rows))
    assert growth is not None
    return growth


def batch_of(size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn((size, 1, 16, 16), generator=draw), torch.randint(10, (size,), generator=draw)


@pytest.mark.parametrize(
    ("norm", "size", "theory", "tolerance"),
    [
        ("batch", 128, 1.480, 0.02),
        ("batch", 32, 1.522, 0.02),
        ("none", 128, 1.0, 0.05),
        ("layer", 128, 1.0, 0.05),
    ],
)
def test_squared_gradients_grow_as_mean_field_theory_says(
    vocabulary: Vocabulary, tmp_path: Path, norm: str, size: int, theory: float, tolerance: float
) -> None:
    """ReLU networks of 20 layers of 256 at initialization, on white noise; mean of 4 seeds.

    Oracle: Yang et al. 2019 (arXiv 1902.08129), eq. 25 at this batch size; its limit is π/(π - 1) = 1.467.
    """
    path = tmp_path / "s.yaml"
    path.write_text(
        "dataset: digits\nmodel: {name: mlp, hidden: 256, depth: 20}\ninit: he\n"
        "optimizer: {name: sgd, lr: 0.1}\nepochs: 1\n"
    )
    (settings,) = load_study(path, [f"norm={norm}"], vocabulary).variants.values()
    found = []
    for seed in range(4):
        model = build_model(settings, Sizes((1, 16, 16), 10), seed)
        inputs, labels = batch_of(size, seed)
        layers = tuple(layer.of(model) for layer in find_layers(model, lambda n, x=inputs: x[:n]))  # type: ignore[misc]
        inside = inside_of(model, nn.CrossEntropyLoss(), [(inputs, labels)] * 2, layers=layers)
        found.append(measured_growth(inside, layers))
    assert np.mean(found) == pytest.approx(theory, rel=tolerance)


@pytest.mark.parametrize("size", [6, 16])
def test_growth_in_linear_networks_with_batch_norm(size: int) -> None:
    """Oracle: (B - 2) / (B - 3) a layer, the exact factor of Yang et al. 2019 for the identity as activation."""
    found = []
    for seed in range(3):
        blocks = [nn.Sequential(nn.Linear(256, 256, bias=False), nn.BatchNorm1d(256)) for _ in range(20)]
        model = nn.Sequential(nn.Flatten(), *blocks, nn.Linear(256, 10))
        draw = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=1 / 16, generator=draw)
        inside = inside_of(model, nn.CrossEntropyLoss(), [batch_of(size, seed)] * 2)
        found.append(measured_growth(inside, layers_of(model)))
    assert np.mean(found) == pytest.approx((size - 2) / (size - 3), rel=0.02)


def test_every_index_has_its_words() -> None:
    """In base/indices.py, which reads of no probe."""
    rows = [*growth_rows([9, 8, 4, 2, 1], [6] * 5), *moving("l4", [[0], [1]])]
    for mode in ("train", "eval"):
        rows += [*network_rows(f"sharpness_{mode}", 1), *network_rows(f"hessian_converged_{mode}", 1)]
    names = ["loss_range", "gradient_change", "smoothness", "shift_cosine", "shift_norm", "dead_share"]
    rows += [
        ProbeRow(1, "l1" if "_s" in name or "shift" in name else "network", name, "", 1.0) for name in names
    ]
    for name in ("update_loss_range", "update_gradient_change", "update_smoothness"):
        rows += network_rows(name, 1)
    rows += [ProbeRow(1, "l1", name, "", 1.0) for name in ("saturated_share", "update_ratio")]
    assert set(indices(rows)) == set(INDICES)
