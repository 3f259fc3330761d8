"""Schedules against their formulas, weight decay groups, and the losses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bnbench.optim import losses, optimizers, schedules


def factors(name: str, total: int, per_epoch: int, **options: object) -> list[float]:
    schedule = schedules.get(name).factory(total, per_epoch, **options)
    return [schedule(step) for step in range(total)]


def test_constant() -> None:
    assert factors("constant", 4, 2) == [1.0] * 4


def test_warmup_is_linear_and_ends_at_the_full_rate() -> None:
    assert factors("constant", 6, 2, warmup_epochs=2) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])


def test_cosine_against_its_formula() -> None:
    expected = [(1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]
    assert factors("cosine", 8, 4) == pytest.approx(expected)
    assert factors("cosine", 8, 4, final_factor=0.1)[-1] == pytest.approx(0.1 + 0.9 * expected[-1])


def test_cosine_starts_after_its_warmup() -> None:
    got = factors("cosine", 8, 4, warmup_epochs=0.5)
    assert got[:2] == pytest.approx([0.5, 1.0])
    assert got[2] == 1.0
    assert got[5] == pytest.approx((1 + math.cos(math.pi * 3 / 6)) / 2)


def test_step_drops_at_its_milestones() -> None:
    got = factors("step", 8, 2, milestones=[1, 3], gamma=0.1)
    assert got == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01])


def toy() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.mark.parametrize("name", optimizers.names())
def test_weight_decay_spares_norm_parameters_and_biases_where_asked(name: str) -> None:
    model = toy()
    optimizer = optimizers.get(name).factory(model, lr=0.1, weight_decay=0.5, decay_norm_and_bias=False)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert [decay[id(p)] for p in model.parameters()] == [0.5, 0, 0, 0, 0.5, 0]
    optimizer = optimizers.get(name).factory(model, lr=0.1, weight_decay=0.5)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5]


def test_sgd_with_nesterov_against_the_update_rule_by_hand() -> None:
    """v = m v + g, w = w - lr (g + m v), with g including the decay."""
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(2.0)
    optimizer = optimizers.get("sgd").factory(model, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.5)
    weight, velocity = 2.0, 0.0
    for _ in range(3):
        model.weight.grad = torch.full((1, 1), 3.0)
        optimizer.step()
        gradient = 3.0 + 0.5 * weight
        velocity = gradient if velocity == 0 else 0.9 * velocity + gradient
        weight -= 0.1 * (gradient + 0.9 * velocity)
        assert model.weight.item() == pytest.approx(weight, rel=1e-6)


def test_adamw_decay_does_not_pass_through_the_moments() -> None:
    """With a zero gradient, AdamW multiplies by 1 - lr*decay, and Adam moves by lr."""
    for name, expected in (("adamw", 2 * (1 - 0.1 * 0.5)), ("adam", 2 - 0.1)):
        model = nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            model.weight.fill_(2.0)
        optimizer = optimizers.get(name).factory(model, lr=0.1, weight_decay=0.5)
        model.weight.grad = torch.zeros(1, 1)
        optimizer.step()
        assert model.weight.item() == pytest.approx(expected, rel=1e-6)


def test_label_smoothing_against_its_formula() -> None:
    logits, label = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([0])
    log_p = logits.log_softmax(-1)[0].tolist()
    expected = -(0.7 * log_p[0] + 0.3 * sum(log_p) / 3)
    loss = losses.get("cross_entropy").factory(label_smoothing=0.3)
    assert loss(logits, label).item() == pytest.approx(expected, rel=1e-6)


def test_double_softmax_can_not_fall_below_its_floor() -> None:
    """log(1 + 9/e) = 1.4612 for ten classes, however sure and right the model is."""
    logits = 100 * torch.eye(10)
    loss = losses.get("double_softmax").factory()
    assert loss(logits, torch.arange(10)).item() == pytest.approx(math.log(1 + 9 / math.e), rel=1e-6)
    assert loss(torch.zeros(1, 10), torch.tensor([3])).item() == pytest.approx(math.log(10), rel=1e-6)


def test_mse_is_the_mean_square_over_samples_and_classes() -> None:
    """Oracle: 1/(N K) Σ (z_nk - [y_n = k])² in float64, and its gradient 2/(N K) (z - one-hot)."""
    draw = torch.Generator().manual_seed(0)
    outputs = torch.randn(5, 4, generator=draw, dtype=torch.float64).requires_grad_()
    labels = torch.tensor([0, 3, 1, 1, 2])
    wanted = torch.zeros(5, 4, dtype=torch.float64)
    for sample, label in enumerate(labels.tolist()):
        wanted[sample, label] = 1.0
    loss = losses.get("mse").factory()(outputs, labels)
    off = outputs.detach() - wanted
    assert loss.item() == pytest.approx((off**2).sum().item() / 20, rel=1e-12)
    (grad,) = torch.autograd.grad(loss, outputs)
    torch.testing.assert_close(grad, 2 / 20 * off)
