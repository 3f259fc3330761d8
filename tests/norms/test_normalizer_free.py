"""Scaled weight standardization and the normalizer-free block against their formulas, in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import nn

from bnbench.base.errors import BnbenchError
from bnbench.models.layers import NormLayer
from bnbench.models.mlp import mlp
from bnbench.models.normalizer_free import NormalizerFreeBlock
from bnbench.models.resnet import resnet
from bnbench.norms import norms
from bnbench.norms.parameter_groups import groups_by_name
from bnbench.norms.place import Place
from bnbench.norms.scaled_weight_standardization import activation_gain, scaled, scaled_layer

NORM = NormLayer(norms.get("scaled_weight_standardization"))
FUNCTIONS: dict[str, Any] = {
    "relu": lambda z: np.maximum(z, 0),
    "tanh": np.tanh,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "gelu": lambda z: z * stats.norm.cdf(z),
    "linear": lambda z: z,
}


@pytest.mark.parametrize("activation", FUNCTIONS)
def test_the_gain_makes_the_variance_of_the_activation_1(activation: str) -> None:
    """By SciPy's adaptive quadrature over the normal density."""

    def expected(power: int) -> float:
        def of(z: float) -> float:
            return float(FUNCTIONS[activation](z) ** power * stats.norm.pdf(z))

        return float(sum(integrate.quad(of, *part, epsabs=1e-13)[0] for part in ((-12, 0), (0, 12))))

    variance = expected(2) - expected(1) ** 2
    assert activation_gain(activation) ** 2 * variance == pytest.approx(1, abs=1e-9)


def test_the_gain_of_relu_is_the_papers() -> None:
    assert activation_gain("relu") == pytest.approx(math.sqrt(2) / math.sqrt(1 - 1 / math.pi))


@pytest.mark.parametrize("layer", [nn.Linear(7, 4), nn.Conv2d(3, 4, 3, stride=2, padding=1)], ids=str)
def test_weights_are_standardized_over_the_fan_in_of_each_output(layer: Any) -> None:
    """γ g (w - mean) / √(N var), row by row in NumPy; and the rest of the layer is what it was."""
    made: Any = scaled_layer(layer, Place(activation="tanh")).double()
    made.load_state_dict({**layer.double().state_dict(), "gain": torch.tensor([1.0, 2.0, 0.5, -1.0])})
    w = layer.weight.detach().numpy().reshape(4, -1)
    rows = [
        activation_gain("tanh") * gain * (row - row.mean()) / np.sqrt(len(row) * row.var())
        for gain, row in zip([1.0, 2.0, 0.5, -1.0], w, strict=True)
    ]
    x = torch.randn(5, *((7,) if isinstance(layer, nn.Linear) else (3, 6, 6)), dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.array(rows)).reshape(layer.weight.shape))
    torch.testing.assert_close(made(x), layer(x))


def test_gradients_flow_through_the_standardization() -> None:
    weight = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    gain = torch.rand(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w, g: scaled(w, g, 1.7), (weight, gain))
    assert torch.autograd.gradgradcheck(lambda w, g: scaled(w, g, 1.7), (weight, gain))


def test_equal_weights_give_0_and_one_weight_an_output_is_refused() -> None:
    assert not scaled(torch.full((2, 9), 0.5), torch.ones(2), 1.0).any()
    with pytest.raises(BnbenchError, match="one weight an output"):
        scaled_layer(nn.Linear(1, 3), Place())


def test_the_first_layer_and_the_last_have_no_gain_for_an_activation() -> None:
    model: Any = mlp((1, 8, 8), 10, NORM, hidden=[9, 9], activation="tanh")
    factors = [block.linear.factor for block in model.blocks]
    assert factors == [1.0, activation_gain("tanh")]
    assert type(model.head) is nn.Linear
    made: Any = resnet((3, 8, 8), 10, NORM, depth=8, block="nf")
    assert made.stem.conv.factor == 1.0
    assert {block.second.conv.factor for block in made.blocks} == {activation_gain("relu")}
    assert made.blocks[1].shortcut.factor == activation_gain("relu")


def test_the_learnt_gains_are_gammas() -> None:
    groups = groups_by_name(resnet((3, 8, 8), 10, NORM, depth=8, block="nf"))
    assert groups["stem.conv.gain"] == groups["blocks.stage2_0.shortcut.gain"] == "gamma"
    assert groups["stem.conv.weight"] == "weights"
    assert groups["stem.conv.bias"] == groups["blocks.stage1_0.skip_gain.alpha"] == "biases"


def test_the_deviation_of_every_block_is_the_one_that_is_tracked() -> None:
    """The expected deviations of the paper: 1, √(1 + α²), √(1 + 2 α²), from 1 again where the shape changes.

    With the learnt factor at 1 and α = 0.7; over the inner positions, which no padding touches; 64 channels, white
    noise, so the mean over 32 samples and 64 or more channels is within 10 % of it.
    """
    torch.manual_seed(0)
    model: Any = resnet((3, 48, 48), 10, NORM, depth=20, width=64, block="nf", alpha=0.7)
    for module in model.modules():
        if isinstance(module, NormalizerFreeBlock):
            nn.init.ones_(module.skip_gain.alpha)
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight)
            nn.init.zeros_(module.bias)
    x = model.stem(torch.randn(8, 3, 48, 48))
    found: list[float] = []
    with torch.no_grad():
        for block in list(model.blocks)[:5]:
            x = block(x)
            edge = 2 * (len(found) + 2)
            inner = x[:, :, edge // 2 : -(edge // 2), edge // 2 : -(edge // 2)]
            found.append(float(inner.transpose(0, 1).flatten(1).var(1).mean().sqrt()))
    tracked = [math.sqrt(1 + n * 0.49) for n in (1, 2, 3, 1, 2)]
    assert found == pytest.approx(tracked, rel=0.1)
    assert [block.beta for block in list(model.blocks)[1:6]] == pytest.approx(tracked)


def test_a_block_is_its_formula_at_the_start_and_after_it() -> None:
    """With the learnt factor at 0 the block is its shortcut."""
    torch.manual_seed(0)
    norm = NORM.residual(9, 2)
    block = NormalizerFreeBlock(4, 4, norm, 1, 0.2, 1.5)
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(block(x), x)
    nn.init.ones_(block.skip_gain.alpha)
    torch.testing.assert_close(block(x), x + 0.2 * block.second(block.first(x.relu() / 1.5)))
    wider = NormalizerFreeBlock(4, 8, norm, 2, 0.2, 1.5)
    torch.testing.assert_close(wider(x), wider.shortcut(x.relu() / 1.5))
