"""Batch normalization over the batches of all processes, torch's own layer."""

from __future__ import annotations

from torch import nn

from bnbench.norms import norms
from bnbench.norms.options import Affine, Eps, MomentumOrAverage


@norms.register("sync", absorbs_bias=True)
def sync(
    num_features: int, dim: int, *, eps: Eps = 1e-5, momentum: MomentumOrAverage = 0.1, affine: Affine = True
) -> nn.Module:
    """Synchronized batch norm, torch.nn.SyncBatchNorm; in one process it is `batch`.

    Its statistics are those of the batches of all processes of a torch.distributed group. bnbench trains a
    run in one process, where it does what torch.nn.BatchNorm1d and BatchNorm2d do, on the CPU too.
    """
    return nn.SyncBatchNorm(num_features, eps, momentum, affine)
