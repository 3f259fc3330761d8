"""Batch normalization over the valid positions of padded sequences."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnbench.norms import norms
from bnbench.norms.batch_norm_fast import forward_mode
from bnbench.norms.batch_state import check_input
from bnbench.norms.batch_variant import BatchNormVariant
from bnbench.norms.channels import at_least_float32, column, laid_out, scale_and_shift
from bnbench.norms.masked import Valid, dtype_of_sums, number, spread, valid_positions
from bnbench.norms.masked_batch_fast import MaskedBatchNormFunction
from bnbench.norms.options import Affine, Eps, MomentumOrAverage
from bnbench.norms.steps import BATCH


class MaskedBatchNorm(BatchNormVariant):
    """Batch norm over the valid positions alone; x (N, C, ...) of 2 to 5 axes, mask (N, ...). See `masked_batch`."""

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalize (N, C, ...). mask: (N, ...) bool, True where valid; padding comes out as zeros.

        Raises as `BatchNorm1d` does; ValueError for a mask of another shape or dtype, and for one valid position in
        training. A mask without a valid position changes no statistics.
        """
        check_input(
            input,
            (2, 3, 4, 5),
            self.eps,
            self.training and mask is None,
            running_mean=self.running_mean,
            running_var=self.running_var,
            weight=self.weight,
            bias=self.bias,
        )
        if input.numel() == 0:
            self.num_batches_tracked.add_(int(self.training))
            return scale_and_shift(input.clone(), self.weight, self.bias).to(input.dtype)
        valid = valid_positions(input, mask)
        if self.training and number(valid.count) == 1:
            raise ValueError(
                "Expected more than 1 value per channel when training, got 1 valid position in an input of size "
                f"{tuple(input.shape)}. Fix: a larger batch_size, or norm: layer"
            )
        x = at_least_float32(input)
        y = self._by_batch(x, valid) if self.training else self._by_running(x, valid)
        return laid_out(y.to(input.dtype), input)

    def _by_batch(self, x: Tensor, valid: Valid) -> Tensor:
        """With the batch's own statistics, which move the running ones."""
        if forward_mode():
            y, mean, var = self._plain(x, valid)
        else:
            count = torch.as_tensor(valid.count, dtype=dtype_of_sums(x), device=x.device).clamp(min=1)
            y, _, _, mean, var = MaskedBatchNormFunction.apply(
                x, self.weight, self.bias, valid.keep, count, self.eps
            )
        self._move(mean, var, valid.count)
        return y

    def _plain(self, x: Tensor, valid: Valid) -> tuple[Tensor, Tensor, Tensor]:
        """The same by autograd, which derivatives that are carried forward need."""
        values = valid.only(x)
        mean = valid.mean(values)
        centred = valid.only(values - mean.to(x.dtype))
        var = valid.mean(centred.square())
        y = scale_and_shift(centred * torch.rsqrt(var + self.eps).to(x.dtype), self.weight, self.bias)
        return valid.only(y), mean, var

    def _by_running(self, x: Tensor, valid: Valid) -> Tensor:
        values = valid.only(x)
        mean, var = (at_least_float32(vector) for vector in (self.running_mean, self.running_var))
        normal = (values - column(mean, values)) * column(torch.rsqrt(var + self.eps), values)
        y = normal if self.weight is None else normal * spread(column(self.weight, values)[None], values)
        y = y if self.bias is None else y + spread(column(self.bias, values)[None], values)
        return valid.only(y)

    def _move(self, mean: Tensor, var: Tensor, count: Tensor | int) -> None:
        """Towards the batch's mean and its variance times n / (n - 1), n valid positions; not where n is below 2."""
        mean, var = mean.detach().flatten(), var.detach().flatten()
        valid = torch.as_tensor(count, dtype=mean.dtype, device=mean.device)
        self.num_batches_tracked.add_(valid > 1)
        batches = self.num_batches_tracked.to(mean.dtype).clamp(min=1)
        share = batches.reciprocal() if self.momentum is None else torch.full_like(batches, self.momentum)
        share = torch.where(valid > 1, share, 0)
        unbiased = var * (valid / (valid - 1).clamp(min=1))
        for running, batch in ((self.running_mean, mean), (self.running_var, unbiased)):
            running.copy_((running * (1 - share) + batch * share).to(running.dtype))


@norms.register("masked_batch", absorbs_bias=True, takes_mask=True, steps=BATCH)
def masked_batch(
    num_features: int,
    dim: int,
    *,
    eps: Eps = 1e-5,
    momentum: MomentumOrAverage = 0.1,
    affine: Affine = True,
) -> nn.Module:
    """Batch normalization over valid positions alone: padding has no part in its statistics.

    Ioffe & Szegedy 2015 (arXiv 1502.03167), algorithms 1 and 2, with m the exact number of valid positions of the
    batch: mean and biased variance over these, m / (m - 1) in the running variance. Padding comes out as zeros, and no
    gradient reaches it. Sums accumulate in float64. Without a mask it is batch norm. A batch without a valid position
    comes out as zeros and moves no statistics; one with a single valid position is refused in training, as one value a
    channel is.
    """
    return MaskedBatchNorm(num_features, eps, momentum, affine)
