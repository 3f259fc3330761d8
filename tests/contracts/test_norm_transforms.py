"""Every registered normalizer as stacked replicas under torch.func, and compiled."""

from __future__ import annotations

import copy
import shutil

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from bnbench.base.errors import BnbenchError
from bnbench.base.registry import Entry
from bnbench.models.layers import NormLayer, conv_block
from bnbench.norms import norms

CHANNELS, REPLICAS = 6, 3
SHAPES = {1: (8, CHANNELS), 2: (8, CHANNELS, 4, 3)}
State = dict[str, Tensor]


def build(entry: Entry, dim: int, seed: int) -> nn.Module | None:
    """The layer in float64 with parameters of that seed; None where it has no meaning for this dim."""
    try:
        layer = entry.factory(CHANNELS, dim).double()
    except BnbenchError:
        return None
    draw = torch.Generator().manual_seed(seed)
    for parameter in layer.parameters():
        with torch.no_grad():
            parameter.uniform_(0.5, 2, generator=draw)
    return layer


CASES = [
    pytest.param(entry, dim, id=f"{entry.name}-{dim}d")
    for entry in norms.entries()
    for dim in SHAPES
    if build(entry, dim, 0) is not None
]
#: Noise drawn from a state of the layer's own; a buffer that the backward pass moves.
NOT_STACKABLE = ("batch_noisy", "power")
STACKABLE = [case for case in CASES if case.values[0].name not in NOT_STACKABLE]
OTHERS = [case for case in CASES if case.values[0].name in NOT_STACKABLE]


def replicas(entry: Entry, dim: int) -> list[nn.Module]:
    return [layer for seed in range(REPLICAS) if (layer := build(entry, dim, seed)) is not None]


def inputs(dim: int) -> Tensor:
    draw = torch.Generator().manual_seed(7)
    return torch.randn((REPLICAS, *SHAPES[dim]), generator=draw, dtype=torch.float64) + 1


def stacked(layers: list[nn.Module]) -> tuple[nn.Module, State, State]:
    params, buffers = stack_module_state(layers)
    params = {name: value.detach() for name, value in params.items()}
    return copy.deepcopy(layers[0]).to("meta"), params, buffers


@pytest.mark.parametrize(("entry", "dim"), STACKABLE)
def test_stacked_replicas_train_and_evaluate_as_a_loop_does(entry: Entry, dim: int) -> None:
    layers, x = replicas(entry, dim), inputs(dim)
    base, params, buffers = stacked(layers)

    def loss(params: State, x: Tensor, buffers: State) -> Tensor:
        return functional_call(base, (params, buffers), (x,)).pow(3).sum()

    for _ in range(2):
        found, found_x = vmap(grad(loss, (0, 1)))(params, x, buffers)
    for index, (layer, own) in enumerate(zip(layers, x, strict=True)):
        for _ in range(2):
            layer.zero_grad()
            own = own.detach().requires_grad_()
            layer(own).pow(3).sum().backward()
        torch.testing.assert_close(found_x[index], own.grad, rtol=1e-8, atol=1e-8)
        for name, parameter in layer.named_parameters():
            torch.testing.assert_close(found[name][index], parameter.grad, rtol=1e-8, atol=1e-8)
        for name, buffer in layer.named_buffers():
            torch.testing.assert_close(buffers[name][index], buffer, rtol=1e-10, atol=1e-12)
    base.eval()
    y = vmap(lambda params, x, buffers: functional_call(base, (params, buffers), (x,)))(params, x, buffers)
    expected = torch.stack([layer.eval()(own) for layer, own in zip(layers, x, strict=True)])
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("entry", "dim"), OTHERS)
def test_what_does_not_stack_says_so_and_fails_loudly(entry: Entry, dim: int) -> None:
    base, params, buffers = stacked(replicas(entry, dim))
    with pytest.raises(RuntimeError):
        vmap(lambda params, x, buffers: functional_call(base, (params, buffers), (x,)))(
            params, inputs(dim), buffers
        )


@pytest.mark.parametrize(("entry", "dim"), STACKABLE)
def test_a_replica_with_nan_leaves_its_neighbours_alone(entry: Entry, dim: int) -> None:
    base, params, buffers = stacked(replicas(entry, dim))
    x = inputs(dim)
    x[1] = float("nan")
    y = vmap(lambda params, x, buffers: functional_call(base, (params, buffers), (x,)))(params, x, buffers)
    assert torch.isfinite(y[[0, 2]]).all()
    assert y[1].isnan().all()
    for value in buffers.values():
        assert torch.isfinite(value[[0, 2]]).all()


COMPILED = ["ghost", "renorm", "evonorm_s0", "weight_standardization", "batch_var_only"]


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_traced_as_one_graph_a_block_gives_what_it_gives_eagerly(name: str) -> None:
    """Through torch.compile's tracing and its autograd, without the slow code generation."""
    assert_compiled_as_eager(name, "aot_eager")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile on a CPU needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_compiled_a_block_gives_what_it_gives_eagerly() -> None:
    assert_compiled_as_eager("renorm", "inductor")


def assert_compiled_as_eager(name: str, backend: str) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    eager = conv_block(3, CHANNELS, NormLayer(norms.get(name)))
    compiled_block = copy.deepcopy(eager)
    compiled = torch.compile(compiled_block, fullgraph=True, dynamic=False, backend=backend)
    for _ in range(2):
        x = torch.randn(8, 3, 4, 4)
        y, expected = compiled(x), eager(x)
        torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
        y.pow(2).sum().backward()
        expected.pow(2).sum().backward()
    for parameter, twin in zip(compiled_block.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, twin.grad, rtol=1e-3, atol=1e-3)
    for buffer, twin in zip(compiled_block.buffers(), eager.buffers(), strict=True):
        torch.testing.assert_close(buffer, twin, rtol=1e-5, atol=1e-6)
