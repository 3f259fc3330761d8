"""`replace_norms` and `convert`: what new layers get of the old ones, in networks that rivals convert wrongly."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnbench.base.errors import BnbenchError
from bnbench.base.seeding import generator
from bnbench.models.layers import NormLayer
from bnbench.network.convert import Choices, Conversion, convert, replace_norms
from bnbench.network.convert.placed import PlacedNorm
from bnbench.network.sites.find import find_norm_sites
from bnbench.network.snapshot import digest
from bnbench.norms import norms
from tests.network.networks import IMAGE, NETWORKS, BatchNormAct, noise, shaken


def replaced(model: nn.Module, to: str, inputs, source="batch", **options):
    """The network itself with other norms, and what became of each."""
    sites = find_norm_sites(model, inputs).sites
    return replace_norms(model, sites, NormLayer(norms.get(to), options), Choices(source))


def seed_bias(name: str, layer: nn.Linear | nn.Conv2d) -> Tensor:
    """What torch's own layers start with, from the stream of that name."""
    bound = 1 / math.sqrt(layer.weight[0].numel())
    return torch.empty(len(layer.weight)).uniform_(
        -bound, bound, generator=generator(0, "init", name, "bias")
    )


# --- one module under several names; who holds it


@pytest.mark.parametrize(
    ("name", "names"),
    [("TwoNames", ("first", "second")), ("TwoParents", ("left.norm", "right.norm"))],
)
def test_a_shared_norm_stays_one_module(name, names):
    model, inputs = NETWORKS[name]()
    done = replaced(model, "group", inputs)
    assert [site.site.names for site in done.sites] == [names]
    first, second = (model.get_submodule(each) for each in names)
    assert first is second is done.sites[0].new
    assert isinstance(first, nn.GroupNorm)


def test_torchs_own_conversion_splits_or_misses_a_shared_norm():
    """What the test above guards against, in torch.nn.SyncBatchNorm.convert_sync_batchnorm."""
    twice, _ = NETWORKS["TwoNames"]()
    nn.SyncBatchNorm.convert_sync_batchnorm(twice)
    assert isinstance(twice.first, nn.SyncBatchNorm)
    assert not isinstance(twice.second, nn.SyncBatchNorm)
    parents, _ = NETWORKS["TwoParents"]()
    nn.SyncBatchNorm.convert_sync_batchnorm(parents)
    assert parents.left.norm is not parents.right.norm
    hooked, _ = NETWORKS["hooked"]()
    assert not nn.SyncBatchNorm.convert_sync_batchnorm(hooked)[1]._forward_hooks
    fused, inputs = NETWORKS["fused_activation"]()
    before = fused.eval()(inputs(2))
    assert not torch.allclose(nn.SyncBatchNorm.convert_sync_batchnorm(fused).eval()(inputs(2)), before)


def test_a_norm_that_is_the_network():
    model, inputs = NETWORKS["root_is_a_norm"]()
    conversion = convert(model, "group", options={"groups": 2}, inputs=inputs)
    assert isinstance(conversion.model, nn.GroupNorm)
    assert conversion.model.num_groups == 2
    assert torch.equal(conversion.model.weight, model.weight)
    assert isinstance(model, nn.BatchNorm2d)
    assert conversion.passed


def test_norms_in_every_container():
    model, inputs = NETWORKS["Containers"]()
    done = replaced(model, "layer", inputs)
    assert [(item.site.name, item.action) for item in done.sites] == [
        ("norms.0", "converted"),
        ("norms.1", "converted"),
        ("named.norm", "left"),
        ("tail.1", "converted"),
    ]
    assert done.sites[2].reason.startswith("group norm")
    assert type(model.norms[0]) is nn.GroupNorm
    assert [norm.eps for norm in (model.norms[0], model.tail[1])] == [1e-3, 1e-5]


def test_tied_gamma_stays_tied():
    model, inputs = NETWORKS["TiedGamma"]()
    before = sum(value.numel() for value in model.parameters())
    conversion = convert(model, "group", inputs=inputs)
    assert conversion.model.bn1.weight is conversion.model.bn2.weight
    assert sum(value.numel() for value in conversion.model.parameters()) == before
    assert conversion.passed


# --- what a new layer gets


def test_gamma_beta_eps_flags_and_gradients_carry():
    model = nn.Sequential(nn.Linear(6, 4, bias=False), nn.BatchNorm1d(4, eps=2e-3), nn.Linear(4, 2))
    shaken(model)
    model(torch.randn(5, 6)).sum().backward()
    model[1].weight.requires_grad_(False)
    model[1].bias.tag = "kept"
    model[1].eval()
    old = model[1]
    done = replaced(model, "layer", noise(6))
    new = model[1]
    assert new.weight is old.weight
    assert new.bias is old.bias
    assert new.bias.tag == "kept"
    assert (new.eps, new.training, new.weight.requires_grad, new.bias.requires_grad) == (
        2e-3,
        False,
        False,
        True,
    )
    assert done.sites[0].carried.lost == [
        "running_mean: the new layer has none",
        "running_var: the new layer has none",
        "num_batches_tracked: the new layer has none",
        "momentum=0.1: the new layer has none",
    ]


def test_options_of_the_user_stand_above_those_of_the_old_layer():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8, eps=2e-3))
    replaced(model, "group", noise(*IMAGE), eps=1e-2, groups=4)
    assert (model[1].eps, model[1].num_groups) == (1e-2, 4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype_and_meta_device(dtype):
    model = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4)).to(dtype)
    replaced(model, "dyt", None)
    assert {value.dtype for value in model.parameters()} == {dtype}
    assert torch.equal(model[0].bias, seed_bias("0", model[0]).to(dtype))
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    conversion = convert(model, "group")
    assert all(value.is_meta for value in conversion.model.parameters())
    assert [proof.passed for proof in conversion.proofs] == [True, None, True, True, None]


def test_zero_gamma_stays_zero():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    nn.init.zeros_(model[1].weight)
    replaced(model, "group", noise(*IMAGE))
    assert not model[1].weight.any()
    assert torch.equal(model(noise(*IMAGE)(2)), torch.zeros(2, 4, 8, 8))


def test_gamma_plus_one_becomes_gamma():
    model, inputs = NETWORKS["rms_norms"]()
    wanted = model(inputs(3))
    done = replaced(model, "rms", inputs, "all")
    assert done.sites[1].site.behaviour.gamma_offset == 1
    assert type(model[2]) is nn.RMSNorm
    assert torch.allclose(model(inputs(3)), wanted, rtol=1e-5, atol=1e-5)


def test_gamma_plus_one_that_another_module_reads_is_refused():
    model, inputs = NETWORKS["rms_norms"]()
    model[1].register_parameter("shared", model[2].weight)
    done = replaced(model, "rms", inputs, "all")
    assert done.sites[1].action == "refused"
    assert "1 has the same parameter" in done.sites[1].reason


def test_running_statistics_momentum_and_their_absence():
    model, inputs = NETWORKS["options"]()
    old = copy.deepcopy(model)
    done = replaced(model, "batch_custom", inputs)
    assert list(model.state_dict()) == list(old.state_dict())
    assert all(torch.equal(value, old.state_dict()[key]) for key, value in model.state_dict().items())
    assert (model[1].affine, model[3].track_running_stats, model[5].momentum) == (False, False, None)
    assert done.sites[0].carried.gamma == "none"


def test_kerass_momentum_weighs_the_old_value():
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4, momentum=0.3), nn.BatchNorm1d(4, momentum=None))
    done = replaced(model, "batch_keras", noise(6))
    assert model[1].momentum == pytest.approx(0.7)
    assert done.sites[1].carried.lost == ["momentum=None: the new layer can't have that"]


def test_renorm_keeps_the_variance_with_eps_so_that_inference_stays():
    model, inputs = NETWORKS["features"]()
    wanted = model.double().eval()(inputs(4).double())
    done = replaced(model, "renorm", lambda n: inputs(n).double())
    assert torch.allclose(model(inputs(4).double()), wanted, rtol=1e-12)
    assert "with eps in it" in done.sites[0].carried.notes[0]


def test_a_frozen_norm_of_another_class_becomes_one_whose_parameters_do_not_learn():
    model, inputs = NETWORKS["frozen"]()
    wanted = model(inputs(4))
    replaced(model, "frozen", inputs, "all")
    assert isinstance(model[1].weight, nn.Parameter)
    assert not model[1].weight.requires_grad
    assert model[1].eps == 1e-4
    assert torch.allclose(model(inputs(4)), wanted, atol=1e-6)


def test_statistics_under_names_of_their_own():
    model, inputs = NETWORKS["unnamed_batch_norm"]()
    old = copy.deepcopy(model)
    conversion = convert(model, "batch", inputs=inputs)
    new = conversion.model[1]
    assert type(new) is nn.BatchNorm2d
    assert (new.eps, new.momentum) == (2e-3, 0.05)
    for own, name in (("a", "weight"), ("b", "bias"), ("m", "running_mean"), ("v", "running_var")):
        assert torch.equal(getattr(new, name), getattr(old[1], own))
    assert conversion.renamed["1.a"] == "1.weight"
    assert torch.allclose(conversion.model.eval()(inputs(3)), old.eval()(inputs(3)), atol=1e-6)
    assert conversion.passed


# --- hooks, attributes, fused layers


def test_hooks_move_and_their_handles_still_work():
    model, inputs = NETWORKS["hooked"]()
    seen: list[str] = []
    norm = model[1]
    handle = norm.register_full_backward_hook(lambda module, *_: seen.append(type(module).__name__))
    norm.register_state_dict_pre_hook(lambda module, *_: seen.append("state"))
    norm.register_load_state_dict_post_hook(lambda module, keys: seen.append("load"))
    norm.comment = "the user's"
    done = replaced(model, "group", inputs, groups=2)
    x = inputs(3)
    y = F.conv2d(x, model[0].weight, model[0].bias)
    wanted = 2 * F.group_norm(y + 1, 2, norm.weight, norm.bias, 1e-5)
    assert torch.allclose(model(x), wanted, atol=1e-5)
    model(x).sum().backward()
    model.load_state_dict(model.state_dict())
    assert seen == ["GroupNorm", "state", "load"]
    handle.remove()
    model(x).sum().backward()
    assert len(seen) == 3
    assert done.sites[0].carried.moved == [
        "1 forward hook",
        "1 forward pre hook",
        "1 backward hook",
        "1 state dict pre hook",
        "1 load state dict post hook",
        "attribute comment",
    ]
    assert model[1].comment == "the user's"


def test_a_fused_norm_keeps_its_dropout_and_activation_in_order():
    model, inputs = NETWORKS["fused_activation"]()
    keys = list(model.state_dict())
    old = copy.deepcopy(model)
    replaced(model, "layer", inputs)
    x = inputs(4)
    y = F.relu(F.group_norm(old[0](x), 1, old[1].weight, old[1].bias, old[1].eps))
    y = F.silu(F.group_norm(old[2](y), 1, old[3].weight, old[3].bias, old[3].eps))
    assert torch.allclose(model.eval()(x), y, atol=1e-5)
    assert [key for key in keys if "running" not in key and "tracked" not in key] == list(model.state_dict())
    assert model[3].drop.p == 0.2
    assert not model[3].drop.training
    again = copy.deepcopy(model).double()
    assert again[3].weight.dtype == torch.float64
    assert torch.allclose(again(x.double()), y.double(), atol=1e-5)
    assert model[3].eps == old[3].eps
    model[3].eps = 0.5
    assert not torch.allclose(model(x), y, atol=1e-3)


def test_a_norm_that_is_its_own_activation_takes_the_place_of_the_one_behind_it():
    model = shaken(
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    )
    done = replaced(model, "filter_response", noise(*IMAGE))
    assert type(model[2]) is nn.Identity
    assert done.sites[0].activation == "2"
    assert model[1].tau is not None
    assert model[4].tau is None  # no activation follows
    fused = nn.Sequential(nn.Conv2d(3, 4, 1), BatchNormAct(4))
    replaced(fused, "evonorm_s0", noise(*IMAGE))
    assert "act" not in dict(fused.named_modules())
    functional, inputs = NETWORKS["TwoNames"]()
    assert (
        "relu follows, which can't be taken out" in replaced(functional, "evonorm_s0", inputs).sites[0].reason
    )


class PreActivation(nn.Module):
    """What comes in is read twice, and an activation works in place behind the norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.act, self.last = nn.ReLU(True), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x + self.last(self.act(self.norm(x)))


def test_no_norm_before_an_activation_in_place_leaves_the_other_reader_alone():
    model = PreActivation()
    replaced(model, "none", noise(*IMAGE))
    x = noise(*IMAGE)(3)
    y = model.conv(x)
    assert torch.allclose(model(x), y + model.last(F.relu(y)), atol=1e-6)
    assert isinstance(model.norm, PlacedNorm)


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_network_that_has_no_shapes_before_its_first_call():
    model, inputs = NETWORKS["lazy"]()
    conversion = convert(model, "group", inputs=inputs)
    assert conversion.model[1].num_channels == 4
    assert conversion.passed
    assert nn.parameter.is_lazy(model[0].weight)
    with pytest.raises(BnbenchError, match="has no shape before the network's first call"):
        convert(model, "group")


# --- biases


def test_a_bias_comes_back_with_its_initialization_where_the_norm_stood_for_it():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 2)
    )
    conversion = convert(model, "group", inputs=noise(*IMAGE))
    assert torch.equal(conversion.model[0].bias, seed_bias("0", model[0]))
    assert model[0].bias is None
    assert conversion.sites[0].details["bias"] == "given back: 0"
    assert conversion.proofs[3].value == "810 + 8 biases given back = 818"
    assert torch.equal(conversion.model[0].bias, convert(model, "group", inputs=noise(*IMAGE)).model[0].bias)
    again = convert(conversion.model, "batch", source="all", inputs=noise(*IMAGE))
    assert again.model[0].bias is None
    kept = convert(model, "group", inputs=noise(*IMAGE), biases="keep")
    assert kept.model[0].bias is None
    assert kept.sites[0].details["bias"] == "none (biases: keep)"


def test_a_bias_that_was_there_before_a_batch_norm_stays_through_there_and_back():
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    there = convert(model, "layer", inputs=noise(6))
    assert there.sites[0].details["bias"] == "kept: 0"
    back = convert(there.model, "batch", source="all", inputs=noise(6))
    assert torch.equal(back.model[0].bias, model[0].bias)


def test_a_bias_goes_where_the_new_norm_takes_it_out():
    model = nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    conversion = convert(model, "batch", source="all", inputs=noise(6))
    assert conversion.model[0].bias is None
    assert conversion.model[2].bias is not None
    assert conversion.sites[0].details["bias"].startswith("taken out: 0")
    assert conversion.proofs[3].value == "46 - 4 biases taken out = 42"
    assert convert(model, "batch", source="all", inputs=noise(6), biases="keep").model[0].bias is not None


def test_no_bias_for_a_layer_that_is_read_elsewhere():
    model, inputs = NETWORKS["ReadByTwo"]()
    for layer in (model.conv1, model.conv2):
        layer.bias = None
    done = replaced(model, "group", inputs)
    assert model.conv1.bias is None
    assert model.conv2.bias is not None
    assert done.sites[0].biases[0].reason == "conv1 is read elsewhere, too"


def test_both_layers_before_a_shared_norm_get_their_bias():
    model, inputs = NETWORKS["TwoNames"]()
    model.conv1.bias = model.conv2.bias = None
    replaced(model, "group", inputs)
    assert torch.equal(model.conv1.bias, seed_bias("conv1", model.conv1))
    assert torch.equal(model.conv2.bias, seed_bias("conv2", model.conv2))


class NoBias(nn.Conv2d):
    """Its forward knows no bias."""

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight)


def test_no_bias_for_a_layer_that_would_not_use_it():
    model = nn.Sequential(NoBias(3, 4, 1, bias=False), nn.BatchNorm2d(4))
    done = replaced(model, "group", noise(*IMAGE))
    assert model[0].bias is None
    assert done.sites[0].biases[0].reason == "NoBias does not use its bias"


def test_a_trained_network_that_is_frozen_infers_the_same():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8, eps=1e-3), nn.ReLU(), nn.Conv2d(8, 2, 1)
    )
    for _ in range(3):
        model(2 + noise(*IMAGE)(5))
    wanted = model.eval()(noise(*IMAGE)(4))
    replaced(model, "frozen", noise(*IMAGE))
    assert torch.equal(model[0].bias, torch.zeros(8))
    assert torch.allclose(model(noise(*IMAGE)(4)), wanted, atol=1e-6)


# --- what is left as it is, and why


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("functional_activation", "it applies leaky_relu in its own forward"),
        ("Functional", "torch.nn.functional.batch_norm is called as a function"),
        ("parametrized", "its weight is parametrized"),
        ("scripted", "ScriptModule"),
        ("data_parallel", "DataParallel"),
    ],
)
def test_refused_with_the_reason(name, reason):
    model, inputs = NETWORKS[name]()
    conversion = convert(model, "group", source="all", inputs=inputs)
    assert reason in conversion.left[0].reason
    assert conversion.left[0].action == "refused"
    assert conversion.passed
    assert conversion.proofs[0].value == f"{len(conversion.left)} = 0 + {len(conversion.left)}"


def test_a_network_without_a_norm():
    model, inputs = NETWORKS["no_norms"]()
    with pytest.raises(BnbenchError, match="Sequential has no normalization"):
        convert(model, "group", inputs=inputs)


def test_options_that_a_normalizer_does_not_have():
    model, inputs = NETWORKS["features"]()
    with pytest.raises(BnbenchError, match='unknown option of norm group "group"'):
        convert(model, "group", options={"group": 2}, inputs=inputs)
    with pytest.raises(BnbenchError, match="groups=0 of norm group"):
        convert(model, "group", options={"groups": 0}, inputs=inputs)


def test_all_or_nothing_for_each_site():
    """Where a group count does not divide, the site stays as it was; the others change."""
    model = shaken(
        nn.Sequential(
            nn.Conv2d(3, 6, 1, bias=False),
            nn.BatchNorm2d(6),
            nn.Conv2d(6, 8, 1, bias=False),
            nn.BatchNorm2d(8),
        )
    )
    before = digest(model)
    conversion = convert(model, "group", options={"groups": 4}, inputs=noise(*IMAGE))
    assert digest(model) == before
    assert [site.action for site in conversion.sites] == ["refused", "converted"]
    assert conversion.sites[0].reason.startswith("norm.groups=4 does not divide the 6 channels.")
    assert conversion.model[0].bias is None
    assert type(conversion.model[1]) is nn.BatchNorm2d
    assert conversion.passed


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    [name for name in NETWORKS if name not in ("no_norms", "unit_length", "ByHand")],
)
def test_every_network_converts_with_proofs_or_is_refused(name):
    model, inputs = NETWORKS[name]()
    conversion: Conversion = convert(model, "group", source="all", inputs=inputs)
    assert [proof for proof in conversion.proofs if proof.passed is False] == []
    assert all(site.reason for site in conversion.left)


class HeldInLists(nn.Module):
    """Its forward reads a plain list and a tuple, which are no children."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.last = nn.BatchNorm2d(4)
        self.steps, self.pair = [[self.conv, self.norm]], (self.last, "name")

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps[0]:
            x = step(x)
        return self.pair[0](x.relu())


def test_modules_in_plain_lists_and_tuples_change_too():
    model = HeldInLists()
    conversion = convert(model, "group", inputs=noise(*IMAGE))
    assert conversion.model.steps[0][1] is conversion.model.norm
    assert conversion.model.pair[0] is conversion.model.last
    assert isinstance(model.steps[0][1], nn.BatchNorm2d)
    assert conversion.passed


class OwnGenerator(nn.Module):
    """A generator, which Python does not copy."""

    def __init__(self) -> None:
        super().__init__()
        self.draw = torch.Generator().manual_seed(3)
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) + 0 * torch.rand(1, generator=self.draw)


def test_a_generator_of_the_network_is_copied_and_left_as_it_was():
    model = OwnGenerator()
    state = model.draw.get_state()
    assert convert(model, "group", inputs=noise(*IMAGE)).passed
    assert torch.equal(model.draw.get_state(), state)
