"""The fairness rule: a bias goes exactly where the normalizer after it takes it out, declared or found by trying."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from bnbench.base.registry import Entry
from bnbench.models.layers import NormLayer, conv_block, linear_block
from bnbench.norms import NormFacts


class Centred(nn.Module):
    """Takes the mean out, or not."""

    def __init__(self, *, center: bool) -> None:
        super().__init__()
        self.center = center

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        axes = [axis for axis in range(x.dim()) if axis != 1]
        return x - x.mean(axes, keepdim=True) if self.center else x / x.std()


def layer(make: Callable[..., nn.Module], **options: object) -> NormLayer:
    return NormLayer(Entry("mine", make, NormFacts()), options)


def fails(num_features: int, dim: int) -> nn.Module:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("norm", "bias"),
    [
        (layer(lambda n, dim: nn.BatchNorm1d(n) if dim == 1 else nn.BatchNorm2d(n)), False),
        (layer(lambda n, dim: nn.BatchNorm1d(n)), False),  # tried on what it takes
        (layer(lambda n, dim: nn.GroupNorm(2, n)), True),
        (layer(lambda n, dim: nn.Identity()), True),
        (layer(lambda n, dim, *, center: Centred(center=center), center=True), False),
        (layer(lambda n, dim, *, center: Centred(center=center), center=False), True),
        (layer(fails), True),  # reported where the network is built
        (layer(lambda n, dim: None), True),
    ],
)
def test_what_is_not_declared_is_found_by_trying(norm: NormLayer, bias: bool) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert norm.absorbs_bias is not bias
    assert torch.equal(torch.get_rng_state(), before)


def test_blocks_go_by_it() -> None:
    norm = layer(lambda n, dim: nn.BatchNorm1d(n) if dim == 1 else nn.BatchNorm2d(n))
    assert linear_block(4, 8, norm)[0].bias is None
    assert linear_block(4, 8, norm, norm_position="after")[0].bias is not None
    assert linear_block(4, 8, norm, bias="always")[0].bias is not None
    assert conv_block(4, 8, norm)[0].bias is None


def test_a_layer_is_tried_once() -> None:
    made: list[int] = []

    def make(num_features: int, dim: int) -> nn.Module:
        made.append(dim)
        return nn.Identity()

    norm = layer(make)
    assert not norm.absorbs_bias
    assert not norm.at("branch").absorbs_bias
    assert made == [1, 2]
