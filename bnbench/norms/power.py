"""Power normalization (Shen et al. 2020, arXiv 2003.07845): a running quadratic mean, an approximate backward pass.

Algorithm 2 of the paper (section 4.2), per channel over the B positions of a batch, `momentum` = 1 - alpha:

    forward    x̂ = x / ψ          y = gamma * x̂ + beta            ψ² the running quadratic mean before this batch
               ψ² <- ψ² + momentum * (Σ x² / B - ψ²)
    backward   g = gamma * dL/dy
               dL/dx = (g - ν * x̂) / ψ                             ν the running mean before this batch
               ν <- ν * (1 - momentum * Γ) + momentum * Λ          Γ = Σ x̂² / B, Λ = Σ g x̂ / B

No mean is subtracted. dL/dgamma and dL/dbeta are exact. ψ is a constant of the step, so dL/dx is not the gradient of
the forward pass: ν * x̂ stands for what the batch's own quadratic mean would give (PN-V, section 4.1).
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from bnbench.base.errors import BnbenchError
from bnbench.norms import norms
from bnbench.norms.batch_state import check_input
from bnbench.norms.channels import at_least_float32, column, laid_out, scale_and_shift
from bnbench.norms.masked import Valid, spread, valid_positions
from bnbench.norms.options import Affine, Eps, Momentum


class _Divide(Function):
    """X / ψ forward, and dL/dx = (g - ν x̂) / ψ backward, where the running mean ν moves."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, psi: Tensor, nu: Tensor, valid: Valid, momentum: float) -> Tensor:
        """x (N, C, ...), psi and nu (C,)."""
        normal = x / spread(column(psi, x)[None], x)
        ctx.save_for_backward(normal, psi, nu.clone())
        ctx.nu, ctx.valid, ctx.momentum = nu, valid, momentum
        return normal

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """ν is the one of the forward pass."""
        normal, psi, nu = ctx.saved_tensors
        valid: Valid = ctx.valid
        grad = valid.only(grad)
        gamma, lam = (valid.mean(product).flatten() for product in (normal * normal, grad * normal))
        moved = nu * (1 - ctx.momentum * gamma) + ctx.momentum * lam
        some = (torch.as_tensor(valid.count, device=nu.device) > 0).to(moved.dtype)
        ctx.nu.copy_((moved * some + nu * (1 - some)).to(nu.dtype))
        d_x = (grad - spread(column(nu, grad)[None], grad) * normal) / spread(column(psi, grad)[None], grad)
        return valid.only(d_x), None, None, None, None


class PowerNorm(nn.Module):
    """Power normalization of x (N, C, ...), 2 to 5 axes; mask (N, ...), True where valid. See `power`.

    running_square: ψ² (C,), from 1. running_gradient: ν (C,), from 0, which the backward pass moves.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    running_square: Tensor
    running_gradient: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        *,
        warm_up: int = 0,
        scale_groups: int = 1,
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.warm_up, self.scale_groups = warm_up, scale_groups
        for name, start in (("weight", 1.0), ("bias", 0.0)):
            vector = nn.Parameter(torch.full((num_features,), start)) if affine else None
            self.register_parameter(name, vector)
        self.register_buffer("running_square", torch.ones(num_features))
        self.register_buffer("running_gradient", torch.zeros(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalize (N, C, ...). mask: (N, ...) bool, True where valid; padding comes out as zeros."""
        check_input(
            input,
            (2, 3, 4, 5),
            self.eps,
            False,
            running_mean=self.running_square,
            running_var=self.running_square,
            weight=self.weight,
            bias=self.bias,
        )
        if input.numel() == 0:
            return scale_and_shift(input.clone(), self.weight, self.bias).to(input.dtype)
        valid = valid_positions(input, mask)
        x = valid.only(at_least_float32(input))
        if self.scale_groups:
            x = self._scaled(x)
        normal = self._by_batches(x, valid) if self.training else x * self._inverse(x)
        y = normal if self.weight is None else normal * spread(column(self.weight, x)[None], x)
        y = y if self.bias is None else y + spread(column(self.bias, x)[None], x)
        return laid_out(valid.only(y).to(input.dtype), input)

    def _scaled(self, x: Tensor) -> Tensor:
        """Every position divided by the root mean square of each group of channels."""
        grouped = torch.unflatten(x, 1, (self.scale_groups, -1))
        square = grouped.square().mean(2, keepdim=True)
        scaled: Tensor = (grouped * torch.rsqrt(square + self.eps)).flatten(1, 2)
        return scaled

    def _inverse(self, x: Tensor) -> Tensor:
        return column(torch.rsqrt(at_least_float32(self.running_square) + self.eps), x)

    def _by_batches(self, x: Tensor, valid: Valid) -> Tensor:
        """With the batches before this one; in the warm-up, with this batch."""
        square = valid.mean(x.detach().square()).flatten()
        before = at_least_float32(self.running_square).clone()
        some = torch.as_tensor(valid.count, device=x.device) > 0
        self.num_batches_tracked.add_(some)
        warms_up = self.num_batches_tracked <= self.warm_up
        used = torch.where(warms_up & some, square.to(before.dtype), before)
        average = self.num_batches_tracked.clamp(min=1).to(square.dtype).reciprocal()
        share = torch.where(warms_up, average, self.momentum) * some
        self.running_square.copy_((before + share * (square - before)).to(self.running_square.dtype))
        normal: Tensor = _Divide.apply(
            x, (used + self.eps).sqrt(), self.running_gradient, valid, self.momentum
        )
        return normal

    def extra_repr(self) -> str:
        """The arguments."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.weight is not None}, "
            f"warm_up={self.warm_up}, scale_groups={self.scale_groups}"
        )


WarmUp = Annotated[int, Field(ge=0)]


@norms.register("power", absorbs_bias=False, takes_mask=True)
def power(
    num_features: int,
    dim: int,
    *,
    eps: Eps = 1e-5,
    momentum: Momentum = 0.1,
    affine: Affine = True,
    warm_up: WarmUp = 100,
    scale_groups: Annotated[int, Field(ge=0)] = 1,
) -> nn.Module:
    """Power norm: divides by a running quadratic mean, with an approximate backward pass.

    Shen et al. 2020 (arXiv 2003.07845), section 4.2 and algorithm 2: batch norm for transformers, whose batches differ
    too much for statistics of one batch. Nothing is subtracted; samples do not depend on their batch after the warm-up.
    As in the authors' code (sIncerass/powernorm), each position is first divided by the root mean square of its
    channels (scale_groups), and a warm-up of batches is normalized by its own quadratic mean, while the running one is
    the average so far; theirs lasts 4,000 steps or more. Their code divides the gradient by the batch's quadratic mean;
    this layer divides by the running one, as the paper does, and means are over valid positions alone.
    Its gradient is approximate by design, so a check of gradients fails. Raises BnbenchError for groups that do not
    divide the channels, or of one channel: divided by itself, one value is always 1 or -1.

    warm_up: batches that are normalized by their own quadratic mean at the start
    scale_groups: groups of channels of a position that are divided by their root mean square first; 0: none
    """
    if scale_groups and num_features % scale_groups:
        raise BnbenchError(f"norm.scale_groups={scale_groups} does not divide the {num_features} channels.")
    if scale_groups and num_features // scale_groups == 1:
        raise BnbenchError(
            f"norm power over {num_features} channels with scale_groups: {scale_groups}: one value divided by itself "
            "is always 1 or -1.",
            fix="norm.scale_groups: 0, or fewer groups.",
        )
    return PowerNorm(num_features, eps, momentum, affine, warm_up=warm_up, scale_groups=scale_groups)
