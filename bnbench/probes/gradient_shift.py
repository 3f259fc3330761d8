"""Internal covariate shift as a shift of gradients (Santurkar et al. 2018, arXiv 1805.11604, definition 2.1)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bnbench.probes import probes
from bnbench.probes.inside import Inside, Row
from bnbench.probes.trial import Trial, cosine, depths, relative, weights_of


@probes.register("gradient_shift", costly=True, passes=lambda layers: 3 + 0.7 * (layers - 1))
def gradient_shift(inside: Inside) -> Iterator[Row]:
    """How a layer's gradient changes when the layers below it, and they alone, take the study's next step.

    With W_1 ... W_k the layers' parameters after t updates, and one batch (x, y),

        G_i  = dL/dW_i (W_1(t), ..., W_k(t); x, y)
        G'_i = dL/dW_i (W_1(t+1), ..., W_i-1(t+1), W_i(t), ..., W_k(t); x, y)

    where t+1 is after the study's own update with the same batch: its optimizer with its state, clipping and learning
    rate. W_i of the gradient is the layer's weight; W_j of the layers below are all their parameters. Of every
    layer with layers below it:

        shift_l2      ‖G_i - G'_i‖
        shift_norm    ‖G_i - G'_i‖ / ‖G_i‖
        shift_cosine  cos(G_i, G'_i)

    and with "_floor" the same of G_i of the batch and of another batch, without an update. A layer whose gradient is 0,
    as on a residual branch that starts switched off, has neither share nor cosine.
    """
    trial = Trial(inside)
    layers = [layer for layer in trial.private.layers if layer.depth > 1 and weights_of(layer)]
    weights = [parameter for layer in layers for parameter in weights_of(layer)]
    sizes = [sum(p.numel() for p in weights_of(layer)) for layer in layers]
    if not layers:
        return
    here, elsewhere = (
        torch.split(trial.gradient(batch, weights)[1], sizes) for batch in (trial.batch, trial.other)
    )
    after, depth = trial.updated(), depths(trial.private.model, trial.private.layers)
    for layer, gradient, other in zip(layers, here, elsewhere, strict=True):
        trial.put({name: value for name, value in after.items() if depth[name] < layer.depth})
        _, shifted = trial.gradient(trial.batch, weights_of(layer))
        yield from _rows(layer.name, "", gradient, shifted)
        yield from _rows(layer.name, "_floor", gradient, other)


def _rows(layer: str, suffix: str, before: Tensor, after: Tensor) -> Iterator[Row]:
    change = before - after
    yield Row(layer, f"shift_l2{suffix}", float(torch.linalg.vector_norm(change)))
    if before.any():
        yield Row(layer, f"shift_norm{suffix}", relative(change, before))
        yield Row(layer, f"shift_cosine{suffix}", cosine(before, after))
