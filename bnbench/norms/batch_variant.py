"""A skeleton for the relatives of batch normalization: the same state, another training or inference."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from bnbench.norms.batch_state import Statistics, add_state, check_input, move
from bnbench.norms.channels import scale_and_shift


class BatchNormVariant(nn.Module):
    """Batch norm's parameters, running statistics and errors, for inputs (N, C, ...) of 2 to 5 axes.

    A subclass gives `normalize` (training: batch statistics, moves the running ones) and `infer`.
    It is not a torch `_BatchNorm`: torch's tools would treat its subclasses as plain batch norm.
    other_statistics: why a batch's mean and variance can't take the place of its running ones; "" where they can.
    """

    other_statistics: str = ""

    _version = 2  # of the state dict, as torch's: 2 brought num_batches_tracked
    weight: nn.Parameter | None
    bias: nn.Parameter | None
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: Any

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum, self.affine = num_features, eps, momentum, affine
        add_state(self, num_features, affine)

    def reset_running_stats(self) -> None:
        """Mean 0, variance 1, no batch seen."""
        self.running_mean.zero_()
        self.running_var.fill_(1)
        self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Gamma 1, beta 0, and the running statistics as at the start."""
        self.reset_running_stats()
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (N, C, ...). An empty batch is counted and comes out empty. Raises as `BatchNorm1d` does."""
        check_input(
            input,
            (2, 3, 4, 5),
            self.eps,
            self.training,
            running_mean=self.running_mean,
            running_var=self.running_var,
            weight=self.weight,
            bias=self.bias,
        )
        if not self.training:
            return self.infer(input)
        if input.numel() == 0:
            self.num_batches_tracked.add_(1)
            return scale_and_shift(input.clone(), self.weight, self.bias).to(input.dtype)
        return self.normalize(input)

    def normalize(self, x: Tensor) -> Tensor:
        """The training pass over a batch that is not empty; counts it."""
        raise NotImplementedError

    def infer(self, x: Tensor) -> Tensor:
        """The inference pass."""
        raise NotImplementedError

    def track(self, x: Tensor, mean: Tensor, var: Tensor) -> None:
        """Count the batch x, and move the running statistics towards its mean and biased variance."""
        self.num_batches_tracked.add_(1)
        now = Statistics(self.running_mean, self.running_var, self.num_batches_tracked)
        move(now, self.momentum, mean, var, x.numel() // x.shape[1])

    def extra_repr(self) -> str:
        """The arguments, in torch's words."""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}"

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        """Checkpoints before version 2 have no counter: the layer's own stays what it is."""
        version = local_metadata.get("version")
        if version is None or version < 2:
            state_dict.setdefault(f"{prefix}num_batches_tracked", self.num_batches_tracked)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)
