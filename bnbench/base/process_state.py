"""Process state that training changes, and its restoration: random streams and threads.

A run has global random streams of its own (torch's, NumPy's and Python's), seeded by its seed, for what layers
draw; they are exchanged for the process's own wherever a run says something, so that whoever listens may
draw too: neither disturbs the other.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

Event = TypeVar("Event")


@dataclass(frozen=True)
class ProcessState:
    """The global random streams, and the number of torch's threads."""

    device: torch.device
    cpu: Tensor
    accelerator: Tensor | None
    numpy: Any
    python: Any
    threads: int

    @classmethod
    def now(cls, device: torch.device) -> ProcessState:
        """As it is. device: whose stream belongs to it, beside the CPU's."""
        return cls(
            device,
            torch.get_rng_state(),
            _accelerator_state(device),
            np.random.get_state(legacy=False),
            random.getstate(),
            torch.get_num_threads(),
        )

    def restore(self) -> None:
        """Put everything back."""
        torch.set_rng_state(self.cpu)
        if self.accelerator is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(self.accelerator, self.device)
        elif self.accelerator is not None:
            torch.mps.set_rng_state(self.accelerator)
        np.random.set_state(self.numpy)
        random.setstate(self.python)
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)

    def has_drawn_since(self, before: ProcessState) -> bool:
        """Whether random numbers were drawn in between."""
        pairs = [(self.cpu, before.cpu), (self.accelerator, before.accelerator)]
        same = all(a is None or b is None or torch.equal(a, b) for a, b in pairs)
        return not same or self.python != before.python or not _same_numpy(self.numpy, before.numpy)


def _same_numpy(one: Any, other: Any) -> bool:
    """Whether two states of NumPy's generator are the same: nested dictionaries of numbers and arrays."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same_numpy(one[key], other[key]) for key in one)
    return bool(np.array_equal(one, other))


def _accelerator_state(device: torch.device) -> Tensor | None:
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else None


@contextmanager
def left_as_found(device: torch.device) -> Iterator[ProcessState]:
    """Inside, draws from the global generators and another number of threads leave no trace outside."""
    before = ProcessState.now(device)
    try:
        yield before
    finally:
        before.restore()


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Inside, the global generators start from this seed; outside, they are as they were."""
    with left_as_found(device):
        seed_streams(seed, device)
        yield


def in_private(make: Callable[[], Generator[Event]], seed: int, device: torch.device) -> Generator[Event]:
    """What the generator yields. It runs in random streams of its own, and with its own number of threads.

    make: makes the generator, in that state, too.
    """
    events: Generator[Event] | None = None
    private: ProcessState | None = None
    try:
        while True:
            with left_as_found(device):
                if events is None or private is None:
                    seed_streams(seed, device)
                    events = make()
                else:
                    private.restore()
                try:
                    event = next(events)
                except StopIteration:
                    return
                private = ProcessState.now(device)
            yield event
    finally:
        if events is not None:
            events.close()


def seed_streams(seed: int, device: torch.device) -> None:
    """The streams of the CPU and of this device: torch.manual_seed would seed every other device's, too."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
