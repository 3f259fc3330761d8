"""Records of the normalizations of small networks, against what their code says."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from bnbench.api.plugins import known_names
from bnbench.models import models
from bnbench.models.layers import NormLayer
from bnbench.network.flow.exported import exported_nodes
from bnbench.network.flow.forward_pass import is_leaf
from bnbench.network.flow.neighbours import Flow
from bnbench.network.flow.symbolic import symbolic_nodes
from bnbench.network.sites.find import find_norm_sites
from bnbench.network.sites.norm_site import Neighbour, NormSite, NormSites
from bnbench.norms import norms
from tests.network.networks import NETWORKS, noise, shaken


def record(name: str) -> NormSites:
    model, inputs = NETWORKS[name]()
    return find_norm_sites(model, inputs)


def by_name(found: NormSites) -> dict[str, NormSite]:
    return {site.name: site for site in found.sites}


def before(site: NormSite) -> tuple[Any, ...] | None:
    return None if site.producer is None else _short(site.producer)


def after(site: NormSite) -> list[tuple[Any, ...]]:
    return [_short(neighbour) for neighbour in site.consumers]


def _short(neighbour: Neighbour) -> tuple[Any, ...]:
    return neighbour.name, neighbour.kind, neighbour.through, neighbour.only, neighbour.calls


#: By network and site: kind, axes, channel_axis, num_features, groups, running, gamma, beta, gamma_offset, eps,
#: momentum, values, includes. What is written in the network's code.
BATCH = ("batch", (0, 2, 3), 1, 4, None, True, "weight", "bias", 0.0, 1e-5, 0.1)
LAYER = ("layer", (2,), 2, 8, None, False, "weight", "bias", 0.0, 1e-5, None)
BEHAVIOUR: dict[tuple[str, str], tuple[Any, ...]] = {
    ("TwoNames", "first"): (*BATCH, 64, ()),
    ("TwoParents", "left.norm"): (*BATCH, 36, ()),
    ("root_is_a_norm", ""): (*BATCH, 36, ()),
    ("Containers", "norms.1"): (*BATCH[:9], 1e-3, 0.01, 64, ()),
    ("Containers", "named.norm"): (
        "group",
        (1, 2, 3),
        1,
        4,
        2,
        False,
        "weight",
        "bias",
        0.0,
        1e-5,
        None,
        128,
        (),
    ),
    ("Containers", "tail.1"): (*BATCH, 64, ()),
    ("fused_activation", "1"): (*BATCH, 36, ("act",)),
    ("fused_activation", "3"): (*BATCH, 16, ("drop", "act")),
    ("functional_activation", "1"): (*BATCH, 36, ("leaky_relu",)),
    ("frozen", "1"): ("frozen", *BATCH[1:9], 1e-4, None, 36, ()),
    ("frozen_by_override", "1"): ("frozen", *BATCH[1:10], None, 36, ()),
    ("synced", "1"): ("sync", *BATCH[1:], 36, ()),
    ("lazy", "1"): (*BATCH, 36, ()),
    ("parametrized", "1"): (*BATCH, 36, ()),
    ("hooked", "1"): (*BATCH, 36, ()),
    ("options", "1"): (*BATCH[:6], "", "", *BATCH[8:], 64, ()),
    ("options", "3"): (*BATCH[:5], False, *BATCH[6:10], None, 64, ()),
    ("options", "5"): (*BATCH[:10], None, 64, ()),
    ("features", "1"): ("batch", (0,), 1, 5, *BATCH[4:], 1, ()),
    ("sequence", "1"): ("batch", (0, 2), 1, 5, *BATCH[4:], 8, ()),
    ("linear_and_channels", "1"): ("batch", (0, 2), 1, 4, *BATCH[4:], 4, ()),
    ("FlatPositions", "norm"): ("batch", (0,), 1, 6, *BATCH[4:], 5, ()),
    ("over_a_whole_sample", "1"): ("layer", (1, 2, 3), 3, 256, *LAYER[4:], 256, ()),
    ("over_a_whole_sample", "3"): ("layer", (3,), 3, 6, *LAYER[4:], 6, ()),
    ("channels_by_permutation", "1"): ("layer", (1,), 1, 4, *LAYER[4:9], 1e-6, None, 4, ()),
    ("PermuteOutside", "norm"): ("layer", (3,), 3, 4, *LAYER[4:], 4, ()),
    ("groups", "1"): ("group", (1, 2, 3), 1, 4, 2, *LAYER[5:], 128, ()),
    ("groups", "3"): ("group", (1, 2, 3), 1, 4, 1, *LAYER[5:], 256, ()),
    ("groups", "5"): ("group", (2, 3), 1, 4, 4, *LAYER[5:], 64, ()),
    ("groups", "7"): ("instance", (2, 3), 1, 4, None, *LAYER[5:], 64, ()),
    ("one_value_a_group", "1"): ("group", (1,), 1, 4, 4, *LAYER[5:], 1, ()),
    ("rms_norms", "0"): ("rms", (2,), 2, 8, None, False, "weight", "", 0.0, 1e-6, None, 8, ()),
    ("rms_norms", "2"): ("rms", (2,), 2, 8, None, False, "weight", "", 1.0, 1e-6, None, 8, ()),
    ("rms_norms", "4"): ("rms", (2,), 2, 8, None, False, "weight", "", 0.0, 1e-5, None, 8, ()),
    ("unnamed_batch_norm", "1"): (*BATCH[:6], "a", "b", 0.0, 2e-3, 0.05, 36, ()),
    ("unnamed_layer_norm", "1"): ("layer", (2,), 2, 6, None, False, "a", "b", 0.0, 1e-6, None, 6, ()),
    ("QueryKeyNorm", "q_norm"): ("rms", (3,), 3, 4, None, False, "weight", "", 0.0, 1e-6, None, 4, ()),
    ("wrapped_in_a_block", "0.norm"): (*LAYER, 8, ()),
    ("wrapped_in_a_block", "1.0"): (*LAYER, 8, ()),
    ("scripted", "norm"): (*BATCH, 0, ()),
    ("compiled", "_orig_mod.norm"): (*BATCH, 64, ()),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("network", "site"), BEHAVIOUR, ids=lambda value: str(value))
def test_behaviour_is_what_the_code_says(network: str, site: str) -> None:
    b = by_name(record(network))[site].behaviour
    found = (
        b.kind,
        b.axes,
        b.channel_axis,
        b.num_features,
        b.groups,
        b.running,
        b.gamma,
        b.beta,
        b.gamma_offset,
    )
    assert (*found, b.eps, b.momentum, b.values, b.includes) == BEHAVIOUR[network, site]
    assert b.centers == (b.kind != "rms")


#: By network: the names of its sites, with all their further names.
NAMES: dict[str, list[tuple[str, ...]]] = {
    "TwoNames": [("first", "second")],
    "TwoParents": [("left.norm", "right.norm")],
    "root_is_a_norm": [("",)],
    "Containers": [("norms.0",), ("norms.1",), ("named.norm",), ("tail.1",)],
    "no_norms": [],
    "unit_length": [],
    "ByHand": [],
    "wrapped_in_a_block": [("0.norm",), ("1.0",)],
    "QueryKeyNorm": [("q_norm",), ("k_norm",)],
    "Functional": [("batch_norm",), ("group_norm",), ("instance_norm",), ("layer_norm",), ("rms_norm",)],
}


@pytest.mark.parametrize("network", NAMES)
def test_sites_are_all_normalizations_with_all_their_names_and_nothing_else(network: str) -> None:
    found = record(network)
    assert [site.names for site in found.sites] == NAMES[network]
    assert found.error == ""
    for site in found.sites:
        if site.module is not None:
            assert site.owners == tuple(name.rpartition(".")[0] for name in site.names)


#: By network and site: what stands before (None: several, or not known), and what stands after.
#: A neighbour: name, kind, through, only, calls.
FLOW: dict[tuple[str, str], tuple[Any, list[Any]]] = {
    ("TwoNames", "first"): (None, [("relu", "function", (), True, 1), ("output", "output", (), True, 1)]),
    ("TwoParents", "left.norm"): (None, [("relu", "function", (), True, 1)]),
    ("root_is_a_norm", ""): (("0", "input", (), True, 1), [("output", "output", (), True, 1)]),
    ("NormTwice", "norm"): (
        ("conv", "module", (), True, 2),
        [("conv", "module", (), True, 2), ("output", "output", (), True, 1)],
    ),
    ("ReadByTwo", "norm1"): (("conv1", "module", (), False, 1), [("relu", "function", (), True, 1)]),
    ("ReadByTwo", "norm2"): (("conv2", "module", (), True, 1), [("add", "function", (), False, 1)]),
    ("Joined", "norm1"): (("cat", "function", (), False, 1), [("conv", "module", (), True, 1)]),
    ("Joined", "norm2"): (("add", "function", (), True, 1), [("output", "output", (), True, 1)]),
    ("FlatPositions", "norm"): (
        ("linear", "module", ("reshape",), True, 1),
        [("output", "output", ("view",), True, 1)],
    ),
    ("PermuteOutside", "norm"): (
        ("conv", "module", ("permute",), True, 1),
        [("linear", "module", (), True, 1)],
    ),
    ("QueryKeyNorm", "q_norm"): (
        ("unbind", "function", (), False, 1),
        [("scaled_dot_product_attention", "function", (), False, 1)],
    ),
    ("hooked", "1"): (("add", "function", (), True, 1), [("output", "output", (), True, 1)]),
    ("ControlFlow", "norm"): (("conv", "module", (), True, 1), [("output", "output", (), True, 1)]),
    ("spectral_gamma", "1"): (("0", "module", (), True, 1), [("output", "output", (), True, 1)]),
    ("two_inputs", "norm1"): (
        ("image", "module", ("flatten",), True, 1),
        [("add", "function", (), False, 1)],
    ),
    ("named_inputs", "norm2"): (("vector", "module", (), True, 1), [("output", "output", (), False, 1)]),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("network", "site"), FLOW, ids=lambda value: str(value))
def test_neighbours_are_those_of_the_code(network: str, site: str) -> None:
    found = by_name(record(network))[site]
    assert (before(found), after(found)) == FLOW[network, site]


def test_dropout_keeps_values_in_inference_alone() -> None:
    model, inputs = NETWORKS["Between"]()
    trained = by_name(find_norm_sites(model.train(), inputs))["norm1"]
    inferred = by_name(find_norm_sites(model.eval(), inputs))["norm1"]
    assert after(trained) == [("drop", "module", (), True, 1)]
    assert after(inferred) == [("fc1", "module", ("drop", "flatten"), True, 1)]
    assert after(by_name(find_norm_sites(model, inputs))["norm2"]) == [("add", "function", (), True, 1)]


def test_what_leaves_torch_is_read_by_something_unknown() -> None:
    """NumPy gives the norm's input and reads its output: neither may look as if nothing else were there."""
    site = by_name(record("Unseen"))["norm"]
    assert before(site) == ("unknown", "function", (), False, 1)
    assert after(site)[0] == ("head", "module", (), True, 1)
    assert len(after(site)) > 1  # so that `head` is not the only reader


@pytest.mark.filterwarnings("ignore")
def test_export_sees_what_the_recording_of_functions_does_not() -> None:
    model, inputs = NETWORKS["ScriptedFunction"]()
    state = _hash(model)
    found = find_norm_sites(model, inputs)
    assert found.tracer == "export"
    assert before(found.sites[0]) == ("mul", "function", (), True, 1)
    assert all(
        torch.equal(a, b) if isinstance(a, Tensor) else a == b
        for a, b in zip(_hash(model), state, strict=True)
    )


@pytest.mark.parametrize(
    "network", ["NormTwice", "ReadByTwo", "Joined", "QueryKeyNorm", "TwoParents", "named_inputs"]
)
def test_execution_and_export_agree(network: str) -> None:
    """torch.export is the oracle: it records operators of ATen below the functions that the recording sees."""
    model, inputs = NETWORKS[network]()
    found = find_norm_sites(model.eval(), inputs)
    norms = {id(site.module) for site in found.sites}
    nodes = exported_nodes(model, inputs(3), lambda module: is_leaf(module) or id(module) in norms)
    flow = Flow(nodes)
    for site in found.sites:
        calls = flow.calls_of_id(id(site.module))
        assert list(site.producers) == [flow.producer(node) for node in calls]
        assert site.consumers == tuple(dict.fromkeys(c for node in calls for c in flow.consumers(node)))


def test_calls_have_a_shape_each() -> None:
    assert by_name(record("TwoParents"))["left.norm"].shapes == ((3, 4, 6, 6), (3, 4, 4, 4))
    assert by_name(record("NormTwice"))["norm"].calls == 2


def test_tied_gamma_names_the_other_place() -> None:
    sites = by_name(record("TiedGamma"))
    assert sites["bn1"].tied == ("bn2.weight",)
    assert sites["bn2"].tied == ("bn1.weight",)
    assert by_name(record("TwoParents"))["left.norm"].tied == ()


REFUSED = {
    ("lazy", "1"): "lazy",
    ("parametrized", "1"): "its weight is parametrized",
    ("spectral_gamma", "1"): "torch.nn.utils.weight_norm computes its weight",
    ("scripted", "norm"): "the whole network is a ScriptModule",
    ("partly_scripted", "0.norm"): "it is in 0, which is a ScriptModule",
    ("partly_scripted", "1"): "",
    ("compiled", "_orig_mod.norm"): "the whole network is compiled by torch.compile",
    ("partly_compiled", "0.norm"): "it is in 0, which is compiled in place",
    ("partly_compiled", "1"): "",
    ("data_parallel", "module.norm"): "stands in a DataParallel",
    ("Functional", "layer_norm"): "is called as a function",
    ("TwoNames", "first"): "",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("network", "site"), REFUSED, ids=lambda value: str(value))
def test_refused_with_the_reason(network: str, site: str) -> None:
    reason = by_name(record(network))[site].refused
    assert REFUSED[network, site] in reason
    assert bool(reason) == bool(REFUSED[network, site])


def test_function_with_a_modules_parameters_refuses_the_module() -> None:
    class Direct(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.norm = nn.Linear(6, 8), nn.LayerNorm(8)

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.layer_norm(self.fc(x), (8,), self.norm.weight, self.norm.bias)

    (site,) = find_norm_sites(shaken(Direct()), noise(6)).sites
    assert (site.name, site.behaviour.kind, site.shapes) == ("norm", "layer", ((3, 8),))
    assert "is called with its parameters" in site.refused


def _hash(model: nn.Module) -> list[Any]:
    found: list[Any] = [value.clone() for value in model.state_dict().values()]
    for module in model.modules():
        found.append((module.training, len(module._forward_hooks), len(module._forward_pre_hooks)))
    return found


@pytest.mark.parametrize(
    "network", ["Between", "fused_activation", "hooked", "TwoParents", "unnamed_batch_norm"]
)
@pytest.mark.parametrize("fails", [False, True])
def test_network_and_process_are_left_as_found(network: str, fails: bool) -> None:
    model, inputs = NETWORKS[network]()
    next(model.modules()).train()
    list(model.modules())[-1].eval()
    if fails:
        list(model.children())[-1].register_forward_hook(lambda *_: 1 / 0)
    state, streams, kept = _hash(model), (torch.get_rng_state(), random.getstate()), copy.deepcopy(model)
    found = find_norm_sites(model, inputs)
    assert bool(found.error) == fails
    for one, other in zip(_hash(model), state, strict=True):
        assert torch.equal(one, other) if isinstance(one, Tensor) else one == other
    assert torch.equal(torch.get_rng_state(), streams[0])
    assert random.getstate() == streams[1]
    assert all(value.grad is None for value in model.parameters())
    assert [name for name, _ in kept.named_modules()] == [name for name, _ in model.named_modules()]


def test_error_of_the_network_is_in_the_record() -> None:
    model, _ = NETWORKS["features"]()
    found = find_norm_sites(model, noise(7))
    assert "mat1 and mat2" in found.error
    assert found.tracer == "fx"
    (site,) = found.sites
    assert (site.behaviour.kind, site.behaviour.eps, site.calls) == ("batch", 1e-5, 0)


def test_a_pass_that_training_refuses_is_made_in_inference() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4))
    found = find_norm_sites(model, noise(6), samples=1)
    assert (found.training, found.error, found.sites[0].shapes) == (False, "", ((1, 4),))
    assert model.training
    assert model[1].training


@pytest.mark.parametrize("network", ["Containers", "groups", "rms_norms", "fused_activation", "frozen"])
def test_meta_device_and_no_input_give_the_same_behaviour(network: str) -> None:
    """Without an input there are no shapes, so that no number of values is known, and torch.fx gives the neighbours."""
    model, inputs = NETWORKS[network]()
    real = find_norm_sites(model, inputs)
    without = find_norm_sites(model)
    meta = find_norm_sites(copy.deepcopy(model).to("meta"), inputs)
    assert meta.tracer == "execution"
    assert [site.behaviour for site in meta.sites] == [site.behaviour for site in real.sites]
    assert [site.shapes for site in meta.sites] == [site.shapes for site in real.sites]
    assert without.tracer == "fx"
    for one, other in zip(without.sites, real.sites, strict=True):
        a, b = one.behaviour, other.behaviour
        assert (a.kind, a.groups, a.eps, a.momentum, a.gamma, a.includes) == (
            b.kind,
            b.groups,
            b.eps,
            b.momentum,
            b.gamma,
            b.includes,
        )
        assert _without_calls(before(one)) == _without_calls(before(other))


def _without_calls(neighbour: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    return None if neighbour is None or neighbour[1] == "input" else neighbour[:4]


def test_optimizer_group_flags_and_state() -> None:
    model, inputs = NETWORKS["options"]()
    norms = [model[3], model[5]]
    model[3].weight.requires_grad_(False)
    optimizer = torch.optim.SGD(
        [{"params": model[0].parameters()}, {"params": [p for norm in norms for p in norm.parameters()]}],
        lr=0.1,
    )
    sites = by_name(find_norm_sites(model, inputs, optimizer))
    assert [sites[name].group for name in ("1", "3", "5")] == [None, 1, 1]
    assert dict(sites["3"].requires_grad) == {"weight": False, "bias": True}
    assert set(sites["5"].state) == {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    assert sites["5"].state["running_var"] is model[5].running_var


def test_numbers_that_are_read_are_said() -> None:
    assert record("ControlFlow").reads_numbers
    assert not record("TwoParents").reads_numbers


ARCHITECTURES = [
    "resnet18",
    "mobilenet_v3_small",
    "densenet121",
    "googlenet",
    "shufflenet_v2_x0_5",
    "mnasnet0_5",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_execution_and_symbolic_trace_agree(name: str) -> None:
    """torch.fx is the oracle: it follows no data, and reads the same code."""
    with torch.random.fork_rng([]):
        options = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
        model = torchvision.models.get_model(name, **options).eval()
    found = find_norm_sites(model, noise(3, 64, 64), samples=1)
    norms = {id(site.module) for site in found.sites}
    flow = Flow(symbolic_nodes(model, lambda module: is_leaf(module) or id(module) in norms))
    assert found.tracer == "execution"
    assert len(found.sites) == sum(isinstance(m, (nn.BatchNorm2d, nn.LayerNorm)) for m in model.modules())
    for site in found.sites:
        (node,) = flow.calls_of_id(id(site.module))
        expected = flow.producer(node)
        assert expected is not None
        assert before(site) == _short(expected)
        assert after(site) == [_short(neighbour) for neighbour in flow.consumers(node)]


def test_a_tensor_that_the_forward_keeps_hides_nothing() -> None:
    """A VAE keeps a tensor of each pass, and gives it: its calls stay nodes of their own."""
    known_names()
    model = models.get("vae").factory((3, 16, 16), 4, NormLayer(norms.get("batch")))
    with torch.no_grad():
        model(noise(3, 16, 16)(3))
    for _ in range(3):
        found = by_name(find_norm_sites(model, noise(3, 16, 16)))
        assert before(found["encoder.blocks.0.norm"]) == ("encoder.blocks.0.conv", "module", (), True, 1)


@pytest.mark.filterwarnings("ignore")
def test_quantized_and_prepared_layers_are_refused() -> None:
    quantized = find_norm_sites(nn.Sequential(torch.ao.nn.quantized.BatchNorm2d(4))).sites
    assert [(site.behaviour.kind, site.refused[:15]) for site in quantized] == [("batch", "it is quantized")]
    config = torch.ao.quantization.get_default_qat_qconfig("fbgemm")
    prepared = nn.Sequential(torch.ao.nn.intrinsic.qat.ConvBn2d(3, 4, 3, qconfig=config))
    sites = by_name(find_norm_sites(prepared, noise(3, 8, 8)))
    assert "it is in 0, which is quantized" in sites["0.bn"].refused
    assert prepared[0].weight_fake_quant.activation_post_process.min_val.shape == (0,)  # as found
