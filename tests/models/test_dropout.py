"""Dropout: its masks, its places in a block, and the variants and engines that share them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from bnbench.data import Sizes
from bnbench.engine.build import build_model
from bnbench.models.dropout import Dropout, SeededDropout, with_dropout
from bnbench.models.layers import Block, NormLayer, linear_block
from bnbench.norms import norms
from bnbench.study import Settings, Vocabulary, load_study
from bnbench.study.plan import cell_identity

Write = Callable[..., Path]
Make = Callable[[str], Settings]
MINIMAL = "dataset: digits\noptimizer: {name: sgd, lr: 0.1}\n"
SIZES = Sizes((1, 32, 32), 10)


@pytest.fixture
def settings(write_study: Write, vocabulary: Vocabulary) -> Make:
    def make(text: str) -> Settings:
        (only,) = load_study(write_study(f"{MINIMAL}{text}\n"), [], vocabulary).variants.values()
        return only

    return make


def test_a_value_is_zero_with_probability_p_and_else_scaled() -> None:
    layer = SeededDropout(0.3)
    y = layer(torch.ones(200, 500))
    assert set(y.unique().tolist()) == {0.0, (torch.ones(()) / 0.7).item()}
    share = (y == 0).double().mean()
    assert abs(share - 0.3) < 4 * (0.3 * 0.7 / y.numel()) ** 0.5
    assert not torch.equal(layer(torch.ones(200, 500)), y)  # the next mask is another one
    x = torch.randn(5, 7)
    assert layer.eval()(x) is x


def test_masks_are_the_layers_own_and_a_state_dict_brings_them_back() -> None:
    layer, other = SeededDropout(0.5), SeededDropout(0.5)
    x = torch.ones(8, 8)
    layer(x)
    other.load_state_dict(layer.state_dict())
    before = torch.get_rng_state()
    torch.manual_seed(5)
    first = layer(x)
    torch.manual_seed(6)
    assert torch.equal(first, other(x))
    torch.set_rng_state(before)
    assert torch.equal(layer(x), other(x))


@pytest.mark.parametrize(
    "model", ["{name: mlp, hidden: [8, 8]", "{name: cnn, channels: [4, 4]", "{name: vgg, width: 2"]
)
@pytest.mark.parametrize("place", ["before_norm", "after_norm", "last"])
def test_variants_of_a_seed_have_the_same_masks_and_seeds_others(
    model: str, place: str, settings: Make
) -> None:
    text = f"model: {model}, dropout: {{p: 0.4, place: {place}}}}}\nnorm: "

    def masks(norm: str, seed: int) -> dict[str, torch.Tensor]:
        built = build_model(settings(text + norm), SIZES, seed)
        return {
            name: module.mask((6, 5)) for name, module in built.named_modules() if isinstance(module, SeededDropout)
        }  # fmt: skip

    none, batch, other = masks("none", 0), masks("batch", 0), masks("none", 1)
    blocks = {"{name: mlp": 2, "{name: cnn": 2, "{name: vgg": 8}[model.partition(",")[0]]
    assert len(none) == (1 if place == "last" else blocks)
    assert none.keys() == batch.keys()
    assert all(torch.equal(none[name], batch[name]) for name in none)
    assert not any(torch.equal(none[name], other[name]) for name in none)
    assert len({mask.numpy().tobytes() for mask in none.values()}) == len(none)  # a stream a layer


@pytest.mark.parametrize(
    ("norm_position", "place", "order"),
    [
        ("before", "before_norm", ["linear", "dropout", "norm", "activation"]),
        ("before", "after_norm", ["linear", "norm", "dropout", "activation"]),
        ("after", "before_norm", ["linear", "activation", "dropout", "norm"]),
        ("after", "after_norm", ["linear", "activation", "norm", "dropout"]),
        ("before", "last", ["linear", "norm", "activation"]),
    ],
)
def test_its_place_is_beside_the_norm(norm_position: str, place: str, order: list[str]) -> None:
    block = linear_block(3, 4, NormLayer(norms.get("batch")), "relu", norm_position)  # type: ignore[arg-type]
    changed = with_dropout(block, Dropout(0.5, place))  # type: ignore[arg-type]
    assert isinstance(changed, Block)
    assert [name for name, _ in changed.named_children()] == order


def test_last_is_before_the_classifier_alone(settings: Make) -> None:
    for model in ("mlp", "cnn", "vgg", "cnn1d"):
        built = build_model(settings(f"model: {{name: {model}, dropout: {{p: 0.5}}}}"), SIZES, 0)
        assert [name for name, _ in built.named_children()][-2:] == ["dropout", "head"]
        assert sum(isinstance(module, SeededDropout) for module in built.modules()) == 1


@pytest.mark.parametrize(
    ("place", "has_bias"), [("before_norm", True), ("after_norm", False), ("last", False)]
)
def test_right_before_a_norm_a_bias_does_something(place: str, has_bias: bool, settings: Make) -> None:
    """Batch norm takes out a constant, but not one that dropout sets to zero here and there."""
    text = f"norm: batch\nmodel: {{name: mlp, dropout: {{place: {place}}}}}"
    model = build_model(settings(text), SIZES, 0)
    block = model.get_submodule("blocks.0")
    assert (block.linear.bias is not None) is has_bias
    if has_bias:
        shifted = copy.deepcopy(block)
        shifted.linear.bias.data += 1.0
        x = torch.randn(16, 1024)
        assert not torch.allclose(block(x), shifted(x), atol=0.1)


@pytest.mark.parametrize("place", ["before_norm", "after_norm", "last"])
def test_p_zero_is_no_dropout_to_the_last_bit(place: str, settings: Make) -> None:
    plain = settings("norm: batch\nmodel: mlp")
    zero = settings(f"norm: batch\nmodel: {{name: mlp, dropout: {{p: 0, place: {place}}}}}")
    assert str(build_model(zero, SIZES, 3)) == str(build_model(plain, SIZES, 3))
    states = [build_model(chosen, SIZES, 3).state_dict() for chosen in (plain, zero)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert cell_identity(plain, None) == cell_identity(zero, None)


def test_a_network_without_activations_is_one_matrix(settings: Make) -> None:
    """Oracle: the product of the weights, in float64; the norms would be all that is not linear."""
    for word in ("none", "linear"):
        text = f"norm: none\nmodel: {{name: mlp, hidden: 6, depth: 4, activation: {word}}}"
        model = build_model(settings(text), Sizes((1, 3, 3), 5), 0).double()
        layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
        x = torch.randn(7, 9, dtype=torch.float64)
        matrix, shift = torch.eye(9, dtype=torch.float64), torch.zeros(9, dtype=torch.float64)
        for layer in layers:
            matrix, shift = layer.weight @ matrix, layer.weight @ shift + layer.bias
        assert len(layers) == 5
        torch.testing.assert_close(model(x.view(7, 1, 3, 3)), x @ matrix.T + shift)
    one, other = (settings(f"model: {{name: cnn, activation: {word}}}") for word in ("none", "linear"))
    assert cell_identity(one, None) == cell_identity(other, None)
    assert not any(isinstance(module, nn.ReLU) for module in build_model(one, SIZES, 0).modules())
