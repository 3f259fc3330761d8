"""What a normalizer does, found by trying it: values alone, the share of initial statistics, absorbing and shifting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnbench.norms import norms
from bnbench.norms.behaviour import absorbs_bias, has_shift, initial_share, values_alone

CPU = torch.device("cpu")
BASE = "dataset: digits\noptimizer: {name: sgd, lr: 0.05}\nmax_train_samples: 128\nseeds: 2\n"


def made(name: str, channels: int, dim: int, **options: Any) -> nn.Module:
    entry = norms.get(name)
    module: nn.Module = entry.factory(channels, dim, **entry.typed(options))
    return module


class Chunks(nn.Module):
    """Someone's ghost batch norm: the last part of a batch is as small as it comes."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(
            [(p - p.mean(0)) / (p.var(0, correction=0) + 1e-5).sqrt() for p in x.split(self.size)]
        )


class Unbiased(nn.Module):
    """The unbiased variance of one value is NaN."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(0)) / (x.var(0) + 1e-5).sqrt()


class NotANumber(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * float("nan")


class RootMeanSquare(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / (x.square().mean(tuple(range(2, x.dim())) or -1, keepdim=True) + 1e-5).sqrt()


ALONE = [
    (lambda: nn.BatchNorm1d(4), (1, 4)),
    (lambda: nn.BatchNorm2d(4), (1, 4, 1, 1)),
    (lambda: nn.GroupNorm(4, 4), (8, 4)),
    (lambda: nn.GroupNorm(4, 4), (8, 4, 1, 1)),
    (lambda: nn.InstanceNorm2d(4), (8, 4, 1, 1)),
    (lambda: made("filter_response", 4, 2), (8, 4, 1, 1)),
    (lambda: made("evonorm_s0", 4, 2, groups=4), (8, 4, 1, 1)),
    (lambda: nn.LayerNorm(1), (8, 1)),
    (lambda: nn.RMSNorm(1), (8, 1)),
    (lambda: RootMeanSquare(), (8, 4, 1, 1)),
    (lambda: made("renorm", 4, 1), (1, 4)),
    (lambda: made("batch_noisy", 4, 1), (1, 4)),
    (lambda: Chunks(1), (8, 4)),
    (lambda: Unbiased(), (1, 4)),
    (lambda: nn.Sequential(nn.BatchNorm1d(4), nn.ReLU()), (1, 4)),
]
SOUND = [
    (lambda: nn.BatchNorm1d(4), (2, 4)),
    (lambda: nn.BatchNorm2d(4), (1, 4, 1, 2)),
    (lambda: nn.BatchNorm2d(4), (1, 4, 8, 8)),
    (lambda: nn.GroupNorm(2, 4), (8, 4)),
    (lambda: nn.GroupNorm(4, 4), (8, 4, 1, 2)),
    (lambda: made("filter_response", 4, 1), (8, 4)),  # has a learnt eps, which is made for this
    (lambda: made("filter_response", 4, 2), (8, 4, 2, 2)),
    (lambda: made("evonorm_s0", 4, 2), (8, 4, 1, 1)),
    (lambda: nn.LayerNorm([4, 3, 3]), (8, 4, 3, 3)),
    (lambda: made("ghost", 4, 1, ghost_size=2), (3, 4)),
    (lambda: made("batch_noisy", 4, 1), (2, 4)),
    (lambda: made("batch_mean_only", 4, 1), (2, 4)),
    (lambda: Chunks(16), (32, 4)),
    (lambda: nn.Sequential(nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5)), (8, 4)),
    # no normalizer at all: nothing to be alone in
    (lambda: nn.Identity(), (1, 4)),
    (lambda: made("dyt", 4, 1), (1, 4)),
    (lambda: made("frozen", 4, 1), (1, 4)),
    (lambda: made("skipinit", 4, 2), (1, 4, 1, 1)),
    (lambda: nn.ReLU(), (1, 4)),
    (lambda: NotANumber(), (8, 4)),  # which its run will show
]


@pytest.mark.parametrize(("make", "shape"), ALONE)
def test_a_value_that_is_normalized_by_itself_is_found(
    make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    assert values_alone(make(), shape) == 1


@pytest.mark.parametrize(("make", "shape"), SOUND)
def test_a_layer_that_works_on_its_shape_is_let_pass(
    make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    assert values_alone(make(), shape) == 0


def test_parts_of_a_batch_that_stand_alone_are_counted() -> None:
    assert values_alone(Chunks(16), (33, 4)) == pytest.approx(1 / 33)


def test_probing_leaves_the_layer_as_it_was() -> None:
    layer = made("batch_noisy", 4, 1)
    layer.eval()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    values_alone(layer, (8, 4))
    initial_share(layer, [((8, 4), 10)])
    assert not layer.training
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


class Plain(nn.Module):
    """Running statistics as plain attributes that are assigned anew, and a momentum of one's own name."""

    def __init__(self, keep: float, how: str = "") -> None:
        super().__init__()
        self.keep, self.how, self.batches = keep, how, 0
        self.moving, self.power = torch.zeros(4), torch.ones(4)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            debias = 1 - self.keep**self.batches if self.how == "debiased" else 1
            return (x - self.moving / debias) / (self.power / debias + 1e-5).sqrt()
        mean, var = x.mean(0), x.var(0, correction=0)
        keep = 0 if self.how == "first replaces" and not self.batches else self.keep
        self.moving = keep * self.moving + (1 - keep) * mean
        start = self.power if self.batches or self.how != "debiased" else 0
        self.power = keep * start + (1 - keep) * var
        self.batches += 1
        return (x - mean) / (var + 1e-5).sqrt()


@pytest.mark.parametrize("steps", [1, 10, 100])
def test_the_share_of_the_initial_statistics_against_its_formula(steps: int) -> None:
    """(1 - momentum) to the power of the updates; a plain average and a momentum of 1 keep nothing."""

    def share(module: nn.Module, samples: int = 32) -> float:
        return initial_share(module, [((samples, 4), steps)])

    assert share(nn.BatchNorm1d(4)) == pytest.approx(0.9**steps, rel=1e-3)
    assert share(made("batch_custom", 4, 1, momentum=0.01)) == pytest.approx(0.99**steps, rel=1e-3)
    assert share(made("batch_keras", 4, 1)) == pytest.approx(0.99**steps, rel=1e-3)
    assert share(made("renorm", 4, 1)) == pytest.approx(0.99**steps, rel=1e-2)
    assert share(made("ghost", 4, 1, ghost_size=8)) == pytest.approx(0.9 ** (4 * steps), rel=1e-2, abs=1e-9)
    assert share(nn.BatchNorm1d(4, momentum=0.0)) == 1
    assert share(nn.BatchNorm1d(4, momentum=1.0)) == 0
    assert share(nn.BatchNorm1d(4, momentum=None)) == 0
    assert share(Plain(0.95)) == pytest.approx(0.95**steps, rel=1e-3)
    assert share(Plain(1.0)) == 1
    assert share(Plain(0.95, "first replaces")) == 0
    assert share(Plain(0.95, "debiased")) == 0
    for name in ("layer", "frozen", "dyt", "batch_stats_at_inference", "rms"):
        assert share(made(name, 4, 1)) == 0


def test_absorbing_and_shifting() -> None:
    shape = (8, 4, 3, 3)
    assert absorbs_bias(nn.BatchNorm2d(4, affine=False), shape)
    assert absorbs_bias(nn.InstanceNorm2d(4), shape)
    assert not absorbs_bias(nn.GroupNorm(2, 4), shape)
    assert not absorbs_bias(made("skipinit", 4, 2), shape)  # alpha is 0 at the start: nothing is seen then
    assert has_shift(nn.GroupNorm(2, 4), shape)
    assert not has_shift(made("rms", 4, 2), shape)
    assert not has_shift(nn.Identity(), shape)


def test_a_layer_of_other_dimensions_is_not_said_to_lack_values() -> None:
    assert values_alone(nn.BatchNorm2d(8), (32, 8)) == 0  # it raises, and so it does on any (N, C)
    assert values_alone(nn.BatchNorm1d(8), (1, 8)) == 1
    assert values_alone(nn.InstanceNorm2d(8), (32, 8, 1, 1)) == 1
