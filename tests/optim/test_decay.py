"""`decay_norm_and_bias: false` decides by who owns a parameter, never by its shape."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from bnbench.base.registry import Entry
from bnbench.engine.stacked.stack import Stack
from bnbench.models.layers import Block, NormLayer, conv_block, linear_block
from bnbench.models.resnet import resnet20
from bnbench.norms import NormFacts, norms
from bnbench.norms.owner import normalizers, spared_names
from bnbench.optim import optimizers


class TutorialNorm(nn.Module):
    """As tutorials write a batch norm: gamma and beta have the shape that broadcasts."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        shape = (1, channels) if dim == 1 else (1, channels, 1, 1)
        self.gamma, self.beta = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        axes = (0, *range(2, x.dim()))
        centred = x - x.mean(axes, keepdim=True)
        return self.gamma * centred / (x.var(axes, keepdim=True) + 1e-5).sqrt() + self.beta


class Inner(nn.Module):
    """A normalizer whose parameters lie deep inside, one of them a full matrix."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.inside = nn.ModuleDict({"mix": nn.Linear(channels, channels), "scale": nn.BatchNorm1d(channels)})

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inside["scale"](self.inside["mix"](x))
        return y


def own(factory: type[nn.Module]) -> NormLayer:
    return NormLayer(Entry("mine", factory, NormFacts()))


def decays(model: nn.Module, name: str = "adamw") -> dict[str, float]:
    optimizer = optimizers.get(name).factory(model, lr=0.1, weight_decay=0.5, decay_norm_and_bias=False)
    by_id = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    return {key: by_id[id(parameter)] for key, parameter in model.named_parameters()}


@pytest.mark.parametrize("name", optimizers.names())
def test_a_gamma_of_any_shape_is_a_norms(name: str) -> None:
    images = conv_block(3, 4, own(TutorialNorm), bias="always")
    assert decays(images, name) == {"conv.weight": 0.5, "conv.bias": 0, "norm.gamma": 0, "norm.beta": 0}
    assert decays(linear_block(3, 4, own(TutorialNorm)), name)["norm.gamma"] == 0


def test_whatever_lies_inside_a_normalizer_is_its_own() -> None:
    block = linear_block(3, 4, own(Inner))
    assert {key: value for key, value in decays(block).items() if value} == {"linear.weight": 0.5}


def test_one_step_of_zero_gradient_leaves_gamma_and_moves_the_weights() -> None:
    """AdamW with a zero gradient multiplies what it decays by 1 - lr * decay = 0.95."""
    block = conv_block(3, 4, own(TutorialNorm))
    before = {key: value.detach().clone() for key, value in block.named_parameters()}
    optimizer = optimizers.get("adamw").factory(block, lr=0.1, weight_decay=0.5, decay_norm_and_bias=False)
    for parameter in block.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for key, value in block.named_parameters():
        factor = 0.95 if key == "conv.weight" else 1.0
        torch.testing.assert_close(value.detach(), factor * before[key])


@pytest.mark.parametrize("name", [n for n in norms.names() if n not in ("none", "qk")])
def test_of_a_resnet_the_weights_alone_are_decayed(name: str) -> None:
    """Scalars of fixup, alpha of skipinit and DyT, tau of FRN: none of them is a weight."""
    model = resnet20((3, 8, 8), 10, NormLayer(norms.get(name)))
    got = {key for key, value in decays(model).items() if value}
    assert got == {key for key, value in model.named_parameters() if value.ndim > 1}
    assert len(got) == 20


def test_weights_with_one_input_or_output_are_weights() -> None:
    model = nn.Sequential(nn.Linear(1, 5), nn.Linear(5, 1), nn.Conv2d(1, 1, 1))
    assert [key for key, value in decays(model).items() if value] == ["0.weight", "1.weight", "2.weight"]


class UntiedBias(nn.Module):
    """A bias for every place of a map, and a learnt scale of shape (C, 1, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.bias, self.scale = nn.Parameter(torch.zeros(4, 8, 8)), nn.Parameter(torch.ones(4, 1, 1))
        self.table = nn.Parameter(torch.ones(4, 8))


def test_biases_and_scales_of_other_layers() -> None:
    model = nn.Sequential(UntiedBias(), nn.LSTM(3, 4), nn.MultiheadAttention(4, 2), nn.Embedding(5, 4))
    got = {key for key, value in decays(model).items() if value}
    weights = {"1.weight_ih_l0", "1.weight_hh_l0", "2.in_proj_weight", "2.out_proj.weight", "3.weight"}
    assert got == {"0.table", *weights}


def test_a_parametrized_weight_is_still_a_weight() -> None:
    model = nn.Sequential(weight_norm(nn.Linear(3, 4)))
    assert spared_names(model) == {"0.bias"}


def test_a_norm_that_is_written_into_a_model_is_known_by_its_class() -> None:
    class MyLayerNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 8, 8))

    class ConvNorm(nn.Sequential):
        pass

    model = nn.Sequential(
        nn.LayerNorm([4, 8, 8]), MyLayerNorm(), ConvNorm(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    )
    assert [key for key, value in decays(model).items() if value] == ["2.0.weight"]
    assert [name for name, _ in normalizers(model)] == ["0", "1", "2.1"]


def test_a_stack_decays_what_a_run_alone_does() -> None:
    """With no gradient at all, AdamW moves the decayed parameters alone, in each of two replicas."""

    def model() -> nn.Module:
        torch.manual_seed(0)
        block = Block(OrderedDict(linear=nn.Linear(3, 4), norm=own(TutorialNorm)(4, 1)))
        return nn.Sequential(block, nn.Linear(4, 2))

    models = [model(), model()]
    before = {key: value.detach().clone() for key, value in models[0].named_parameters()}
    stack = Stack(
        models,
        lambda m: optimizers.get("adamw").factory(m, lr=0.1, weight_decay=0.5, decay_norm_and_bias=False),
        lambda logits, labels: 0.0 * logits.sum(),
    )
    stack.step(torch.randn(2, 5, 3), torch.zeros(2, 5, dtype=torch.long))
    for key, value in models[1].named_parameters():
        factor = 0.95 if key in ("0.linear.weight", "1.weight") else 1.0
        torch.testing.assert_close(value.detach(), factor * before[key])
