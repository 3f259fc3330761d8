"""Adaptive gradient clipping against its equation in float64 NumPy, alone and in a stack; faults of the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bnbench import check
from bnbench.base.errors import ConfigError
from bnbench.data import Sizes
from bnbench.data.catalogue import digits
from bnbench.engine.build import build_model
from bnbench.engine.steppers.sequential import Sequential
from bnbench.optim.clipping import Clipping, clip_, clip_units_
from bnbench.study import Settings, Vocabulary, load_study
from bnbench.study.events import RunEnded
from bnbench.study.plan import RunSpec
from tests.prepared import prepare
from tests.training import OneSet, execute

CPU = torch.device("cpu")
SHAPES = [(4, 3), (4, 3, 3, 3), (1, 6), (5,), (1, 5, 1, 1), (1,), (), (4, 2, 3)]


def reference(weight: Tensor, grad: Tensor, ratio: float) -> np.ndarray[Any, Any]:
    """Brock et al. 2021 (arXiv 2102.06171), equation 3, by rows in float64; vectors as the authors' code has them."""
    w, g = weight.double().numpy(), grad.double().numpy()
    if np.squeeze(w).ndim <= 1:
        rows = [((...,), w, g)]
    else:
        rows = [((row,), w[row], g[row]) for row in range(len(w))]
    out = g.copy()
    for index, own, gradient in rows:
        largest = ratio * max(np.sqrt((own**2).sum()), 1e-3)
        size = np.sqrt((gradient**2).sum())
        if size > largest:
            out[index] = gradient * largest / size
    return out


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("size", [1e-4, 0.02, 10.0])
def test_units_are_clipped_as_the_equation_says(shape: tuple[int, ...], size: float) -> None:
    draw = torch.Generator().manual_seed(1)
    weight = torch.randn(shape, generator=draw, dtype=torch.float64)
    grad = size * torch.randn(shape, generator=draw, dtype=torch.float64)
    got = grad.clone()
    clip_units_(weight, got, 0.03)
    np.testing.assert_allclose(got.numpy(), reference(weight, grad, 0.03), rtol=1e-12)
    zero = torch.zeros(shape, dtype=torch.float64)
    got = grad.clone()
    clip_units_(zero, got, 0.03)
    np.testing.assert_allclose(got.numpy(), reference(zero, grad, 0.03), rtol=1e-12)
    pair = torch.stack([grad, 3 * grad])
    clip_units_(torch.stack([weight, 2 * weight]), pair, 0.03, stacked=True)
    for one, factor, scale in ((pair[0], 1, 1), (pair[1], 2, 3)):
        np.testing.assert_allclose(one.numpy(), reference(factor * weight, scale * grad, 0.03), rtol=1e-12)


def settings_of(vocabulary: Vocabulary, tmp_path: Path, *changes: str) -> Settings:
    path = tmp_path / "s.yaml"
    path.write_text(
        "dataset: digits\nmodel: {name: mlp, hidden: [13]}\nnorm: batch\nepochs: 2\nbatch_size: 50\n"
        "optimizer: {name: sgd, lr: 0.5}\nclip: {name: agc, ratio: 0.05}\n"
    )
    (variant,) = load_study(path, list(changes), vocabulary).variants.values()
    return variant


def test_the_last_layer_keeps_its_gradient(vocabulary: Vocabulary, tmp_path: Path) -> None:
    """One step of gradient descent without momentum shows the gradient that the optimizer saw."""
    how = settings_of(vocabulary, tmp_path, "engine=sequential")
    model = build_model(how, Sizes((1, 8, 8), 10), 0)
    draw = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(20, 1, 8, 8, generator=draw), torch.randint(10, (20,), generator=draw)
    stepper = Sequential(model, how, CPU)
    stepper.objective(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
    before = {
        name: (p.detach().clone(), p.grad.clone())
        for name, p in model.named_parameters()
        if p.grad is not None
    }
    clip_(model, Clipping(ratio=0.05))
    clipped = 0
    for name, parameter in model.named_parameters():
        weight, grad = before[name]
        expected = grad.double().numpy() if name.startswith("head.") else reference(weight, grad, 0.05)
        assert parameter.grad is not None
        np.testing.assert_allclose(parameter.grad.numpy(), expected, rtol=1e-5, atol=1e-9)
        clipped += not torch.equal(parameter.grad, grad)
    assert clipped  # else the test would hold without any clipping


def test_a_stack_clips_as_a_run_alone(vocabulary: Vocabulary, tmp_path: Path) -> None:
    data = prepare(
        digits(tmp_path), val_fraction=0.2, split_seed=0, max_train_samples=100, device=CPU, normalize="unit"
    )
    losses: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for engine in ("stacked", "sequential"):
        for clip in ("{name: agc, ratio: 0.05}", "none"):
            how = settings_of(vocabulary, tmp_path, f"clip={clip}", f"engine={engine}")
            events = execute(
                [RunSpec("v", {}, seed, "cell", how) for seed in (0, 1)], OneSet(data), CPU, debug=True
            )
            records = [event.record for event in events if isinstance(event, RunEnded)]
            assert {record.environment["engine"] for record in records} == {engine}
            losses[engine, clip] = [record.step_losses for record in records]
    for stacked, alone in zip(
        *(losses[engine, "{name: agc, ratio: 0.05}"] for engine in ("stacked", "sequential")), strict=True
    ):
        assert stacked == pytest.approx(alone, abs=1e-5)
    assert losses["stacked", "none"] != losses["stacked", "{name: agc, ratio: 0.05}"]


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        (
            {"clip": "agc", "clip_norm": 1},
            r"clip: agc with clip_norm: 1: the gradient would be clipped twice",
        ),
        (
            {"clip": {"ratio": 0.1}},
            r"a ratio clips nothing without a name. Fix: clip: {name: agc, ratio: 0.1}",
        ),
        ({"clip": {"name": "agc", "ratio": 0}}, r"clip.ratio: 0 is wrong: it should be greater than 0"),
        ({"clip": "norm"}, r"'norm' is not one of none or agc"),
        ({"clip": "agc", "train": "head"}, r"leaves the last layer out, and nothing else learns"),
    ],
)
def test_what_the_key_can_not_say_is_refused(variant: Any, message: str) -> None:
    study = {"dataset": "digits", "model": "mlp", "optimizer": {"name": "sgd", "lr": 0.1}}
    with pytest.raises(ConfigError, match=message):
        check({**study, "variants": {"a": {"norm": "batch"}, "b": variant}})


def test_a_variant_can_leave_out_the_clipping_of_the_others(vocabulary: Vocabulary, tmp_path: Path) -> None:
    assert settings_of(vocabulary, tmp_path, "clip=none").clip.ratio is None
    assert settings_of(vocabulary, tmp_path, "clip=agc").clip.ratio == 0.05
