"""Virtual batch norm in a network. Oracle: the formulas of Salimans et al. 2016, section 3.4, in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from bnbench.norms.batch_virtual import VirtualBatchNorm, with_reference


def images(count: int, seed: int) -> Tensor:
    return torch.randn(count, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 1


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 5, 1), VirtualBatchNorm(5), nn.ReLU(), nn.Conv2d(5, 2, 1), VirtualBatchNorm(2)
    ).double()


def by_formula(net: nn.Sequential, reference: Tensor, x: Tensor) -> Tensor:
    """Reference and batch side by side, layer by layer; everything differentiable."""
    w = 1 / (len(reference) + 1)
    for layer in net:
        if not isinstance(layer, VirtualBatchNorm):
            reference, x = layer(reference), layer(x)
            continue
        mean, square = (
            reference.mean((0, 2, 3), keepdim=True),
            reference.square().mean((0, 2, 3), keepdim=True),
        )
        own = w * x.mean((2, 3), keepdim=True) + (1 - w) * mean
        own_square = w * x.square().mean((2, 3), keepdim=True) + (1 - w) * square
        x = (x - own) / (own_square - own.square() + 1e-5).sqrt()
        reference = (reference - mean) / (square - mean.square() + 1e-5).sqrt()
    return x


def test_with_a_reference_batch_outputs_and_gradients_are_those_of_the_paper() -> None:
    net, twin = network(), network()
    reference, x = images(6, 0), images(4, 1)
    with with_reference(net, reference) as outputs:
        y = net(x)
        y.pow(3).sum().backward()
    expected = by_formula(twin, reference, x)
    expected.pow(3).sum().backward()
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(outputs.mean((0, 2, 3)), torch.zeros(2).double(), rtol=0, atol=1e-12)
    for name in ("0.weight", "0.bias", "3.weight"):
        torch.testing.assert_close(
            net.get_parameter(name).grad, twin.get_parameter(name).grad, rtol=1e-8, atol=1e-9
        )


def test_afterwards_the_network_infers_with_that_reference_batch_and_samples_stand_alone() -> None:
    net = network()
    with with_reference(net, images(6, 0)):
        inside = net(images(4, 1))
    y = net.eval()(images(4, 1))
    torch.testing.assert_close(y, inside, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(net(images(4, 1)[:1]), y[:1], rtol=1e-12, atol=1e-12)


def test_alone_the_first_batch_of_training_is_the_reference_and_no_later_one() -> None:
    layer = VirtualBatchNorm(3).double()
    first, second = images(6, 0), images(4, 1)
    layer(first)
    assert layer.reference_count == 6
    torch.testing.assert_close(layer.reference_mean, first.mean((0, 2, 3)))
    kept = copy.deepcopy(layer.state_dict())
    layer(second)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, kept[name])


def test_an_error_inside_leaves_the_layers_as_outside() -> None:
    net = network()
    with pytest.raises(RuntimeError), with_reference(net, images(6, 0)[:, :2]):
        pass
    assert not any(layer._is_next for layer in net if isinstance(layer, VirtualBatchNorm))
