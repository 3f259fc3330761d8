"""The cheap measures of a small network against numpy in float64, which does the network's arithmetic by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bnbench.base.histogram import LAST, bin_counts, bin_edges
from bnbench.models import models
from bnbench.models.layers import NormLayer
from bnbench.norms import norms
from bnbench.probes import probes
from bnbench.probes.activations import unit_axis
from bnbench.probes.inside import Inside, Row, Rows, norm_of, one_pass
from bnbench.probes.layers import find_layers
from bnbench.probes.numbers import MOST, percentiles, some_values

EPS = 1e-5


def network(norm: str = "batch", model: str = "mlp", **options: Any) -> nn.Module:
    entry = norms.get(norm)
    layer = NormLayer(entry, entry.options()().model_dump())
    torch.manual_seed(0)
    built: nn.Module = models.get(model).factory((1, 4, 4), 3, layer, **options)
    return built.train()


def inside(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, **more: Any) -> Inside:
    objective = nn.CrossEntropyLoss()
    found = find_layers(model, lambda count: torch.randn(count, *inputs.shape[1:]))
    facts: dict[str, Any] = {"step": 0, "planned": 1, "detailed": True, "lr": 0.25, **more}
    return Inside(
        model,
        tuple(layer.of(model) for layer in found),
        inputs,
        targets,
        inputs,
        targets,
        objective,
        lambda x, y: objective(model(x), y),
        settings=None,  # type: ignore[arg-type]
        private=lambda: pytest.fail("a cheap measure takes no copy"),
        **facts,
    )


def flat(measured: Any) -> Iterator[tuple[tuple[str, str, str], float]]:
    for one in measured:
        if isinstance(one, Rows):
            for unit, value in zip(one.units, one.values, strict=True):
                yield (one.layer, one.quantity, str(unit)), value
        else:
            yield (one.layer, one.quantity, "" if one.unit is None else str(one.unit)), one.value


def measured(name: str, of: Inside) -> dict[tuple[str, str, str], float]:
    rows = list(flat(probes.get(name).factory(of)))
    assert len(dict(rows)) == len(rows), "a number is there twice"
    return dict(rows)


class ByHand:
    """Linear, batch norm, ReLU, linear, cross-entropy: forward and backward in float64, formula by formula."""

    def __init__(self, model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        values = {name: p.detach().double().numpy() for name, p in model.named_parameters()}
        x = inputs.double().flatten(1).numpy()
        n = len(x)
        self.w1, self.w2 = values["blocks.0.linear.weight"], values["head.weight"]
        gamma, beta = values["blocks.0.norm.weight"], values["blocks.0.norm.bias"]
        z = x @ self.w1.T
        mean, var = z.mean(0), z.var(0)
        normal = (z - mean) / np.sqrt(var + EPS)
        self.pre = gamma * normal + beta
        self.post = np.maximum(self.pre, 0)
        self.logits = self.post @ self.w2.T + values["head.bias"]
        shares = np.exp(self.logits - self.logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        d_logits = (shares - np.eye(3)[targets.numpy()]) / n
        self.d_w2 = d_logits.T @ self.post
        d_pre = (d_logits @ self.w2) * (self.pre > 0)
        # the gradient through batch norm: Ioffe & Szegedy 2015, section 3
        d_normal = d_pre * gamma
        d_z = (d_normal - d_normal.mean(0) - normal * (d_normal * normal).mean(0)) / np.sqrt(var + EPS)
        self.d_w1 = d_z.T @ x


@pytest.fixture(scope="module")
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(40, 1, 4, 4, generator=draw), torch.arange(40) % 3


@pytest.fixture(scope="module")
def model() -> nn.Module:
    made = network(hidden=[7])
    with torch.no_grad():
        made.get_parameter("blocks.0.norm.weight").uniform_(0.5, 1.5)
        made.get_parameter("blocks.0.norm.bias").copy_(torch.tensor([0.0, 0.3, -0.3, 0.1, -50.0, 2.0, -1.0]))
    return made


def test_distributions_are_those_of_numpy(model: nn.Module, batch: Any) -> None:
    hand, rows = ByHand(model, *batch), measured("activations", inside(model, *batch))
    for layer, prefix, values in (
        ("blocks.0", "pre", hand.pre),
        ("blocks.0", "post", hand.post),
        ("head", "pre", hand.logits),
    ):
        assert rows[layer, f"{prefix}_mean", ""] == pytest.approx(values.mean(), rel=1e-4, abs=1e-6)
        assert rows[layer, f"{prefix}_std", ""] == pytest.approx(values.std(), rel=1e-5)
        for percent in (5, 15, 50, 85, 95):
            expected = np.percentile(values, percent)
            assert rows[layer, f"{prefix}_p{percent}", ""] == pytest.approx(expected, rel=1e-4, abs=1e-6)
        counts = {
            int(unit): count
            for (where, name, unit), count in rows.items()
            if (where, name) == (layer, f"{prefix}_histogram")
        }
        assert sum(counts.values()) == values.size
        # a value within rounding of an edge may lie on its other side
        expected_counts = by_search(values)
        assert (
            sum(abs(counts.get(k, 0) - expected_counts.get(k, 0)) for k in {*counts, *expected_counts}) <= 2
        )
    for percent in (15, 50, 85):
        expected_units = np.percentile(hand.pre, percent, axis=0)
        for unit in range(7):
            assert rows["blocks.0", f"unit_p{percent}", str(unit)] == pytest.approx(
                expected_units[unit], rel=1e-4, abs=1e-5
            )
    assert ("head", "post_mean", "") not in rows


def by_search(values: Any) -> dict[int, int]:
    """The bin of each value by a search through all edges."""
    found: dict[int, int] = {}
    for value in np.ravel(values):
        magnitude = abs(float(value))
        number = next(k for k in range(LAST, -1, -1) if k == 0 or magnitude > bin_edges(k)[0])
        number = -number if value < 0 else number
        found[number] = found.get(number, 0) + 1
    return found


def test_dead_and_saturated_units(model: nn.Module, batch: Any) -> None:
    hand, rows = ByHand(model, *batch), measured("activations", inside(model, *batch))
    dead = (hand.post == 0).all(0)
    assert dead.sum() == 1  # the unit whose beta is -50
    assert rows["blocks.0", "units", ""] == 7
    assert rows["blocks.0", "dead_share", ""] == pytest.approx(dead.mean())
    assert ("blocks.0", "saturated_share", "") not in rows


@pytest.mark.parametrize(("activation", "low", "high"), [("sigmoid", 0.0, 1.0), ("tanh", -1.0, 1.0)])
def test_saturated_units_are_near_an_asymptote_for_every_sample(
    activation: str, low: float, high: float, batch: Any
) -> None:
    inputs, targets = batch
    net = network("none", hidden=[6], activation=activation)
    with torch.no_grad():
        net.get_parameter("blocks.0.linear.weight")[:2].mul_(1e-3)
        net.get_parameter("blocks.0.linear.bias")[:2].fill_(30.0)
        net.get_parameter("blocks.0.linear.weight")[2:4].mul_(40)
    rows = measured("activations", inside(net, inputs, targets))
    linear = net.get_submodule("blocks.0.linear")
    pre = inputs.flatten(1).double().numpy() @ linear.weight.detach().double().numpy().T
    pre = pre + linear.bias.detach().double().numpy()
    post = 1 / (1 + np.exp(-pre)) if activation == "sigmoid" else np.tanh(pre)
    near = 0.01 * (high - low)
    saturated = (post < low + near) | (post > high - near)
    assert rows["blocks.0", "saturated_share", ""] == pytest.approx(saturated.all(0).mean())
    assert saturated.all(0).sum() >= 2
    assert rows["blocks.0", "saturated_values", ""] == pytest.approx(saturated.mean(), abs=1 / saturated.size)
    assert saturated.mean() > saturated.all(0).mean()
    assert ("blocks.0", "dead_share", "") not in rows  # "saturated" is the word


def test_small_activations_are_alive(batch: Any) -> None:
    """Ten layers of weights with a deviation of 0.01: activations of 1e-12, and a derivative of 1."""
    for activation, there in (("tanh", False), ("none", False), ("relu", True), ("gelu", True)):
        net = network("none", hidden=[8] * 10, activation=activation)
        with torch.no_grad():
            for block in net.get_submodule("blocks").children():
                block.get_submodule("linear").weight.normal_(0, 0.01)
                block.get_submodule("linear").bias.zero_()
            if activation == "relu":  # positive everywhere: no unit is dead, however small
                net.get_submodule("blocks.0.linear").bias.fill_(1.0)
                for block in [*net.get_submodule("blocks").children()][1:]:
                    block.get_submodule("linear").weight.abs_().add_(1e-3)
        rows = measured("activations", inside(net, *batch))
        shares = [value for (_, name, _), value in rows.items() if name == "dead_share"]
        assert shares == [0.0] * 10 * there
        if activation == "tanh":
            assert rows["blocks.9", "post_std", ""] < 1e-12


DERIVATIVES = {
    nn.ReLU: lambda x: x > 0,
    nn.ReLU6: lambda x: (x > 0) & (x < 6),
    nn.GELU: lambda x: (
        0.5 * (1 + np.vectorize(math.erf)(x / 2**0.5)) + x * np.exp(-x * x / 2) / (2 * np.pi) ** 0.5
    ),
    nn.SiLU: lambda x: 1 / (1 + np.exp(-x)) * (1 + x * (1 - 1 / (1 + np.exp(-x)))),
    nn.ELU: lambda x: np.where(x > 0, 1, np.exp(x)),
    nn.Hardswish: lambda x: np.where(x < -3, 0, np.where(x > 3, 1, x / 3 + 0.5)),
    nn.Softplus: lambda x: 1 / (1 + np.exp(-x)),
}


@pytest.mark.parametrize("kind", DERIVATIVES)
@pytest.mark.parametrize("in_place", [False, True])
def test_a_dead_unit_passes_no_gradient_for_any_sample(
    kind: type[nn.Module], in_place: bool, batch: Any
) -> None:
    """The oracle: the derivative's formula in float64. Units from far below 0 to far above it, and across."""
    if in_place and kind in (nn.GELU, nn.Softplus):
        pytest.skip("it has no form in place")
    first, head = nn.Linear(16, 12), nn.Linear(12, 3)
    with torch.no_grad():
        first.weight.mul_(0.4)
        first.bias.copy_(torch.tensor([-60, -30, -16, -12, -8, -5, -2, 0, 2, 8, 16, 60.0]))
    net = nn.Sequential(nn.Flatten(), first, kind(**({"inplace": True} if in_place else {})), head).train()
    rows = measured("activations", inside(net, *batch))
    x = batch[0].flatten(1).double().numpy() @ first.weight.detach().double().numpy().T
    x = x + first.bias.detach().double().numpy()
    dead = (np.abs(np.asarray(DERIVATIVES[kind](x), float)) < 1e-6).all(0)
    assert 0 < dead.sum() < 11
    assert rows["1", "dead_share", ""] == pytest.approx(dead.mean())


@pytest.mark.parametrize("kind", [nn.Identity, nn.LeakyReLU, nn.Tanh, nn.Softsign])
def test_no_unit_is_dead_where_that_has_no_meaning(kind: type[nn.Module], batch: Any) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), kind(), nn.Linear(4, 3)).train()
    with torch.no_grad():
        net[1].bias.fill_(-1e6)  # type: ignore[union-attr, operator]
    assert "dead_share" not in {name for _, name, _ in measured("activations", inside(net, *batch))}


def test_gradients_weights_and_rates(model: nn.Module, batch: Any) -> None:
    hand = ByHand(model, *batch)
    before = {"blocks.0": torch.from_numpy(hand.w1).float() + 0.01}
    of = inside(model, *batch, rates={"blocks.0.linear.weight": 0.5}, before=before)
    gradients, weights, rates = (measured(name, of) for name in ("gradients", "weights", "effective_lr"))
    assert gradients["blocks.0", "gradient_norm", ""] == pytest.approx(
        np.sqrt((hand.d_w1**2).sum()), rel=1e-4
    )
    assert gradients["head", "gradient_norm", ""] == pytest.approx(np.sqrt((hand.d_w2**2).sum()), rel=1e-4)
    size = np.sqrt((hand.w1**2).sum())
    assert weights["blocks.0", "weight_norm", ""] == pytest.approx(size, rel=1e-6)
    assert weights["head", "weight_norm", ""] == pytest.approx(np.sqrt((hand.w2**2).sum()), rel=1e-6)
    old = hand.w1 + 0.01
    expected = np.sqrt(((hand.w1 - old) ** 2).sum()) / np.sqrt((old**2).sum())
    assert weights["blocks.0", "update_ratio", ""] == pytest.approx(expected, rel=1e-4)
    assert ("head", "update_ratio", "") not in weights
    # the rate of this weight is half the base rate; the head has no norm behind it
    assert rates == {("blocks.0", "effective_lr", ""): pytest.approx(0.25 * 0.5 / size**2, rel=1e-6)}


def test_gamma_and_beta(model: nn.Module, batch: Any) -> None:
    gamma = model.get_parameter("blocks.0.norm.weight").detach().double().numpy()
    beta = model.get_parameter("blocks.0.norm.bias").detach().double().numpy()
    during, after = (measured("gamma_beta", inside(model, *batch, step=step)) for step in (0, 1))
    for name, values in (("gamma", gamma), ("beta", beta)):
        assert during["blocks.0", f"{name}_mean", ""] == pytest.approx(values.mean(), rel=1e-6)
        assert during["blocks.0", f"{name}_std", ""] == pytest.approx(values.std(), rel=1e-6)
        for percent in (5, 15, 50, 85, 95):
            expected = np.percentile(values, percent)
            assert during["blocks.0", f"{name}_p{percent}", ""] == pytest.approx(expected, rel=1e-6, abs=1e-6)
        assert ("blocks.0", name, "0") not in during
        for unit, value in enumerate(values):
            assert after["blocks.0", name, str(unit)] == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(
    ("norm", "options", "invariant", "with_bias"),
    [
        ("batch", {}, True, False),
        ("batch_custom", {}, True, False),
        ("ghost", {}, True, False),
        ("layer", {}, True, True),  # the model keeps the bias, as the norm does not take it out
        ("group", {}, True, True),
        ("rms", {}, True, True),
        ("none", {}, False, False),
        ("dyt", {}, False, False),
        ("frozen", {}, False, False),
        ("batch", {"norm_position": "after", "activation": "tanh"}, False, False),
        ("batch", {"bias": "always"}, True, False),  # the bias goes with the mean
    ],
)
def test_which_weights_have_no_size(
    norm: str, options: dict[str, Any], invariant: bool, with_bias: bool
) -> None:
    """The oracle: the network's outputs with weights twice as large, with and without the bias."""
    net = network(norm, hidden=[32], **options)
    block, head = find_layers(net, lambda count: torch.randn(count, 1, 4, 4))
    assert (block.scale_invariant, block.scales_with_bias) == (invariant, with_bias)
    assert not head.scale_invariant
    inputs = torch.randn(32, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    weight, bias = net.get_parameter("blocks.0.linear.weight"), net.get_submodule("blocks.0.linear").bias
    with torch.no_grad():
        weight.mul_(100)  # so that eps means nothing
        if bias is not None:
            bias.uniform_(50, 100)
        before = net(inputs)
        weight.mul_(2)
        assert torch.allclose(before, net(inputs), atol=1e-3) == (invariant and not with_bias)
        if bias is not None:
            bias.mul_(2)
            assert torch.allclose(before, net(inputs), atol=1e-3) == invariant


def test_weights_that_start_at_zero_have_a_size_and_no_ratio(batch: Any) -> None:
    """Fixup (Zhang et al. 2019) starts the last layer of each branch and the head at 0."""
    net = network("fixup", "resnet", depth=8, width=4)
    blocks = [name for name, _ in net.named_modules() if name.endswith(".second")]
    with torch.no_grad():
        for name in ("head", *(f"{block}.conv" for block in blocks)):
            net.get_submodule(name).get_parameter("weight").zero_()
    of = inside(net, *batch)
    zero = [layer.name for layer in of.layers if not layer.weight.any()]
    assert len(zero) == 4
    assert not [layer.name for layer in of.layers if layer.scale_invariant]
    before = {layer.name: layer.weight - 1e-3 * bool(layer.weight.any()) for layer in of.layers}
    rows = measured("weights", inside(net, *batch, before=before))
    ratios = {layer for layer, name, _ in rows if name == "update_ratio"}
    assert ratios == {layer.name for layer in of.layers} - set(zero)


def test_a_weight_that_does_not_learn_has_no_effective_rate(batch: Any) -> None:
    net = network("batch", hidden=[4, 4])
    net.get_parameter("blocks.0.linear.weight").requires_grad_(False)
    rates = measured("effective_lr", inside(net, *batch))
    assert {layer for layer, _, _ in rates} == {"blocks.1"}


def test_the_rate_of_a_weight_and_its_bias(batch: Any) -> None:
    net = network("layer", hidden=[32])
    rates = measured("effective_lr", inside(net, *batch))
    linear = net.get_submodule("blocks.0.linear")
    assert isinstance(linear, nn.Linear)
    both = torch.cat([linear.weight.flatten(), linear.bias]).detach().double()
    assert rates == {("blocks.0", "effective_lr", ""): pytest.approx(0.25 / float(both @ both), rel=1e-6)}


def test_the_layers_of_bnbenchs_models() -> None:
    def names(norm: str, model: str, **options: Any) -> list[tuple[str, int, bool, bool]]:
        found = find_layers(network(norm, model, **options), lambda count: torch.randn(count, 1, 4, 4))
        return [(layer.name, layer.depth, bool(layer.norm), bool(layer.activation)) for layer in found]

    assert names("none", "mlp", hidden=[5, 4]) == [
        ("blocks.0", 1, False, True),
        ("blocks.1", 2, False, True),
        ("head", 3, False, False),
    ]
    assert [name for name, *_ in names("batch", "mlp", hidden=[5, 4])] == ["blocks.0", "blocks.1", "head"]
    with_norm, without = names("batch", "resnet20"), names("none", "resnet20")
    assert [name for name, *_ in with_norm] == [name for name, *_ in without]
    assert len(with_norm) == 20
    assert with_norm[0] == ("stem", 1, True, True)
    assert with_norm[2] == ("blocks.stage1_0.second", 3, True, False)  # its activation is behind the sum


def test_a_norm_that_is_its_own_activation_has_both_sides(batch: Any) -> None:
    net = network("filter_response", "cnn", channels=[4])
    (block, _) = find_layers(net, lambda count: torch.randn(count, 1, 4, 4))
    assert block.norm_activates
    layers = tuple(layer.of(net) for layer in (block,))
    passed = one_pass(net, layers, lambda: nn.functional.cross_entropy(net(batch[0]), batch[1]))
    with torch.no_grad():
        conv = net.get_submodule("blocks.0.conv")(batch[0])
        assert torch.equal(passed.pre["blocks.0"], conv)
        assert torch.allclose(passed.post["blocks.0"], net.get_submodule("blocks.0.norm")(conv))


class Functional(nn.Module):
    """A user's network without blocks: names that do not depend on the norm, an activation in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.bn, self.act = nn.Linear(16, 6), nn.BatchNorm1d(6), nn.ReLU(inplace=True)
        self.second, self.out = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.bn(self.first(x.flatten(1))))
        return self.out(torch.tanh(self.second(x)))


def test_a_users_network_is_followed(batch: Any) -> None:
    net = Functional().train()
    of = inside(net, *batch)
    assert [(layer.name, layer.norm, layer.activation) for layer in of.layers] == [
        ("first", net.bn, net.act),
        ("second", None, None),
        ("out", None, None),
    ]
    assert [layer.scale_invariant for layer in of.layers] == [True, False, False]
    with torch.no_grad():
        entering = net.bn(net.first(batch[0].flatten(1))).clone()
    assert torch.equal(of.passed.pre["first"], entering)  # as it was before the activation wrote over it
    assert torch.equal(of.passed.post["first"], entering.clamp_min(0))


def test_percentiles_are_those_of_numpy() -> None:
    draw = np.random.default_rng(0)
    for shape in ((1,), (2,), (7,), (1000,), (5, 33), (2, 3, 4)):
        values = draw.standard_normal(shape).astype("float32")
        expected = np.percentile(values.astype("float64"), [5, 15, 50, 85, 95], axis=-1)
        got = percentiles(values, (5, 15, 50, 85, 95))
        np.testing.assert_allclose(np.moveaxis(got, -1, 0), expected, rtol=1e-6, atol=1e-7)
    for odd in (np.nan, np.inf, -np.inf):
        values = np.array([[1, 2, odd, 4], [1, 2, 3, 4]], dtype="float32")
        got = percentiles(values, (50,))
        assert np.isnan(got[0, 0])
        assert got[1, 0] == 2.5


def test_histograms_have_fixed_bins_and_add_up() -> None:
    """Against numpy.searchsorted in the same edges, from 1e-9 to 1e7 and on the edges themselves."""
    draw = np.random.default_rng(1)
    size = 10 ** draw.uniform(-9, 7, 5000)
    values = (size * draw.choice([-1, 1], 5000)).astype("float32")
    edges = [bin_edges(number)[0] for number in range(1, LAST + 1)]
    assert edges == sorted(edges)
    assert edges[1:] == [bin_edges(number)[1] for number in range(1, LAST)]
    on_edges = np.array([*edges, *np.negative(edges), 0.0, -0.0], dtype="float32")
    for sample in (values, on_edges):
        numbers = np.sign(sample) * np.searchsorted(edges, np.abs(sample.astype("float64")), side="left")
        expected = {str(int(number)): int((numbers == number).sum()) for number in np.unique(numbers)}
        assert bin_counts(sample) == expected
    halves = [bin_counts(half) for half in (values[:2000], values[2000:])]
    whole = bin_counts(values)
    assert whole == {unit: halves[0].get(unit, 0) + halves[1].get(unit, 0) for unit in whole}
    assert bin_counts(np.array([np.nan, np.inf, -np.inf, 1], "float32")) == {
        "48": 1, "nan": 1, "inf": 1, "-inf": 1,
    }  # fmt: skip
    with pytest.raises(ValueError, match="there is no bin 83"):
        bin_edges(LAST + 1)


def test_of_many_values_some_are_drawn_once() -> None:
    values = torch.randn(64, 8, 9, 9, generator=torch.Generator().manual_seed(0))
    drawn = some_values(values)
    assert drawn.shape == (MOST,)
    assert np.array_equal(drawn, some_values(values))
    exact = np.percentile(values.numpy(), [5, 50, 95])
    # within five standard errors of a percentile of so many normal values
    spread = 5 * np.sqrt([0.05 * 0.95, 0.25, 0.05 * 0.95]) / np.sqrt(MOST) / [0.1031, 0.3989, 0.1031]
    assert (np.abs(percentiles(drawn, (5, 50, 95)) - exact) < spread).all()
    last = values.to(memory_format=torch.channels_last)
    assert set(some_values(last).tolist()) <= set(values.flatten().tolist())
    assert np.array_equal(some_values(values[:2]), values[:2].flatten().numpy())


@pytest.mark.parametrize("shape", [(3,), (16, 1024), (17, 1025), (8, 3, 30, 30)])
def test_a_norm_of_many_values(shape: tuple[int, ...]) -> None:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(2)) * 1e-3 + 1
    layouts = [values, values.transpose(0, -1)]
    if len(shape) == 4:
        layouts.append(values.to(memory_format=torch.channels_last))
    for each in layouts:
        assert norm_of(each) == pytest.approx(np.sqrt((values.double().numpy() ** 2).sum()), rel=2e-7)


def test_a_row_names_its_layer() -> None:
    assert Row("head", "weight_norm", 2.0).unit is None


@pytest.mark.parametrize(
    ("weights", "shape", "axis"),
    [
        (nn.Conv2d(1, 1, (3, 1)), (1, 2, 7, 4), 3),  # over tokens (S, N, T, C): a position is no unit
        (nn.Conv2d(1, 1, 3), (1, 2, 4, 5, 5), 2),
        (nn.Conv1d(1, 1, 3), (1, 2, 4, 7), 2),
        (nn.Linear(1, 1), (1, 2, 7, 4), 3),
        (nn.Linear(1, 1), (1, 2, 4), 2),
    ],
)
def test_the_units_are_channels_not_positions(weights: nn.Module, shape: tuple[int, ...], axis: int) -> None:
    layer = SimpleNamespace(weights=weights)
    assert unit_axis(layer, torch.zeros(shape)) == axis  # type: ignore[arg-type]
