"""Every shipped normalizer against its float64 NumPy reference, and the invariances that it promises."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bnbench.norms import norms
from bnbench.norms.place import Place

sys.path.insert(0, str(Path(__file__).parent))
from tests.contracts.norm_references import REFERENCES, Reference

CHANNELS = 6
SHAPES = {
    2: (7, CHANNELS),
    3: (7, CHANNELS, 4),
    4: (7, CHANNELS, 4, 3),
    5: (7, CHANNELS, 2, 3, 2),
}
CASES = [
    pytest.param(reference, rank, id=f"{reference}-{rank}D")
    for reference in REFERENCES
    for rank in reference.ranks
]
every_case = pytest.mark.parametrize(("reference", "rank"), CASES)
Arrays = dict[str, np.ndarray]
BUFFERS = ("running_mean", "running_var", "running_square", "reference_mean", "reference_var")


def build(reference: Reference, rank: int, **options: object) -> nn.Module:
    """The layer in float64, its parameters away from 0 and 1."""
    entry = norms.get(reference.norm)
    place = (Place(reference.role, 9, 2, attention=reference.attention),) if entry.facts.takes_place else ()
    layer = entry.factory(CHANNELS, 1 if rank <= 3 else 2, *place, **{**reference.options, **options})
    draw = torch.Generator().manual_seed(1)
    for parameter in layer.parameters():
        with torch.no_grad():
            parameter.uniform_(0.4, 1.6, generator=draw)
    assert isinstance(layer, nn.Module)
    return layer.double()


def data(rank: int, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(SHAPES[rank], generator=draw, dtype=torch.float64) * 2 + 0.7


def arrays(layer: nn.Module) -> Arrays:
    return {name: value.detach().numpy().copy() for name, value in layer.state_dict().items()}


def test_every_shipped_normalizer_has_a_reference() -> None:
    shipped = {
        entry.name for entry in norms.entries() if entry.factory.__module__.startswith("bnbench.norms.")
    }
    assert {reference.norm for reference in REFERENCES} == shipped


@every_case
def test_three_steps_of_training_and_inference(reference: Reference, rank: int) -> None:
    layer = build(reference, rank)
    for step in range(3):
        x, before = data(rank, step), arrays(layer)
        expected, moved = reference.compute(x.numpy(), before, True)
        np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-9, atol=1e-10)
        after = arrays(layer)
        for name in BUFFERS:
            if name in after:
                np.testing.assert_allclose(after[name], moved.get(name, before[name]), rtol=1e-9, atol=1e-12)
        if "num_batches_tracked" in after:
            assert after["num_batches_tracked"] == step + 1
    x = data(rank, 3)
    expected, _ = reference.compute(x.numpy(), arrays(layer), False)
    np.testing.assert_allclose(layer.eval()(x).detach().numpy(), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("reference", "rank"), [case for case in CASES if case.values[0].exact_gradient]
)  # the others: tests/norms/test_power.py
@pytest.mark.parametrize("training", [True, False])
def test_gradients_against_differences_of_the_reference(
    reference: Reference, rank: int, training: bool
) -> None:
    """Along three random directions of the input and of every parameter; the numerics of the reference alone."""
    layer = build(reference, rank)
    for seed in range(2):
        layer(data(rank, seed))
    layer.train(training)
    x, state = data(rank, 2).requires_grad_(), arrays(layer)
    rng = np.random.default_rng(0)
    toward = rng.standard_normal(x.shape)
    (layer(x) * torch.from_numpy(toward)).sum().backward()
    keep = {"base": x.detach().numpy()} if reference.norm == "renorm" and training else {}

    def loss(name: str, step: np.ndarray) -> float:
        given = x.detach().numpy() + step if name == "input" else x.detach().numpy()
        changed = state | ({name: state[name] + step} if name != "input" else {})
        y, _ = reference.compute(given, changed, training, **keep)
        return float((y * toward).sum())

    gradients = {"input": x.grad, **{name: value.grad for name, value in layer.named_parameters()}}
    for name, gradient in gradients.items():
        for _ in range(3):
            direction = rng.standard_normal(gradient.shape)
            difference = (loss(name, 1e-6 * direction) - loss(name, -1e-6 * direction)) / 2e-6
            found = float((gradient.numpy() * direction).sum())
            np.testing.assert_allclose(found, difference, rtol=1e-5, atol=1e-5, err_msg=name)


def _shape(values: Tensor, axis: int) -> Tensor:
    return values.reshape([-1 if index == axis else 1 for index in range(4)])


CHANGES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "feature_scale": lambda x, a, b: x * _shape(a[:CHANNELS], 1),
    "feature_shift": lambda x, a, b: x + _shape(b[:CHANNELS], 1),
    "sample_scale": lambda x, a, b: x * _shape(a, 0),
    "sample_shift": lambda x, a, b: x + _shape(b, 0),
    "rest_of_batch": lambda x, a, b: torch.cat([x[:1], x[1:] * _shape(a[1:], 0) + _shape(b[1:], 0)]),
}
IMAGE_CASES = [case for case in CASES if case.values[1] == 4]


@pytest.mark.parametrize(("reference", "rank"), IMAGE_CASES)
@settings(max_examples=5, deadline=None, derandomize=True)
@given(
    scales=st.lists(st.floats(0.25, 4), min_size=7, max_size=7),
    shifts=st.lists(st.floats(-9, 9), min_size=7, max_size=7),
)
def test_it_keeps_the_invariances_that_it_promises(
    reference: Reference, rank: int, scales: list[float], shifts: list[float]
) -> None:
    for change in reference.invariant_to:
        assert_invariance(
            reference, change, torch.tensor(scales).double(), torch.tensor(shifts).double(), True
        )


@pytest.mark.parametrize(("reference", "rank"), IMAGE_CASES)
def test_it_has_no_other_invariance(reference: Reference, rank: int) -> None:
    scales, shifts = torch.linspace(0.5, 3, 7).double(), torch.linspace(-2, 5, 7).double()
    for change in set(CHANGES) - reference.invariant_to:
        assert_invariance(reference, change, scales, shifts, False)


def assert_invariance(
    reference: Reference, change: str, scales: Tensor, shifts: Tensor, wanted: bool
) -> None:
    has_eps = "eps" in norms.get(reference.norm).options().model_fields
    options = {"eps": 1e-14} if has_eps else {}  # eps is what the invariance to scale holds up to
    x = data(4)
    y, changed = (build(reference, 4, **options)(given) for given in (x, CHANGES[change](x, scales, shifts)))
    if change == "rest_of_batch":
        y, changed = y[:1], changed[:1]
    assert torch.allclose(y, changed, rtol=1e-6, atol=1e-7) == wanted, change
