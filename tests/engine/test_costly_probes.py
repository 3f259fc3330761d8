"""The costly measures in training: no bit of a run changes, every engine agrees, a run that diverges has no numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bnbench.data import Dataset
from bnbench.data.prepared import Prepared
from bnbench.engine.build import build_model
from bnbench.probes import hessian
from bnbench.probes.batch import probe_batches
from bnbench.probes.indices import drift_rows, indices
from bnbench.study import Settings, Vocabulary, load_study
from bnbench.study.events import RunEnded
from bnbench.study.plan import RunSpec
from tests.prepared import prepare
from tests.training import OneSet, execute

COSTLY = "probe={at: [0, 3], every: 5, what: [gradient_shift, landscape, hessian]}"
#: Of either seed: SGD with momentum, Adam with clipping and a rate that falls, and a norm that draws noise.
RUNS = [
    ["norm=batch", "optimizer={name: sgd, lr: 0.1, momentum: 0.9, weight_decay: 0.01}"],
    ["norm=batch_noisy", "optimizer={name: adamw, lr: 0.01}", "clip_norm=0.5", "schedule=cosine"],
    [
        "norm=batch",
        "engine=sequential",
        "optimizer={name: adam, lr: 0.01}",
        "optimizer.groups={gamma: {lr_factor: 2}}",
    ],
]

Make = Callable[..., Settings]


@pytest.fixture
def settings(vocabulary: Vocabulary, tmp_path: Path) -> Make:
    def make(*changes: str) -> Settings:
        path = tmp_path / "s.yaml"
        path.write_text(
            "dataset: digits\nmodel: {name: mlp, hidden: [9, 5]}\noptimizer: {name: sgd, lr: 0.1}\n"
            "batch_size: 16\nepochs: 1\n"
        )
        (variant,) = load_study(path, list(changes), vocabulary).variants.values()
        return variant

    return make


@pytest.fixture(autouse=True)
def _few_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few that most eigenvalues are not found, which changes nothing else here."""
    monkeypatch.setattr(hessian, "MOST_PRODUCTS", 4)


@pytest.fixture(scope="module")
def data() -> Prepared:
    draw = torch.Generator().manual_seed(0)
    images, labels = torch.randn(150, 1, 8, 8, generator=draw), torch.arange(150) % 4
    dataset = Dataset(images, labels, images[:40], labels[:40], ("a", "b", "c", "d"), "made up")
    return prepare(dataset, val_fraction=0.2, split_seed=0, device=torch.device("cpu"))


def ends(settings: Settings, data: Prepared) -> list[RunEnded]:
    runs = [RunSpec("v", {}, seed, "cell", settings) for seed in range(2)]
    return [event for event in execute(runs, OneSet(data)) if isinstance(event, RunEnded)]


@pytest.mark.parametrize(
    "changes", [RUNS[0], *[pytest.param(more, marks=pytest.mark.slow) for more in RUNS[1:]]]
)
def test_costly_measures_change_no_bit(settings: Make, data: Prepared, changes: list[str]) -> None:
    for without, looked in zip(
        ends(settings(*changes), data), ends(settings(*changes, COSTLY), data), strict=True
    ):
        assert not [note for note in looked.record.notes if "not measured" in note]
        assert looked.record.step_losses == without.record.step_losses
        assert looked.record.final == without.record.final
        assert looked.weights is not None
        assert without.weights is not None
        for name, value in without.weights.items():
            np.testing.assert_array_equal(looked.weights[name], value, name)
        assert {"shift_cosine", "shift_norm_floor", "loss_range", "converged_train"} <= set(
            looked.record.inside
        )
        assert looked.record.inside == indices(looked.probes)
        assert not without.record.inside


def test_engines_agree(settings: Make, data: Prepared) -> None:
    """To rounding: the stack's own optimizer state is that of a run alone. The first seed is not the second."""
    changes = [RUNS[0][0], RUNS[0][1], COSTLY.replace("at: [0, 3], every: 5", "at: [0, 3], every: 1000")]
    stacked, alone = (ends(settings(*changes, f"engine={name}"), data) for name in ("stacked", "sequential"))
    assert [end.record.environment["engine"] for end in (*stacked, *alone)] == [
        *["stacked"] * 2,
        *["sequential"] * 2,
    ]
    kept = ("shift_norm", "shift_norm_floor", "loss_range", "update_loss_range", "gradient_change")
    for one, other in zip(stacked, alone, strict=True):
        early = [row for row in one.probes if row.step <= 3 and row.quantity in kept]
        values = {row[:4]: row.value for row in other.probes}
        assert len(early) == 4 * (2 * 2 + 3)  # at 0, 1, 2 and 3: two layers, and the network
        for row in early:
            assert row.value == pytest.approx(values[row[:4]], rel=2e-3), row
    assert stacked[0].record.inside["shift_norm"] != stacked[1].record.inside["shift_norm"]


@pytest.mark.slow
def test_the_update_along_which_the_loss_is_seen_is_the_next_one(settings: Make, data: Prepared) -> None:
    """SGD alone: its own update is a step along the gradient, and Adam's is another."""
    for optimizer, same in (("{name: sgd, lr: 0.1}", True), ("{name: adam, lr: 0.1}", False)):
        (end, _) = ends(settings("norm=batch", f"optimizer={optimizer}", COSTLY), data)
        ranges = [end.record.inside[f"{prefix}loss_range"] for prefix in ("", "update_")]
        assert (ranges[0] == pytest.approx(ranges[1], rel=1e-3)) == same


def backward(layers: list[list[Any]], x: Any, y: Any) -> list[list[Any]]:
    """The gradients [dW, db] of a linear network's mean squared error, by hand in float64."""
    values = [x]
    for weight, bias in layers:
        values.append(values[-1] @ weight.T + bias)
    error, grads = 2 * (values[-1] - y) / y.size, []
    for (weight, _), below in zip(reversed(layers), reversed(values[:-1]), strict=True):
        grads.append([error.T @ below, error.sum(0)])
        error = error @ weight
    return grads[::-1]


@pytest.mark.parametrize("engine", ["stacked", "sequential"])
def test_the_shift_of_a_linear_network_in_training(settings: Make, data: Prepared, engine: str) -> None:
    """Oracle: NumPy in float64, with the weights that the seed gives and the first update of SGD with weight decay."""
    chosen = settings(
        "norm=none", "model={name: mlp, hidden: [9, 7, 5], activation: linear}", "loss=mse", "init=he",
        "optimizer={name: sgd, lr: 0.3, momentum: 0.9, weight_decay: 0.1}", f"engine={engine}",
        "probe={at: [0], every: 1000, what: [gradient_shift]}",
    )  # fmt: skip
    for seed, end in enumerate(ends(chosen, data)):
        inputs, labels, others, other_labels = (
            part.double().numpy() for part in probe_batches(data, chosen, seed)
        )
        batches = [
            (x.reshape(len(x), -1), np.eye(4)[y.astype(int)])
            for x, y in ((inputs, labels), (others, other_labels))
        ]
        named = dict(build_model(chosen, data.sizes, seed).double().named_parameters())
        paths = ["blocks.0.linear", "blocks.1.linear", "blocks.2.linear", "head"]
        old = [[named[f"{path}.{part}"].detach().numpy() for part in ("weight", "bias")] for path in paths]
        before, elsewhere = (backward(old, *batch) for batch in batches)
        new = [
            [p - 0.3 * (g + 0.1 * p) for p, g in zip(*pair, strict=True)]
            for pair in zip(old, before, strict=True)
        ]
        measured = {(row.layer, row.quantity): row.value for row in end.probes if row.step == 0}
        for i, name in enumerate(["blocks.1", "blocks.2", "head"], start=1):
            g, h = before[i][0], elsewhere[i][0]
            shifted = backward([*new[:i], *old[i:]], *batches[0])[i][0]
            size = np.linalg.norm(g)
            assert measured[name, "shift_norm"] == pytest.approx(np.linalg.norm(g - shifted) / size, rel=1e-3)
            assert measured[name, "shift_norm"] > 0.05
            cosine = (g * shifted).sum() / size / np.linalg.norm(shifted)
            assert measured[name, "shift_cosine"] == pytest.approx(cosine, rel=1e-5)
            assert measured[name, "shift_norm_floor"] == pytest.approx(np.linalg.norm(g - h) / size, rel=1e-4)


def test_a_run_that_diverges_has_no_index(settings: Make, data: Prepared) -> None:
    """NaN, and not the number of the steps before."""
    diverging = settings(
        "norm=none",
        "optimizer={name: sgd, lr: 1e9}",
        "probe={what: [activations, gradient_shift, landscape]}",
    )
    for end in ends(diverging, data):
        assert end.record.outcome == "not_finite"
        assert {"drift", "shift_cosine", "loss_range", "dead_share"} <= set(end.record.inside)
        assert all(map(math.isnan, end.record.inside.values())), end.record.inside


def test_the_drift_of_every_hidden_layer_is_in_the_rows(settings: Make, data: Prepared) -> None:
    (end, _) = ends(settings("norm=batch", "probe={at: [0, 1, 3], every: 5}"), data)
    rows = {row.layer: row.value for row in end.probes if row.quantity == "drift"}
    assert rows == {row.layer: row.value for row in drift_rows(end.probes) if row.quantity == "drift"}
    assert set(rows) == {"blocks.0", "blocks.1"}
    assert rows["blocks.1"] == end.record.inside["drift"] > 0
    assert end.record.inside["drift_floor"] > 0
