"""`probe`: what a study looks at inside its networks, and at which steps. One for all variants.

A probe at step s sees the state after s updates. It changes nothing of a run; it is part of a run's identity where a
study has one, as the results without it lack its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from pydantic import Field, PrivateAttr

from bnbench.study.sections import Count, Int, Section, TwoOrMore

#: The measures of a study that names none; each costs about one forward and backward pass.
DEFAULT_WHAT = ("activations", "gradients", "weights", "gamma_beta", "effective_lr")
#: The single steps of a study that names none; a shorter run has those that it reaches.
DEFAULT_AT = (0, 1, 10, 100)
#: Steps between two probes of a study that says nothing else, and how many such probes a longer run has at most.
DEFAULT_EVERY, MOST_REGULAR = 100, 100
#: Steps at which a costly measure looks, spread evenly on a logarithmic scale, beside those of `at`.
LOG_SPACED = 10


class Probe(Section):
    """At which steps which measures look at which layers."""

    at: tuple[Int, ...] | None = Field(
        None, description="single steps; default: 0, 1, 10 and 100, as far as the run goes"
    )
    every: Count | None = Field(
        None,
        description="steps between two further probes, and one at the end; default: 100; in a run of more than "
        "10,000 steps the multiple of 100 that gives 100 probes at most",
    )
    what: tuple[str, ...] = Field(DEFAULT_WHAT, min_length=1, description="the measures")
    layers: tuple[Int | str, ...] | None = Field(
        None,
        min_length=1,
        description="numbers from 1, names, last (the last layer before the head) or head; default: all layers",
    )
    samples: TwoOrMore | None = Field(
        None, description="samples of the probe batch, from the training part; default: batch_size"
    )

    _places: dict[str, str] = PrivateAttr(default_factory=dict)

    def remember(self, places: Mapping[str, str]) -> None:
        """Keep where each key was written, for mistakes that show when the networks and the data are there."""
        self._places.update(places)

    def place(self, key: str) -> str:
        """Where the key was written, "" for the whole; "probe" where that is not known."""
        return self._places.get(key, "probe")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Probe) and self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        return hash((self.at, self.every, self.what, self.layers, self.samples))

    def steps(self, planned: int) -> tuple[int, ...]:
        """The steps of a run of so many at which the cheap measures look."""
        every = self.every or DEFAULT_EVERY * max(1, math.ceil(planned / DEFAULT_EVERY / MOST_REGULAR))
        return tuple(sorted({*self.single_steps(planned), *range(every, planned, every), planned}))

    def costly_steps(self, planned: int) -> tuple[int, ...]:
        """The steps at which the costly measures look: `at`, and ten that are evenly spread on a logarithmic scale."""
        spread = {round(planned ** (i / (LOG_SPACED - 1))) for i in range(LOG_SPACED)} if planned else set()
        return tuple(sorted({*self.single_steps(planned), *spread}))

    def single_steps(self, planned: int) -> tuple[int, ...]:
        """Those of `at` that such a run reaches."""
        return tuple(step for step in (DEFAULT_AT if self.at is None else self.at) if step <= planned)
