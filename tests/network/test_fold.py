"""The algebra against loops written out, the comparisons against networks that are wrong on purpose, and the edges."""

from __future__ import annotations

from copy import deepcopy

import pytest
import scipy.stats
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bnbench
from bnbench.base.errors import BnbenchError
from bnbench.network.fold import checks, folding, plan, speed
from bnbench.network.fold.affine import Affine
from bnbench.network.fold.checks import Pair
from bnbench.network.fold.inputs import adversarial, like, random_batches
from bnbench.network.fold.padding import with_zero_point
from bnbench.network.fold.weights import Weights, fold_after, fold_before
from tests.network.fold_layers import Net, randomised

SHAPE = (4, 6, 6)


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def small(**more):
    torch.manual_seed(0)
    net = Net(lambda net, x: net.norm(net.conv(x)), conv=nn.Conv2d(4, 6, 3), norm=nn.BatchNorm2d(6), **more)
    return randomised(net).eval()


# --- the algebra, against loops over every entry


def test_before_a_transposed_convolution_with_groups():
    layer = nn.ConvTranspose1d(4, 6, 3, groups=2).double()
    scale, shift = drawn(6, seed=1), drawn(6, seed=2)
    found = fold_before(layer, Weights.of(layer), Affine(scale, shift))
    for i in range(4):
        for o in range(3):
            channel = (i // 2) * 3 + o  # two inputs and three outputs a group
            assert torch.allclose(found.weight[i, o], layer.weight[i, o] * scale[channel], rtol=1e-14)
    assert torch.allclose(found.bias, layer.bias * scale + shift, rtol=1e-14)


def test_after_a_norm_a_grouped_convolution():
    layer = nn.Conv1d(4, 6, 3, groups=2).double()
    scale, shift = drawn(4, seed=1), drawn(4, seed=2)
    found = fold_after(layer, Weights.of(layer), Affine(scale, shift))
    for o in range(6):
        bias = layer.bias[o].clone()
        for i in range(2):
            channel = (o // 3) * 2 + i
            assert torch.allclose(found.weight[o, i], layer.weight[o, i] * scale[channel], rtol=1e-14)
            bias = bias + layer.weight[o, i].sum() * shift[channel]
        assert torch.allclose(found.bias[o], bias, rtol=1e-14)


def test_no_bias_is_made_without_a_shift():
    layer = nn.Conv2d(4, 6, 3, padding=1, bias=False)
    found = fold_after(layer, Weights.of(layer), Affine(drawn(4), torch.zeros(4, dtype=torch.float64)))
    assert found.bias is None
    assert found.zero_point is None


def test_zero_point_of_two_norms_in_a_row():
    """The second fold keeps what the first one pads with: y = conv(a2 (a1 x + b1) + b2), padded with zeros."""
    layer = nn.Conv1d(3, 2, 3, padding=1).double()
    first, second = (Affine(1 + drawn(3, seed=s) ** 2, drawn(3, seed=s + 1)) for s in (1, 3))
    inner = fold_after(layer, Weights.of(layer), second)
    copy = deepcopy(layer)
    with_zero_point(copy)
    whole = fold_after(copy, inner, first)
    x = drawn(2, 3, 5, seed=7)

    def line(affine: Affine, value: Tensor) -> Tensor:
        return affine.scale[:, None] * value + affine.shift[:, None]

    truth = layer(line(second, line(first, x)))
    padded = F.pad(x - whole.zero_point[:, None], (1, 1)) + whole.zero_point[:, None]
    assert torch.allclose(F.conv1d(padded, whole.weight, whole.bias), truth, rtol=1e-12, atol=1e-12)


def test_zero_point_layer_leaves_the_inside_as_it_is():
    layer = nn.Conv2d(2, 3, 3, padding=(1, 2))
    with_zero_point(layer)
    layer.zero_point.copy_(torch.tensor([3.0, -2.0]))
    x = torch.full((1, 2, 2, 2), 1e-30)
    padded = layer.padded(x)
    assert padded.shape == (1, 2, 4, 6)
    assert torch.equal(padded[:, :, 1:3, 2:4], x)
    assert padded[0, :, 0, 0].tolist() == [3.0, -2.0]


# --- wrong folds are found


def wrong_axis(layer, weights, affine):
    """The bug of old: the scale along the wrong channels."""
    return fold_before(layer, weights, Affine(affine.scale.roll(1), affine.shift))


def test_a_wrong_fold_is_refused_by_the_trial(monkeypatch):
    monkeypatch.setattr(plan, "fold_before", wrong_axis)
    found = bnbench.fold(small(), inputs=SHAPE)
    assert [(site.action, site.details.get("side")) for site in found.sites] == [("refused", None)]
    assert "changed the output" in found.sites[0].reason


def test_a_wrong_fold_fails_the_proofs(monkeypatch):
    monkeypatch.setattr(plan, "fold_before", wrong_axis)
    monkeypatch.setattr(folding, "_tried", lambda own, sites, inputs: plan.Planner(own, sites).run())
    found = bnbench.fold(small(), inputs=SHAPE)
    failed = {proof.name for proof in found.proofs if proof.passed is False}
    assert {"float64", "float32 rounding"} <= failed
    assert not found.passed


@pytest.mark.parametrize(("factor", "passed"), [(1 + 1e-12, True), (1 + 1e-8, False)])
def test_limit_in_float64(factor, passed):
    net = nn.Linear(4, 3).double()
    other = deepcopy(net)
    other.weight.data.mul_(factor)
    proof = checks.in_float64(Pair(net, other), adversarial(lambda n: drawn(n, 4)))
    assert proof.passed is passed


def test_predictions_that_rounding_does_not_explain():
    net = nn.Linear(4, 3)
    other = deepcopy(net)
    other.weight.data[0] += 1
    found = checks.measure(Pair(net, other), deepcopy(net).double(), [drawn(64, 4).float()])
    one, two = (model(drawn(64, 4).float()).argmax(1) for model in (net, other))
    assert found.flips == found.wrong == int((one != two).sum()) > 0
    assert checks.predictions_proof(found, "data").passed is False


def test_own_rounding_is_the_measure():
    net = nn.Linear(100, 3)
    same = checks.measure(
        Pair(net, net), deepcopy(net).double(), random_batches(lambda n: drawn(n, 100).float())
    )
    assert same.inputs == 64
    assert same.own == same.folded > 0
    assert checks.own_type_proof(Pair(net, net), same).passed


def test_sensitive_inputs_are_named_and_left_out():
    """sin(1e14 x): the last bits of the weight decide everything."""
    net = Net(lambda net, x: torch.sin(1e14 * net.conv(x)), conv=nn.Linear(4, 3)).double()
    other = deepcopy(net)
    other.conv.weight.data.mul_(1 + 2.3e-16)
    trials = adversarial(lambda n: 1e-14 * drawn(n, 4))
    proof = checks.in_float64(Pair(net, other), trials)
    assert "the network itself moves as much" in proof.explanation


# --- the interval of the median


@pytest.mark.parametrize("number", [5, 6, 12, 25, 41, 100])
def test_median_interval(number):
    """The median lies below the k-th smallest of n where at most k - 1 values do: Binomial(n, 1/2)."""
    low, high = speed.median_interval(number)
    below = scipy.stats.binom(number, 0.5).cdf
    assert high == number - 1 - low
    assert low == 0 or below(low) <= 0.025
    assert below(low + 1) > 0.025  # one step further in would be too narrow


def test_speed_by_a_clock_of_its_own():
    """Each pass of the folded network takes half the time: 2.00 [2.00, 2.00]."""
    time = [0.0]

    class Timed(nn.Module):
        def __init__(self, seconds):
            super().__init__()
            self.seconds = seconds

        def forward(self, x):
            time[0] += self.seconds
            return x

    found = speed.measure(Timed(0.25), Timed(0.125), torch.zeros(2, 1), 2, now=lambda: time[0])
    assert (found.times_faster, found.low, found.high) == (2, 2, 2)
    assert (found.milliseconds, found.folded_milliseconds, found.pairs, found.batch) == (250, 125, 41, 2)


# --- edges


def test_the_second_fold_changes_nothing():
    net = randomised(
        nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.LayerNorm(96), nn.Linear(96, 3))
    )
    once = bnbench.fold(net, inputs=SHAPE)
    twice = bnbench.fold(once.model, inputs=SHAPE)
    assert [site.action for site in once.sites] == ["folded", "folded"]
    assert [(site.action, site.reason) for site in twice.sites] == [("left", "it has no gamma and no beta")]
    assert twice.passed
    for key, value in once.model.state_dict().items():
        assert torch.equal(value, twice.model.state_dict()[key])


def test_a_network_in_training_mode_is_folded_as_it_works_in_inference():
    net = small().train()
    found = bnbench.fold(net, inputs=SHAPE)
    assert found.sites[0].action == "folded"
    assert not found.model.training
    assert net.training
    assert net.norm.training


def test_hooks_around_one_of_the_two():
    def build():
        inner = nn.Sequential(nn.Conv2d(4, 6, 3))
        return randomised(nn.Sequential(inner, nn.BatchNorm2d(6))).eval()

    whole, part = build(), build()
    whole.register_forward_hook(lambda module, args, output: None)
    part[0].register_forward_hook(lambda module, args, output: None)
    assert bnbench.fold(whole, inputs=SHAPE).sites[0].action == "folded"
    assert bnbench.fold(part, inputs=SHAPE).sites[0].reason.startswith("before it: it has hooks (0)")


def test_bfloat16_is_held_to_its_own_rounding():
    found = bnbench.fold(small().bfloat16(), inputs=lambda n: drawn(n, *SHAPE).bfloat16())
    assert [proof.name for proof in found.proofs] == ["count", "float64", "bfloat16 rounding", "predictions"]
    assert found.passed
    assert found.model.conv.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_a_shape_is_drawn_in_the_type_of_the_network(dtype):
    found = bnbench.fold(small().to(dtype), inputs=SHAPE)
    assert found.passed
    assert found.sites[0].action == "folded"


def test_zeros_prove_nothing():
    net = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 4))
    nn.init.zeros_(net[1].weight)
    nn.init.zeros_(net[1].bias)
    found = bnbench.fold(net, inputs=(6,))
    (proof,) = [proof for proof in found.proofs if proof.name == "float64"]
    assert proof.passed is None
    assert "gives zeros whatever it is given" in proof.explanation


def test_torchs_transformer_layer():
    """Its fused kernel in inference reads gamma itself."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
    found = bnbench.fold(
        randomised(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)), inputs=(5, 8)
    )
    assert [site.action for site in found.sites] == ["folded"] * 4
    assert found.sites[0].details["into"] == ["layers.0.self_attn"]
    assert found.passed


def test_instance_norm_with_running_statistics():
    """In inference it is a batch norm."""
    net = Net(
        lambda net, x: net.norm(net.conv(x)),
        conv=nn.Conv2d(4, 6, 3),
        norm=nn.InstanceNorm2d(6, True, track_running_stats=True),
    )
    found = bnbench.fold(randomised(net), inputs=SHAPE)
    assert (found.sites[0].action, found.sites[0].details) == (
        "folded",
        {"side": "before", "into": ["conv"], "what": "norm"},
    )
    assert isinstance(found.model.norm, nn.Identity)
    assert found.passed


def test_a_token_that_is_a_parameter():
    """What stands beside the norm's output in the layer's input would get its scale, too."""
    net = Net(
        lambda net, x: net.conv(torch.cat([net.token.weight.expand(len(x), 1, 6), net.norm(x)], 1)),
        norm=nn.LayerNorm(6),
        token=nn.Embedding(1, 6),
        conv=nn.Linear(6, 4),
    )
    found = bnbench.fold(randomised(net), inputs=(5, 6))
    assert found.sites[0].action == "left"


def test_a_generator_that_makes_images_of_features():
    """A linear layer, a view as images, a batch norm: each channel spans 9 outputs."""
    net = Net(
        lambda net, x: net.norm(net.conv(x).view(-1, 4, 3, 3)), conv=nn.Linear(5, 36), norm=nn.BatchNorm2d(4)
    )
    found = bnbench.fold(randomised(net), inputs=(5,))
    assert found.sites[0].details["into"] == ["conv"]
    assert found.passed


def test_casts_between():
    net = Net(
        lambda net, x: net.norm(net.conv(x).to(torch.float32)),
        conv=nn.Conv2d(4, 6, 3),
        norm=nn.BatchNorm2d(6),
    )
    assert bnbench.fold(randomised(net), inputs=SHAPE).sites[0].action == "folded"
    net.steps = lambda net, x: net.norm(net.conv(x).to(torch.int32).to(torch.float32))
    assert bnbench.fold(net, inputs=SHAPE).sites[0].action == "left"


def test_identity_that_would_be_changed_in_place():
    """Without the norm, its output is its input, which is changed afterwards."""

    def steps(net, x):
        z = x * 1
        y = net.norm(z)
        z.relu_()
        return net.conv(y) + z.mean()

    found = bnbench.fold(
        randomised(Net(steps, norm=nn.BatchNorm2d(4), conv=nn.Conv2d(4, 6, 3))).eval(), inputs=SHAPE
    )
    assert found.sites[0].action == "refused"
    assert found.passed


@pytest.mark.filterwarnings("ignore")  # torch's on what it will no longer have
@pytest.mark.parametrize("wrap", [torch.jit.script, nn.DataParallel, torch.compile])
def test_wrapped_networks_are_refused_with_the_reason(wrap):
    net = randomised(nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6))).eval()
    found = bnbench.fold(wrap(net), inputs=lambda n: drawn(n, *SHAPE).float())
    assert [site.action for site in found.sites] == ["refused"]
    assert found.sites[0].reason
    assert found.passed


@pytest.mark.filterwarnings("ignore")
def test_quantized_layers_can_not_be_compared():
    net = randomised(
        nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(96, 3))
    ).eval()
    quantized = torch.ao.quantization.quantize_dynamic(net, {nn.Linear})
    found = bnbench.fold(quantized, inputs=lambda n: drawn(n, *SHAPE).float())
    assert [site.action for site in found.sites] == ["refused"]
    assert "float64" in found.sites[0].reason


def test_tokens():
    net = nn.Sequential(nn.Embedding(9, 6), nn.LayerNorm(6), nn.Linear(6, 4))
    randomised(net)
    tokens = torch.randint(9, (5, 7), generator=torch.Generator().manual_seed(0))
    found = bnbench.fold(net, inputs=tokens)
    assert found.sites[0].details["into"] == ["2"]
    assert found.passed
    assert like(tokens)(64).shape == (64, 7)
    assert like(tokens)(64).max() < 9


def test_the_given_batch_is_predicted_on():
    found = bnbench.fold(small(), inputs=drawn(10, *SHAPE).float())
    (proof,) = [proof for proof in found.proofs if proof.name == "predictions"]
    assert proof.explanation == "largest scores that moved, of 160 predictions on the given batch"


def test_a_network_that_fails_on_its_input():
    with pytest.raises(BnbenchError, match="the network fails on its input"):
        bnbench.fold(small(), inputs=lambda n: drawn(n, 3, 6, 6).float())


def test_meta_device():
    with torch.device("meta"):
        net = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6))
    with pytest.raises(BnbenchError, match="meta device"):
        bnbench.fold(net, inputs=lambda n: drawn(n, *SHAPE))


def test_nothing_is_saved_where_a_proof_fails(monkeypatch, tmp_path):
    monkeypatch.setattr(plan, "fold_before", wrong_axis)
    monkeypatch.setattr(folding, "_tried", lambda own, sites, inputs: plan.Planner(own, sites).run())
    found = bnbench.fold(small(), inputs=SHAPE)
    with pytest.raises(BnbenchError, match="proof"):
        found.save(tmp_path / "wrong")
    assert not list(tmp_path.iterdir())


def test_the_process_comes_out_as_it_went_in():
    state = torch.get_rng_state()
    bnbench.fold(small(), inputs=SHAPE)
    assert torch.equal(state, torch.get_rng_state())
