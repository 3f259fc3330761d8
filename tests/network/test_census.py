"""The census of conversion, small: three architectures of torchvision, and what it would call silent."""

import census_judge
import census_tables
import pytest
import torch
from census_count import count_norms, run_on, unexplained
from census_judge import judge
from census_zoo import Architecture, torchvision_zoo, zoo
from torch import nn
from torch.nn import functional as F

#: Normalizations, counted in torchvision's sources.
NORMS = {"resnet18": 20, "regnet_y_400mf": 53, "alexnet": 0}


@pytest.mark.parametrize("name", NORMS)
def test_architectures_of_torchvision_convert(name):
    (architecture,) = [one for one in torchvision_zoo() if one.name == name]
    found = judge(architecture, "group", full=False)
    assert (found.sites, found.counted, found.silent, found.failed, found.crash) == (
        NORMS[name],
        NORMS[name],
        [],
        [],
        "",
    )
    assert found.outcome == ("converted" if NORMS[name] else "without norm")
    assert found.proofs == {"all norms counted": True, "parameters explained": True}


class Functional(nn.Module):
    """A norm as a module, one as a function, one of its weight, and one that is hidden in a class of its own."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.own = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), OwnNorm()

    def forward(self, x):
        weight = F.layer_norm(self.conv.weight, self.conv.weight.shape[1:])
        x = F.conv2d(x, weight, self.conv.bias)
        return self.own(F.group_norm(self.bn(x), 2))


class OwnNorm(nn.Module):
    def forward(self, x):
        return F.instance_norm(x)


def test_the_count_beside_counts_modules_functions_and_weights():
    count = count_norms(Functional(), run_on(torch.randn(2, 3, 8, 8)))
    assert count.modules == {"bn": "BatchNorm2d", "own": "OwnNorm"}
    assert (dict(count.functions), count.weights, count.error) == ({"": 1}, 1, "")


def test_what_the_record_lacks_is_silent(monkeypatch):
    count = count_norms(Functional(), run_on(torch.randn(2, 3, 8, 8)))
    assert unexplained(count, [(("bn",), False), (("own",), False)]) == [": 1 functional calls"]
    assert unexplained(count, [(("own",), False), ((": group_norm",), True)]) == ["bn (BatchNorm2d)"]
    whole = census_judge.find_norm_sites

    def blind(model, inputs):
        sites = whole(model, inputs)
        return type(sites)(sites.sites[1:], sites.nodes, sites.tracer, sites.error)

    monkeypatch.setattr(census_judge, "find_norm_sites", blind)
    network = Architecture(
        "torchvision", "x", "x", lambda: nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3)), (3, 8, 8)
    )
    found = judge(network, "group", full=False)
    assert (found.outcome, found.silent) == ("silent", ["0 (BatchNorm2d)"])


def test_all_five_proofs_are_made_where_small_images_are_taken():
    def build():
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )

    found = judge(Architecture("torchvision", "x", "x", build, (3, 16, 16)), "group")
    assert (found.full, found.outcome) == (32, "converted")
    assert list(found.proofs.values()) == [True] * 5


def test_reasons_are_alike_without_their_names():
    first, second = "its gamma (4, 8) varies along 32 values", "its gamma (16, 3) varies along 48 values"
    assert (
        census_tables.general(first) == census_tables.general(second) == "its gamma (…) varies along n values"
    )


@pytest.mark.zoo
def test_architectures_of_the_other_zoos_convert():
    pytest.importorskip("timm")
    pytest.importorskip("transformers")
    names = {"timm": ("convnextv2_atto", "efficientnet_b0"), "hf": ("LlamaConfig", "ConvNextV2Config")}
    for provider, wanted in names.items():
        for architecture in zoo(provider, 10**6):
            if architecture.name in wanted:
                found = judge(architecture, "group", full=False)
                assert (found.silent, found.failed, found.crash) == ([], [], "")
                assert found.sites >= 5
