"""Convolutions over a text. Oracle: torch.nn.functional.conv1d with the same weights, in float64, text by text."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnbench.data import Sizes
from bnbench.engine.build import initialise
from bnbench.models import models
from bnbench.models.layers import NormLayer
from bnbench.norms import norms

CLASSES = Sizes((7,), 3, vocabulary=9, masked=True)
KERNELS = [1, 2, 3, 4]


def made(norm: str = "layer", **options: Any) -> nn.Module:
    factory = models.get("textcnn").factory
    model: nn.Module = factory(
        CLASSES, NormLayer(norms.get(norm)), width=5, channels=4, kernels=KERNELS, **options
    )
    initialise(model, 0, "torch")
    return model.double()


def test_it_is_the_maximum_over_time_of_convolutions_of_several_widths() -> None:
    model, tokens = made("none"), torch.randint(1, 9, (6, 7))
    features: list[Tensor] = []
    x = model.get_parameter("embedding.weight")[tokens].transpose(1, 2)
    for index, kernel in enumerate(KERNELS):
        conv = model.get_submodule(f"branches.branches.{index}.0.conv.conv")
        assert isinstance(conv, nn.Conv2d)
        left = (kernel - 1) // 2
        padded = nn.functional.pad(x, (left, kernel - 1 - left))
        features.append(nn.functional.conv1d(padded, conv.weight[..., 0], conv.bias).relu().amax(2))
    expected = model.get_submodule("head")(torch.cat(features, 1))
    torch.testing.assert_close(model(tokens), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("norm", ["none", "layer", "rms", "dyt", "group"])
def test_padding_changes_nothing_where_each_position_is_normalized_alone(norm: str) -> None:
    """Also where all that the text gives is below what padding would give: the maximum is over valid positions."""
    model = made(norm, activation="tanh")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(0.2)
    tokens = torch.randint(1, 9, (6, 4))
    torch.testing.assert_close(
        model(nn.functional.pad(tokens, (0, 3))), model(tokens), rtol=1e-12, atol=1e-12
    )


def test_a_mask_of_zeros_gives_finite_outputs_and_gradients() -> None:
    model = made()
    model(torch.zeros(3, 7, dtype=torch.int64)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_the_convolutions_have_a_bias_where_the_normalizer_does_not_take_it_out() -> None:
    for norm, has in (("none", True), ("layer", True), ("batch", False)):
        convs = [layer for layer in made(norm).modules() if isinstance(layer, nn.Conv2d)]
        assert len(convs) == len(KERNELS)
        assert all((conv.bias is not None) == has for conv in convs)
