"""The objective of a stack, and its gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bnbench.base.stacked import aligned
from bnbench.engine.stacked.layers import gathered
from bnbench.engine.stacked.plain import is_plain
from bnbench.optim.objectives import OneHotSquares
from bnbench.optim.text_objectives import NextToken

Objective = Callable[[Tensor, Tensor], Tensor]
StackedObjective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def stacked_objective(objective: Objective) -> StackedObjective:
    """From the objective of one model to: logits (S, N, K), labels (S, N) -> objectives (S,), d logits.

    Of text: logits (S, N, T, K), tokens (S, N, T).
    """
    if isinstance(objective, NextToken) and knows_objective(objective):
        return lambda logits, tokens: _next_token(logits, tokens, objective.label_smoothing)
    if isinstance(objective, nn.CrossEntropyLoss) and knows_objective(objective):
        smoothing = objective.label_smoothing
        return lambda logits, labels: _cross_entropy(logits, labels, smoothing)
    if knows_objective(objective):
        return _one_hot_squares

    @torch.enable_grad()
    def one_by_one(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        parts = [part.detach().requires_grad_() for part in logits]
        losses = [objective(part, label) for part, label in zip(parts, labels, strict=True)]
        grads = [torch.autograd.grad(loss, part)[0] for loss, part in zip(losses, parts, strict=True)]
        return torch.stack([loss.detach() for loss in losses]), gathered(grads)

    return one_by_one


def knows_objective(objective: Objective) -> bool:
    """Whether the stack has its own form of it, rather than calling it replica by replica."""
    if isinstance(objective, nn.Module) and type(objective) in (OneHotSquares, NextToken):
        return is_plain(objective)
    return (
        type(objective) is nn.CrossEntropyLoss
        and is_plain(objective)
        and objective.weight is None
        and objective.reduction == "mean"
        and objective.ignore_index < 0
    )


def _one_hot_squares(outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of (outputs - one-hot or numbers)² over samples and outputs, and its gradient."""
    _, count, classes = outputs.shape
    off = aligned(outputs.shape, outputs).copy_(outputs)
    if labels.is_floating_point():
        off.sub_(labels)
    else:
        off.scatter_add_(-1, labels.unsqueeze(-1), off.new_full((), -1.0).expand(*labels.shape, 1))
    losses = torch.square(off, out=aligned(off.shape, off)).mean((1, 2))
    return losses, off.mul_(2 / (count * classes))


def _next_token(logits: Tensor, tokens: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """Cross-entropy over the positions of all windows as rows, and its gradient (S, N, T, K)."""
    losses, grad = _cross_entropy(logits.flatten(1, -2), tokens.flatten(1), smoothing)
    return losses, grad.view(logits.shape)


def _cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy against (1 - smoothing) one-hot + smoothing / K, and its gradient (p - target) / N."""
    _, count, classes = logits.shape
    index = labels.unsqueeze(-1)
    log_p = aligned(logits.shape, logits).copy_(logits.log_softmax(-1))
    losses = log_p.gather(-1, index).squeeze(-1).mean(1).neg_()
    if smoothing:
        losses = losses.mul_(1 - smoothing).sub_(log_p.mean((1, 2)), alpha=smoothing)
    grad = torch.exp(log_p, out=log_p)
    if smoothing:
        grad.sub_(smoothing / classes)
    grad.scatter_add_(-1, index, grad.new_full((), smoothing - 1).expand_as(index))
    return losses, grad.div_(count)
