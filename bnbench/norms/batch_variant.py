"""What the relatives of batch normalization share: parameters, running statistics and checks."""

from __future__ import annotations

from torch import Tensor

from bnbench.norms.batch_norm import _BatchNorm
from bnbench.norms.channels import scale_and_shift


class BatchNormVariant(_BatchNorm):
    """Our batch norm for inputs (N, C, ...) of 2 to 5 axes, with another training or inference.

    A subclass gives `normalize` (training: batch statistics, moves the running ones) and `infer`.
    """

    _ranks = (2, 3, 4, 5)
    running_mean: Tensor
    running_var: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (N, C, ...). An empty batch comes out empty. Raises as `BatchNorm1d` does."""
        mean, var = self.running_mean, self.running_var
        self._check(input, running_mean=mean, running_var=var, weight=self.weight, bias=self.bias)
        if not self.training:
            return self.infer(input)
        if input.numel() == 0:
            return scale_and_shift(input.clone(), self.weight, self.bias).to(input.dtype)
        return self.normalize(input)

    def normalize(self, x: Tensor) -> Tensor:
        """The training pass over a batch that is not empty."""
        raise NotImplementedError

    def infer(self, x: Tensor) -> Tensor:
        """The inference pass."""
        raise NotImplementedError
