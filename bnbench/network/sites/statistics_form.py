"""Which of its inputs a normalization takes a statistic of, found by moving one; and the standard form over those."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bnbench.network.sites.trial_copy import Trial

#: Trials are made at this size: so far above the root of any eps that eps has no effect.
FAR = 1e6
#: Relative to the largest entry: float32 arithmetic inside a layer passes, another formula does not.
TOLERANCE = 3e-6


@dataclass
class Subject:
    """A module under trial on one input x. original: the module that was copied."""

    original: nn.Module
    trial: Trial
    x: Tensor
    vectors: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        module = self.trial.module
        for name, value in (*module.named_parameters(), *module.named_buffers()):
            if value.is_floating_point() and value.numel() <= self.x.numel():
                self.vectors[name] = value

    @property
    def buffers(self) -> list[str]:
        """The names of those vectors that are no parameters."""
        names = {name for name, _ in self.trial.module.named_buffers()}
        return [name for name, value in self.vectors.items() if name in names and value.dim()]

    def output(self, training: bool = True, x: Tensor | None = None) -> Tensor | None:
        """What it gives, None where it raises or gives no finite tensor of the shape of x."""
        return self.trial(self.x if x is None else x, training)

    def slope(self, x: Tensor, training: bool) -> Tensor:
        """dy/dx of an affine map, entry by entry."""
        y, moved = self.trial(x, training), self.trial(x + 1, training)
        return torch.zeros_like(x) if y is None or moved is None else moved - y

    def column(self, name: str, axis: int) -> Tensor:
        """A vector of it along this axis of x."""
        value, dims = self.vectors[name].clone(), self.x.dim()
        along = [-1 if a == axis else 1 for a in range(dims)]
        return value.reshape(along if value.numel() > 1 else [1] * dims)


@dataclass(frozen=True)
class Reach:
    """The inputs that one statistic is of: all along the axes in `full`, and of one axis a block, one of so many."""

    full: tuple[int, ...] = ()
    block: tuple[int, int] | None = None

    @property
    def axes(self) -> tuple[int, ...]:
        """All of them, in order."""
        return tuple(sorted((*self.full, *([self.block[0]] if self.block else []))))

    def count(self, x: Tensor) -> int:
        """How many values a statistic is of."""
        return math.prod(x.shape[a] for a in self.axes) // (self.block[1] if self.block else 1)

    def split(self, x: Tensor) -> tuple[Tensor, list[int]]:
        """x with the axis of blocks in two, and the axes to reduce then."""
        if self.block is None:
            return x, list(self.full)
        axis, groups = self.block
        shape = [*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :]]
        return x.reshape(shape), [a if a < axis else a + 1 for a in self.axes]


def reach_of(subject: Subject, training: bool) -> Reach | None:
    """What its statistics are of in this mode; None where that is no product of axes, or differs by place."""
    y = subject.output(training)
    if y is None:
        return None
    first, last = (_reach(subject, end, training, y) for end in (0, -1))
    return first if first == last else None


def _reach(subject: Subject, end: int, training: bool, y: Tensor) -> Reach | None:
    """Which outputs move with the first, or the last, of the inputs."""
    x = subject.x
    other = x.clone()
    other[tuple([end] * x.dim())] = 30 * FAR * (1 if end == 0 else -1)
    moved = subject.output(training, other)
    if moved is None:
        return None
    changed = (y - moved).abs() > 1e-6 * y.abs().max().clamp_min(1e-30)
    full: list[int] = []
    block: tuple[int, int] | None = None
    product = torch.ones_like(changed)
    for axis, size in enumerate(x.shape):
        along = changed.transpose(0, axis).flatten(1).any(1) if x.dim() > 1 else changed
        product &= along.reshape([-1 if a == axis else 1 for a in range(x.dim())])
        count = int(along.sum())
        if count == size > 1:
            full.append(axis)
        elif count > 1:
            edge = along[:count] if end == 0 else along[-count:]
            if block or size % count or not bool(edge.all()):
                return None
            block = axis, size // count
    # a change may cancel by chance, for a few of the outputs
    if not changed.any() or int((product != changed).sum()) > 0.02 * int(product.sum()):
        return None
    return Reach(tuple(full), block)


def centred(x: Tensor, reach: Reach) -> Tensor:
    """Less its means."""
    z, axes = reach.split(x)
    return (z - z.mean(axes, keepdim=True)).reshape(x.shape)


def standard(x: Tensor, reach: Reach, centers: bool) -> Tensor:
    """(x - mean) / √var over what a statistic is of, or x / √(mean of x²)."""
    z, axes = reach.split(centred(x, reach) if centers else x)
    return (z / z.square().mean(axes, keepdim=True).sqrt()).reshape(x.shape)


def close(one: Tensor, other: Tensor, tolerance: float = TOLERANCE, size: Tensor | None = None) -> bool:
    """Whether they are the same, relative to the largest entry of `size`, or of the second."""
    largest = max(float((size if size is not None else other).abs().max()), 1e-30)
    return bool(((one - other).abs() <= tolerance * largest).all())
