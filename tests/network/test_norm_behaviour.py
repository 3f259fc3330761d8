"""What a module computes, found by trials: random configurations, and modules that are no normalization."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bnbench.api.plugins import known_names
from bnbench.models.layers import NormLayer
from bnbench.network.sites.behaviour import behaviour_of
from bnbench.network.sites.find import find_norm_sites
from bnbench.norms import norms
from tests.network.networks import noise, shaken

EPS = st.floats(-8, -1).map(lambda power: float(f"{10**power:.3g}"))
SIZES = st.integers(2, 5)
FEW = settings(max_examples=8, deadline=None, derandomize=True)


@FEW
@given(
    st.integers(1, 3),
    st.integers(2, 7),
    SIZES,
    EPS,
    st.floats(0.001, 1) | st.none(),
    st.booleans(),
    st.booleans(),
)
def test_batch_norm(
    dims: int, width: int, size: int, eps: float, momentum: float | None, affine: bool, tracks: bool
) -> None:
    kind = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims]
    module = shaken(kind(width, eps, momentum, affine, tracks))
    b = behaviour_of(module, (6, width, *[size] * dims), samples=3)
    assert b is not None
    assert (b.kind, b.axes, b.channel_axis, b.num_features) == ("batch", (0, *range(2, dims + 2)), 1, width)
    assert (b.eps, b.running, b.momentum) == (eps, tracks, momentum if tracks else None)
    assert (b.gamma, b.beta) == (("weight", "bias") if affine else ("", ""))
    assert b.values == 2 * size**dims


@FEW
@given(st.integers(2, 4), st.integers(1, 3), EPS, st.booleans(), st.booleans())
def test_layer_norm_over_trailing_axes(dims: int, over: int, eps: float, affine: bool, bias: bool) -> None:
    shape = (3, 4, 5, 6)[:dims]
    over = min(over, dims - 1)
    module = shaken(nn.LayerNorm(shape[dims - over :], eps, affine, bias))
    b = behaviour_of(module, shape, samples=3)
    assert b is not None
    assert (b.axes, b.centers, b.eps, b.groups) == (tuple(range(dims - over, dims)), True, eps, None)
    # without gamma it is an instance norm to anyone who looks at what it computes, if all spatial axes count
    alike = not affine and b.axes == tuple(range(2, dims)) and dims > 3
    assert b.kind == ("instance" if alike else "layer")
    assert (b.gamma, b.beta) == ("weight" if affine else "", "bias" if affine and bias else "")
    assert b.values == math.prod(shape[dims - over :])


@FEW
@given(st.sampled_from([1, 2, 3, 6]), st.integers(1, 2), EPS, st.booleans())
def test_group_norm(groups: int, dims: int, eps: float, affine: bool) -> None:
    module = shaken(nn.GroupNorm(groups, 6, eps, affine))
    b = behaviour_of(module, (3, 6, *[4] * dims), samples=3)
    assert b is not None
    assert (b.kind, b.groups, b.eps, b.channel_axis, b.num_features) == ("group", groups, eps, 1, 6)
    assert b.values == 6 // groups * 4**dims


@FEW
@given(st.integers(1, 3), EPS, st.floats(0.001, 1), st.booleans(), st.booleans())
def test_instance_norm(dims: int, eps: float, momentum: float, affine: bool, tracks: bool) -> None:
    kind = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dims]
    module = shaken(kind(5, eps, momentum, affine, tracks))
    b = behaviour_of(module, (3, 5, *[4] * dims), samples=3)
    assert b is not None
    assert (b.kind, b.axes, b.channel_axis, b.eps) == ("instance", tuple(range(2, dims + 2)), 1, eps)
    assert (b.running, b.momentum) == (tracks, momentum if tracks else None)


@FEW
@given(st.integers(2, 4), EPS, st.booleans(), st.sampled_from(["float32", "bfloat16", "float64"]))
def test_rms_norm(dims: int, eps: float, affine: bool, dtype: str) -> None:
    shape = (3, 4, 5, 6)[:dims]
    module = nn.RMSNorm(shape[-1], eps, affine).to(getattr(torch, dtype))
    b = behaviour_of(module, shape, samples=3)
    assert b is not None
    assert (b.kind, b.axes, b.centers, b.eps) == ("rms", (dims - 1,), False, eps)
    default = behaviour_of(nn.RMSNorm(shape[-1]).to(getattr(torch, dtype)), shape)
    assert default is not None
    assert default.eps == torch.finfo(getattr(torch, dtype)).eps


class _Own(nn.Module):
    def __init__(self, function: Any, **vectors: int) -> None:
        super().__init__()
        self.function = function
        for name, size in vectors.items():
            setattr(self, name, nn.Parameter(torch.ones(size)))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.function(self, x)
        return y


def _channels_last_batch(module: nn.Module, x: Tensor) -> Tensor:
    axes = (0, 1, 2)
    return (x - x.mean(axes)) / (x.var(axes, correction=0) + 1e-4).sqrt() * module.g


def _one_scale(module: nn.Module, x: Tensor) -> Tensor:
    return module.g * x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def _pixel(module: nn.Module, x: Tensor) -> Tensor:
    """Of the progressive GAN: root mean square over channels."""
    return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()


def _matrix_gamma(module: nn.Module, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[1:]) * (module.g.reshape(1, 3, 4, 4) + 1)


@pytest.mark.parametrize(
    ("module", "shape", "expected"),
    [
        (_Own(_channels_last_batch, g=5), (4, 3, 3, 5), ("batch", (0, 1, 2), 3, True, "g", 0.0, 1e-4)),
        (_Own(_one_scale, g=1), (3, 4, 6), ("rms", (2,), 2, False, "g", 0.0, 1e-5)),
        (_Own(_pixel), (3, 5, 4, 4), ("rms", (1,), 1, False, "", 0.0, 1e-8)),
    ],
    ids=["channels_last_batch", "one_scale", "pixel_norm"],
)
def test_classes_of_ones_own(module: nn.Module, shape: tuple[int, ...], expected: tuple[Any, ...]) -> None:
    b = behaviour_of(module, shape)
    assert b is not None
    assert (b.kind, b.axes, b.channel_axis, b.centers, b.gamma, b.gamma_offset, b.eps) == expected


def _unrolled(function: Any) -> nn.Module:
    return _Own(function, a=6)


@pytest.mark.parametrize(
    "module",
    [
        nn.Softmax(-1),
        nn.LogSoftmax(-1),
        nn.Softmax2d(),
        nn.GELU(),
        nn.Sigmoid(),
        nn.Hardtanh(),
        nn.ReLU6(),
        nn.Dropout(0.3),
        nn.Identity(),
        nn.PReLU(),
        nn.AvgPool2d(3, 1, 1),
        _unrolled(lambda m, x: x * m.a.reshape(-1, 1, 1)),
        _unrolled(lambda m, x: torch.tanh(0.5 * x) * m.a.reshape(-1, 1, 1)),
        _unrolled(lambda m, x: x.softmax(1)),
        _unrolled(lambda m, x: x.sign()),
        _unrolled(lambda m, x: F.normalize(x, dim=1)),
        _unrolled(lambda m, x: x - x.mean((2, 3), keepdim=True)),
        _unrolled(lambda m, x: x * x.mean((2, 3), keepdim=True).sigmoid()),
        _unrolled(lambda m, x: x.flip(1)),
        _unrolled(lambda m, x: (x - 0.45) / 0.22),
        _unrolled(lambda m, x: torch.zeros_like(x)),
        _unrolled(lambda m, x: x.cumsum(1)),
    ],
    ids=lambda module: type(module).__name__,
)
def test_no_false_sites(module: nn.Module) -> None:
    """Softmax, activations, layer scale, DyT, gates, centring alone, residual sums, constants of a data set."""
    model = nn.Sequential(nn.Conv2d(3, 6, 1), module, nn.Conv2d(6, 2, 1))
    assert find_norm_sites(shaken(model), noise(3, 6, 6)).sites == ()


def test_a_form_of_its_own_is_other() -> None:
    """EvoNorm-S0 normalizes, and no closed form of a kind fits it."""

    def evonorm(module: nn.Module, x: Tensor) -> Tensor:
        grouped = x.reshape(x.shape[0], 2, -1)
        std = (grouped.var(-1, keepdim=True) + 1e-5).sqrt().expand_as(grouped).reshape(x.shape)
        return x * torch.sigmoid(module.v.reshape(-1, 1, 1) * x) / std * module.a.reshape(-1, 1, 1)

    (site,) = find_norm_sites(nn.Sequential(_Own(evonorm, a=6, v=6)), noise(6, 5, 5)).sites
    assert site.behaviour.kind == "other"


def test_an_activation_before_the_norm_is_no_plain_norm() -> None:
    """The trial leaves activations out; with one in front, the output is not what an activation makes of the norm."""
    model = nn.Sequential(_Own(lambda m, x: F.layer_norm(F.relu(x), (6,)) * m.a, a=6))
    (site,) = find_norm_sites(model, noise(6)).sites
    assert site.behaviour.kind == "other"


class _Wrong(nn.BatchNorm2d):
    """Inference forgets eps."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return super().forward(x)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, 0.1)


def test_inference_by_another_formula_is_other() -> None:
    b = behaviour_of(shaken(_Wrong(4)), (3, 4, 5, 5))
    assert b is not None
    assert b.kind == "other"


#: What bnbench's own normalizers compute: a kind, or a form of their own.
OWN = {
    "batch": "batch",
    "batch_custom": "batch",
    "batch_keras": "batch",
    "batch_mean_only": "other",
    "batch_var_only": "other",
    "ghost": "other",
    "renorm": "other",
    "dyt": "other",
    "evonorm_s0": "other",
    "filter_response": "other",
    "frozen": "frozen",
    "group": "group",
    "instance": "instance",
    "rms": "rms",
    "sync": "sync",
}


@pytest.mark.parametrize("name", OWN)
def test_own_normalizers(name: str) -> None:
    """Each is a site, as the factory that made it says; its kind is what it computes."""
    known_names()
    layer = NormLayer(norms.get(name))(4, 2)
    (site,) = find_norm_sites(nn.Sequential(nn.Conv2d(3, 4, 1), layer), noise(3, 5, 5)).sites
    assert (site.name, site.behaviour.kind) == ("1", OWN[name])
    if OWN[name] in ("batch", "sync", "frozen"):
        assert (site.behaviour.mean, site.behaviour.var) == ("running_mean", "running_var")
    if name == "batch_keras":
        assert (site.behaviour.eps, site.behaviour.momentum) == (1e-3, pytest.approx(0.01))


def test_no_normalizer_is_no_site() -> None:
    known_names()
    layer = NormLayer(norms.get("none"))(4, 2)
    assert find_norm_sites(nn.Sequential(nn.Conv2d(3, 4, 1), layer), noise(3, 5, 5)).sites == ()
