"""A model comes out of `untouched` as it went in: tested by a hash, and by what the hash can't see."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from bnbench.network.snapshot import digest, untouched


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.lazy = nn.LazyLinear(2)
        self.calls, self.history, self.seen = 0, [1], torch.zeros(2)

    def forward(self, x):
        self.calls += 1
        self.history.append(self.calls)
        self.seen += 1
        return self.norm(self.conv(x)).relu().mean()


def _model():
    torch.manual_seed(0)
    net = _Net()
    net.norm.eval()
    net.conv.bias.requires_grad_(False)
    net(torch.randn(4, 3, 8, 8)).backward()
    with torch.no_grad():
        net.norm.running_mean[0] = torch.nan
    return net


def _disturb(net):
    net.train()
    net.norm.register_forward_hook(lambda *_: None)
    net.norm.register_full_backward_hook(lambda *_: None)
    net(torch.randn(4, 3, 8, 8)).backward()
    with torch.no_grad():
        for parameter in (net.conv.weight, net.norm.weight):
            parameter.add_(1)
    net.conv.weight.grad = None
    net.conv.bias.requires_grad_(True)
    net.norm.double()
    net.norm.momentum = 0.5
    net.lazy(torch.ones(1, 5))
    net.added = nn.ReLU()
    net.conv = nn.Conv2d(3, 4, 5)
    net.new_attribute = 3
    random.random()


@pytest.mark.parametrize("raises", [False, True])
def test_everything_is_as_it_was_also_after_an_error(raises):
    net = _model()
    before = digest(net), net.history[:], torch.get_rng_state(), random.getstate(), list(vars(net))
    objects = [
        id(value) for value in (*net.parameters(), *net.buffers(), net.conv.weight.grad, *net.modules())
    ]
    pointers = [value.data_ptr() for value in (net.conv.weight, net.norm.weight, net.norm.running_var)]
    state = {name: value.clone() for name, value in net.state_dict().items() if not name.startswith("lazy")}
    try:
        with untouched(net):
            _disturb(net)
            assert digest(net) != before[0]
            if raises:
                raise KeyError
    except KeyError:
        assert raises
    after = digest(net), net.history, torch.get_rng_state(), random.getstate(), list(vars(net))
    assert after[:2] == before[:2]
    assert torch.equal(after[2], before[2])
    assert after[3:] == before[3:]
    assert objects == [
        id(value) for value in (*net.parameters(), *net.buffers(), net.conv.weight.grad, *net.modules())
    ]
    assert pointers == [
        value.data_ptr() for value in (net.conv.weight, net.norm.weight, net.norm.running_var)
    ]
    for name, value in state.items():
        assert torch.allclose(net.state_dict()[name], value, rtol=0, atol=0, equal_nan=True), name


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.norm.train(),
        lambda net: net.norm.running_var.mul_(1.0000001),
        lambda net: net.conv.weight.grad.add_(1e-7),
        lambda net: net.conv.bias.requires_grad_(True),
        lambda net: net.norm.register_forward_pre_hook(lambda *_: None),
        lambda net: setattr(net.norm, "momentum", None),
        lambda net: setattr(net, "conv", nn.Conv2d(3, 4, 3)),
        lambda net: setattr(net, "calls", 7),
    ],
)
def test_the_hash_sees_every_kind_of_change(change):
    net = _model()
    before = digest(net)
    with torch.no_grad():
        change(net)
    assert digest(net) != before
