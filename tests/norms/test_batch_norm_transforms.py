"""Our batch normalization under vmap, grad and torch.compile, against the same work without them."""

from __future__ import annotations

import copy
import shutil
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from bnbench.norms import BatchNorm1d, BatchNorm2d

READINGS = ("plain", "fast")
both_readings = pytest.mark.parametrize("reading", READINGS)
REPLICAS = 3
State = dict[str, Tensor]


def replicas(reading: str, momentum: float | None, image: bool) -> list[nn.Module]:
    """Networks with weights of their own: a layer, the norm, and a head that makes the loss uneven."""
    torch.manual_seed(0)

    def one() -> nn.Module:
        layer: nn.Module = nn.Conv2d(2, 4, 3) if image else nn.Linear(5, 4)
        norm = (BatchNorm2d if image else BatchNorm1d)(4, momentum=momentum, reading=reading)
        nn.init.uniform_(norm.weight, 0.5, 2)
        return nn.Sequential(layer, norm, nn.Tanh(), nn.Flatten(), nn.LazyLinear(1))

    made = [one() for _ in range(REPLICAS)]
    for model in made:
        model.eval()(inputs(image)[0])  # the lazy layer takes its size; statistics are left alone
    return [model.train().double() for model in made]


def inputs(image: bool) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn((REPLICAS, 8, 2, 5, 5) if image else (REPLICAS, 8, 5), generator=generator)


def by_loop(models: list[nn.Module], x: Tensor, steps: int) -> tuple[list[State], list[State]]:
    """Gradients and buffers of each replica on its own, without any transform."""
    for model, own in zip(models, x, strict=True):
        for _ in range(steps):
            model.zero_grad()
            model(own).pow(2).sum().backward()
    grads = [{name: p.grad for name, p in model.named_parameters()} for model in models]
    return grads, [dict(model.named_buffers()) for model in models]


@both_readings
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("image", [False, True])
@pytest.mark.parametrize("shared_input", [False, True])
@pytest.mark.parametrize("outside", ["vmap", "grad"])
def test_vmap_against_a_loop(
    reading: str, momentum: float | None, image: bool, shared_input: bool, outside: str
) -> None:
    """vmap(grad(loss)) and grad(sum of vmap(loss)): gradients, and the buffers after two steps."""
    models = replicas(reading, momentum, image)
    x = inputs(image).double()
    if shared_input:
        x = x[:1].expand_as(x)
    params, buffers = stack_module_state(models)
    params = {name: value.detach() for name, value in params.items()}
    base = copy.deepcopy(models[0]).to("meta")
    axes = (0, 0, None if shared_input else 0)
    own = x[0] if shared_input else x

    def loss(params: State, buffers: State, x: Tensor) -> Tensor:
        return functional_call(base, (params, buffers), (x,)).pow(2).sum()

    def total(params: State, buffers: State, x: Tensor) -> Tensor:
        return vmap(loss, axes)(params, buffers, x).sum()

    step = vmap(grad(loss), axes) if outside == "vmap" else grad(total)
    for _ in range(2):
        found = step(params, buffers, own)
    expected, expected_buffers = by_loop(models, x, steps=2)
    for index in range(REPLICAS):
        for name, value in expected[index].items():
            torch.testing.assert_close(found[name][index], value, rtol=1e-9, atol=1e-10)
        for name, value in expected_buffers[index].items():
            torch.testing.assert_close(buffers[name][index], value, rtol=1e-12, atol=1e-12)


@both_readings
def test_vmap_of_evaluation_against_a_loop(reading: str) -> None:
    models = [model.eval() for model in replicas(reading, 0.1, image=True)]
    params, buffers = stack_module_state(models)
    x = inputs(image=True).double()
    base = copy.deepcopy(models[0]).to("meta")
    y = vmap(lambda p, b, own: functional_call(base, (p, b), (own,)))(params, buffers, x)
    torch.testing.assert_close(y, torch.stack([m(own) for m, own in zip(models, x, strict=True)]))


@both_readings
def test_vmap_over_a_later_axis_against_a_loop(reading: str) -> None:
    torch.manual_seed(5)
    layer = BatchNorm1d(3, track_running_stats=False, reading=reading)
    x, weight = torch.randn(8, 3, 4), torch.rand(3, 4)

    def call(x: Tensor, weight: Tensor) -> Any:
        return functional_call(layer, {"weight": weight}, x)

    y = vmap(call, (2, 1), 1)(x, weight)
    expected = torch.stack([call(x[..., i], weight[:, i]) for i in range(4)], 1)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-6)


def test_a_replica_with_nan_leaves_its_neighbours_alone() -> None:
    models = replicas("fast", 0.1, image=False)
    params, buffers = stack_module_state(models)
    x = inputs(image=False).double()
    x[1, 0, 0] = float("nan")
    base = copy.deepcopy(models[0]).to("meta")

    def loss(params: State, buffers: State, x: Tensor) -> Tensor:
        return functional_call(base, (params, buffers), (x,)).pow(2).sum()

    found = vmap(grad(loss))(params, buffers, x)
    for name, value in (found | buffers).items():
        if "num_batches" not in name:
            assert torch.isfinite(value[[0, 2]]).all(), name
    assert found["0.weight"][1].isnan().all()


@both_readings
@pytest.mark.parametrize("training", [True, False])
def test_hessian_by_func_against_torch(reading: str, training: bool) -> None:
    """Reverse over reverse, with vmap inside: what a study of the loss surface does."""
    torch.manual_seed(2)
    x = torch.randn(6, 3, dtype=torch.float64)

    def hessian(layer: nn.Module) -> Any:
        layer.train(training).requires_grad_(False)
        return torch.func.jacrev(torch.func.jacrev(lambda x: layer(x.tanh()).pow(3).sum()))(x)

    ours = BatchNorm1d(3, dtype=torch.float64, track_running_stats=False, reading=reading)
    theirs = nn.BatchNorm1d(3, dtype=torch.float64, track_running_stats=False)
    torch.testing.assert_close(hessian(ours), hessian(theirs), rtol=1e-9, atol=1e-9)


def test_double_backward_through_the_vmap_rule_against_the_plain_reading() -> None:
    torch.manual_seed(3)
    x = torch.randn(2, 6, 3, dtype=torch.float64)
    weight = torch.rand(2, 3, dtype=torch.float64) + 0.5

    def penalty(weight: Tensor, x: Tensor, reading: str) -> Tensor:
        layer = BatchNorm1d(3, dtype=torch.float64, track_running_stats=False, reading=reading)
        call = lambda x: functional_call(layer, {"weight": weight}, x).pow(3).sum()  # noqa: E731
        return grad(call)(x).pow(2).sum()

    found, expected = (
        vmap(grad(partial(penalty, reading=reading), (0, 1)))(weight, x) for reading in ("fast", "plain")
    )
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile on a CPU needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_compiled_as_one_graph_against_eager(memory_format: torch.memory_format) -> None:
    torch._dynamo.reset()
    torch.manual_seed(4)
    layer = BatchNorm2d(4)
    eager = copy.deepcopy(layer)
    compiled = torch.compile(layer, fullgraph=True, dynamic=False)
    for _ in range(2):
        x = (torch.randn(8, 4, 3, 3) + 1).contiguous(memory_format=memory_format)
        twin = x.clone().requires_grad_()
        y, expected = compiled(x.requires_grad_()), eager(twin)
        (y**3).sum().backward()
        (expected**3).sum().backward()
        torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(x.grad, twin.grad, rtol=1e-4, atol=1e-4)
        assert y.stride() == expected.stride()
    torch.testing.assert_close(layer.weight.grad, eager.weight.grad, rtol=1e-4, atol=1e-4)
    for name, buffer in layer.named_buffers():
        torch.testing.assert_close(buffer, eager.get_buffer(name), rtol=1e-5, atol=1e-6)
