"""Every registered stacked form is its layer, replica by replica: forward, backward, statistics, and then inference."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnbench.base.stacked import Parameters, StackedLayer, aligned, stacked_form, stacked_kinds
from bnbench.engine.stacked.chain import has_stacked_form
from bnbench.models.dropout import SeededDropout
from bnbench.models.sequences import LearntPositions, TokenEmbedding
from bnbench.models.transformer_block import TransformerBlock
from bnbench.norms import norms
from bnbench.norms.tokens import TokenNorm

#: Neither is a multiple of a vector's length, nor of the padding.
SAMPLES, WIDTH = 9, 7

#: torch's own layers, as networks make them; a normalizer is found by its registered name.
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "Linear": lambda: nn.Linear(WIDTH, 5),
    "Linear without bias": lambda: nn.Linear(WIDTH, 5, bias=False),
    "ReLU": nn.ReLU,
    "Sigmoid": nn.Sigmoid,
    "Tanh": nn.Tanh,
    "GELU": nn.GELU,
    "GELU by tanh": lambda: nn.GELU("tanh"),
    "Flatten": nn.Flatten,
    "Dropout": lambda: SeededDropout(0.4),
}
#: Forms of sequences, (S, N, T, C), which tests/engine/test_stacked_sequences.py holds against their layers.
OF_SEQUENCES = {TokenEmbedding, LearntPositions, TokenNorm, TransformerBlock}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"affine": False},
    {"momentum": None},
    {"track_running_stats": False},
    {"eps": 0.1, "momentum": 0.7},
]


def cases() -> Iterator[tuple[str, Callable[[], nn.Module]]]:
    yield from LAYERS.items()
    for entry in norms.entries():
        for options in OPTIONS:
            if entry.name == "none" or not options.keys() <= entry.options().model_fields.keys():
                continue

            def build(entry: Any = entry, options: dict[str, Any] = options) -> nn.Module:
                layer: nn.Module = entry.factory(WIDTH, 1, **options)
                return layer

            try:
                layer = build()
            except Exception:  # one that needs a place in a network has no stacked form
                continue
            if has_stacked_form(layer):
                yield f"{entry.name} {options}", build


CASES = dict(cases())


def replicas(build: Callable[[], nn.Module], count: int, dtype: torch.dtype) -> list[nn.Module]:
    """Layers with weights of their own, none of them at its default."""
    layers = []
    for seed in range(count):
        torch.manual_seed(seed)
        layer = build().to(dtype)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        layers.append(layer)
    return layers


def stacked(layers: list[nn.Module]) -> tuple[StackedLayer, Parameters]:
    groups = [list(layers[0].parameters())] if list(layers[0].parameters()) else []
    parameters = Parameters(layers, groups)
    form = stacked_form(layers[0])
    assert form
    return form(layers, parameters), parameters


def batches(count: int, dtype: torch.dtype) -> Tensor:
    """(S, N, C), each replica's values its own, off zero, and where the engine would put them."""
    draw = torch.Generator().manual_seed(9)
    values = 1.5 + torch.randn(count, SAMPLES, WIDTH, generator=draw, dtype=torch.float64)
    return aligned(values.shape, torch.empty((), dtype=dtype)).copy_(values)


def test_every_registered_form_is_tried() -> None:
    tried = {type(build()) for build in CASES.values()}
    assert tried | OF_SEQUENCES == set(stacked_kinds())
    assert {"batch {}", "batch_custom {}"} <= CASES.keys()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("needed", [True, False])
def test_it_is_its_layer_replica_by_replica(name: str, needed: bool) -> None:
    """In float64 to 1e-12, over three steps with other batches, and in evaluation afterwards."""
    together = replicas(CASES[name], 3, torch.float64)
    alone = copy.deepcopy(together)
    layer, parameters = stacked(together)
    for step in range(3):
        x = batches(3, torch.float64) * (1 + step)
        with torch.no_grad():
            y = layer.forward(x)
        inputs = [part.clone().requires_grad_() for part in x]
        outputs = [module(part) for module, part in zip(alone, inputs, strict=True)]
        torch.testing.assert_close(y, torch.stack(outputs).detach(), rtol=0, atol=1e-12)
        grad = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view_as(y)
        with torch.no_grad():
            d_x = layer.backward(aligned(grad.shape, grad).copy_(grad), needed)
        for index, module in enumerate(alone):
            wanted = torch.autograd.grad(outputs[index], [inputs[index], *module.parameters()], grad[index])
            if needed:
                torch.testing.assert_close(d_x[index], wanted[0], rtol=0, atol=1e-11)
            for parameter, value in zip(together[0].parameters(), wanted[1:], strict=True):
                torch.testing.assert_close(parameters.grad(parameter)[index], value, rtol=0, atol=1e-11)
    for mine, other in zip(together, alone, strict=True):
        for name_of, value in other.state_dict().items():
            torch.testing.assert_close(mine.state_dict()[name_of], value, rtol=0, atol=1e-12)
        torch.testing.assert_close(mine.eval()(x[0]), other.eval()(x[0]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_no_bit_depends_on_the_neighbours(name: str) -> None:
    """In float32, the second of two replicas has the bits that it has as the second, or the last, of four."""

    def bits(order: list[int]) -> bytes:
        everything = replicas(CASES[name], 4, torch.float32)
        layer, parameters = stacked([everything[index] for index in order])
        x = batches(4, torch.float32)[order]
        place = order.index(1)
        with torch.no_grad():
            y = layer.forward(aligned(x.shape, x).copy_(x))
            d_x = layer.backward(aligned(y.shape, y).copy_(y.cos()), True)
        grads = [parameters.grad(parameter)[place] for parameter in everything[order[0]].parameters()]
        buffers = list(everything[1].state_dict().values())
        return b"".join(value.numpy().tobytes() for value in (y[place], d_x[place], *grads, *buffers))

    assert bits([0, 1]) == bits([0, 1, 2, 3]) == bits([3, 2, 0, 1]) == bits([1, 0])
