"""Folds of random networks: the same output in float64 on inputs of other shapes, and a true record of every norm."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

import bnbench
from bnbench.network.sites.find import find_norm_sites
from tests.network.random_networks import RandomNetwork, random_network

KINDS = {"BatchNorm": "batch", "InstanceNor": "instance", "GroupNorm": "group", "LayerNorm": "layer"}


def inputs_of(network, samples, sizes=(6, 6, 6), seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(samples, 4, *sizes[: network.dims], generator=draw, dtype=torch.float64)


def folded_right(network: RandomNetwork) -> int:
    """How many norms were folded; every output of the folded network is that of the network as it was."""
    found = bnbench.fold(deepcopy(network), inputs=lambda n: inputs_of(network, n))
    assert found.passed, found.proofs
    norms = [name for name, module in network.named_modules() if "Norm" in type(module).__name__]
    assert sorted(site.name for site in found.sites) == sorted(norms)
    assert all(site.reason for site in found.left)
    for samples, sizes in ((1, (6, 6, 6)), (2, (9, 5, 7)), (4, (4, 7, 3))):
        x = 3 * inputs_of(network, samples, sizes, seed=samples) + 1
        with torch.no_grad():
            truth, outputs = deepcopy(network)(x.clone()), found.model(x.clone())
        for one, two in zip(truth, outputs, strict=True):
            assert (one - two).abs().max() <= 1e-10 * one.abs().max(), network.program
    return len(found.folded)


def recorded_right(network: RandomNetwork) -> None:
    calls = [other for step, _, other in network.program if calls_a_layer(step)]
    for site in find_norm_sites(network, lambda n: inputs_of(network, n)).sites:
        layer, behaviour = site.module, site.behaviour
        assert isinstance(layer, nn.Module)
        if layer.weight is not None and layer.weight.numel() <= 2:
            continue  # of two values, a norm gives their order alone
        assert site.calls == calls.count(int(site.name.rpartition(".")[2]))
        assert behaviour.kind == next(kind for name, kind in KINDS.items() if name in type(layer).__name__)
        assert behaviour.eps == pytest.approx(layer.eps, rel=1e-9)
        assert (behaviour.gamma, behaviour.beta) == (
            ("weight", "bias") if layer.weight is not None else ("", "")
        )
        if behaviour.running:
            assert behaviour.momentum == layer.momentum
        spatial = tuple(range(2, network.dims + 2))
        axes = {"batch": (0, *spatial), "instance": spatial, "layer": (network.dims + 1,)}
        assert behaviour.axes == axes.get(behaviour.kind, behaviour.axes)


def calls_a_layer(step: str) -> bool:
    """Whether a step calls a layer."""
    return step in ("convolution", "transposed", "linear", "batch", "group", "instance", "layer", "again")


@pytest.mark.parametrize("seed", range(4))
def test_random_networks(seed):
    network = random_network(seed)
    folded_right(network)
    recorded_right(network)


@pytest.mark.slow
def test_many_random_networks():
    folded = 0
    for seed in range(4, 104):
        network = random_network(seed)
        folded += folded_right(network)
        recorded_right(network)
    assert folded > 80  # else nothing was tried
