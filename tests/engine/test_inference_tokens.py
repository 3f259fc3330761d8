"""Ways of inference over tokens, with and without a mask. Oracle: the formulas on the valid positions, in float64."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from bnbench.models.layers import NormLayer
from bnbench.network.statistics import StatisticsLayer, statistics_of_network
from bnbench.network.ways import inferring
from bnbench.norms import norms
from bnbench.study.evaluation import Inference

N, T, C = 6, 5, 4


class Texts(nn.Module):
    """A normalizer over an embedding; token 0 is padding."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, C)
        self.norm = NormLayer(norms.get(name)).tokens(C)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.norm(self.embedding(tokens), tokens > 0)
        return out


def some_tokens(count: int = N, seed: int = 0) -> Tensor:
    tokens = torch.randint(1, 9, (count, T), generator=torch.Generator().manual_seed(seed))
    lengths = torch.arange(count) % T + 1
    return torch.where(torch.arange(T) < lengths[:, None], tokens, 0)


def network(name: str) -> tuple[Texts, tuple[StatisticsLayer, ...]]:
    torch.manual_seed(0)
    net = Texts(name)
    for seed in range(3):
        net(some_tokens(seed=seed))
    found = statistics_of_network(net, some_tokens)
    assert ([layer.name for layer in found.layers], found.refused) == (["norm.layer"], ())
    return net.double().eval(), found.layers


def counted(name: str, tokens: Tensor) -> Tensor:
    """(N, T): the positions that the normalizer's statistics are over."""
    return tokens > 0 if name == "masked_batch" else torch.ones_like(tokens, dtype=torch.bool)


def no_passes(model: nn.Module, way: Inference) -> Iterator[Tensor]:
    yield from ()


@pytest.mark.parametrize("name", ["batch", "masked_batch"])
def test_the_statistics_of_the_test_batch_are_over_the_positions_that_the_layer_counts(name: str) -> None:
    net, layers = network(name)
    tokens = some_tokens(seed=7)
    rows = net.embedding(tokens)[counted(name, tokens)]
    expected = (net.embedding(tokens) - rows.mean(0)) / (rows.var(0, unbiased=False) + 1e-5).sqrt()
    with inferring(net, Inference(name="batch"), layers, no_passes), torch.inference_mode():
        found = net(tokens)
    torch.testing.assert_close(found[tokens > 0], expected[tokens > 0].detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["batch", "masked_batch"])
def test_precise_statistics_weigh_batches_by_the_positions_that_count(name: str) -> None:
    net, layers = network(name)
    batches = [some_tokens(4, 1), some_tokens(N, 2), some_tokens(3, 3)]
    rows = torch.cat([net.embedding(tokens)[counted(name, tokens)] for tokens in batches])

    def passes(model: nn.Module, way: Inference) -> Iterator[Tensor]:
        for tokens in batches:
            yield model(tokens)

    with inferring(net, Inference(name="precise"), layers, passes):
        mean, var = net.norm.layer.running_mean.clone(), net.norm.layer.running_var.clone()
    torch.testing.assert_close(mean, rows.mean(0).detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(var, rows.var(0, unbiased=False).detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["batch", "masked_batch"])
def test_an_example_that_weighs_in_is_a_sequence(name: str) -> None:
    net, layers = network(name)
    tokens, alpha, layer = some_tokens(seed=7), 0.3, net.norm.layer
    expected = []
    for sequence in tokens:
        x = net.embedding(sequence)
        rows = x[counted(name, sequence)]
        mean = alpha * rows.mean(0) + (1 - alpha) * layer.running_mean
        square = alpha * rows.square().mean(0) + (1 - alpha) * (layer.running_var + layer.running_mean**2)
        expected.append((x - mean) / (square - mean**2 + 1e-5).sqrt())
    with inferring(net, Inference(name="example_weighted", alpha=alpha), layers, no_passes):
        found = net(tokens)
    wanted = torch.stack(expected)
    torch.testing.assert_close(found[tokens > 0], wanted[tokens > 0], rtol=1e-9, atol=1e-9)
