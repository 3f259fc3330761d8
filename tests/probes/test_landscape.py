"""Loss and gradient along a step, against closed forms of a quadratic and finite differences in float64."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from bnbench.probes.landscape import LENGTHS, landscape
from bnbench.probes.trial import NETWORK
from tests.probes.insides import inside_of, values

D, K, N = 4, 3, 12


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(N, size, generator=draw, dtype=torch.float64) for size in (D, K))
    return x, y


def linear(seed: int = 0) -> nn.Linear:
    model = nn.Linear(D, K, bias=False).double()
    with torch.no_grad():
        model.weight.normal_(generator=torch.Generator().manual_seed(seed))
    return model


def test_along_the_gradient_of_a_quadratic() -> None:
    """L = ‖W Xᵀ - Yᵀ‖²/(NK): g = 2/(NK) (W Xᵀ - Yᵀ) X, Hg = 2/(NK) g XᵀX, L(W - s g) = L - s g·g + s²/2 g·Hg."""
    (x, y), model, lr = batch(), linear(), 0.7
    w = model.weight.detach()
    g = 2 / y.numel() * (w @ x.T - y.T) @ x
    hg = 2 / y.numel() * g @ x.T @ x
    start = float((w @ x.T - y.T).square().mean())

    def loss(step: float) -> float:
        return float(start - step * (g * g).sum() + step**2 / 2 * (g * hg).sum())

    measured = values(landscape(inside_of(model, nn.MSELoss(), [(x, y)] * 2, lr=lr)))
    losses = [loss(f * lr) for f in LENGTHS]
    assert measured[NETWORK, "loss_along 0"] == pytest.approx(start)
    assert [measured[NETWORK, f"loss_along {f:g}"] for f in LENGTHS] == pytest.approx(losses)
    assert measured[NETWORK, "loss_range"] == pytest.approx(max(losses) - min(losses))
    assert measured[NETWORK, "gradient_change"] == pytest.approx(4 * lr * float(hg.norm() / g.norm()))
    assert measured[NETWORK, "smoothness"] == pytest.approx(float(hg.norm() / g.norm()))


def test_along_the_update_of_a_quadratic() -> None:
    """Weight decay makes the update another direction, u = -0.2 (g + 0.5 W): L(W + f u) = L + f g·u + f²/2 u·Hu."""
    (x, y), model = batch(1), linear(1)
    w = model.weight.detach()
    g = 2 / y.numel() * (w @ x.T - y.T) @ x
    u = -0.2 * (g + 0.5 * w)
    hu = 2 / y.numel() * u @ x.T @ x
    start = float((w @ x.T - y.T).square().mean())
    losses = [float(start + f * (g * u).sum() + f**2 / 2 * (u * hu).sum()) for f in LENGTHS]
    inside = inside_of(
        model, nn.MSELoss(), [(x, y)] * 2, lambda p: torch.optim.SGD(p, lr=0.2, weight_decay=0.5), lr=0.2
    )
    measured = values(landscape(inside))
    assert measured[NETWORK, "update_loss_range"] == pytest.approx(max(losses) - min(losses))
    assert measured[NETWORK, "update_gradient_change"] == pytest.approx(4 * float(hu.norm() / g.norm()))
    assert measured[NETWORK, "update_smoothness"] == pytest.approx(float(hu.norm() / u.norm()))
    assert measured[NETWORK, "loss_range"] != pytest.approx(measured[NETWORK, "update_loss_range"], rel=0.01)


def test_the_change_of_gradients_is_that_of_finite_differences() -> None:
    """Oracle: central differences of the loss alone, parameter by parameter, through batch norm in train mode."""
    draw = torch.Generator().manual_seed(2)
    model = nn.Sequential(nn.Linear(D, 5, bias=False), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, K)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=draw)
    x, y = batch(3)[0], torch.arange(N) % K
    objective, lr = nn.CrossEntropyLoss(), 0.3
    trained = copy.deepcopy(model)

    def loss_at(vector: Tensor) -> float:
        nn.utils.vector_to_parameters(vector, trained.parameters())
        with torch.no_grad():
            return float(objective(trained(x), y))

    def gradient_at(vector: Tensor, width: float = 1e-5) -> Tensor:
        steps = width * torch.eye(len(vector), dtype=torch.float64)
        pairs = [loss_at(vector + step) - loss_at(vector - step) for step in steps]
        return torch.tensor(pairs, dtype=torch.float64) / (2 * width)

    start = nn.utils.parameters_to_vector(model.parameters()).detach()
    g = gradient_at(start)
    losses = [loss_at(start - f * lr * g) for f in LENGTHS]
    changes = [float((gradient_at(start - f * lr * g) - g).norm() / g.norm()) for f in LENGTHS]
    measured = values(landscape(inside_of(model, objective, [(x, y)] * 2, lr=lr)))
    assert measured[NETWORK, "loss_range"] == pytest.approx(max(losses) - min(losses), rel=1e-6)
    assert measured[NETWORK, "gradient_change"] == pytest.approx(max(changes), rel=1e-6)


def test_a_loss_that_is_not_finite_gives_no_number() -> None:
    """At four times an absurd rate the weights overflow: NaN, and no range of the finite rest."""
    measured = values(landscape(inside_of(linear(), nn.MSELoss(), [batch()] * 2, lr=1e200)))
    assert math.isnan(measured[NETWORK, "loss_range"])
    assert math.isnan(measured[NETWORK, "gradient_change"])


def test_a_landscape_leaves_its_network_as_it_was() -> None:
    model = linear()
    before = copy.deepcopy(model.state_dict())
    values(landscape(inside_of(model, nn.MSELoss(), [batch()] * 2)))
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
