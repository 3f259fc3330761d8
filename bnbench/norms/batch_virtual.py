"""Virtual batch normalization (Salimans et al. 2016, arXiv 1606.03498, section 3.4): one fixed reference batch.

For sample i, with R the samples of the reference batch, mean and var over it, and m_i, v_i over the sample's own
positions (of one value: itself and 0), w = 1 / (R + 1):

    mean_i = w m_i + (1 - w) mean        var_i = w v_i + (1 - w) var + w (1 - w) (m_i - mean)²
    y = gamma * (x - mean_i) / sqrt(var_i + eps) + beta

These are the mean and the variance of means and of means of squares, mixed by w, as in the authors' code. The reference
batch itself is normalized by its own mean and biased variance.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bnbench.norms import norms
from bnbench.norms.batch_state import check_input
from bnbench.norms.channels import at_least_float32, column, laid_out, reduced_axes, scale_and_shift
from bnbench.norms.masked import number
from bnbench.norms.options import Affine, Eps

Pair = tuple[Tensor, Tensor]


class VirtualBatchNorm(nn.Module):
    """Virtual batch norm of x (N, C, ...), 2 to 5 axes. See `batch_virtual`.

    reference_mean, reference_var: of the reference batch, (C,); reference_count: its samples, 0 before there is one.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    reference_mean: Tensor
    reference_var: Tensor
    reference_count: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        self.num_features, self.eps = num_features, eps
        for name, start in (("weight", 1.0), ("bias", 0.0)):
            vector = nn.Parameter(torch.full((num_features,), start)) if affine else None
            self.register_parameter(name, vector)
        self.register_buffer("reference_mean", torch.zeros(num_features))
        self.register_buffer("reference_var", torch.ones(num_features))
        self.register_buffer("reference_count", torch.tensor(0, dtype=torch.long))
        #: Inside `with_reference`: whether the next batch is the reference, and its statistics with their gradients.
        self._is_next = False
        self._live: Pair | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (N, C, ...). The first batch in training becomes the reference batch.

        Raises as `BatchNorm1d` does, for one value per channel where the batch is the reference alone.
        """
        count = number(self.reference_count)
        is_reference = self._is_next or (self.training and count == 0)
        check_input(
            input,
            (2, 3, 4, 5),
            self.eps,
            is_reference,
            running_mean=self.reference_mean,
            running_var=self.reference_var,
            weight=self.weight,
            bias=self.bias,
        )
        if input.numel() == 0:
            return scale_and_shift(input.clone(), self.weight, self.bias).to(input.dtype)
        x = at_least_float32(input)
        if is_reference:
            mean, var = self._of_batch(x)
            self._keep(mean, var, len(x), torch.ones((), dtype=torch.bool, device=x.device))
        else:
            mean, var = self._of_samples(x)
            if self.training and count is None:  # a recorded graph or vmap, which can't ask for the count
                first = self.reference_count == 0
                mean, var = (
                    torch.where(first, a, b) for a, b in zip(self._of_batch(x), (mean, var), strict=True)
                )
                self._keep(*self._of_batch(x), len(x), first)
        y = (x - mean) * torch.rsqrt(var + self.eps)
        return laid_out(scale_and_shift(y, self.weight, self.bias).to(input.dtype), input)

    def _of_batch(self, x: Tensor) -> Pair:
        axes = reduced_axes(x)
        mean = x.mean(axes, keepdim=True)
        return mean, (x - mean).square().mean(axes, keepdim=True)

    def _of_samples(self, x: Tensor) -> Pair:
        """Those of the reference batch, with each sample's own mixed in."""
        buffers = (
            column(at_least_float32(vector), x)[None] for vector in (self.reference_mean, self.reference_var)
        )
        mean, var = self._live or buffers
        count = self.reference_count.to(x.dtype)
        own = torch.where(count > 0, 1 / (count + 1), 0)
        positions = tuple(range(2, x.dim()))
        middle = x.mean(positions, keepdim=True) if positions else x
        spread = (x - middle).square().mean(positions, keepdim=True) if positions else torch.zeros_like(x)
        mixed = own * spread + (1 - own) * var + own * (1 - own) * (middle - mean).square()
        return own * middle + (1 - own) * mean, mixed

    def _keep(self, mean: Tensor, var: Tensor, count: int, where: Tensor) -> None:
        self._live = (mean, var) if self._is_next else None
        for buffer, value in ((self.reference_mean, mean), (self.reference_var, var)):
            buffer.copy_(torch.where(where, value.detach().flatten().to(buffer.dtype), buffer))
        self.reference_count.copy_(torch.where(where, count, self.reference_count))

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{self.num_features}, eps={self.eps}, affine={self.weight is not None}"


@contextmanager
def with_reference(model: nn.Module, reference: Tensor) -> Iterator[Tensor]:
    """Inside, every virtual batch norm of the network has the statistics of this reference batch, with their gradients.

    model: any network. It is called once with `reference` (its inputs), whose outputs are yielded, so every layer sees
    what the network makes of the reference batch with its weights of now, as the paper asks at each step of training.
    Afterwards the layers keep these statistics as constants, as at inference.
    """
    layers = [module for module in model.modules() if isinstance(module, VirtualBatchNorm)]
    try:
        for layer in layers:
            layer._is_next = True
        outputs = model(reference)
        for layer in layers:
            layer._is_next = False
        yield outputs
    finally:
        for layer in layers:
            layer._is_next, layer._live = False, None


@norms.register("batch_virtual", absorbs_bias=False)
def batch_virtual(num_features: int, dim: int, *, eps: Eps = 1e-5, affine: Affine = True) -> nn.Module:
    """Virtual batch norm: statistics of one fixed reference batch, and of the sample itself.

    Salimans et al. 2016 (arXiv 1606.03498), section 3.4, made for generators: a sample does not depend on the rest of
    its batch. The sample itself has the weight 1 / (samples of the reference batch + 1), in training as at inference.
    The reference batch is the first batch of training. A layer alone keeps what it saw then; in a deep network its
    inputs change with the weights before it. The GAN task therefore sends the reference batch through the network at
    each step (`with_reference`), as the paper does.
    """
    return VirtualBatchNorm(num_features, eps, affine)
