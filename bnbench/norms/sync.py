"""Batch normalization over the batches of all processes."""

from __future__ import annotations

from torch import nn

from bnbench.norms import norms
from bnbench.norms.options import Affine, Eps, MomentumOrAverage
from bnbench.norms.sync_batch import SyncBatchNorm


@norms.register("sync", absorbs_bias=True)
def sync(
    num_features: int, dim: int, *, eps: Eps = 1e-5, momentum: MomentumOrAverage = 0.1, affine: Affine = True
) -> nn.Module:
    """Synchronized batch norm, on CPUs and GPUs; in one process it is `batch`.

    Its statistics are those of the batches of all processes of a torch.distributed group. Where several processes
    train one run (`torchrun -m bnbench compare`, docs/ranks.md) those are the whole batch's; in one process it does
    what torch.nn.BatchNorm1d and BatchNorm2d do.
    """
    return SyncBatchNorm(num_features, eps, momentum, affine)
