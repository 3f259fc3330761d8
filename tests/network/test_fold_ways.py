"""Folds that one pass allows and another does not: ways by shape, outputs in objects, hooks on the way, and order."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import bnbench
from bnbench.base.fold_record import FoldRecord
from bnbench.reports.network.fold import answer
from tests.network.fold_layers import Net, randomised

SHAPE = (4, 6, 6)


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(steps, **more):
    torch.manual_seed(0)
    layers = {"conv": nn.Conv2d(4, 4, 3, padding=1), "norm": nn.BatchNorm2d(4)} | more
    return randomised(Net(steps, **layers)).double().eval()


def outcome(net, shape=SHAPE):
    found = bnbench.fold(net, inputs=lambda n: drawn(n, *shape, seed=n))
    assert found.passed
    return found, {site.name: (site.action, site.reason) for site in found.sites}


@pytest.mark.parametrize(
    "uses_norm",
    [
        pytest.param(lambda x: x.shape[-1] < 8, id="small images"),
        pytest.param(lambda x: x.shape[-1] >= 6, id="large images"),
        pytest.param(lambda x: len(x) > 1, id="more than one sample"),
    ],
)
def test_ways_by_shape(uses_norm):
    """No value is read, so that nothing in the recorded pass shows the other way."""
    net = network(lambda net, x: net.norm(net.conv(x)) if uses_norm(x) else net.conv(x))
    _, sites = outcome(net)
    assert sites["norm"][0] == "refused"
    assert "another way" in sites["norm"][1]


def test_steps_by_shape_that_change_no_layer():
    """A pad that some shapes need is another way, on which the fold holds too."""

    def steps(net, x):
        y = net.norm(net.conv(x))
        return nn.functional.pad(y, (0, 1)) if x.shape[-1] % 4 else y

    found, sites = outcome(network(steps))
    assert sites["norm"] == ("folded", "")
    x = drawn(2, 4, 8, 8)
    assert torch.allclose(found.model(x), found.original(x), rtol=1e-10, atol=1e-12)


class Given:
    """An output of one's own, no dataclass."""

    __slots__ = ("features", "scores")

    def __init__(self, **tensors):
        for name, tensor in tensors.items():
            setattr(self, name, tensor)


@pytest.mark.parametrize("kind", [SimpleNamespace, Given])
def test_outputs_in_an_object(kind):
    def steps(net, x):
        features = net.conv(x)
        return kind(scores=net.norm(features), features=features)

    found, sites = outcome(network(steps))
    assert sites["norm"][0] == "refused"
    assert "output" in sites["norm"][1]
    whole = network(lambda net, x: kind(scores=net.norm(net.conv(x))))
    found, sites = outcome(whole)
    assert sites["norm"] == ("folded", "")
    assert {proof.name: proof.passed for proof in found.proofs}["float64"]


def test_hooks_on_the_way():
    """A hook that reads what a fold changes: a feature that somebody takes out, for example."""
    seen = []
    between = nn.Sequential(nn.Dropout(), nn.Identity())
    net = network(lambda net, x: net.norm(net.between(net.conv(x))), between=between)
    assert outcome(net)[1]["norm"] == ("folded", "")
    between.register_forward_hook(lambda module, arguments, output: seen.append(output))
    action, reason = outcome(net)[1]["norm"]
    assert action == "refused"
    assert "hooks (between)" in reason


def test_norms_in_a_row_in_any_order():
    net = network(lambda net, x: net.conv(net.other(net.norm(x))), other=nn.BatchNorm2d(4))
    found, sites = outcome(net)
    assert set(sites.values()) == {("folded", "")}
    x = drawn(2, 4, 5, 7) * 3 + 1
    truth = net.conv(net.other(net.norm(x)))
    assert torch.allclose(found.model(x), truth, rtol=1e-10, atol=1e-12)


def test_attention_without_biases():
    """torch's fused attention takes two biases or none."""
    net = network(
        lambda net, x: net.attention(*[net.norm(x)] * 3)[0],
        norm=nn.LayerNorm(4),
        attention=nn.MultiheadAttention(4, 2, bias=False, batch_first=True),
    )
    found, sites = outcome(net, (5, 4))
    assert sites["norm"] == ("folded", "")
    x = drawn(3, 7, 4)
    with torch.no_grad():
        assert torch.allclose(found.model(x), net(x), rtol=1e-10, atol=1e-12)


def test_a_convolution_that_takes_one_image():
    """Without a batch axis, padded with the norm's zero point."""
    net = network(
        lambda net, x: torch.stack([net.conv(net.norm(each[None]).squeeze(0)) for each in x]),
        norm=nn.GroupNorm(2, 4),
    )
    assert outcome(net)[1]["norm"] == ("folded", "")


def test_a_network_that_counts_its_passes():
    def steps(net, x):
        net.passes += 1
        return net.norm(net.conv(x)) * net.passes

    net = network(steps)
    net.passes = 0
    found, sites = outcome(net)
    assert sites["norm"] == ("folded", "")
    assert (net.passes, found.model.passes) == (0, 0)


def test_a_view_that_is_written_in_place():
    """What reads the whole afterwards reads more than the view, whose shape the record has."""

    def steps(net, x):
        y = net.conv(x)
        y[:, 0].mul_(1.5)
        return net.norm(nn.functional.avg_pool2d(y, 3, 1, 1, count_include_pad=False))

    action, reason = outcome(network(steps))[1]["norm"]
    assert action == "left"
    assert "written in place" in reason


def test_reasons_name_a_function_once():
    net = network(lambda net, x: net.norm(torch.relu(net.conv(x))) + x)
    assert outcome(net)[1]["norm"][1] == "before it: it follows relu; after it: it goes to an addition (add)"


@pytest.mark.parametrize(("norm", "what"), [(nn.LayerNorm, "gamma and beta"), (nn.RMSNorm, "gamma")])
def test_what_goes_of_a_norm_that_stays(norm, what):
    """An RMS norm has no beta."""
    net = network(lambda net, x: net.conv(net.norm(x)), norm=norm(4), conv=nn.Linear(4, 3))
    found, _ = outcome(net, (5, 4))
    assert [site.details["what"] for site in found.sites] == [what]
    record = FoldRecord("net", found.sites, found.proofs)
    assert answer(record).startswith(f"net: {what} of 1 of 1 ")


def test_a_norm_that_can_not_be_tried():
    """torch takes eps = 0 in inference alone."""
    net = network(lambda net, x: net.norm(net.conv(x)), norm=nn.BatchNorm2d(4, eps=0.0))
    assert outcome(net)[1]["norm"] == (
        "refused",
        "it can't be tried in training mode, which would show what it computes",
    )


def test_an_average_by_its_other_name():
    net = network(lambda net, x: net.conv(net.norm(x).mean(axis=(2, 3))), conv=nn.Linear(4, 3))
    found, sites = outcome(net)
    assert sites["norm"] == ("folded", "")
    x = drawn(2, 4, 9, 5) + 1
    assert torch.allclose(found.model(x), net(x), rtol=1e-10, atol=1e-12)
