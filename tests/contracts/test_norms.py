"""What every registered normalizer must do: a new one is tested by being registered."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from bnbench.base.errors import BnbenchError
from bnbench.base.registry import Entry
from bnbench.norms import NormFacts, norms
from bnbench.norms.fairness import absorbs_bias

CHANNELS = 6
CRASHES_ON_EMPTY = {"instance"}  # torch.nn.InstanceNorm2d: IndexError
LEAVES_CHANNELS_LAST = {"instance"}  # torch's own
FIRST_BATCH_ALONE = {"batch_virtual"}  # later batches do not count
OVER_THE_BATCH = {name for name in norms.names() if name.startswith("batch")} - FIRST_BATCH_ALONE | {
    "sync", "ghost", "renorm", "population", "lp", "masked_batch",
}  # fmt: skip
APPROXIMATE_BACKWARD = {"power"}  # by design; its own reference: tests/norms/test_power.py
OVER_BOTH = {"batch_group"}  # a statistic is over samples and channels
OVER_EACH = {"power"}  # one statistic is over channels, the next one over samples
BATCH_AT_INFERENCE = {"batch_stats_at_inference"}  # what it is for: samples are not apart
SHAPES = {1: (8, CHANNELS), 2: (8, CHANNELS, 4, 3)}


def refuses(entry: Entry, dim: int) -> bool:
    """Whether the normalizer says, in our own error, that it has no meaning for this dim."""
    try:
        entry.factory(CHANNELS, dim)
    except BnbenchError:
        return True
    return False


CASES = [
    pytest.param(entry, dim, id=f"{entry.name}-{dim}d")
    for entry in norms.entries()
    for dim in SHAPES
    if not refuses(entry, dim)
]
IMAGE_CASES = [case for case in CASES if case.values[1] == 2]
EMPTY_CASES = [case for case in CASES if case.values[0].name not in CRASHES_ON_EMPTY]
every_norm = pytest.mark.parametrize(("entry", "dim"), CASES)
both_modes = pytest.mark.parametrize("training", [True, False])


def build(entry: Entry, dim: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The default layer, after two batches and with gamma and beta that are not 1 and 0."""
    torch.manual_seed(0)
    layer = entry.factory(CHANNELS, dim)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, 0.5, 2)
    layer(data(dim)), layer(data(dim))
    return layer.to(dtype)


def call(layer: nn.Module, x: Tensor) -> Tensor:
    """What the layer gives, leaving its state (statistics, steps) as it was."""
    y: Tensor = copy.deepcopy(layer)(x)
    return y


def data(dim: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.randn(SHAPES[dim], dtype=torch.float64) * 2 + 1).to(dtype)


@pytest.mark.parametrize("entry", norms.entries(), ids=lambda entry: entry.name)
def test_says_what_it_is_in_a_line_and_has_typed_options(entry: Entry) -> None:
    assert 10 < len(entry.summary) <= 100
    assert entry.summary.endswith((".", ")"))
    assert isinstance(entry.facts, NormFacts)
    options = entry.options()()  # the defaults are valid
    for dim in SHAPES:
        if not refuses(entry, dim):
            entry.factory(CHANNELS, dim, **options.model_dump())
    assert any(not refuses(entry, dim) for dim in SHAPES)


@every_norm
@both_modes
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_shape_dtype_and_values_kept_in_every_precision_against_float64(
    entry: Entry, dim: int, training: bool, dtype: torch.dtype
) -> None:
    """The whole layer in this precision, against the same layer and the same numbers in float64."""
    layer = build(entry, dim, dtype).train(training)
    exact = copy.deepcopy(layer).double()
    x = data(dim, dtype)
    y = layer(x)
    assert (y.shape, y.dtype) == (x.shape, dtype)
    tolerance = 16 * torch.finfo(dtype).eps
    torch.testing.assert_close(y.double(), exact(x.double()), rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@every_norm
@both_modes
def test_gradcheck_and_gradgradcheck_float64(entry: Entry, dim: int, training: bool) -> None:
    layer = build(entry, dim, torch.float64).train(training)
    x = data(dim, torch.float64)[:3, :, :2, :2] if dim == 2 else data(dim, torch.float64)[:3]
    if training and entry.name in APPROXIMATE_BACKWARD:
        with pytest.raises(RuntimeError, match="Jacobian mismatch"):
            torch.autograd.gradcheck(lambda x: call(layer, x), x.requires_grad_())
        return
    assert torch.autograd.gradcheck(lambda x: call(layer, x), x.requires_grad_())
    assert torch.autograd.gradgradcheck(lambda x: call(layer, x), x)


@every_norm
def test_state_dict_round_trip_gives_the_same_outputs(entry: Entry, dim: int) -> None:
    layer, fresh, x = build(entry, dim), entry.factory(CHANNELS, dim), data(dim)
    fresh.load_state_dict(layer.state_dict())
    for training in (True, False):
        assert torch.equal(layer.train(training)(x), fresh.train(training)(x))


@pytest.mark.parametrize(("entry", "dim"), IMAGE_CASES)
@both_modes
def test_channels_last_input_gives_the_same_values(entry: Entry, dim: int, training: bool) -> None:
    layer = build(entry, dim, torch.float64).train(training)
    x = data(dim, torch.float64)
    y = call(layer, x.contiguous(memory_format=torch.channels_last))
    if entry.name not in LEAVES_CHANNELS_LAST:
        assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, call(layer, x), rtol=1e-12, atol=1e-12)


@every_norm
@both_modes
def test_nan_stays_in_its_own_sample_or_its_own_channel(entry: Entry, dim: int, training: bool) -> None:
    layer = build(entry, dim).train(training)
    x = data(dim)
    x.select(1, 4)[2] = float("nan")  # sample 2, channel 4
    bad = layer(x).isnan()
    other_samples, other_channels = bad[torch.arange(8) != 2], bad[:, torch.arange(CHANNELS) != 4]
    assert bad[2].select(0, 4).all()
    if training and entry.name in OVER_EACH:
        assert bad.all()
        return
    if training and entry.name in OVER_BOTH:
        groups = layer.groups
        assert (
            bad.unflatten(1, (groups, -1)).transpose(0, 1).flatten(1).all(1).sum() == 1
        )  # its whole group alone
        assert bad.any((0, *range(2, x.dim()))).sum() == CHANNELS // groups
        return
    assert not (other_samples.any() and other_channels.any())


@every_norm
def test_evaluation_leaves_the_state_alone_and_samples_apart(entry: Entry, dim: int) -> None:
    layer = build(entry, dim).eval()
    before, x = copy.deepcopy(layer.state_dict()), data(dim)
    y = layer(x)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name])
    if entry.name in BATCH_AT_INFERENCE:
        assert not torch.allclose(layer(x[:4]), y[:4])
        return
    alone = torch.cat([layer(sample) for sample in x.split(1)])
    torch.testing.assert_close(y, alone, rtol=1e-6, atol=1e-6)


@every_norm
def test_one_value_per_channel_is_refused_where_its_statistics_are_over_the_batch(
    entry: Entry, dim: int
) -> None:
    layer = build(entry, dim).train()
    x = data(dim)[:1, :, :1, :1] if dim == 2 else data(dim)[:1]
    if entry.name in OVER_THE_BATCH:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            layer(x)
    else:
        assert layer(data(dim)[:1]).isfinite().all()


@every_norm
def test_a_bias_before_it_has_an_effect_exactly_where_the_facts_say(entry: Entry, dim: int) -> None:
    layer = build(entry, dim, torch.float64).train()
    bias = torch.randn(CHANNELS, dtype=torch.float64).reshape(-1, *[1] * (2 * dim - 2))
    x = data(dim, torch.float64)
    without_effect = torch.allclose(call(layer, x + bias), call(layer, x), rtol=1e-9, atol=1e-9)
    assert without_effect is entry.facts.absorbs_bias  # declared, and true
    if entry.name in FIRST_BATCH_ALONE:  # a fresh layer is tried, whose first batch absorbs a bias
        return
    undeclared = replace(entry, facts=replace(entry.facts, absorbs_bias=None))
    assert (
        absorbs_bias(undeclared, {}) is entry.facts.absorbs_bias
    )  # and found by trying, where it isn't declared


@pytest.mark.parametrize(("entry", "dim"), EMPTY_CASES)
@both_modes
def test_an_empty_batch_comes_out_empty(entry: Entry, dim: int, training: bool) -> None:
    layer = build(entry, dim).train(training)
    before = copy.deepcopy(layer.state_dict())
    x = data(dim)[:0].requires_grad_()
    y = layer(x)
    y.sum().backward()
    assert y.shape == x.grad.shape == (0, *SHAPES[dim][1:])
    for name, value in layer.state_dict().items():
        assert name == "num_batches_tracked" or torch.equal(value, before[name])


@every_norm
def test_a_copy_is_independent(entry: Entry, dim: int) -> None:
    layer = build(entry, dim)
    twin, before = copy.deepcopy(layer), copy.deepcopy(layer.state_dict())
    twin.train()(data(dim) + 9)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name])
