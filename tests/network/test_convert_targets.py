"""Every registered normalizer in the place of another, on every layout of an input."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnbench.base.process_state import seeded
from bnbench.models.layers import NormLayer
from bnbench.network.convert import Choices, replace_norms
from bnbench.network.sites.find import find_norm_sites
from bnbench.norms import norms
from tests.network.networks import noise, shaken

CPU = torch.device("cpu")
C = 32
#: A layer for each layout, and the shape of one sample.
LAYOUTS = {
    "NC": (nn.BatchNorm1d(C), (C,)),
    "NCL": (nn.BatchNorm1d(C), (C, 6)),
    "NCHW": (nn.BatchNorm2d(C), (C, 4, 4)),
    "NCDHW": (nn.BatchNorm3d(C), (C, 2, 3, 3)),
    "NTC": (nn.LayerNorm(C), (5, C)),
    "NHWC": (nn.LayerNorm(C), (4, 4, C)),
}
#: Normalizers that need to know more of the network than where its norms are.
REFUSED = {"fixup", "skipinit", "qk", "weight_standardization", "scaled_weight_standardization"}
#: Those whose layer for (N, C) is another one, and what they do on (N, C, L) and (N, C, D, H, W) is that of maps.
NAMES = [name for name in norms.names() if name not in REFUSED]


def placed(name: str, layout: str, **options):
    """The new layer in a network of one, and what became of the old one."""
    layer, shape = LAYOUTS[layout]
    model = shaken(nn.Sequential(copy.deepcopy(layer)))
    sites = find_norm_sites(model, noise(*shape)).sites
    done = replace_norms(model, sites, NormLayer(norms.get(name), options), Choices("all"))
    return model[0], done.sites[0], noise(*shape, seed=3)(4)


def by_definition(name: str, layout: str, x: Tensor, new: nn.Module, options) -> Tensor:
    """The normalizer on (N, C) or (N, C, H, W), which is where it is defined, with the new layer's parameters."""
    entry = norms.get(name)
    flat = layout in ("NC", "NTC", "NHWC")
    if flat:
        arranged = x.transpose(1, 2) if entry.facts.whole_sequences and layout == "NTC" else x.reshape(-1, C)
    else:
        arranged = x.flatten(2).unsqueeze(-1)
    with seeded(0, CPU):
        layer = NormLayer(entry, entry.typed(options))(C, 1 if flat else 2)
    layer.load_state_dict(new.state_dict())
    y = layer(arranged)
    return y.transpose(1, 2) if y.dim() == 3 else y.reshape(x.shape)


@pytest.mark.parametrize(
    "layout", [pytest.param(key, marks=[] if key in ("NCL", "NTC") else pytest.mark.slow) for key in LAYOUTS]
)
@pytest.mark.parametrize("name", NAMES)
def test_a_normalizer_does_what_it_does_on_its_own_layout(name, layout):
    new, item, x = placed(name, layout)
    if name == "instance" and layout in ("NC", "NTC", "NHWC"):
        assert item.action == "refused"
        assert "It normalizes each channel" in item.reason
        return
    assert item.action == "converted", item.reason
    if norms.get(
        name
    ).facts.includes_activation:  # nothing follows: at the end of a branch it is another layer
        assert new(x).shape == x.shape
        return
    wanted = by_definition(name, layout, x, copy.deepcopy(new), item.kept)
    assert torch.allclose(new(x), wanted, atol=1e-5)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_normalizer_that_needs_the_whole_network_is_refused(name):
    _, item, _ = placed(name, "NCHW")
    assert item.action == "refused"
    assert item.reason.startswith(f"{name} ")


def test_group_norm_by_its_formula_on_five_axes():
    new, _, x = placed("group", "NCDHW", groups=4)
    rows = x.double().reshape(len(x), 4, -1)
    rows = (rows - rows.mean(-1, keepdim=True)) / (rows.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    wanted = rows.reshape(x.shape) * new.weight.reshape(-1, 1, 1, 1) + new.bias.reshape(-1, 1, 1, 1)
    assert torch.allclose(new(x).double(), wanted, atol=1e-5)


def test_a_layer_norm_over_channels_first_stays_one_over_channels():
    class LayerNorm2d(nn.LayerNorm):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    model = shaken(nn.Sequential(LayerNorm2d(6, eps=1e-6)))
    x = noise(6, 4, 4)(3)
    wanted = model(x)
    sites = find_norm_sites(model, noise(6, 4, 4)).sites
    replace_norms(model, sites, NormLayer(norms.get("layer")), Choices("all"))
    assert type(model[0]).__name__ == "ChannelLayerNorm"
    assert torch.allclose(model(x), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "shape", "to", "options", "reason"),
    [
        (nn.BatchNorm1d(4), (4,), "group", {"groups": 4}, "leaves 1 of the 4 channels in a group"),
        (nn.BatchNorm2d(6), (6, 4, 4), "group", {"groups": 4}, "does not divide the 6 channels"),
        (nn.BatchNorm2d(4), (4, 1, 1), "group", {"groups": 4}, "by itself alone"),
        (nn.BatchNorm2d(4), (4, 1, 1), "instance", {}, "by itself alone"),
        (nn.BatchNorm1d(4), (4,), "instance", {}, "can't be used on inputs (N, C)"),
        (nn.BatchNorm1d(1), (1,), "layer", {}, "normalized with itself"),
        (
            nn.LayerNorm((4, 4, 3)),
            (4, 4, 3),
            "batch",
            {},
            "which of the axes holds the channels is not known",
        ),
        (nn.LayerNorm((4, 4, 3), elementwise_affine=False), (4, 4, 3), "batch", {}, "which of the axes"),
    ],
)
def test_where_a_normalizer_cannot_stand(layer, shape, to, options, reason):
    model = nn.Sequential(copy.deepcopy(layer))
    sites = find_norm_sites(model, noise(*shape)).sites
    done = replace_norms(model, sites, NormLayer(norms.get(to), options), Choices("all"))
    assert done.sites[0].action == "refused"
    assert reason in done.sites[0].reason
    assert type(model[0]) is type(layer)


class OneSample(nn.Module):
    """Statistics of a batch of one: the samples are averaged before the norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.mean(0, keepdim=True))


def test_a_batch_norm_on_a_batch_of_one_is_refused():
    model = OneSample()
    sites = find_norm_sites(model, noise(4)).sites
    done = replace_norms(model, sites, NormLayer(norms.get("batch")), Choices("all"))
    assert done.sites[0].reason == (
        "batch would normalize every value of its input (1, 4) by itself alone: what comes in would not come out"
    )


def test_few_groups_where_a_map_has_one_position():
    """With 32 groups of 2 values each, every output would be 1 or -1."""
    model = nn.Sequential(nn.BatchNorm2d(64))
    sites = find_norm_sites(model, noise(64, 1, 1)).sites
    replace_norms(model, sites, NormLayer(norms.get("group")), Choices())
    assert model[0].num_groups == 4


def test_a_layer_of_ones_own():
    class Mine(nn.Module):
        def __init__(self, num_features: int, eps: float = 1e-3) -> None:
            super().__init__()
            self.eps, self.scale, self.shift = (
                eps,
                nn.Parameter(torch.ones(num_features)),
                nn.Parameter(torch.zeros(num_features)),
            )

        def forward(self, x: Tensor) -> Tensor:
            y = F.layer_norm(x.movedim(1, -1), self.scale.shape, eps=self.eps).movedim(-1, 1)
            column = (-1, *[1] * (x.dim() - 2))
            return y * self.scale.reshape(column) + self.shift.reshape(column)

    from bnbench.api.convert import convert

    model = shaken(nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4, eps=2e-5)))
    conversion = convert(model, Mine, inputs=(3, 5, 5))
    assert torch.equal(conversion.model[1].scale, model[1].weight)
    assert conversion.model[1].eps == 2e-5
    assert conversion.renamed["1.weight"] == "1.scale"
    assert conversion.model[0].bias is not None  # a trial says that it absorbs none
    assert conversion.passed
