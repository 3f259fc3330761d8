"""Gradient clipping, by the norm of all gradients together or unit by unit; of one network and of a stack."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bnbench.base.stacked import Parameters
from bnbench.norms.parameter_groups import head_names

#: A unit's weights count as at least this long: ε of Brock et al. 2021, so that weights of 0 can move.
LEAST_NORM = 1e-3


@dataclass(frozen=True)
class Clipping:
    """norm: the largest L2 norm of all gradients together. ratio: see `clip_units_`. None: no such clipping."""

    norm: float | None = None
    ratio: float | None = None


def clip_(model: nn.Module, clipping: Clipping) -> None:
    """Clip the gradients that the parameters of a network have now, in place. The last layer has no ratio."""
    if clipping.norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), clipping.norm)
    if clipping.ratio is not None:
        head = head_names(model)
        for name, parameter in model.named_parameters():
            if parameter.grad is not None and name not in head:
                clip_units_(parameter.detach(), parameter.grad, clipping.ratio)


def clip_stack_(parameters: Parameters, clipping: Clipping) -> None:
    """The same for every network of a stack, each by its own norms."""
    if clipping.norm is not None:
        _clip_norms(parameters, clipping.norm)
    if clipping.ratio is not None:
        model = parameters.models[0]
        head = head_names(model)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and name not in head:
                values, grads = parameters.of(parameter), parameters.grad(parameter)
                clip_units_(values, grads, clipping.ratio, stacked=True)


def clip_units_(weight: Tensor, grad: Tensor, ratio: float, *, stacked: bool = False) -> None:
    """Adaptive gradient clipping (Brock et al. 2021, arXiv 2102.06171, equation 3), in place.

    The gradient G of a unit with the weights W becomes ratio * |W| / |G| * G where |G| > ratio * |W|, with |W| at
    least 1e-3. A unit is an output of a linear or convolution layer, with its whole fan-in; a vector, such as a gamma
    or a bias, is one unit, as in the authors' code. weight, grad: (out, ...), or (S, out, ...) where they are stacked.
    """
    first = int(stacked)
    is_vector = sum(size > 1 for size in weight.shape[first:]) <= 1
    split = first if is_vector else first + 1
    axes = [1] * (weight.dim() - split)
    units = [tensor.reshape(*tensor.shape[:split], -1) for tensor in (weight, grad)]
    norms = [torch.linalg.vector_norm(unit, dim=-1) for unit in units]
    largest = norms[0].clamp(min=LEAST_NORM) * ratio
    scale = torch.where(norms[1] > largest, largest / norms[1], 1.0)
    grad.mul_(scale.view([*scale.shape, *axes]))


def _clip_norms(parameters: Parameters, largest: float) -> None:
    """torch.nn.utils.clip_grad_norm_, each network by its own norm."""
    blocks = list(parameters.blocks())
    norms = [torch.linalg.vector_norm(block.flatten(1), dim=1) for block in blocks]
    total = torch.linalg.vector_norm(torch.stack(norms, 1), dim=1)
    scale = (largest / (total + 1e-6)).clamp(max=1.0)
    for block in blocks:
        block.mul_(scale.view(-1, *[1] * (block.ndim - 1)))
