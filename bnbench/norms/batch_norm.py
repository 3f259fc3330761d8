r"""Batch normalization, written from the formula (Ioffe & Szegedy 2015, arXiv 1502.03167).

Training (Algorithm 1), per channel over the n = N * H * W values of the batch:

    mean = Σ x / n        var = Σ (x - mean)² / n          the biased variance
    y = gamma * (x - mean) / sqrt(var + eps) + beta

and the statistics for later are moved towards the batch's, with the *unbiased* variance (Algorithm 2):

    running_mean = (1 - momentum) * running_mean + momentum * mean
    running_var  = (1 - momentum) * running_var  + momentum * var * n / (n - 1)

Inference puts running_mean and running_var in the place of mean and var. `momentum` is the weight of
the *new* value; None stands for 1 / (batches so far): the plain average over all batches.

There are two readings of the same mathematics: `plain` below, for people, whose backward autograd
finds, and `fast` from the file next door, whose backward is derived by hand.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.fx
from torch import Tensor, nn

from bnbench.norms import norms
from bnbench.norms.batch_norm_fast import fast_batch_norm, forward_mode
from bnbench.norms.batch_state import Statistics, check_input, move
from bnbench.norms.channels import at_least_float32, column, laid_out, reduced_axes, scale_and_shift
from bnbench.norms.options import Affine, Eps, MomentumOrAverage, TrackRunningStats
from bnbench.norms.steps import BATCH

Reading = Literal["plain", "fast"]


def plain(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Normalize x (N, C, ...) with its own statistics. Returns y, mean, biased var.

    y: shape and dtype of x. mean, var: (1, C, 1, ...).
    """
    axes = reduced_axes(x)
    values = at_least_float32(x)
    mean = values.mean(axes, keepdim=True)
    centred = values - mean
    centred = centred - centred.mean(axes, keepdim=True)  # what the mean lost by rounding
    var = (centred**2).mean(axes, keepdim=True)
    y = scale_and_shift(centred / torch.sqrt(var + eps), weight, bias)
    return y.to(x.dtype), mean, var


def fast(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """`plain`, but it keeps only x and two numbers per channel for the backward pass."""
    return fast_batch_norm(x, weight, bias, reduced_axes(x), x.numel() // x.shape[1], eps)


def inference(
    x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """Normalize x (N, C, ...) with given statistics (C,). Returns y, of the shape and dtype of x."""
    mean, var = at_least_float32(mean), at_least_float32(var)
    scale = torch.rsqrt(var + eps)
    scale = scale if weight is None else scale * weight
    centred = x - column(mean, x)
    y = (
        centred * column(scale, x)
        if bias is None
        else torch.addcmul(column(bias, x), centred, column(scale, x))
    )
    return y.to(x.dtype)


class Call(NamedTuple):
    """The settings of one call. ranks: the numbers of axes that are taken; track: whether statistics move."""

    ranks: tuple[int, ...]
    training: bool
    track: bool
    momentum: float | None
    eps: float
    reading: str


@torch.fx.wrap  # torch.fx records one call; it takes plain tuples alone, which are Statistics and Call
def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    statistics: tuple[Tensor | None, Tensor | None, Tensor | None],
    call: tuple[tuple[int, ...], bool, bool, float | None, float, str],
) -> Tensor:
    """The whole layer as a function; the running statistics move in training mode, with or without grad.

    Raises ValueError for a wrong number of axes, for one value per channel in training and for
    an eps that can't work; RuntimeError for a wrong number of channels and for mixed dtypes;
    NotImplementedError for numbers that are not real. A refused input changes nothing.
    """
    now, (ranks, training, track, momentum, eps, reading) = Statistics(*statistics), Call(*call)
    mean, var = now.mean, now.var
    uses_batch = training or (mean is None and var is None)
    check_input(x, ranks, eps, uses_batch, running_mean=mean, running_var=var, weight=weight, bias=bias)
    if not training and mean is not None and var is not None:
        return laid_out(inference(x, mean, var, weight, bias, eps), x)
    if training and track and now.batches is not None:
        now.batches.add_(1)
    if x.numel() == 0:  # an empty batch has no statistics: it is counted, and moves nothing
        return scale_and_shift(x.clone(), weight, bias).to(x.dtype)
    read = fast if reading == "fast" and not forward_mode() else plain
    y, batch_mean, batch_var = read(x, weight, bias, eps)
    if training and track:
        move(now, momentum, batch_mean, batch_var, x.numel() // x.shape[1])
    return laid_out(y, x)


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Base of the three layers below, which differ only in the shapes that they accept.

    A subclass of torch's own class, so that torch's tools (update_bn, fuse_conv_bn_eval, ...) know it.
    """

    _ranks: tuple[int, ...]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
        reading: Reading = "fast",
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self.reading = reading

    def extra_repr(self) -> str:
        """The arguments, in torch's words."""
        arguments: str = super().extra_repr()  # type: ignore[no-untyped-call]
        return arguments if self.reading == "fast" else f"{arguments}, reading={self.reading}"

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (N, C, ...): see `batch_norm`, which also lists what is refused."""
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return self._scripted(input)
        else:  # TorchScript leaves out an else that can't be reached, but not what follows an if
            statistics = (self.running_mean, self.running_var, self.num_batches_tracked)
            mode = (self._ranks, self.training, self.track_running_stats)
            call = (*mode, self.momentum, self.eps, self.reading)
            return batch_norm(input, self.weight, self.bias, statistics, call)

    def _scripted(self, input: Tensor) -> Tensor:
        """The path for `torch.jit.script`, which can't compile the rest: torch's own kernel."""
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        share = 0.0 if self.momentum is None else self.momentum
        tracks = self.training and self.track_running_stats
        if tracks and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                share = 1.0 / float(self.num_batches_tracked)
        uses_running = tracks or not self.training
        return nn.functional.batch_norm(
            input,
            self.running_mean if uses_running else None,
            self.running_var if uses_running else None,
            self.weight,
            self.bias,
            self.training or (self.running_mean is None and self.running_var is None),
            share,
            self.eps,
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalization over (N, C) or (N, C, L), in place of torch.nn.BatchNorm1d.

    y = gamma (x - mean) / sqrt(var + eps) + beta, with the mean and the biased variance of each channel over all other
    axes: of the batch in training, of the running statistics in inference [1]_.

    Parameters
    ----------
    num_features : int
        Number of channels C.
    eps : float
        Added to the variance under the root.
    momentum : float or None
        Weight of the new value in the running statistics; None: the plain average over all batches.
    affine : bool
        Whether to learn `weight` (gamma, from 1) and `bias` (beta, from 0), both (C,).
    track_running_stats : bool
        Whether to keep `running_mean`, `running_var` (C,) and `num_batches_tracked`. Without them inference uses the
        statistics of its own batch.
    device, dtype
        Of parameters and statistics.
    bias : bool
        False: no beta, though `affine`.
    reading : {"fast", "plain"}
        The same mathematics twice: "fast" has a backward pass derived by hand and keeps less, "plain" follows the
        formula line by line.

    Raises
    ------
    ValueError
        For an input with another number of axes, for one value per channel in training, and for an eps that can't work.
    RuntimeError
        For another number of channels, and for an input whose dtype differs from the parameters' dtype.
    NotImplementedError
        For inputs that are not real numbers.

    Notes
    -----
    Output: shape and dtype of the input. float16 and bfloat16 are computed in float32. Arguments, attributes, state
    dict and errors are those of torch's class. `nn.SyncBatchNorm.convert_sync_batchnorm` turns it into torch's
    SyncBatchNorm with the same state.

    References
    ----------
    .. [1] S. Ioffe and C. Szegedy, Batch Normalization: Accelerating Deep Network Training by Reducing Internal
       Covariate Shift, 2015, arXiv 1502.03167.

    Examples
    --------
    >>> import torch
    >>> from bnbench import BatchNorm1d
    >>> layer = BatchNorm1d(1, eps=1e-12)
    >>> x = torch.tensor([[1.0], [2.0], [3.0], [6.0]])
    >>> layer(x).flatten().tolist()  # (x - 3) / sqrt(3.5)
    [-1.069044..., -0.534522..., 0.0, 1.603567...]
    >>> layer.running_mean.item(), layer.running_var.item()  # 0.1 * 3, and 0.9 * 1 + 0.1 * 14 / 3
    (0.3..., 1.36666...)
    """

    _ranks = (2, 3)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() != 2 and input.dim() != 3:
            raise ValueError(f"expected 2D or 3D input (got {input.dim()}D input)")


class BatchNorm2d(_BatchNorm):
    """Batch normalization over (N, C, H, W), in place of torch.nn.BatchNorm2d.

    The statistics of a channel are over all images and positions. See `BatchNorm1d` for the formula, the parameters,
    the errors raised and an example.
    """

    _ranks = (4,)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() != 4:
            raise ValueError(f"expected 4D input (got {input.dim()}D input)")


class BatchNorm3d(_BatchNorm):
    """Batch normalization over (N, C, D, H, W), in place of torch.nn.BatchNorm3d.

    The statistics of a channel are over all volumes and positions. See `BatchNorm1d` for the formula, the parameters,
    the errors raised and an example.
    """

    _ranks = (5,)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() != 5:
            raise ValueError(f"expected 5D input (got {input.dim()}D input)")


#: The layer for each dim: 1 for (N, C) and (N, C, L), 2 for (N, C, H, W), 3 for (N, C, D, H, W).
LAYERS: dict[int, type[_BatchNorm]] = {1: BatchNorm1d, 2: BatchNorm2d, 3: BatchNorm3d}


@norms.register("batch_custom", absorbs_bias=True, steps=BATCH)
def batch_custom(
    num_features: int,
    dim: int,
    *,
    eps: Eps = 1e-5,
    momentum: MomentumOrAverage = 0.1,
    affine: Affine = True,
    track_running_stats: TrackRunningStats = True,
    reading: Reading = "fast",
) -> nn.Module:
    """Batch normalization, bnbench's own layer, written from the formula (readings: plain, fast).

    Ioffe & Szegedy 2015. Normalizes with the biased variance, stores the unbiased one; running =
    (1 - momentum) * running + momentum * batch, momentum None: the average over all batches.

    reading: the algorithm: plain follows the formula line by line, fast has a backward pass derived by hand
    """
    return LAYERS[dim](num_features, eps, momentum, affine, track_running_stats, reading=reading)
