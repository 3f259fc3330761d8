"""The reference that layers are held against, and the formulas of the usual mistakes, against torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bnbench.base.seeding import generator
from bnbench.verification import formulas, reference
from bnbench.verification.causes import usual_causes
from bnbench.verification.fit import deviation
from bnbench.verification.formulas import Formula

SHAPES = [(7, 5), (6, 5, 4), (4, 5, 3, 2)]
EPS = 1e-3
RIGHT = Formula(EPS, 0.3, "unbiased")
every_shape = pytest.mark.parametrize("shape", SHAPES)


def numbers(*shape: int, stream: str = "x") -> torch.Tensor:
    return torch.randn(shape, generator=generator(0, stream), dtype=torch.float64)


@every_shape
def test_forward_and_gradients_are_those_of_torch(shape: tuple[int, ...]) -> None:
    x, gamma, beta, dy = (
        numbers(*shape) * 3 + 1,
        numbers(5, stream="g"),
        numbers(5, stream="b"),
        numbers(*shape),
    )
    leaves = [part.clone().requires_grad_() for part in (x, gamma, beta)]
    y = F.batch_norm(leaves[0], None, None, leaves[1], leaves[2], training=True, eps=EPS)
    expected = torch.autograd.grad(y, leaves, dy)
    seen = reference.backward(x.numpy(), gamma.numpy(), EPS, dy.numpy())
    np.testing.assert_allclose(
        reference.forward(x.numpy(), gamma.numpy(), beta.numpy(), EPS),
        y.detach().numpy(),
        rtol=1e-11,
        atol=1e-12,
    )
    for ours, theirs in zip(seen, expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-9, atol=1e-11)


@every_shape
def test_running_statistics_and_inference_are_those_of_torch(shape: tuple[int, ...]) -> None:
    x, mean, var = numbers(*shape) * 3 + 1, numbers(5, stream="m"), numbers(5, stream="v").abs()
    gamma, beta = numbers(5, stream="g"), numbers(5, stream="b")
    inference = F.batch_norm(x, mean, var, gamma, beta, eps=EPS)
    arrays: Any = tuple(part.numpy().copy() for part in (x, mean, var, gamma, beta))
    output: Any = reference.inference(arrays[0], arrays[1], arrays[2], arrays[3], arrays[4], EPS)
    np.testing.assert_allclose(output, inference.numpy(), rtol=1e-11, atol=1e-12)
    new_mean, new_var = reference.moved(arrays[1], arrays[2], arrays[0], 0.3)
    F.batch_norm(x, mean, var, training=True, momentum=0.3)  # in place
    np.testing.assert_allclose(new_mean, mean.numpy(), rtol=1e-12)
    np.testing.assert_allclose(new_var, var.numpy(), rtol=1e-12)


@every_shape
def test_the_right_formula_is_the_reference(shape: tuple[int, ...]) -> None:
    x, gamma, beta, dy = (
        numbers(*shape),
        numbers(5, stream="g"),
        numbers(5, stream="b"),
        numbers(*shape, stream="d"),
    )
    seen = formulas.training(x, gamma, beta, dy, RIGHT)
    dx, dgamma, dbeta = reference.backward(x.numpy(), gamma.numpy(), EPS, dy.numpy())
    np.testing.assert_allclose(seen["dx"], dx, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(seen["dgamma"], dgamma, rtol=1e-10)
    np.testing.assert_allclose(seen["dbeta"], dbeta, rtol=1e-10)
    np.testing.assert_allclose(
        seen["forward"],
        reference.forward(x.numpy(), gamma.numpy(), beta.numpy(), EPS),
        rtol=1e-11,
        atol=1e-13,
    )
    start, ones = torch.zeros(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)
    moved = formulas.running([x], start, ones, RIGHT)
    mean, var = reference.moved(start.numpy(), ones.numpy(), x.numpy(), 0.3)
    np.testing.assert_allclose(moved["running_mean"][0], mean, rtol=1e-12)
    np.testing.assert_allclose(moved["running_var"][0], var, rtol=1e-12)


def test_the_kept_variance_may_be_biased() -> None:
    x = numbers(7, 5).numpy()
    _, var = reference.moved(np.zeros(5), np.zeros(5), x, 1.0, unbiased=False)
    np.testing.assert_allclose(var, x.var(0), rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_mistake_of_the_table_gives_other_numbers_where_it_says_it_shows(
    shape: tuple[int, ...],
) -> None:
    """Else it could never be told from the right formula, and naming it would be a guess."""
    x, dy = (
        numbers(*shape) * torch.tensor([0.03, 1, 2, 0.3, 0.1]).reshape(-1, *[1] * (len(shape) - 2)),
        numbers(*shape),
    )
    gamma, beta = torch.tensor([0.5, 2, -1, 1.5, 0.7]).double(), torch.tensor([3.0, -3, 2, -2, 4]).double()
    start, ones = torch.zeros(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)
    batches = [numbers(*shape, stream=f"step {step}") for step in range(3)]

    def everything(formula: Formula) -> dict[str, torch.Tensor]:
        return {
            **formulas.training(x, gamma, beta, dy, formula),
            **formulas.running(batches, start, ones, formula),
            "eval output": formulas.evaluation(x, start + 0.3, ones * 0.05, gamma, beta, formula),
        }

    right = everything(RIGHT)
    for cause in usual_causes(RIGHT, "new"):
        parts = dict(cause.change).get("parts", 0)
        if len(shape) not in cause.ranks or parts >= shape[0]:  # one ghost batch is the whole batch
            continue
        wrong = everything(cause.applied(RIGHT))
        differing = {name for name, part in right.items() if deviation(wrong[name], part, 0) > 1e-3}
        assert differing & set(cause.shows_in), cause.words
        if "forward" in cause.shows_in:
            assert "forward" in differing, cause.words
