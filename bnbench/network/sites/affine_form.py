"""gamma, beta and eps of a normalization: found by moving each of its vectors, and from its output for small inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bnbench.network.sites.statistics_form import TOLERANCE, Reach, Subject, centred, close, standard
from bnbench.network.sites.trial_copy import signed

EPS_NAMES = ("eps", "epsilon", "variance_epsilon")
#: Inputs whose variance is below any usual eps.
_SMALL = 1e-4


@dataclass
class Affine:
    """The output is (offset + gamma) * u + beta. axis: along which they vary, -1 where they do not."""

    gamma: str
    beta: str
    offset: float
    axis: int
    factor: Tensor
    shift: Tensor

    @property
    def scale(self) -> Tensor:
        """What u is multiplied by."""
        return self.offset + self.factor


def affine_form(subject: Subject, u: Tensor) -> Affine | None:
    """How the output is made of u, None where it is no such map."""
    y = subject.output()
    if y is None:
        return None
    found = Affine("", "", 0.0, -1, torch.ones(()), torch.zeros(()))
    draw = torch.Generator().manual_seed(1)
    for name, value in subject.vectors.items():
        by = 0.5 + torch.rand(value.shape, generator=draw, dtype=torch.float64)
        if not (found.gamma and found.beta) and (moved := _moved(subject, name, by)) is not None:
            _note(found, subject, name, by, (moved - y, u, y))
    if found.gamma and bool((usable := u.abs() > 0.3).any()):
        offsets = ((y - found.shift) / u - found.factor)[usable]
        found.offset = round(float(offsets.median()), 4) + 0.0
    return found if close(y, found.scale * u + found.shift) else None


def _moved(subject: Subject, name: str, by: Tensor) -> Tensor | None:
    """What the output becomes where a vector is moved."""
    subject.trial.state.restore()
    subject.vectors[name].add_(by)
    y = subject.trial(subject.x, keep=True)
    subject.trial.state.restore()
    return y


def _note(
    found: Affine, subject: Subject, name: str, by: Tensor, change: tuple[Tensor, Tensor, Tensor]
) -> None:
    """Note the vector as beta where its move is added to the output, as gamma where it multiplies u."""
    moved, u, y = change
    placed = zip(_placed(subject.x, by), _placed(subject.x, subject.vectors[name]), strict=True)
    for (axis, column), (_, value) in placed:
        if not found.beta and close(moved, column.expand_as(y), TOLERANCE, y):
            found.beta, found.shift = name, value.clone()
        elif not found.gamma and close(moved, column * u, TOLERANCE, y):
            found.gamma, found.factor = name, value.clone()
        else:
            continue
        found.axis = max(found.axis, axis)
        return


def _placed(x: Tensor, value: Tensor) -> Iterator[tuple[int, Tensor]]:
    """A vector as it may lie along x: an axis and the broadcast. -1: one number; the last axis: a whole sample."""
    dims = x.dim()
    if value.numel() == 1:
        yield -1, value.reshape([1] * dims)
    elif sum(size > 1 for size in value.shape) == 1:
        for axis in dict.fromkeys((1, dims - 1, *range(dims))):
            if axis < dims and x.shape[axis] == value.numel():
                yield axis, value.reshape([-1 if a == axis else 1 for a in range(dims)])
    elif tuple(value.shape) == tuple(x.shape[dims - value.dim() :]):
        yield dims - 1, value


def eps_form(
    subject: Subject, reach: Reach, centers: bool, affine: Affine, correction: float
) -> float | None:
    """The number added to the variance, or to its root, from the output for small inputs; None for neither.

    correction: (n - 1) / n where the layer divides by n - 1, else 1.
    """
    x = signed(tuple(subject.x.shape), _SMALL, seed=2)
    y = subject.output(x=x)
    if y is None:
        return None
    u = standard(x, reach, centers)
    usable = u.abs() > 0.3
    inputs = centred(x, reach) if centers else x
    root = (inputs * affine.scale / (y - affine.shift))[usable].abs()
    var = (inputs / u).square()[usable] / correction
    for values, size in ((root.square() - var, root.square()), (root - var.sqrt(), root)):
        eps, error = float(values.median()), 1e-5 * float(size.median())
        if float((values - eps).abs().max()) <= error and eps > -error:
            if abs(eps - torch.finfo(torch.float64).eps) < 1e-20:
                return _smallest(subject.original)
            return snapped(subject.original, max(eps, 0.0), 2 * error, EPS_NAMES)
    return None


def _smallest(module: nn.Module) -> float:
    """The default of nn.RMSNorm: eps of its number format."""
    dtypes = [value.dtype for value in module.parameters() if value.is_floating_point()]
    return torch.finfo(dtypes[0] if dtypes else torch.float32).eps


def snapped(module: nn.Module, value: float, error: float, names: Sequence[str]) -> float:
    """The module's own number where it is the measured one; else the shortest decimal near it."""
    own = [getattr(module, name, None) for name in names]
    own += [number for number in vars(module).values() if isinstance(number, float)]
    for number in own:
        if isinstance(number, int | float) and not isinstance(number, bool) and abs(number - value) <= error:
            return float(number)
    for digits in range(1, 7):
        short = float(f"{value:.{digits}g}")
        if abs(short - value) <= min(error, 1e-6 * abs(value) + 1e-300):
            return short
    return value
