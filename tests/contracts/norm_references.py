"""Every shipped normalizer again, in float64 NumPy, from its paper's formula. Imports nothing of bnbench.

A reference takes x (N, C, ...), the layer's state dict as arrays and whether it trains; it returns y and
the buffers that a training pass moves. `invariant_to` names what leaves a layer's output as it was:
    feature_scale, feature_shift: x times, or plus, a number per channel
    sample_scale, sample_shift:   x times, or plus, a number per sample
    rest_of_batch:                the other samples (the output of one sample, that is)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray
State = Mapping[str, Array]
Result = tuple[Array, dict[str, Array]]


@dataclass(frozen=True)
class Reference:
    """One layer to be checked: its reference, the options that it is built with, and the ranks it takes."""

    norm: str
    compute: Callable[[Array, State, bool], Result]
    options: Mapping[str, Any] = field(default_factory=dict)
    role: str = "trunk"
    attention: bool = False
    ranks: tuple[int, ...] = (2, 3, 4, 5)
    invariant_to: frozenset[str] = frozenset()
    note: str = ""
    exact_gradient: bool = True

    def __str__(self) -> str:
        return f"{self.norm}-{self.note}" if self.note else self.norm


def column(vector: Array, x: Array) -> Array:
    return vector.reshape(1, -1, *[1] * (x.ndim - 2))


def affine(x: Array, state: State) -> Array:
    y = x * column(state["weight"], x) if "weight" in state else x
    return y + column(state["bias"], x) if "bias" in state else y


def per_channel(x: Array) -> tuple[Array, Array, int]:
    """Mean and biased variance (C,) over the batch and the positions, and the number of values."""
    axes = (0, *range(2, x.ndim))
    return x.mean(axes), x.var(axes), x.size // x.shape[1]


def batch_norm(
    eps: float = 1e-5,
    new: float = 0.1,
    bessel: bool = True,
    centre: bool = True,
    scale: bool = True,
    batch_at_inference: bool = False,
) -> Callable[[Array, State, bool], Result]:
    """Ioffe & Szegedy 2015, Algorithms 1 and 2, and parts of it. new: weight of the batch in the running statistics."""

    def compute(x: Array, state: State, training: bool) -> Result:
        mean, var, count = per_channel(x)
        moved = {}
        if training and not batch_at_inference:
            stored = var * count / (count - 1) if bessel else var
            moved = {
                "running_mean": (1 - new) * state["running_mean"] + new * mean,
                "running_var": (1 - new) * state["running_var"] + new * stored,
            }
        elif not training and not batch_at_inference:
            mean, var = state["running_mean"], state["running_var"]
        y = x - column(mean, x) if centre else x
        y = y / np.sqrt(column(var, x) + eps) if scale else y
        return affine(y, state), moved

    return compute


def population(x: Array, state: State, training: bool) -> Result:
    """Luo et al. 2019, with the running statistics before the batch; it moves them as batch norm's."""
    y, _ = batch_norm()(x, state, False)
    return y, (batch_norm()(x, state, True)[1] if training else {})


def power(scale_groups: int, warm_up: bool) -> Callable[[Array, State, bool], Result]:
    """Shen et al. 2020, algorithm 2, forward; the root mean square of each position's channels before it."""

    def compute(x: Array, state: State, training: bool) -> Result:
        if scale_groups:
            grouped = x.reshape(len(x), scale_groups, -1, *x.shape[2:])
            x = (grouped / np.sqrt((grouped**2).mean(2, keepdims=True) + 1e-5)).reshape(x.shape)
        psi2 = state["running_square"]
        if not training:
            return affine(x / np.sqrt(column(psi2, x) + 1e-5), state), {}
        square = (x**2).mean((0, *range(2, x.ndim)))
        batches = state["num_batches_tracked"] + 1
        moved = psi2 + (1 / batches if warm_up else 0.1) * (square - psi2)
        used = square if warm_up else psi2
        return affine(x / np.sqrt(column(used, x) + 1e-5), state), {"running_square": moved}

    return compute


def batch_virtual(x: Array, state: State, training: bool) -> Result:
    """Salimans et al. 2016, section 3.4, with means of squares as in the authors' code."""
    axes = tuple(range(2, x.ndim))
    count = float(state["reference_count"])
    if training and count == 0:
        mean, var, _ = per_channel(x)
        moved = {"reference_mean": mean, "reference_var": var}
        return affine((x - column(mean, x)) / np.sqrt(column(var, x) + 1e-5), state), moved
    w = 1 / (count + 1)
    mean = w * x.mean(axes, keepdims=True) + (1 - w) * column(state["reference_mean"], x)
    square = w * (x**2).mean(axes, keepdims=True)
    square = square + (1 - w) * column(state["reference_var"] + state["reference_mean"] ** 2, x)
    return affine((x - mean) / np.sqrt(square - mean**2 + 1e-5), state), {}


def batch_group(groups: int) -> Callable[[Array, State, bool], Result]:
    """Summers & Dinneen 2020, as batch norm of the channels of each group in a row."""

    def compute(x: Array, state: State, training: bool) -> Result:
        if not training:
            return batch_norm()(x, state, False)
        each = x.shape[1] // groups
        y, mean, var = np.empty_like(x), np.empty(x.shape[1]), np.empty(x.shape[1])
        for group in range(groups):
            own = slice(group * each, (group + 1) * each)
            part = x[:, own]
            y[:, own] = (part - part.mean()) / np.sqrt(part.var() + 1e-5)
            mean[own], var[own] = part.mean(), part.var(ddof=1)
        moved = {
            "running_mean": 0.9 * state["running_mean"] + 0.1 * mean,
            "running_var": 0.9 * state["running_var"] + 0.1 * var,
        }
        return affine(y, state), moved

    return compute


def lp(p: float, constant: float) -> Callable[[Array, State, bool], Result]:
    """Hoffer et al. 2018. constant: C_p, written out, not computed as the layer does."""

    def compute(x: Array, state: State, training: bool) -> Result:
        if not training:
            return batch_norm()(x, state, False)
        mean, _, count = per_channel(x)
        centred = x - column(mean, x)
        axes = (0, *range(2, x.ndim))
        scale = constant * (np.abs(centred) ** p).mean(axes) ** (1 / p)
        moved = {
            "running_mean": 0.9 * state["running_mean"] + 0.1 * mean,
            "running_var": 0.9 * state["running_var"] + 0.1 * scale**2 * count / (count - 1),
        }
        return affine(centred / np.sqrt(column(scale**2, x) + 1e-5), state), moved

    return compute


def ghost(size: int) -> Callable[[Array, State, bool], Result]:
    """Hoffer et al. 2017, Algorithm 1: one ghost batch after the other."""

    def compute(x: Array, state: State, training: bool) -> Result:
        if not training:
            return batch_norm()(x, state, False)
        parts, running = [], dict(state)
        for part in np.array_split(x, max(1, len(x) // size)):
            y, moved = batch_norm()(part, running, True)
            parts.append(y)
            running.update(moved)
        return np.concatenate(parts), {name: running[name] for name in ("running_mean", "running_var")}

    return compute


def renorm(r_max: float, d_max: float) -> Callable[..., Result]:
    """Ioffe 2017, Algorithm 1. base: the input that r and d come from, as no gradient goes through them."""

    def compute(x: Array, state: State, training: bool, base: Array | None = None) -> Result:
        mu, sigma = state["running_mean"], np.sqrt(state["running_var"])
        if not training:
            return affine((x - column(mu, x)) / column(sigma, x), state), {}
        mean, var, _ = per_channel(x)
        base_mean, base_var, _ = per_channel(x if base is None else base)
        base_sigma = np.sqrt(base_var + 1e-5)
        r = np.clip(base_sigma / sigma, 1 / r_max, r_max)
        d = np.clip((base_mean - mu) / sigma, -d_max, d_max)
        y = (x - column(mean, x)) / np.sqrt(column(var, x) + 1e-5) * column(r, x) + column(d, x)
        sigma = sigma + 0.01 * (base_sigma - sigma)
        return affine(y, state), {"running_mean": mu + 0.01 * (base_mean - mu), "running_var": sigma**2}

    return compute


def group_norm(groups: int) -> Callable[[Array, State, bool], Result]:
    """Wu & He 2018, equations 1, 2 and 7; one group is layer norm, as many as channels instance norm."""

    def compute(x: Array, state: State, training: bool) -> Result:
        grouped = x.reshape(len(x), groups, -1)
        centred = grouped - grouped.mean(2, keepdims=True)
        y = centred / np.sqrt((centred**2).mean(2, keepdims=True) + 1e-5)
        return affine(y.reshape(x.shape), state), {}

    return compute


def rms(x: Array, state: State, training: bool) -> Result:
    """Zhang & Sennrich 2019, equation 4."""
    return affine(x / np.sqrt((x**2).mean(tuple(range(1, x.ndim)), keepdims=True) + 1e-5), state), {}


def over_channels(centre: bool) -> Callable[[Array, State, bool], Result]:
    """Liu et al. 2022 (ConvNeXt), LayerNorm in channels_first form; without centring, RMS norm likewise."""

    def compute(x: Array, state: State, training: bool) -> Result:
        rows = np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])  # a row a position
        rows = rows - rows.mean(1, keepdims=True) if centre else rows
        rows = rows / np.sqrt((rows**2).mean(1, keepdims=True) + 1e-5)
        y = np.moveaxis(rows.reshape(len(x), *x.shape[2:], x.shape[1]), -1, 1)
        return affine(y, state), {}

    return compute


def frozen(x: Array, state: State, training: bool) -> Result:
    return batch_norm()(x, state, False)


def identity(x: Array, state: State, training: bool) -> Result:
    return x, {}


def dyt(x: Array, state: State, training: bool) -> Result:
    """Zhu et al. 2025, equation 1."""
    return affine(np.tanh(state["alpha"] * x), state), {}


def filter_response(x: Array, state: State, training: bool) -> Result:
    """Singh & Krishnan 2019, section 3."""
    power = (x**2).mean(tuple(range(2, x.ndim)), keepdims=True) if x.ndim > 2 else x**2
    eps = 1e-6 + (np.abs(column(state["learnt_eps"], x)) if "learnt_eps" in state else 0)
    y = affine(x / np.sqrt(power + eps), state)
    return (np.maximum(y, column(state["tau"], x)) if "tau" in state else y), {}


def evonorm_s0(groups: int) -> Callable[[Array, State, bool], Result]:
    """Liu et al. 2020, table 2."""

    def compute(x: Array, state: State, training: bool) -> Result:
        std = np.sqrt(x.reshape(len(x), groups, -1).var(2) + 1e-5)
        std = np.repeat(std, x.shape[1] // groups, 1).reshape(*x.shape[:2], *[1] * (x.ndim - 2))
        return affine(x / (1 + np.exp(-column(state["v"], x) * x)) / std, state), {}

    return compute


def channel_affine(x: Array, state: State, training: bool) -> Result:
    return affine(x, state), {}


def branch_scale(x: Array, state: State, training: bool) -> Result:
    """De & Smith 2020, section 4."""
    return state["alpha"] * x, {}


def scalar_affine(x: Array, state: State, training: bool) -> Result:
    """Zhang et al. 2019, rule 3."""
    return x * state.get("scale", np.ones(1)) + state["shift"], {}


FEATURE = frozenset({"feature_scale", "feature_shift"})
SAMPLE = frozenset({"sample_scale", "sample_shift", "rest_of_batch"})
ALONE = frozenset({"rest_of_batch"})
QUIET = {"mean_range": 0, "scale_max": 1, "spread": 0}
RELAXED = {"relax_from": 0, "r_relaxed_at": 0, "d_relaxed_at": 0}

# channels: 6, for which auto makes 1 group of (N, C) and 3 of images
REFERENCES = [
    Reference("none", identity, invariant_to=ALONE),
    Reference("batch", batch_norm(), ranks=(2, 3, 4), invariant_to=FEATURE),
    Reference("masked_batch", batch_norm(), invariant_to=FEATURE),
    Reference("batch_virtual", batch_virtual, invariant_to=FEATURE, note="its reference batch"),
    Reference(
        "power", power(0, False), {"scale_groups": 0, "warm_up": 0}, invariant_to=ALONE, note="unscaled"
    ),
    Reference(
        "power",
        power(1, False),
        {"warm_up": 0},
        invariant_to=ALONE | {"sample_scale"},
        note="as the paper",
    ),
    Reference(
        "power",
        power(2, False),
        {"warm_up": 0, "scale_groups": 2},
        invariant_to=ALONE | {"sample_scale"},
        note="two groups",
    ),
    Reference(
        "power",
        power(1, True),
        invariant_to=frozenset({"sample_scale"}),
        note="in its warm-up",
        exact_gradient=False,
    ),
    Reference("batch_custom", batch_norm(), ranks=(2, 3, 4), invariant_to=FEATURE),
    Reference("sync", batch_norm(), invariant_to=FEATURE),
    Reference("batch_keras", batch_norm(1e-3, 0.01, bessel=False), invariant_to=FEATURE),
    Reference("batch_noisy", batch_norm(), QUIET, invariant_to=FEATURE, note="without its noise"),
    Reference("batch_no_gamma", batch_norm(), invariant_to=FEATURE),
    Reference("batch_no_beta", batch_norm(), ranks=(2, 3, 4), invariant_to=FEATURE),
    Reference("batch_mean_only", batch_norm(scale=False), invariant_to=frozenset({"feature_shift"})),
    Reference("batch_var_only", batch_norm(centre=False), invariant_to=frozenset({"feature_scale"})),
    Reference(
        "batch_stats_at_inference",
        batch_norm(batch_at_inference=True),
        ranks=(2, 3, 4),
        invariant_to=FEATURE,
    ),
    Reference("ghost", ghost(16), invariant_to=FEATURE, note="one ghost batch"),
    Reference("ghost", ghost(3), {"ghost_size": 3}, invariant_to=FEATURE, note="two and a remainder"),
    Reference("renorm", renorm(1, 0), invariant_to=FEATURE, note="before it is relaxed"),
    Reference("renorm", renorm(3, 5), RELAXED, note="relaxed"),
    Reference("renorm", renorm(1.2, 0.1), {**RELAXED, "r_max": 1.2, "d_max": 0.1}, note="clipped"),
    Reference("population", population, invariant_to=ALONE),
    Reference("batch_group", batch_group(1), ranks=(2, 3)),
    Reference("batch_group", batch_group(3), ranks=(4, 5)),
    Reference("batch_group", batch_group(2), {"groups": 2}, note="2 groups"),
    Reference(
        "batch_group", batch_norm(), {"groups": 6}, invariant_to=FEATURE, note="as many groups as channels"
    ),
    Reference("lp", lp(1, np.sqrt(np.pi / 2)), invariant_to=FEATURE),
    Reference("lp", batch_norm(), {"p": 2}, invariant_to=FEATURE, note="2 is batch norm"),
    # E |z|^4 = 3 and E |z|^3 = 2 sqrt(2 / pi) for a standard normal z
    Reference("lp", lp(4, 3**-0.25), {"p": 4}, invariant_to=FEATURE, note="4"),
    Reference("lp", lp(3, (2 * np.sqrt(2 / np.pi)) ** (-1 / 3)), {"p": 3}, invariant_to=FEATURE, note="3"),
    Reference("frozen", frozen, invariant_to=ALONE),
    Reference("layer", group_norm(1), ranks=(2, 4, 5), invariant_to=SAMPLE),
    Reference(
        "layer",
        over_channels(True),
        {"axes": "channels"},
        ranks=(2, 4, 5),
        invariant_to=SAMPLE,
        note="channels",
    ),
    Reference("instance", group_norm(6), ranks=(4,), invariant_to=SAMPLE | FEATURE),
    Reference("group", group_norm(1), ranks=(2, 3), invariant_to=SAMPLE),
    Reference("group", group_norm(3), ranks=(4, 5), invariant_to=SAMPLE),
    Reference("group", group_norm(2), {"groups": 2}, invariant_to=SAMPLE, note="2 groups"),
    Reference("weight_standardization", group_norm(3), ranks=(4, 5), invariant_to=SAMPLE),
    Reference("weight_standardization", identity, {"then": "none"}, invariant_to=ALONE, note="alone"),
    Reference("scaled_weight_standardization", identity, invariant_to=ALONE),
    Reference("rms", rms, ranks=(2, 4, 5), invariant_to=ALONE | {"sample_scale"}),
    Reference(
        "rms",
        over_channels(False),
        {"axes": "channels"},
        ranks=(2, 4, 5),
        invariant_to=ALONE | {"sample_scale"},
        note="channels",
    ),
    Reference("qk", over_channels(False), ranks=(2, 4, 5), invariant_to=ALONE | {"sample_scale"}),
    Reference(
        "qk", over_channels(True), {"kind": "layer"}, ranks=(2, 4, 5), invariant_to=SAMPLE, note="layer"
    ),
    Reference("qk", identity, role="branch", attention=True, invariant_to=ALONE, note="elsewhere"),
    Reference("dyt", dyt, invariant_to=ALONE),
    Reference("filter_response", filter_response, ranks=(2,), invariant_to=ALONE, note="learnt eps"),
    Reference(
        "filter_response",
        filter_response,
        ranks=(4, 5),
        invariant_to=ALONE | {"sample_scale", "feature_scale"},
    ),
    Reference(
        "filter_response",
        filter_response,
        role="branch_end",
        ranks=(4,),
        invariant_to=ALONE | {"sample_scale", "feature_scale"},
        note="without tau",
    ),
    Reference("evonorm_s0", evonorm_s0(1), ranks=(2, 3), invariant_to=ALONE),
    Reference("evonorm_s0", evonorm_s0(3), ranks=(4, 5), invariant_to=ALONE),
    Reference("evonorm_s0", channel_affine, role="branch_end", invariant_to=ALONE, note="branch end"),
    Reference("skipinit", identity, invariant_to=ALONE),
    Reference("skipinit", branch_scale, role="branch_end", invariant_to=ALONE, note="branch end"),
    Reference("fixup", scalar_affine, invariant_to=ALONE),
    Reference("fixup", scalar_affine, role="branch_end", invariant_to=ALONE, note="branch end"),
]
