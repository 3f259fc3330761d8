"""Power normalization. Oracle: algorithm 2 of Shen et al. 2020 in float64 NumPy, forward and backward, step by step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bnbench.base.errors import BnbenchError
from bnbench.norms import norms
from bnbench.norms.power import PowerNorm

B, C, EPS = 12, 4, 1e-5
Array = np.ndarray


class Algorithm2:
    """Per channel: forward lines 1 to 3, backward lines 1 to 4. valid: (B,) bool."""

    def __init__(self, new: float, gamma: Array) -> None:
        self.new, self.gamma = new, gamma
        self.psi2, self.nu = np.ones(C), np.zeros(C)

    def step(self, x: Array, dy: Array, valid: Array, own: bool) -> tuple[Array, Array, Array]:
        """y, dL/dx and dL/dgamma. own: a step of the warm-up, normalized by its own quadratic mean."""
        x, dy = x * valid[:, None], dy * valid[:, None]
        square = (x**2).sum(0) / valid.sum()
        psi = np.sqrt((square if own else self.psi2) + EPS)
        normal = x / psi
        self.psi2 = square if own else self.psi2 + self.new * (square - self.psi2)
        g = self.gamma * dy
        dx = (g - self.nu * normal) / psi * valid[:, None]
        d_gamma = (dy * normal).sum(0)
        big_gamma, big_lambda = (v.sum(0) / valid.sum() for v in (normal**2, g * normal))
        self.nu = self.nu * (1 - self.new * big_gamma) + self.new * big_lambda
        return normal * self.gamma, dx, d_gamma


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("warm_up", [0, 1])
def test_forward_and_backward_of_six_steps_are_algorithm_2(masked: bool, warm_up: int) -> None:
    rng = np.random.default_rng(0)
    layer = PowerNorm(C, EPS, 0.3, warm_up=warm_up, scale_groups=0).double()
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(0.5, 2, C))
    by_hand = Algorithm2(0.3, layer.weight.detach().numpy().copy())
    for step in range(6):
        x, dy = rng.normal(1, 2, (B, C)), rng.normal(0, 1, (B, C))
        valid = rng.random(B) < 0.6 if masked else np.ones(B, bool)
        given = torch.from_numpy(x).requires_grad_()
        layer.zero_grad()
        y = layer(given, torch.from_numpy(valid)) if masked else layer(given)
        y.backward(torch.from_numpy(dy))
        expected, dx, d_gamma = by_hand.step(x, dy, valid, own=step < warm_up)
        np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(given.grad.numpy(), dx, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(layer.weight.grad.numpy(), d_gamma, rtol=1e-11)
        np.testing.assert_allclose(layer.bias.grad.numpy(), (dy * valid[:, None]).sum(0), rtol=1e-12)
        np.testing.assert_allclose(layer.running_square.numpy(), by_hand.psi2, rtol=1e-12)
        np.testing.assert_allclose(layer.running_gradient.numpy(), by_hand.nu, rtol=1e-12)


def test_the_warm_up_keeps_the_average_of_its_batches() -> None:
    layer = PowerNorm(C, warm_up=3, scale_groups=0).double()
    batches = torch.randn(3, B, C, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for x in batches:
        y = layer(x)
        torch.testing.assert_close(y.square().mean(0), torch.ones(C).double(), rtol=1e-4, atol=0)
    torch.testing.assert_close(layer.running_square, batches.square().mean((0, 1)), rtol=1e-12, atol=0)


def test_positions_are_scaled_by_their_groups_of_channels_first() -> None:
    x = torch.randn(B, C, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 9
    y = PowerNorm(C, scale_groups=2, warm_up=0).double().eval()(x)
    square = x.unflatten(1, (2, 2)).square().mean(2).repeat_interleave(2, 1)
    torch.testing.assert_close(y, x / (square + EPS).sqrt() / (1 + EPS) ** 0.5, rtol=1e-12, atol=0)


def test_a_batch_of_padding_moves_nothing_and_gives_zeros() -> None:
    layer = PowerNorm(C, warm_up=0)
    layer(torch.randn(B, C)).square().sum().backward()
    before = {name: value.clone() for name, value in layer.named_buffers()}
    x = torch.randn(B, C, requires_grad=True)
    y = layer(x, torch.zeros(B, dtype=torch.bool))
    y.sum().backward()
    assert not y.any()
    assert not x.grad.any()
    for name, value in layer.named_buffers():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(("groups", "word"), [(3, "does not divide"), (4, "always 1 or -1")])
def test_groups_that_make_no_sense_are_refused(groups: int, word: str) -> None:
    with pytest.raises(BnbenchError, match=word):
        norms.get("power").factory(C, 1, scale_groups=groups)
