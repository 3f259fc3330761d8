"""What is particular to one normalizer; what holds for all of them is in contracts/test_norms.py."""

from __future__ import annotations

import subprocess
import sys

import pydantic
import pytest
import torch
from torch import nn

import bnbench.norms
from bnbench.base.errors import BnbenchError
from bnbench.norms import BatchNorm1d, BatchNorm2d, norms


def make(name: str, num_features: int, dim: int, **options: object) -> nn.Module:
    return norms.get(name).factory(num_features, dim, **options)


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, bnbench.norms; assert 'torch' not in sys.modules; bnbench.norms.BatchNorm2d(3)"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="BatchNorm9d"):
        _ = bnbench.norms.BatchNorm9d


def test_shipped_names_and_facts() -> None:
    shipped = {"none", "batch", "batch_custom", "layer", "group", "instance", "rms"}
    assert shipped <= set(norms.names())
    assert {n for n in shipped if norms.get(n).facts.absorbs_bias} == {"batch", "batch_custom", "instance"}


@pytest.mark.parametrize(
    ("name", "classes"),
    [("batch", (nn.BatchNorm1d, nn.BatchNorm2d)), ("batch_custom", (BatchNorm1d, BatchNorm2d))],
)
def test_batch_passes_every_option_on(name: str, classes: tuple[type[nn.Module], ...]) -> None:
    for dim, cls in enumerate(classes, start=1):
        layer = make(name, 6, dim, eps=1e-3, momentum=None, affine=False, track_running_stats=False)
        assert type(layer) is cls
        assert (layer.num_features, layer.eps, layer.momentum) == (6, 1e-3, None)
        assert layer.weight is None and layer.running_mean is None  # noqa: PT018
    assert make("batch_custom", 6, 1, reading="plain").reading == "plain"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("batch", {"eps": 0}),
        ("batch", {"momentum": 1.5}),
        ("batch_custom", {"reading": "slow"}),
        ("group", {"groups": 0}),
        ("group", {"groups": "many"}),
        ("none", {"eps": 1e-3}),
        ("rms", {"momentum": 0.1}),
    ],
)
def test_options_that_can_not_be_meant_are_refused(name: str, options: dict[str, object]) -> None:
    with pytest.raises(pydantic.ValidationError):
        norms.get(name).options()(**options)


@pytest.mark.parametrize(
    ("channels", "dim", "groups"),
    [
        (256, 2, 32),
        (64, 2, 32),
        (48, 2, 24),
        (32, 2, 16),
        (6, 2, 3),
        (7, 2, 1),
        (1, 2, 1),
        (64, 1, 4),
        (512, 1, 32),
        (24, 1, 1),
        (2, 1, 1),
    ],
)
def test_auto_groups(channels: int, dim: int, groups: int) -> None:
    assert make("group", channels, dim).num_groups == groups


def test_groups_that_do_not_divide_the_channels_name_those_that_do() -> None:
    with pytest.raises(BnbenchError) as error:
        make("group", 48, 2, groups=32)
    assert str(error.value) == (
        "norm.groups=32 does not divide the 48 channels. "
        "Allowed: 1, 2, 3, 4, 6, 8, 12, 16, 24, 48. Or groups: auto."
    )


def test_groups_of_a_single_value_are_refused() -> None:
    with pytest.raises(
        BnbenchError, match=r"leaves 1 of the 6 channels in a group.*Allowed: 1, 2, 3\. Or groups: auto"
    ):
        make("group", 6, 1, groups=6)
    assert make("group", 6, 2, groups=6).num_groups == 6
    for name in ("group", "layer"):
        with pytest.raises(BnbenchError, match="always beta"):
            make(name, 1, 1)


def test_instance_over_vectors_says_why_and_what_instead() -> None:
    with pytest.raises(BnbenchError, match=r"positions \(H, W\)") as error:
        make("instance", 8, 1)
    assert "norm: layer" in str(error.value)


@pytest.mark.parametrize(
    ("name", "dim"),
    [(n, d) for n in ("layer", "group", "instance", "rms") for d in (1, 2) if (n, d) != ("instance", 1)],
)
def test_per_sample_normalizers_against_their_formulas_float64(name: str, dim: int) -> None:
    """Ba et al. 2016, Wu & He 2018, Ulyanov et al. 2016, Zhang & Sennrich 2019: the sets of values."""
    torch.manual_seed(0)
    x = torch.randn((5, 6) if dim == 1 else (5, 6, 4, 3), dtype=torch.float64) * 3 + 2
    layer = make(name, 6, dim, **({"groups": 2} if name == "group" else {})).double()
    column = (1, 6) if dim == 1 else (1, 6, 1, 1)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, 0.5, 2)
    sets = {"layer": 1, "rms": 1, "group": 2, "instance": 6}[name]
    values = x.reshape(5, sets, -1)
    mean = 0 if name == "rms" else values.mean(2, keepdim=True)
    y = (values - mean) / ((values - mean).pow(2).mean(2, keepdim=True) + 1e-5).sqrt()
    y = y.reshape(x.shape) * layer.weight.reshape(column)
    y = y if name == "rms" else y + layer.bias.reshape(column)
    torch.testing.assert_close(layer(x), y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["layer", "group", "instance", "rms"])
def test_affine_false_leaves_no_parameter(name: str) -> None:
    for dim in (1, 2) if name != "instance" else (2,):
        assert list(make(name, 32, dim, affine=False).parameters()) == []


@pytest.mark.parametrize("dim", [1, 2])
def test_rms_of_large_half_numbers_does_not_overflow(dim: int) -> None:
    """300² is more than float16 can hold."""
    x = torch.full((2, 4) if dim == 1 else (2, 4, 3, 3), 300.0, dtype=torch.float16)
    assert torch.equal(make("rms", 4, dim).half()(x), torch.ones_like(x))
