"""Batch/group normalization: statistics over the batch and over groups of channels (Summers & Dinneen 2020)."""

from __future__ import annotations

from torch import Tensor, nn

from bnbench.norms import norms
from bnbench.norms.batch_norm import inference
from bnbench.norms.batch_norm_fast import fast_batch_norm
from bnbench.norms.batch_variant import BatchNormVariant
from bnbench.norms.channels import laid_out, scale_and_shift
from bnbench.norms.group_norm import Groups, number_of_groups
from bnbench.norms.options import Affine, Eps, MomentumOrAverage


class BatchGroupNorm(BatchNormVariant):
    """Batch norm over groups of channels; (N, C, ...) of 2 to 5 axes. See `batch_group`.

    running_mean and running_var have one number a channel, the same for the channels of a group.
    """

    def __init__(
        self,
        num_features: int,
        groups: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine)
        self.groups = groups
        if groups < num_features:
            self.other_statistics = "its running statistics are those of groups of channels"

    def normalize(self, x: Tensor) -> Tensor:
        """With the batch's statistics of each group."""
        values = x.reshape(len(x), self.groups, -1)
        count = values.numel() // self.groups
        y, mean, var = fast_batch_norm(values, None, None, (0, 2), count, self.eps)
        each = self.num_features // self.groups
        of_channels = (group.detach().flatten().repeat_interleave(each) for group in (mean, var))
        self.track(values, *of_channels)
        y = scale_and_shift(y.reshape(x.shape), self.weight, self.bias)
        return laid_out(y.to(x.dtype), x)

    def infer(self, x: Tensor) -> Tensor:
        """As batch norm: with the running statistics."""
        return inference(x, self.running_mean, self.running_var, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """The arguments of batch norm, and the number of groups."""
        return f"{super().extra_repr()}, groups={self.groups}"


@norms.register("batch_group", absorbs_bias=False)
def batch_group(
    num_features: int,
    dim: int,
    *,
    groups: Groups = "auto",
    eps: Eps = 1e-5,
    momentum: MomentumOrAverage = 0.1,
    affine: Affine = True,
) -> nn.Module:
    """Batch and group norm in one: statistics over the batch, the positions and a group of channels.

    Summers & Dinneen 2020 (arXiv 1906.03548), made for batches of 2 to 4, whose statistics of a single
    channel are too noisy. As many groups as channels make it batch norm, a batch of one group norm (which is refused,
    as batch norm refuses one value a channel). At inference: the running mean and variance of each group, which move
    as batch norm's. (The authors move the mean of the squares, and so count the variance of the means in.) Gamma and
    beta belong to single channels. groups auto: as in `group`.
    """
    count = number_of_groups(num_features, dim, groups, alone=True)
    return BatchGroupNorm(num_features, count, eps, momentum, affine)
