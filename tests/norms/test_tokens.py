"""Normalizers over tokens (N, T, C). Oracle: the layer for (N, C) on the positions in a row, and the formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bnbench.base.errors import BnbenchError
from bnbench.models.layers import NormLayer
from bnbench.network.sites.recorded import find_sites
from bnbench.network.statistics import statistics_of_network
from bnbench.norms import norms
from bnbench.norms.owner import made_as, normalizers, spared_names
from bnbench.norms.parameter_groups import groups_by_name
from bnbench.norms.place import Place

N, T, C = 5, 6, 32
REFUSED = {"instance"}
RESIDUAL = Place("branch", 4, 2, attention=True)


def over_tokens(name: str, **options: object) -> NormLayer:
    return NormLayer(norms.get(name), options, RESIDUAL)


class Texts(nn.Module):
    """An embedding, a linear layer, a normalizer over tokens, a head over the mean."""

    def __init__(self, norm: NormLayer) -> None:
        super().__init__()
        self.embedding, self.linear = nn.Embedding(9, C), nn.Linear(C, C, bias=not norm.absorbs_bias)
        self.norm, self.head = norm.tokens(C), nn.Linear(C, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.norm(self.linear(self.embedding(tokens)), tokens > 0).relu()
        out: Tensor = self.head(x.mean(1))
        return out


def some_tokens(count: int) -> Tensor:
    return torch.randint(9, (count, T), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", [name for name in norms.names() if name not in REFUSED])
def test_every_normalizer_over_tokens_is_its_layer_over_the_positions(name: str) -> None:
    torch.manual_seed(0)
    layer = over_tokens(name).tokens(C).double()
    x = torch.randn(N, T, C, dtype=torch.float64) * 2 + 1
    if name == "ghost":  # its parts are of samples: of whole sequences
        expected = layer.layer(x.transpose(1, 2)).transpose(1, 2)
    else:
        expected = layer.layer(x.flatten(0, 1)).unflatten(0, (N, T))
    assert layer.eval()(x).shape == (N, T, C)
    fresh = over_tokens(name).tokens(C).double()
    state = {key: value for key, value in layer.state_dict().items() if key.endswith("noise_seed")}
    fresh.load_state_dict({**fresh.state_dict(), **state})
    torch.testing.assert_close(fresh(x), expected, rtol=1e-12, atol=1e-12)


def test_batch_over_tokens_counts_every_position_by_the_formula() -> None:
    x = torch.randn(N, T, C, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3 + 2
    mean, var = x.mean((0, 1)), x.var((0, 1), unbiased=False)
    y = over_tokens("batch").tokens(C).double()(x, torch.zeros(N, T, dtype=torch.bool))
    torch.testing.assert_close(y, (x - mean) / (var + 1e-5).sqrt(), rtol=1e-12, atol=1e-12)


def test_ghost_batches_over_tokens_are_of_sequences() -> None:
    x = torch.randn(4, T, C, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3 + 2
    y = over_tokens("ghost", ghost_size=2).tokens(C).double()(x)
    halves = [
        (half - half.mean((0, 1))) / (half.var((0, 1), unbiased=False) + 1e-5).sqrt() for half in x.split(2)
    ]
    torch.testing.assert_close(y, torch.cat(halves), rtol=1e-12, atol=1e-12)


def test_instance_norm_over_tokens_is_refused_with_the_reason_and_a_fix() -> None:
    with pytest.raises(BnbenchError, match=r"norm instance can't be used over tokens \(N, T, C\)") as caught:
        over_tokens("instance").tokens(C)
    assert "later" in str(caught.value)
    assert "norm: layer" in str(caught.value.fix)


def test_the_normalizer_inside_is_found_with_its_own_shape() -> None:
    model = Texts(over_tokens("batch"))
    sites = find_sites(model, some_tokens)
    assert sites.error is None
    assert [(site.name, site.shape) for site in sites.norms] == [("norm.layer", (7 * T, C))]
    assert sites.norms[0].shape_for(3) == (3 * T, C)
    followers = {layer.name: layer.follower and layer.follower.name for layer in sites.layers}
    assert followers == {"linear": "norm.layer", "head": None}
    assert [(name, made_as(module)) for name, module in normalizers(model)] == [("norm.layer", "batch")]
    assert made_as(model.norm) == "batch"
    assert {"norm.layer.weight", "norm.layer.bias"} <= spared_names(model)
    groups = groups_by_name(model)
    assert (groups["norm.layer.weight"], groups["norm.layer.bias"]) == ("gamma", "beta")
    found = statistics_of_network(model, some_tokens)
    assert ([layer.name for layer in found.layers], found.refused) == (["norm.layer"], ())
