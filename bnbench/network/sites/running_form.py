"""Running and frozen statistics: which buffers inference uses, whether by (x - mean) / √(var + eps), and momentum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bnbench.network.sites.affine_form import EPS_NAMES, Affine, snapped
from bnbench.network.sites.norm_site import NormBehaviour
from bnbench.network.sites.statistics_form import FAR, Subject, close


def momentum_of(subject: Subject) -> float | None:
    """The weight of a new batch in the running statistics; None where it is not the same number for every batch."""
    kept = [_kept(subject, name, before) for name in subject.buffers for before in (0, 1)]
    if not kept or max(kept) - min(kept) > 1e-9:
        return None
    return snapped(subject.original, 1 - kept[0], 1e-9, ("momentum",))


def _kept(subject: Subject, name: str, before: int) -> float:
    """The share of a buffer that a batch leaves, after so many others."""
    ends: list[Tensor] = []
    x, value = subject.x / FAR, subject.vectors[name]
    for offset in (0.0, 1.0):
        subject.trial.state.restore()
        for _ in range(before):
            subject.trial(x, keep=True)
        value.add_(offset)
        subject.trial(x, keep=True)
        ends.append(value.clone())
    subject.trial.state.restore()
    return float((ends[1] - ends[0]).median())


def inference_statistics(
    subject: Subject, affine: Affine, eps: float, channel: int
) -> tuple[str, str] | None:
    """The buffers of which inference is gamma * (x - mean) / √(var + eps) + beta; None where it is another formula."""
    x = subject.x / FAR
    y, slope = subject.output(False, x), subject.slope(x, False)
    if y is None:
        return None
    fitting = _vectors(subject, subject.buffers, channel)
    for mean, column in fitting.items():
        if close(y, slope * (x - column) + affine.shift):
            for name, var in fitting.items():
                rest = (affine.scale / slope).square() - var - eps
                if name != mean and bool(rest.abs().max() <= 1e-5 * (1 + var.max())):
                    return mean, name
    return None


def _vectors(subject: Subject, names: Sequence[str], channel: int) -> dict[str, Tensor]:
    size = subject.x.shape[channel]
    return {
        name: subject.column(name, channel) for name in names if subject.vectors[name].numel() in (1, size)
    }


def frozen_form(subject: Subject) -> NormBehaviour | None:
    """The behaviour of a layer with constants in the place of statistics, in both modes; None where it is another."""
    x = subject.x / FAR
    slope, y, farther = subject.slope(x, True), subject.output(True, x), subject.output(True, x + 2)
    if y is None or farther is None or not close(farther - y, 2 * slope):
        return None
    names = [name for name, value in subject.vectors.items() if value.numel() > 1]
    for channel in dict.fromkeys((1, x.dim() - 1)):
        found = _frozen(subject, (x, y, slope), _vectors(subject, names, channel))
        if found is not None:
            gamma, beta, mean, var, eps = found
            size, axes = int(x.shape[channel]), tuple(a for a in range(x.dim()) if a != channel)
            return NormBehaviour(
                "frozen",
                axes,
                channel,
                size,
                running=True,
                gamma=gamma,
                beta=beta,
                eps=eps,
                mean=mean,
                var=var,
            )
    return None


def _frozen(
    subject: Subject, map_: tuple[Tensor, Tensor, Tensor], vectors: dict[str, Tensor]
) -> tuple[str, str, str, str, float] | None:
    """gamma, beta, mean, var and eps of y = gamma * (x - mean) / √(var + eps) + beta; each may be any vector."""
    x, y, slope = map_
    for var in vectors:
        for gamma in ("", *(name for name in vectors if name != var)):
            rest = ((vectors[gamma] if gamma else 1.0) / slope).square() - vectors[var]
            eps = float(rest.median())
            if eps < -1e-6 or float((rest - eps).abs().max()) > 1e-5:
                continue
            for mean in (name for name in vectors if name not in (var, gamma)):
                for beta in ("", *(name for name in vectors if name not in (var, gamma, mean))):
                    shift = vectors[beta] if beta else torch.zeros(())
                    if close(y, slope * (x - vectors[mean]) + shift):
                        error = 1e-8 if eps > 1e-6 else 1e-5
                        return (
                            gamma,
                            beta,
                            mean,
                            var,
                            snapped(subject.original, max(eps, 0.0), error, EPS_NAMES),
                        )
    return None
