"""Conversions of networks where number formats, ties, parametrized layers and ways of holding a module meet."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

import bnbench
from bnbench.base.errors import BnbenchError
from bnbench.models.layers import NormLayer
from bnbench.network.convert import Choices, convert, replace_norms
from bnbench.network.sites.find import find_norm_sites
from bnbench.norms import norms
from tests.network.networks import GemmaNorm, noise

LINE = (5, 8)


class GemmaNet(nn.Module):
    """One or two RMS norms with 1 + weight, which may share it; an activation in the network's own forward."""

    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        self.into, self.norm, self.out = nn.Linear(8, 12), GemmaNorm(12), nn.Linear(12, 3)
        self.second = GemmaNorm(12)
        nn.init.normal_(self.norm.weight, 0.0, 0.3)
        if tied:
            self.second.weight = self.norm.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.second(self.norm(self.into(x)).relu() + 0.1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_one_plus_gamma_is_rounded_once_and_the_table_says_by_how_much(dtype):
    torch.manual_seed(0)
    model = GemmaNet().to(dtype)
    conversion = convert(model, "rms", source="all", inputs=lambda n: noise(*LINE)(n).to(dtype))
    assert conversion.passed
    exact = 1 + model.norm.weight.detach().double()
    got = conversion.model.norm.weight.detach()
    assert torch.equal(got, exact.to(dtype))  # one rounding of the exact sum
    worst = float((exact - got.double()).abs().max())
    assert 0 < worst <= torch.finfo(dtype).eps
    name = str(dtype).removeprefix("torch.")
    assert f"the sum is rounded to {name}, by {worst:.1g} at most" in conversion.sites[0].details["notes"][0]


def test_one_plus_gamma_off_by_a_bit_fails_the_way_back(monkeypatch):
    from bnbench.network.convert.carrying import Ties

    plain = Ties.parameter

    def off(self, old, template, shift):
        made = plain(self, old, template, shift)
        if shift:
            made.data[0] = torch.nextafter(made.data[0], torch.tensor(9.0))
        return made

    monkeypatch.setattr(Ties, "parameter", off)
    proof = convert(GemmaNet(), "rms", source="all", inputs=noise(*LINE)).proofs[2]
    assert (proof.name, proof.passed) == ("there and back", False)
    assert "norm.weight came back with other numbers" in proof.explanation


def test_a_tied_gamma_of_which_one_layer_stays_is_refused():
    """evonorm_s0 is its own activation: before one in a forward it can't stand; so that layer stays, and its twin."""
    conversion = convert(GemmaNet(tied=True), "evonorm_s0", source="all", inputs=noise(*LINE))
    assert conversion.passed
    assert [site.action for site in conversion.sites] == ["refused", "refused"]
    assert "norm has the same parameter" in conversion.sites[1].reason
    assert conversion.model.second.weight is conversion.model.norm.weight


def test_a_layer_of_ones_own_with_a_default_dimension():
    class Own(GemmaNorm):
        def __init__(self, num_features: int, dim: int = 1) -> None:
            super().__init__(num_features)

    conversion = bnbench.convert(nn.Sequential(nn.Linear(8, 12), nn.BatchNorm1d(12)), Own, inputs=(8,))
    assert conversion.passed
    assert isinstance(conversion.model[1], Own)


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
def test_parametrized_layers_before_a_norm_stay_as_they_are():
    """Reading a spectral-normed weight moves its vectors; the weight of the older weight_norm is no parameter."""
    first = nn.utils.weight_norm(nn.Conv2d(3, 6, 3, bias=False))
    second = nn.utils.parametrizations.spectral_norm(nn.Conv2d(6, 6, 3, bias=False))
    model = nn.Sequential(first, nn.BatchNorm2d(6), nn.ReLU(), second, nn.BatchNorm2d(6))
    conversion = convert(model, "group", inputs=noise(3, 8, 8))
    assert all(proof.passed for proof in conversion.proofs), conversion.proofs
    before, after = model.state_dict(), conversion.model.state_dict()
    for key in ("0.weight_g", "3.parametrizations.weight.0._u", "3.parametrizations.weight.0._v"):
        assert torch.equal(before[key], after[key])
    assert after["0.bias"].abs().max() <= 1 / 27**0.5


class Partial(nn.Module):
    """It calls its norm by a partial function."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.call = partial(self.norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self.conv(x))


def test_a_norm_in_a_partial_function():
    conversion = convert(Partial(), "group", inputs=noise(3, 6, 6))
    assert all(proof.passed for proof in conversion.proofs), conversion.proofs
    assert conversion.model.call.func is conversion.model.norm


class Bare(nn.Module):
    """Layer norms without parameters, and one that nothing calls."""

    def __init__(self) -> None:
        super().__init__()
        self.bare, self.uncalled = nn.LayerNorm(6, elementwise_affine=False), nn.LayerNorm(6)
        self.into, self.out = nn.Linear(8, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.bare(self.into(x) * 2))


@pytest.mark.parametrize("to", ["batch_custom", "dyt"])
def test_new_parameters_have_the_dtype_of_a_network_whose_norm_has_none(to):
    conversion = convert(Bare().double(), to, source="all", inputs=noise(8))
    assert conversion.passed, conversion.proofs
    assert [site.action for site in conversion.sites] == ["converted", "converted"]
    tensors = [*conversion.model.parameters(), *conversion.model.buffers()]
    assert {tensor.dtype for tensor in tensors if tensor.is_floating_point()} == {torch.float64}


def test_lazy_layers_by_a_shape():
    def lazy() -> nn.Module:
        return nn.Sequential(nn.LazyConv2d(6, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(2))

    assert bnbench.convert(lazy(), "group", inputs=(3, 6, 6)).passed


@pytest.mark.slow
def test_the_meta_device_by_a_shape():
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))
    conversion = bnbench.convert(model, "group", inputs=(3, 6, 6))
    assert conversion.sites[0].details["shape"][1:] == [6, 4, 4]
    assert conversion.passed


class Closure(nn.Module):
    """A function of its own keeps the norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        norm = self.norm
        self.call = lambda x: norm(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self.conv(x))


def test_a_norm_in_a_lambda_is_not_copied_and_changes_in_place():
    """A copy would call the norm of the network that was given, whatever stands in the copy."""
    model = Closure()
    with pytest.raises(BnbenchError, match="the copy calls norm of the network itself"):
        convert(model, "group", inputs=noise(3, 6, 6))
    sites = find_norm_sites(model, noise(3, 6, 6)).sites
    replace_norms(model, sites, NormLayer(norms.get("group")), Choices("batch"))
    wanted = nn.functional.group_norm(model.conv(x := noise(3, 6, 6)(2)), 3)
    torch.testing.assert_close(model(x), wanted)


def test_a_gamma_of_the_owner_that_goes_with_the_norm_need_not_learn():
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))
    model.gamma = model[1].weight
    assert convert(model, "none", inputs=noise(3, 6, 6)).passed


def test_nothing_is_said_of_a_network_that_gives_nan():
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))
    with torch.no_grad():
        model[0].weight[0] = torch.nan
    conversion = convert(model, "group", inputs=noise(3, 6, 6))
    assert [proof.passed for proof in conversion.proofs] == [True, None, True, True, None]
    assert "gives infinity or NaN in training" in conversion.proofs[1].explanation


class Complex(nn.Module):
    """Complex weights before a batch norm of their sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.norm = nn.Parameter(torch.randn(6, 3, dtype=torch.complex64)), nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm((x.to(self.weight.dtype) @ self.weight.T).abs())


def weight_normed() -> nn.Module:
    return nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 6, bias=False)), nn.BatchNorm1d(6))


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
@pytest.mark.parametrize("build", [Complex, weight_normed])
def test_files_give_again_what_learns_and_weights_that_are_computed(build, tmp_path):
    done = convert(build(), "rms", inputs=noise(3))
    done.save(tmp_path / "x")
    back = bnbench.rebuild(build, tmp_path / "x")
    flags = [{name: p.requires_grad for name, p in net.named_parameters()} for net in (done.model, back)]
    assert flags[0] == flags[1]
    assert all(flags[0].values())
    x = noise(3)(4)
    assert torch.equal(done.model(x), back(x))


@pytest.mark.filterwarnings("ignore")
def test_a_scripted_part_is_not_saved(tmp_path):
    part = torch.jit.script(nn.Linear(3, 6))
    done = convert(nn.Sequential(part, nn.BatchNorm1d(6)), "rms", inputs=noise(3))
    with pytest.raises(BnbenchError, match="0 can't be saved: it is a ScriptModule"):
        done.save(tmp_path / "x")


def test_a_unit_that_is_dead_where_the_network_stands_is_no_fault():
    """Behind tanh, whose size is 1 at most, a beta of -3 leaves nothing to a ReLU: its gradients are 0, rightly."""
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 1))
    nn.init.constant_(model[1].bias, -3.0)
    conversion = convert(model, "dyt", inputs=noise(3, 6, 6))
    assert conversion.passed, conversion.proofs[4]


def test_a_layer_that_gives_a_constant_still_fails_the_step():
    """Its gradient is 0 wherever the weights are."""

    class Constant(nn.Module):
        def __init__(self, num_features: int) -> None:
            super().__init__()
            self.weight, self.bias = (nn.Parameter(torch.ones(num_features)) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            x = 0 * x if x.dtype == torch.float64 else x  # not where it is looked at before it is put in
            return self.weight.reshape(1, -1, 1, 1) * x + self.bias.reshape(1, -1, 1, 1)

    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 1))
    proof = bnbench.convert(model, Constant, inputs=(3, 6, 6)).proofs[4]
    assert proof.passed is False
    assert "0.weight should change and does not" in proof.explanation


def test_new_parameters_of_a_layer_that_does_not_learn_need_not():
    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.aside = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.BatchNorm2d(6)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return self.norm(y) + self.aside(y).detach()

    assert convert(Detached(), "dyt", inputs=noise(3, 6, 6)).passed
