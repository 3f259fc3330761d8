"""Batch norm over valid positions. Oracle: torch.nn.BatchNorm1d on the valid rows alone, and float64 sums."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bnbench.norms.masked_batch import MaskedBatchNorm

ROWS, C = 200, 5


def rows(dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return (torch.randn(ROWS, C, generator=draw, dtype=torch.float64) * 3 + 2).to(dtype)


def mask_of(share: float, seed: int = 1) -> Tensor:
    return torch.rand(ROWS, generator=torch.Generator().manual_seed(seed)) < share


def pair(dtype: torch.dtype, momentum: float | None = 0.1) -> tuple[MaskedBatchNorm, nn.BatchNorm1d]:
    ours, theirs = MaskedBatchNorm(C, momentum=momentum).to(dtype), nn.BatchNorm1d(C, momentum=momentum)
    theirs.to(dtype)
    with torch.no_grad():
        ours.weight.copy_(torch.linspace(0.5, 2, C)), theirs.weight.copy_(ours.weight)
        ours.bias.copy_(torch.linspace(-1, 1, C)), theirs.bias.copy_(ours.bias)
    return ours, theirs


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_it_is_torchs_layer_on_the_valid_rows_alone(share: float, momentum: float | None) -> None:
    ours, theirs = pair(torch.float64, momentum)
    for seed in range(3):
        x, mask = rows(seed=seed).requires_grad_(), mask_of(share, seed)
        toward = torch.randn(ROWS, C, dtype=torch.float64)
        y = ours(x, mask)
        ours.zero_grad()
        (y * toward).sum().backward()
        picked = x.detach()[mask].requires_grad_()
        theirs.zero_grad()
        expected = theirs(picked)
        (expected * toward[mask]).sum().backward()
        torch.testing.assert_close(y[mask], expected, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(x.grad[mask], picked.grad, rtol=1e-9, atol=1e-11)
        assert not y[~mask].any()
        assert not x.grad[~mask].any()
        for name, parameter in ours.named_parameters():
            torch.testing.assert_close(
                parameter.grad, theirs.get_parameter(name).grad, rtol=1e-10, atol=1e-10
            )
        for name, buffer in ours.named_buffers():
            torch.testing.assert_close(buffer, theirs.get_buffer(name), rtol=1e-12, atol=1e-12)
    y, expected = ours.eval()(rows(), mask_of(share)), theirs.eval()(rows())
    torch.testing.assert_close(y[mask_of(share)], expected[mask_of(share)], rtol=1e-12, atol=1e-12)


def test_over_positions_of_sequences_the_mask_has_their_shape() -> None:
    x = rows().view(10, 20, C).transpose(1, 2)  # (N, C, L)
    mask = mask_of(0.4).view(10, 20)
    flat = MaskedBatchNorm(C).double()(rows(), mask.flatten())
    torch.testing.assert_close(
        MaskedBatchNorm(C).double()(x, mask).transpose(1, 2).reshape(ROWS, C), flat, rtol=1e-12, atol=1e-13
    )


def test_without_a_mask_it_is_batch_norm() -> None:
    ours, theirs = pair(torch.float32)
    x = rows(torch.float32)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-6, atol=2e-6)
    torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=1e-6, atol=0)
    assert torch.equal(ours.num_batches_tracked, theirs.num_batches_tracked)


def test_float32_far_from_zero_is_summed_in_float64() -> None:
    x = (rows() + 1e5).float()
    exact = MaskedBatchNorm(C).double()(x.double(), mask_of(0.5))
    torch.testing.assert_close(MaskedBatchNorm(C)(x, mask_of(0.5)).double(), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("garbage", [7.0, 1e30, float("inf"), float("nan")])
@pytest.mark.parametrize("training", [True, False])
def test_what_stands_in_the_padding_has_no_effect_whatever_it_is(garbage: float, training: bool) -> None:
    mask, ours = mask_of(0.5), pair(torch.float32)[0].train(training)
    x = rows(torch.float32)
    filled = torch.where(mask[:, None], x, garbage).requires_grad_()
    y = pair(torch.float32)[0].train(training)(filled, mask)
    y.square().sum().backward()
    assert torch.equal(y, ours(x, mask))
    assert filled.grad.isfinite().all()


@pytest.mark.parametrize("training", [True, False])
def test_a_mask_of_zeros_gives_zeros_and_moves_no_statistics(training: bool) -> None:
    ours, _ = pair(torch.float32, None)
    ours(rows(torch.float32))
    before = {name: value.clone() for name, value in ours.named_buffers()}
    x = rows(torch.float32).requires_grad_()
    y = ours.train(training)(x, torch.zeros(ROWS, dtype=torch.bool))
    y.sum().backward()
    assert not y.any()
    for gradient in (x.grad, ours.weight.grad, ours.bias.grad):
        assert not gradient.any()
    for name, value in ours.named_buffers():
        assert torch.equal(value, before[name]), name


def test_one_valid_position_is_refused_in_training_alone_and_moves_nothing() -> None:
    layer = MaskedBatchNorm(C)
    mask = torch.arange(ROWS) == 3
    with pytest.raises(ValueError, match="more than 1 value per channel when training, got 1 valid position"):
        layer(rows(torch.float32), mask)
    assert layer.num_batches_tracked == 0
    assert layer.eval()(rows(torch.float32), mask).isfinite().all()


@pytest.mark.parametrize("mask", [torch.ones(ROWS), torch.ones(3, dtype=torch.bool), torch.ones(ROWS, C) > 0])
def test_a_mask_of_another_shape_or_dtype_is_refused(mask: Tensor) -> None:
    with pytest.raises(ValueError, match=r"the mask should be bool of shape \(200,\)"):
        MaskedBatchNorm(C)(rows(torch.float32), mask)


def test_without_gamma_and_beta_its_gradient_is_that_of_torchs_layer() -> None:
    layer, reference = MaskedBatchNorm(3, affine=False).double(), nn.BatchNorm1d(3, affine=False).double()
    x = torch.randn(6, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    for norm, given in zip((layer, reference), inputs, strict=True):
        norm(given).pow(3).sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-12, atol=1e-12)
