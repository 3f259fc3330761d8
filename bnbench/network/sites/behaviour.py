"""What a module computes, by trials in float64: is it a normalization, over which values, with which gamma and beta.

1. One input is moved: the outputs that move with it show what a statistic is of. 2. The output is compared with the
standard form over these values, times a parameter, plus another. 3. Small inputs show eps. 4. Inference is compared
with the same form of two buffers, and steps of training show the momentum. 5. With its activations and dropout the
module must give what these make of the bare normalization.

The name of its class decides nothing, but for two layers that do the same (a group norm of one group, a layer norm).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from bnbench.base.user_code import raise_interrupt
from bnbench.network.sites.affine_form import Affine, affine_form, eps_form
from bnbench.network.sites.norm_site import Kind, NormBehaviour
from bnbench.network.sites.running_form import frozen_form, inference_statistics, momentum_of
from bnbench.network.sites.statistics_form import FAR, Reach, Subject, close, reach_of, standard
from bnbench.network.sites.trial_copy import Trial, on_private_streams, private_copy, signed, trial_shapes

_INSTANCE = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


def behaviour_of(module: nn.Module, shape: Sequence[int], samples: int = 1) -> NormBehaviour | None:
    """Its behaviour on inputs of this shape, None where it does not normalize. The module is not touched.

    samples: how many the first axis of the shape is of. Raises ValueError where it can't be tried at all.
    """
    found: NormBehaviour | None = on_private_streams(lambda: _tried(module, tuple(shape)))
    return replace(found, values=values_of(found, shape, samples)) if found else None


def _tried(module: nn.Module, shape: tuple[int, ...]) -> NormBehaviour | None:
    try:
        trial = Trial(private_copy(module))
    except BaseException as error:
        raise_interrupt(error)
        raise ValueError(f"it can't be copied for a trial: {error}") from error
    for tried in trial_shapes(shape):
        x = signed(tried, FAR)
        if trial(x) is not None:
            return _behaviour(Subject(module, trial, x))
    raise ValueError(f"it gives no finite output of the shape of its input {tuple(shape)}")


def values_of(found: NormBehaviour, shape: Sequence[int], samples: int) -> int:
    """How many values a statistic is of, for one sample of this shape; 0 where that is not known."""
    if not found.axes:
        return 0
    count = math.prod(shape[a] for a in found.axes if a < len(shape))
    if found.groups and found.channel_axis in found.axes:
        count //= found.groups
    return count // samples if 0 in found.axes and samples and shape[0] % samples == 0 else count


def _behaviour(subject: Subject) -> NormBehaviour | None:
    module, x = subject.original, subject.x
    if isinstance(module, nn.GroupNorm) and math.prod(x.shape[1:]) == module.num_groups:
        return _one_value(module)
    reach = reach_of(subject, True)
    if reach is not None and not reach.axes:
        return _frozen(subject)
    y, larger = subject.output(), subject.output(x=3 * x)
    if reach is None or y is None or larger is None or not close(y, larger, 1e-5):
        return _other(subject)
    count = reach.count(x)
    for centers in (True, False):
        for correction in (1.0, (count - 1) / count):
            if correction and (affine := affine_form(subject, standard(x, reach, centers) * correction**0.5)):
                return _normalization(subject, reach, centers, affine, correction)
    return None if _is_unit_length(subject, reach) else _other(subject)


def _normalization(
    subject: Subject, reach: Reach, centers: bool, affine: Affine, correction: float
) -> NormBehaviour:
    """The whole behaviour, where training is of the standard form; "other" where the rest is not."""
    evaluated = reach_of(subject, False)
    running = evaluated is not None and not evaluated.axes
    channel = affine.axis if affine.axis >= 0 else _channel_axis(subject, reach)
    kind = _kind(subject, reach, centers, affine, channel)
    groups = reach.block[1] if reach.block else None
    if kind == "group" and groups is None:
        groups = 1 if channel in reach.axes else int(subject.x.shape[channel])
    eps = eps_form(subject, reach, centers, affine, correction)
    includes = subject.trial.extras(signed(tuple(subject.x.shape), 1.0, seed=3))
    if kind in ("batch", "sync") and not _is_plain(subject):
        kind = "other"
    used = inference_statistics(subject, affine, eps, channel) if running and eps is not None else None
    whole = includes is not None and eps is not None and (not running or used is not None)
    return NormBehaviour(
        kind if whole else "other",
        reach.axes,
        channel,
        _size(subject, affine, channel),
        groups,
        centers,
        running,
        affine.gamma,
        affine.beta,
        affine.offset,
        eps,
        momentum_of(subject) if running else None,
        includes=includes or (),
        mean=used[0] if used else "",
        var=used[1] if used else "",
    )


def _channel_axis(subject: Subject, reach: Reach) -> int:
    """Of a layer without gamma and beta: where they would lie."""
    dims = subject.x.dim()
    if reach.block:
        return reach.block[0]
    if hasattr(subject.original, "num_groups"):
        return 1
    rest = [axis for axis in range(dims) if axis not in reach.axes]
    if 0 in reach.axes and len(rest) == 1:
        return rest[0]
    if (dims > 3 and reach.axes == tuple(range(2, dims))) or isinstance(subject.original, _INSTANCE):
        return 1
    return reach.axes[-1]


def _kind(subject: Subject, reach: Reach, centers: bool, affine: Affine, channel: int) -> Kind:
    dims, module = subject.x.dim(), subject.original
    if 0 in reach.axes:
        if not centers or reach.block or len(reach.axes) != dims - 1 or channel in reach.axes:
            return "other"
        return "sync" if "sync" in type(module).__name__.lower() else "batch"
    if not centers:
        return "rms"
    if reach.block or hasattr(module, "num_groups"):
        return "group"
    if channel == 1 and 1 not in reach.axes:
        return "instance"
    shape = tuple(subject.vectors[affine.gamma].shape) if affine.gamma else ()
    is_vector = sum(size > 1 for size in shape) == 1
    return "group" if channel == 1 and dims > 2 and len(reach.axes) == dims - 1 and is_vector else "layer"


def _is_plain(subject: Subject) -> bool:
    """Whether a batch norm takes its statistics of a large batch, too, and does later what it does at first.

    Ghost batch norm takes those of parts of the batch, and renormalization comes in by steps.
    """
    if type(subject.original).__module__.startswith("torch.nn."):
        return True
    x, y = subject.x, subject.output()
    state = subject.trial.state
    state.restore()
    for counter in subject.trial.module.buffers():
        if not counter.is_floating_point():
            counter.fill_(100_000)
    later = subject.trial(x, keep=True)
    state.restore()
    if y is None or later is None or not close(y, later):
        return False
    large = signed((160, x.shape[1], *[2] * (x.dim() - 2)), FAR)
    if subject.output(x=large) is None:  # of a shape that it does not take
        return True
    return _reaches_all(subject, large)


def _reaches_all(subject: Subject, x: Tensor) -> bool:
    """Whether the first value of the first channel has a part in what becomes of its last value."""
    other = x.clone()
    first, last = tuple([0] * x.dim()), (-1, 0, *[-1] * (x.dim() - 2))
    other[first] = 30 * FAR
    y, moved = subject.output(x=x), subject.output(x=other)
    return y is not None and moved is not None and bool((y - moved)[last].abs() > 1e-6 * y.abs().max())


def _size(subject: Subject, affine: Affine, channel: int) -> int:
    named = affine.gamma or affine.beta
    size = subject.vectors[named].numel() if named else 1
    return size if size > 1 else int(subject.x.shape[channel])


def _one_value(module: nn.GroupNorm) -> NormBehaviour:
    """A group norm whose groups have one value each gives beta, whatever the input: no trial shows more."""
    gamma, beta = ("weight", "bias") if module.affine else ("", "")
    return NormBehaviour(
        "group",
        (1,),
        1,
        module.num_channels,
        module.num_groups,
        gamma=gamma,
        beta=beta,
        eps=module.eps,
    )


def _frozen(subject: Subject) -> NormBehaviour | None:
    """Where nothing in training depends on other inputs: constants, if neither does inference."""
    evaluated = reach_of(subject, False)
    if evaluated is None or evaluated.axes or len(subject.vectors) < 2:
        return None
    found = frozen_form(subject)
    if found is None:
        return None
    includes = subject.trial.extras(signed(tuple(subject.x.shape), 1.0, seed=3))
    return replace(found, includes=includes or ()) if includes is not None else replace(found, kind="other")


def _is_unit_length(subject: Subject, reach: Reach) -> bool:
    """Vectors of length 1, as F.normalize gives, without a parameter: no layer that normalizes activations."""
    y = subject.output()
    if y is None:
        return False
    ratio = y / standard(subject.x, reach, centers=False)
    return close(ratio, ratio.flatten()[0].expand_as(ratio))


def _other(subject: Subject) -> NormBehaviour | None:
    """It ignores the size of its input, and is of a form of its own; None where it does not.

    A saturated softmax or sigmoid ignores that, too, but all else as well.
    """
    x, draw = subject.x, torch.Generator().manual_seed(5)
    factors = 0.5 + torch.rand(x.shape, generator=draw, dtype=torch.float64)
    y, larger, turned = (subject.trial(z, full=True) for z in (x, 3 * x, factors * x))
    if y is None or larger is None or turned is None or not close(y, larger, 1e-4):
        return None
    if float(((turned - y).abs() > 1e-3 * y.abs().max()).double().mean()) < 0.3:
        return None
    size = max((value.numel() for value in subject.vectors.values()), default=int(x.shape[1]))
    return NormBehaviour("other", (), 1 if x.shape[1] == size else x.dim() - 1, size)
