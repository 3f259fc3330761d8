"""Santurkar's shift of gradients against the closed form of linear networks, and against what can't change it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bnbench.norms import norms
from bnbench.probes.gradient_shift import gradient_shift
from bnbench.probes.trial import depths
from tests.probes.insides import MakeOptimizer, inside_of, layers_of, values

D, K, N = 4, 3, 12


def draws(seed: int) -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)


def linear_network(draw: Callable[..., Tensor], depth: int) -> nn.Sequential:
    model = nn.Sequential(
        *[nn.Linear(D, D if i + 1 < depth else K, bias=False) for i in range(depth)]
    ).double()
    with torch.no_grad():
        for layer in model:
            layer.weight.copy_(draw(*layer.weight.shape) / math.sqrt(D))  # type: ignore[operator]
    return model


def product(weights: list[Tensor]) -> Tensor:
    """W_n ... W_1 (the identity where there are none)."""
    result = torch.eye(D, dtype=torch.float64)
    for weight in weights:
        result = weight @ result
    return result


def gradient(weights: list[Tensor], i: int, x: Tensor, y: Tensor) -> Tensor:
    """dL/dW_i of L = ‖W_n ... W_1 Xᵀ - Yᵀ‖² / (N K): 2/(N K) Aᵀ (A W_i B Xᵀ - Yᵀ) X Bᵀ with A above and B below."""
    below, above = product(weights[:i]), torch.eye(len(weights[-1]), dtype=torch.float64)
    for weight in reversed(weights[i + 1 :]):
        above = above @ weight
    error = above @ weights[i] @ below @ x.T - y.T
    return 2 / y.numel() * above.T @ error @ x @ below.T


def compared(before: Tensor, after: Tensor) -> tuple[float, float, float]:
    """The norm of the change, the same relative to the norm before, and the cosine."""
    size = float((before - after).norm())
    cosine = float((before * after).sum() / (before.norm() * after.norm()))
    return size, size / float(before.norm()), cosine


def expected(
    old: list[Tensor], new: list[Tensor], i: int, x: Tensor, y: Tensor
) -> tuple[float, float, float]:
    """Of layer i (from 0), with the layers below it at `new`."""
    return compared(gradient(old, i, x, y), gradient([*new[:i], *old[i:]], i, x, y))


def weights(model: nn.Sequential) -> list[Tensor]:
    return [layer.weight.detach() for layer in model if isinstance(layer, nn.Linear)]


def sgd_with_decay(parameters: object) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.02)  # type: ignore[arg-type]


@pytest.mark.parametrize("decay", [0.0, 0.02])
def test_the_shift_of_a_linear_network_is_that_of_the_closed_form(decay: float) -> None:
    """Oracle: matrix algebra in float64. W(t+1) = W - lr (g + decay W), the first step of SGD with momentum."""
    draw = draws(0)
    model = linear_network(draw, 4)
    (x, y), (other_x, other_y) = [(draw(N, D), draw(N, K)) for _ in range(2)]
    make: MakeOptimizer = sgd_with_decay if decay else (lambda p: torch.optim.SGD(p, lr=0.1))
    measured = values(gradient_shift(inside_of(model, nn.MSELoss(), [(x, y), (other_x, other_y)], make)))
    old = weights(model)
    new = [w - 0.1 * (gradient(old, i, x, y) + decay * w) for i, w in enumerate(old)]
    names = ("shift_l2", "shift_norm", "shift_cosine")
    assert {layer for layer, _ in measured} == {"1", "2", "3"}  # nothing is below the first one
    for i in (1, 2, 3):
        found = [measured[str(i), name] for name in names]
        assert found == pytest.approx(expected(old, new, i, x, y), rel=1e-10)
        assert found[1] > 1e-3
        floors = [measured[str(i), f"{name}_floor"] for name in names]
        batches = gradient(old, i, x, y), gradient(old, i, other_x, other_y)
        assert floors == pytest.approx(compared(*batches), rel=1e-10)


def test_the_private_state_of_the_optimizer_makes_the_step() -> None:
    """A momentum from earlier steps moves the layers below further than the gradient alone."""
    draw = draws(1)
    model = linear_network(draw, 2)
    x, y = draw(N, D), draw(N, K)
    momentum = draw(D, D)

    def with_momentum(parameters: object) -> torch.optim.Optimizer:
        optimizer = sgd_with_decay(parameters)
        optimizer.state[optimizer.param_groups[0]["params"][0]]["momentum_buffer"] = momentum.clone()
        return optimizer

    measured = values(gradient_shift(inside_of(model, nn.MSELoss(), [(x, y)] * 2, with_momentum)))
    old = weights(model)
    step = 0.9 * momentum + gradient(old, 0, x, y) + 0.02 * old[0]
    new = [old[0] - 0.1 * step, old[1]]
    assert measured["1", "shift_norm"] == pytest.approx(expected(old, new, 1, x, y)[1], rel=1e-10)


def normalized(draw: Callable[..., Tensor]) -> nn.Sequential:
    widths = [(D, 6), (6, 6), (6, 6)]
    blocks = [
        nn.Sequential(nn.Linear(a, b, bias=False), nn.BatchNorm1d(b, eps=1e-14), nn.Tanh()) for a, b in widths
    ]
    return with_weights(nn.Sequential(*blocks, nn.Linear(6, K)).double(), draw)


def with_weights(model: nn.Sequential, draw: Callable[..., Tensor]) -> nn.Sequential:
    """Parameters around 0, gammas around 1."""
    with torch.no_grad():
        for module in model.modules():
            for parameter in module.parameters(recurse=False):
                parameter.copy_(draw(*parameter.shape) / 2 + (0 if isinstance(module, nn.Linear) else 1))
    return model


def test_a_scale_that_the_norm_takes_out_changes_neither_cosine_nor_relative_shift() -> None:
    """W -> 100 W before batch norm: the same network, so every other layer's gradient is the same; its own is /100."""
    draw = draws(2)
    model = normalized(draw)
    batch = draw(N, D), torch.arange(N) % K
    scaled = copy.deepcopy(model)
    with torch.no_grad():
        scaled[2][0].weight.mul_(100)  # type: ignore[index]
    one, other = (
        values(gradient_shift(inside_of(m, nn.CrossEntropyLoss(), [batch] * 2))) for m in (model, scaled)
    )
    for name in ("shift_norm", "shift_cosine"):
        assert other["2.0", name] == pytest.approx(one["2.0", name], rel=1e-7)
    assert other["2.0", "shift_l2"] == pytest.approx(one["2.0", "shift_l2"] / 100, rel=1e-7)
    assert one["2.0", "shift_norm"] > 0.01
    # the layer above sees its step, which the scale makes smaller
    assert other["3", "shift_norm"] < 0.97 * one["3", "shift_norm"]


class Noisy(nn.Module):
    """Noise from the global stream, and running statistics that are used in training."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        return x * (1 + 0.1 * self.seen) + torch.randn_like(x)


@pytest.mark.parametrize("make", [Noisy, lambda: nn.Dropout(0.5), lambda: norms.get("renorm").factory(6, 1)])
def test_without_a_step_there_is_no_shift(make: Callable[[], nn.Module]) -> None:
    """Also where two passes would draw other noise, or find other running statistics."""
    draw = draws(3)
    model = with_weights(
        nn.Sequential(nn.Linear(D, 6), make(), nn.Linear(6, 6), make(), nn.Linear(6, K)).double(), draw
    )
    batches = [(draw(N, D), torch.arange(N) % K) for _ in range(2)]

    def still(parameters: object) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=0.0)  # type: ignore[arg-type]

    state = copy.deepcopy(model.state_dict())
    streams = torch.get_rng_state()
    measured = values(gradient_shift(inside_of(model, nn.CrossEntropyLoss(), batches, still)))
    assert torch.equal(torch.get_rng_state(), streams)
    torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)
    for layer in ("2", "4"):
        assert measured[layer, "shift_norm"] == 0
        assert measured[layer, "shift_cosine"] == pytest.approx(1)
        assert measured[layer, "shift_norm_floor"] > 0.01


def test_a_layer_without_a_gradient_has_no_number() -> None:
    """No share of 0 and no angle to it, and no 0 or 1 that would look like a finding; frozen layers have no rows."""
    model = with_weights(nn.Sequential(nn.Linear(D, 6), nn.Linear(6, 6), nn.Linear(6, K)).double(), draws(5))
    model[1].requires_grad_(False)
    model[2].weight.data.zero_()  # type: ignore[union-attr, operator]
    batch = torch.ones(N, D, dtype=torch.float64), model[2].bias.detach().expand(N, K).clone()  # type: ignore[union-attr, operator]
    measured = values(gradient_shift(inside_of(model, nn.MSELoss(), [batch] * 2)))
    assert measured == {("2", "shift_l2"): 0, ("2", "shift_l2_floor"): 0}


def test_a_gradient_that_is_not_finite_is_no_number() -> None:
    model = linear_network(draws(6), 3)
    x, y = torch.full((N, D), 1e200, dtype=torch.float64), torch.zeros(N, K, dtype=torch.float64)
    measured = values(gradient_shift(inside_of(model, nn.MSELoss(), [(x, y)] * 2)))
    assert math.isnan(measured["1", "shift_norm"])
    assert math.isnan(measured["2", "shift_cosine"])


def test_every_parameter_belongs_to_a_layer() -> None:
    model = normalized(draws(4))
    model.register_parameter("factor", nn.Parameter(torch.ones(())))
    found = depths(model, layers_of(model))
    assert found["0.0.weight"] == found["0.1.weight"] == found["0.1.bias"] == 1
    assert found["2.1.bias"] == 3
    assert found["3.bias"] == 4
    assert set(found) == {name for name, _ in model.named_parameters()}
