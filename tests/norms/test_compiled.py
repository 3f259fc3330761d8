"""Every registered normalizer behind torch.compile, against the same layer without it: three steps of training."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bnbench.api.plugins import known_names
from bnbench.norms import norms
from bnbench.norms.place import PLAIN

known_names()
pytestmark = pytest.mark.slow


def _trained(call: Callable[[Tensor], Tensor], layer: nn.Module) -> list[Tensor]:
    """Outputs, gradients and buffers of three steps."""
    draw = torch.Generator().manual_seed(0)
    weights = torch.randn(16, 8, 3, 3, generator=draw)
    found: list[Tensor] = []
    for seed in range(3):
        torch.manual_seed(seed)  # for layers with noise
        x = (torch.randn(16, 8, 3, 3, generator=draw) * 3 + 2).requires_grad_()
        layer.zero_grad()
        y = call(x)
        (y * weights).sum().backward()
        assert x.grad is not None
        found += [y.detach(), x.grad, *(p.grad.clone() for p in layer.parameters() if p.grad is not None)]
        found += [buffer.clone() for buffer in layer.buffers()]
    return found


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", norms.names())
def test_compiled_training_against_eager(name: str) -> None:
    torch._dynamo.reset()
    entry = norms.get(name)
    layer = entry.factory(8, 2, *((PLAIN,) if entry.facts.takes_place else ())).train()
    twin = copy.deepcopy(layer)
    compiled = torch.compile(twin, backend="aot_eager")  # no C++ compiler, the same graphs
    with torch.random.fork_rng():
        expected, found = _trained(layer, layer), _trained(compiled, twin)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
