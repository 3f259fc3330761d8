"""The edges of our batch normalization: every case is run on torch's layer too, and must end alike."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnbench.norms import BatchNorm1d, BatchNorm2d

READINGS = ("plain", "fast")
Case = Callable[[Any, Any], Any]
both_readings = pytest.mark.parametrize("reading", READINGS)
both_modes = pytest.mark.parametrize("training", [True, False])


def pair(reading: str, channels: int = 3, rank: int = 1, **options: Any) -> tuple[nn.Module, nn.Module]:
    ours = (BatchNorm1d, BatchNorm2d)[rank - 1](channels, reading=reading, **options)
    return ours, (nn.BatchNorm1d, nn.BatchNorm2d)[rank - 1](channels, **options)


def assert_same_state(ours: nn.Module, theirs: nn.Module) -> None:
    expected = theirs.state_dict()
    assert list(ours.state_dict()) == list(expected)
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, expected[name], equal_nan=True, rtol=1e-5, atol=1e-6)


REFUSED: dict[str, tuple[dict[str, Any], Callable[[], Tensor], bool]] = {
    # options, input, training
    "batch of one": ({}, lambda: torch.randn(1, 3), True),
    "batch of one, one position": ({}, lambda: torch.randn(1, 3, 1), True),
    "batch of one without running statistics": (
        {"track_running_stats": False},
        lambda: torch.randn(1, 3),
        False,
    ),
    "images for 1d": ({}, lambda: torch.randn(2, 3, 4, 4), True),
    "one axis": ({}, lambda: torch.randn(3), False),
    "vectors for 2d": ({"rank": 2}, lambda: torch.randn(2, 3), True),
    "sequences for 2d": ({"rank": 2}, lambda: torch.randn(2, 3, 4), False),
    "5 channels instead of 3": ({}, lambda: torch.randn(4, 5), True),
    "5 channels instead of 3, evaluation": ({}, lambda: torch.randn(4, 5), False),
    "5 channels instead of 3, no statistics": (
        {"track_running_stats": False},
        lambda: torch.randn(4, 5),
        True,
    ),
    "integers": ({}, lambda: torch.ones(4, 3, dtype=torch.long), True),
    "booleans": ({}, lambda: torch.ones(4, 3, dtype=torch.bool), False),
    "complex": ({}, lambda: torch.ones(4, 3, dtype=torch.complex64), True),
    "eps 0 in training": ({"eps": 0.0}, lambda: torch.randn(4, 3), True),
    "eps -1e-05 in training": ({"eps": -1e-5}, lambda: torch.randn(4, 3), True),
    "eps -1e-05 in evaluation": ({"eps": -1e-5}, lambda: torch.randn(4, 3), False),
}


@both_readings
@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_torchs_error_and_nothing_changed(case: str, reading: str) -> None:
    options, make, training = REFUSED[case]
    ours, theirs = pair(reading, **options)
    x, before = make(), copy.deepcopy(ours.state_dict())
    with pytest.raises(Exception) as expected:  # noqa: PT011 - torch says which
        theirs.train(training)(x)
    with pytest.raises(type(expected.value), match=re.escape(str(expected.value))):
        ours.train(training)(x)
    for name, value in ours.state_dict().items():
        assert torch.equal(value, before[name])


@both_modes
@pytest.mark.parametrize("layer", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("input", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_against_torch(input: torch.dtype, layer: torch.dtype, training: bool) -> None:
    """The same pairs are refused (RuntimeError), the others give the same dtype, values and statistics."""
    torch.manual_seed(0)
    ours, theirs = pair("fast", dtype=layer)
    plain = copy.deepcopy(ours)
    plain.reading = "plain"
    x = (torch.randn(64, 3) * 2 + 1).to(input)
    try:
        expected = theirs.train(training)(x)
    except RuntimeError:
        with pytest.raises(RuntimeError, match="mixed dtype"):
            ours.train(training)(x)
        return
    tolerance = max(torch.finfo(input).eps, torch.finfo(layer).eps) * 8
    for read in (ours, plain):
        y = read.train(training)(x)
        assert y.dtype == expected.dtype
        torch.testing.assert_close(y, expected, rtol=tolerance, atol=tolerance)
        for name, value in read.named_buffers():
            torch.testing.assert_close(value, theirs.get_buffer(name), rtol=tolerance, atol=tolerance)


@both_readings
@both_modes
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_layers_compute_in_float32_and_round_once_against_float64(
    half: torch.dtype, training: bool, reading: str
) -> None:
    torch.manual_seed(3)
    layer = BatchNorm1d(64, reading=reading)
    nn.init.uniform_(layer.weight, 0.5, 2)
    nn.init.uniform_(layer.running_mean, -1, 1)
    nn.init.uniform_(layer.running_var, 0.5, 2)
    layer = layer.to(half).train(training)
    exact = copy.deepcopy(layer).double()
    x = torch.randn(64, 64).to(half)
    expected = exact(x.double())
    error = (layer(x).double() - expected).abs() / (expected.abs() + 1e-3)
    assert error.max() <= 0.505 * torch.finfo(half).eps  # half a unit in the last place


@both_readings
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_gradients_against_torch(half: torch.dtype, reading: str) -> None:
    torch.manual_seed(1)
    x = (torch.randn(64, 3) * 2 + 1).to(half)
    grads = []
    for layer in pair(reading):
        own = x.clone().requires_grad_()
        layer(own).backward(x)
        assert own.grad.dtype == half
        assert layer.weight.grad.dtype == torch.float32
        grads.append((own.grad, layer.weight.grad, layer.bias.grad))
    for found, expected in zip(*grads, strict=True):
        tolerance = 4 * torch.finfo(half).eps
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@both_readings
@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (4, 3, 0)])
def test_empty_batch_is_counted_and_moves_nothing(shape: tuple[int, ...], reading: str) -> None:
    ours, theirs = pair(reading)
    for layer in (ours, theirs):
        x = torch.empty(shape, requires_grad=True)
        y = layer(x)
        y.sum().backward()
        assert y.shape == x.grad.shape == shape
        assert layer.weight.grad.tolist() == layer.bias.grad.tolist() == [0, 0, 0]
        assert layer.num_batches_tracked.item() == 1
        assert layer.eval()(x).shape == shape
    assert_same_state(ours, theirs)


@both_readings
def test_one_sample_with_positions_is_accepted_as_in_torch(reading: str) -> None:
    ours, theirs = pair(reading)
    x = torch.randn(1, 3, 5)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    assert_same_state(ours, theirs)


def test_variance_of_ten_million_equal_numbers_is_not_negative() -> None:
    """mean(d²) - residue² rounds to -1e-19 * x² for some of them; under a tiny eps that would be NaN."""
    torch.manual_seed(4)
    layer = BatchNorm1d(1, eps=1e-30)
    for value in torch.randn(8):
        y = layer(value.expand(9_999_991, 1))
        assert torch.isfinite(y).all()


@both_readings
def test_constant_feature_gives_beta(reading: str) -> None:
    for value in (7.0, 1e8):
        layer, _ = pair(reading)
        nn.init.constant_(layer.bias, 0.5)
        x = torch.full((33, 3), value, requires_grad=True)
        y = layer(x)
        y.pow(2).sum().backward()
        torch.testing.assert_close(y, torch.full_like(y, 0.5), rtol=0, atol=1e-4)
        assert torch.isfinite(x.grad).all()


@both_readings
@both_modes
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_inf_stay_in_their_channel_as_in_torch(bad: float, training: bool, reading: str) -> None:
    ours, theirs = pair(reading, rank=2)
    x = torch.randn(4, 3, 2, 2)
    x[1, 2, 0, 1] = bad
    y, expected = ours.train(training)(x), theirs.train(training)(x)
    assert torch.equal(y.isnan(), expected.isnan())
    torch.testing.assert_close(y, expected, equal_nan=True, rtol=1e-5, atol=1e-5)
    assert_same_state(ours, theirs)


@both_readings
@both_modes
@pytest.mark.parametrize(
    "gone", [("running_mean", "running_var"), ("running_mean",), ("running_var",), ("num_batches_tracked",)]
)
def test_buffers_set_to_none_against_torch(gone: tuple[str, ...], training: bool, reading: str) -> None:
    ours, theirs = pair(reading, momentum=None if "num_batches_tracked" in gone else 0.1)
    x = torch.randn(8, 3)
    for layer in (ours, theirs):
        layer.train(training)
        for name in gone:
            setattr(layer, name, None)
    try:
        expected = theirs(x)
    except (RuntimeError, ValueError) as error:
        with pytest.raises(type(error), match=re.escape(str(error))):
            ours(x)
        return
    torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5)
    assert_same_state(ours, theirs)


@both_readings
@both_modes
def test_without_running_statistics_the_batchs_own_are_used(training: bool, reading: str) -> None:
    ours, theirs = pair(reading, track_running_stats=False)
    x = torch.randn(8, 3) * 5
    torch.testing.assert_close(ours.train(training)(x), theirs.train(training)(x), rtol=1e-5, atol=1e-5)
    assert ours.running_mean is ours.running_var is ours.num_batches_tracked is None
    ours, theirs = pair(reading)
    ours.track_running_stats = theirs.track_running_stats = False  # said later: the buffers stay as they are
    torch.testing.assert_close(ours.train(training)(x), theirs.train(training)(x), rtol=1e-5, atol=1e-5)
    assert_same_state(ours, theirs)


@both_readings
def test_no_grad_in_training_mode_moves_the_statistics_and_requires_grad_false_too(reading: str) -> None:
    ours, theirs = pair(reading)
    x = torch.randn(8, 3) + 4
    for layer in (ours, theirs):
        layer.requires_grad_(False)
        with torch.no_grad():
            layer(x)
    assert_same_state(ours, theirs)
    assert ours.running_mean.min() > 0.2
    assert not ours.running_mean.requires_grad


@both_readings
def test_statistics_carry_no_graph(reading: str) -> None:
    layer, _ = pair(reading)
    layer(torch.randn(8, 3, requires_grad=True))
    assert not any(buffer.requires_grad for buffer in layer.buffers())


@both_readings
@both_modes
def test_autocast_keeps_bfloat16_as_torch_does(training: bool, reading: str) -> None:
    torch.manual_seed(2)
    linear, x = nn.Linear(5, 3), torch.randn(16, 5)
    ours, theirs = pair(reading)
    found = []
    for layer in (ours, theirs):
        linear.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            y = layer.train(training)(linear(x))
        (y.float() ** 3).sum().backward()
        found.append((y, linear.weight.grad.clone(), layer.weight.grad))
        assert y.dtype == torch.bfloat16
        assert layer.running_mean.dtype == torch.float32
    for mine, expected in zip(*found, strict=True):
        torch.testing.assert_close(mine, expected, rtol=2e-2, atol=5e-2)


@pytest.mark.parametrize(
    "options",
    [{}, {"affine": False}, {"bias": False}, {"track_running_stats": False}, {"momentum": None, "eps": 1e-3}],
    ids=str,
)
def test_same_signature_attributes_repr_and_state_dict_both_ways(options: dict[str, Any]) -> None:
    ours, theirs = pair("fast", **options)
    assert repr(ours) == repr(theirs)
    for name in ("num_features", "eps", "momentum", "affine", "track_running_stats", "training"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    theirs(torch.randn(8, 3))
    ours.load_state_dict(theirs.state_dict())
    assert_same_state(ours, theirs)
    assert ours.state_dict()._metadata == theirs.state_dict()._metadata
    ours(torch.randn(8, 3))
    theirs.load_state_dict(ours.state_dict())
    assert_same_state(ours, theirs)
    assert "reading=plain" in repr(pair("plain")[0])


def test_device_and_dtype_arguments_as_torch() -> None:
    for cls in (BatchNorm2d, nn.BatchNorm2d):
        layer = cls(4, 1e-3, 0.2, True, True, "meta", torch.float64)
        assert all(tensor.device.type == "meta" for tensor in layer.state_dict().values())
        assert layer.weight.dtype == layer.running_var.dtype == torch.float64
        assert layer.num_batches_tracked.dtype == torch.int64


@both_modes
def test_checkpoint_without_a_counter_loads_as_in_torch(training: bool) -> None:
    old = {
        "weight": torch.full((3,), 2.0),
        "bias": torch.ones(3),
        "running_mean": torch.ones(3),
        "running_var": torch.ones(3),
    }
    ours, theirs = pair("fast")
    for layer in (ours, theirs):
        layer(torch.randn(8, 3))
        layer.load_state_dict(dict(old))  # a plain dict has no version: older than 2
        assert layer.num_batches_tracked.item() == 1
    assert_same_state(ours, theirs)


@both_readings
def test_copies_and_pickles_are_equal_and_independent(reading: str) -> None:
    layer, _ = pair(reading)
    layer(torch.randn(8, 3))
    x = torch.randn(8, 3)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        before = layer.running_mean.clone()
        assert twin.reading == reading
        assert torch.equal(twin.eval()(x), copy.deepcopy(layer).eval()(x))
        twin.train()(x + 9)
        assert torch.equal(layer.running_mean, before)


def test_reset_running_stats_and_parameters() -> None:
    layer, fresh = pair("fast")
    layer(torch.randn(8, 3) + 4)
    nn.init.constant_(layer.weight, 5)
    layer.reset_parameters()
    assert_same_state(layer, fresh)
