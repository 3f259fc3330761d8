"""Layers of users that remember something from step to step, outside of parameters and buffers.

Each adds what it remembers to its output, so that a run that forgets has other numbers. Those of FORGOTTEN keep it
where no state of a run can hold it.
"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict, deque
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

calls = 0
seen: list[float] = []


class Remembers(nn.Module):
    """Adds a small number that depends on the steps before; in training alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * self.remembered(x) if self.training else x

    def remembered(self, x: Tensor) -> Any:
        raise NotImplementedError


class Counts(Remembers):
    """An int."""

    number = 0

    def remembered(self, x: Tensor) -> Any:
        self.number += 1
        return self.number % 5


class Lists(Remembers):
    """A list of floats, and the same list under a second name."""

    def __init__(self) -> None:
        super().__init__()
        self.means: list[float] = []
        self.again = self.means

    def remembered(self, x: Tensor) -> Any:
        self.means.append(float(x.detach().mean()))
        return sum(self.again[-3:])


class Moves(Remembers):
    """A tensor that is no buffer, bound to a new one in every step; and one that moves in place."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.place = torch.zeros(6), torch.zeros(6, dtype=torch.bfloat16)

    def remembered(self, x: Tensor) -> Any:
        self.mean = 0.9 * self.mean + x.detach().mean(0)
        self.place.add_(x.detach().mean(0).bfloat16())
        return self.mean + self.place


class Grows(Remembers):
    """A buffer that gets another shape, one that state_dict leaves out, and one that is not there at first."""

    past: Tensor
    hidden: Tensor
    late: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("past", torch.zeros(0))
        self.register_buffer("hidden", torch.zeros(()), persistent=False)
        self.register_buffer("late", None)

    def remembered(self, x: Tensor) -> Any:
        self.past = torch.cat([self.past, x.detach().mean().reshape(1)])
        self.hidden += 0.1
        self.late = self.past.mean() if self.late is None else self.late + 0.2
        return self.past.sum() + self.hidden + self.late


class Draws(Remembers):
    """From generators of its own, and from the global ones."""

    def __init__(self) -> None:
        super().__init__()
        self.torch, self.numpy = torch.Generator().manual_seed(1), np.random.default_rng(1)
        self.old, self.python = np.random.RandomState(1), random.Random(1)
        self.draw = partial(torch.randn, generator=torch.Generator().manual_seed(2))

    def remembered(self, x: Tensor) -> Any:
        own = self.numpy.normal() + self.old.normal() + self.python.random()
        both = np.random.randn() + random.random() + own
        return both + torch.randn(6, generator=self.torch) + self.draw(6) + torch.rand(6)


class _Notes:
    """An object of a user's class."""

    __slots__ = ("__dict__", "slot")

    def __init__(self) -> None:
        self.slot, self.total = 0.0, np.float32(0)


class Notes(Remembers):
    """Containers of all kinds in an object, and an array."""

    def __init__(self) -> None:
        super().__init__()
        self.notes, self.recent = _Notes(), deque[float](maxlen=3)
        self.by_parity: dict[int, float] = defaultdict(float)
        self.kinds, self.array, self.pair = {0}, np.zeros((2, 3), order="F"), (0, [1.0])

    def remembered(self, x: Tensor) -> Any:
        mean, step = float(x.detach().mean()), len(self.kinds)
        self.kinds.add(step)
        self.recent.append(mean)
        self.by_parity[step % 2] += mean
        self.notes.slot += 0.1
        self.notes.total += np.float32(0.1)
        self.array[step % 2] += mean
        self.pair = (step, [*self.pair[1], mean])
        numbers = [*self.recent, *self.by_parity.values(), self.notes.slot, float(self.notes.total)]
        return sum(numbers) + self.array.sum() + sum(self.pair[1]) + self.pair[0]


class Hooked(Remembers):
    """A hook with a variable around it."""

    def __init__(self) -> None:
        super().__init__()
        number = 0

        def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            nonlocal number
            number += module.training
            return output + 0.1 * number

        self.register_forward_hook(hook)

    def remembered(self, x: Tensor) -> Any:
        return 0


class Freezes(Remembers):
    """A parameter that learns until the fourth step, and one that gathers gradients that no optimizer sees."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.steps = nn.Parameter(torch.ones(6)), 0

    def remembered(self, x: Tensor) -> Any:
        self.steps += 1
        if self.steps == 4:
            self.scale.requires_grad_(False)
        return x * self.scale


class Looks(Remembers):
    """What evaluation left behind, in inference mode."""

    def __init__(self) -> None:
        super().__init__()
        self.last = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            self.last = x.mean()
            return x
        return x + 0.1 * float(self.last)


REMEMBERED = [Counts, Lists, Moves, Grows, Draws, Notes, Hooked, Freezes, Looks]


class CountsInModule(Remembers):
    """A variable of its module."""

    def remembered(self, x: Tensor) -> Any:
        global calls
        calls += 1
        return calls % 5


class ListsInModule(Remembers):
    """A list of its module."""

    def remembered(self, x: Tensor) -> Any:
        seen.append(float(x.detach().mean()))
        return seen[-1]


class CountsInClass(Remembers):
    """A variable of its class."""

    number: ClassVar[int] = 0

    def remembered(self, x: Tensor) -> Any:
        type(self).number += 1
        return self.number % 5


class Defaults(Remembers):
    """A default that is the same list in every call."""

    def remembered(self, x: Tensor, past: list[float] = []) -> Any:  # noqa: B006 - the mistake is the subject
        past.append(float(x.detach().mean()))
        return sum(past[-2:])


class Iterates(Remembers):
    """An iterator, whose place nobody can look up."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = itertools.cycle(range(5))

    def remembered(self, x: Tensor) -> Any:
        return next(self.numbers)


class Remakes(Remembers):
    """A new object of its own class in every step."""

    def __init__(self) -> None:
        super().__init__()
        self.notes = _Notes()

    def remembered(self, x: Tensor) -> Any:
        before, self.notes = self.notes, _Notes()
        self.notes.slot = before.slot + 0.1
        return self.notes.slot


class Backwards(Remembers):
    """A tensor with a history."""

    last: Tensor | None = None

    def remembered(self, x: Tensor) -> Any:
        self.last = x.mean()
        return self.last


class Views(Remembers):
    """Two tensors that come to share memory."""

    def __init__(self) -> None:
        super().__init__()
        self.whole, self.part = torch.zeros(6), torch.zeros(3)

    def remembered(self, x: Tensor) -> Any:
        self.part = self.whole[:3]
        self.part += 0.1
        return self.whole


FORGOTTEN = [
    CountsInModule, ListsInModule, CountsInClass, Defaults, Iterates, Remakes, Backwards, Views,
]  # fmt: skip
