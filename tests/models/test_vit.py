"""The vision transformer. Oracles: a convolution with the same weights for its patches; the sizes of its parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bnbench.base.errors import BnbenchError
from bnbench.models import models
from bnbench.models.layers import NormLayer
from bnbench.models.vit import Patches
from bnbench.norms import norms


def made(shape: tuple[int, int, int] = (3, 8, 12), norm: str = "layer", **options: Any) -> nn.Module:
    options = {"width": 8, "heads": 2, "depth": 1, **options}
    model: nn.Module = models.get("vit").factory(shape, 5, NormLayer(norms.get(norm)), **options)
    return model


def test_patches_and_their_layer_are_a_convolution_with_the_stride_of_a_patch() -> None:
    x = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    conv = nn.Conv2d(3, 8, 4, stride=4).double()
    ours = nn.functional.linear(Patches(4)(x), conv.weight.flatten(1), conv.bias)
    torch.testing.assert_close(ours, conv(x).flatten(2).transpose(1, 2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("pool", "tokens"), [("mean", 6), ("class_token", 7)])
def test_the_class_is_read_from_the_mean_or_from_a_token(pool: str, tokens: int) -> None:
    model = made(pool=pool)
    assert model.get_parameter("positions.weight").shape == (tokens, 8)
    x = torch.randn(2, 3, 8, 12)
    hidden = x
    for name, layer in model.named_children():
        if name == "pool":
            break
        hidden = layer(hidden)
    assert hidden.shape == (2, tokens, 8)
    chosen = hidden[:, 0] if pool == "class_token" else hidden.mean(1)
    torch.testing.assert_close(model(x), model.get_submodule("head")(chosen))
    if pool == "class_token":
        assert model.get_submodule("class_token")(torch.zeros(2, 6, 8))[0, 0].equal(
            model.get_parameter("class_token.weight")[0]
        )


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_every_patch_has_a_part_in_the_answer(patch: int) -> None:
    x = torch.randn(1, 3, 8, 12, requires_grad=True)
    made(patch=patch)(x).square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum(1).all()


def test_a_patch_that_does_not_divide_the_image_is_refused_with_those_that_do() -> None:
    with pytest.raises(
        BnbenchError, match=r"model.patch: 5 does not divide the images of 8 x 12 pixels"
    ) as error:
        made(patch=5)
    assert "patch: 2 or 4." in str(error.value)
    with pytest.raises(BnbenchError, match="patch: 1"):
        made((1, 7, 5), patch=2)
