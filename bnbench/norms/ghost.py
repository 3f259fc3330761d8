"""Ghost batch normalization: the statistics of small parts of a batch (Hoffer et al. 2017, arXiv 1705.08741)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from bnbench.norms import norms
from bnbench.norms.batch_norm import inference
from bnbench.norms.batch_norm_fast import fast_batch_norm
from bnbench.norms.batch_variant import BatchNormVariant
from bnbench.norms.channels import scale_and_shift
from bnbench.norms.options import Affine, Eps, Momentum
from bnbench.norms.steps import Steps

GhostSize = Annotated[int, Field(ge=2, description="samples whose statistics are taken together")]
Running = Annotated[
    Literal["each", "first"],
    Field(description="ghost batches that move the running statistics: each, or the first of a batch alone"),
]


class GhostBatchNorm(BatchNormVariant):
    """Batch norm over ghost batches of `ghost_size` samples; (N, C, ...) of 2 to 5 axes.

    running: "each" moves the running statistics past every ghost batch, "first" past the first of a batch alone.
    """

    momentum: float

    def __init__(
        self,
        num_features: int,
        ghost_size: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        running: str = "each",
    ) -> None:
        super().__init__(num_features, eps, momentum, affine)
        self.ghost_size, self.running = ghost_size, running

    def normalize(self, x: Tensor) -> Tensor:
        """Every ghost batch with its own statistics."""
        parts = max(1, len(x) // self.ghost_size)
        small, larger = divmod(len(x), parts)  # `larger` of the parts have one sample more
        cut = larger * (small + 1)
        done = [
            self._equal_parts(samples, size, first)
            for samples, size, first in ((x[:cut], small + 1, True), (x[cut:], small, not larger))
            if len(samples)
        ]
        self.num_batches_tracked.add_(1)
        return scale_and_shift(torch.cat(done), self.weight, self.bias).to(x.dtype)

    def _equal_parts(self, x: Tensor, size: int, first: bool) -> Tensor:
        """Ghost batches of `size` samples side by side; moves the running statistics. first: of the batch."""
        values = x.reshape(-1, size, x.shape[1], x[0, 0].numel())
        count = size * values.shape[-1]
        (
            y,
            mean,
            var,
        ) = fast_batch_norm(values, None, None, (1, 3), count, self.eps)
        unbiased = var.detach() * (count / (count - 1))
        moving = len(values) if self.running == "each" else int(first)
        # one update after the other, all at once: the i-th of k weighs m (1 - m)^(k - 1 - i)
        ages = torch.arange(moving - 1, -1, -1, device=x.device, dtype=mean.dtype)
        weights = self.momentum * (1 - self.momentum) ** ages
        for running, batch in ((self.running_mean, mean.detach()), (self.running_var, unbiased)):
            running.mul_((1 - self.momentum) ** moving).add_(weights @ batch.flatten(1)[:moving])
        return y.reshape(x.shape)

    def infer(self, x: Tensor) -> Tensor:
        """As batch norm: with the running statistics."""
        return inference(x, self.running_mean, self.running_var, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """The arguments of batch norm, and the size of a ghost batch."""
        running = "" if self.running == "each" else f", running={self.running}"
        return f"{super().extra_repr()}, ghost_size={self.ghost_size}{running}"


@norms.register(
    "ghost",
    absorbs_bias=True,
    steps=Steps(part="ghost_size", size=2, running="unbiased"),
    whole_sequences=True,
)
def ghost(
    num_features: int,
    dim: int,
    *,
    ghost_size: GhostSize = 16,
    eps: Eps = 1e-5,
    momentum: Momentum = 0.1,
    affine: Affine = True,
    running: Running = "each",
) -> nn.Module:
    """Ghost batch norm: batch norm over parts of the batch of ghost_size samples each.

    Hoffer, Hubara & Soudry 2017 (arXiv 1705.08741), Algorithm 1; their ghost size for batches of 4096 is
    128, smaller here as batches are. Gamma and beta are shared. The running statistics move once for each
    ghost batch, in order, as batch norm's would. N samples make max(1, N // ghost_size) ghost batches of
    equal size, or the first of them one sample larger: a remainder is spread over the ghost batches, none
    is smaller than ghost_size unless the batch itself is, and no sample is left out.

    running: which ghost batches move the running statistics: each of them, or the first of a batch alone, as where
        several processes train with batch norm and keep the statistics of the first one (DistributedDataParallel)
    """
    return GhostBatchNorm(num_features, ghost_size, eps, momentum, affine, running)
