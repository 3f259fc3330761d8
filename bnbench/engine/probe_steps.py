"""At which steps a run is probed, and what that costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bnbench.probes import probes
from bnbench.study.plan import ProbeCost
from bnbench.study.probe import Probe


@dataclass(frozen=True)
class Course:
    """A run's way through its steps. factor: of the schedule on the learning rate, by step. planned: its steps."""

    factor: Callable[[int], float]
    planned: int

    def at(self, step: int) -> float:
        """The factor of the update after `step`; after the last one that of the last."""
        return self.factor(min(step, self.planned - 1)) if self.planned else 1.0


@dataclass(frozen=True)
class Timed:
    """Seconds of one look with the cheap measures, and of the pass that they share. layers: how many are looked at."""

    look: float
    one_pass: float
    layers: int

    def costs(self, probe: Probe, planned: int) -> tuple[ProbeCost, ...]:
        """What a run of so many steps pays: for all cheap measures together, and for each costly one."""
        by_step = measures_by_step(probe, planned)
        counts = {name: sum(name in names for names in by_step.values()) for name in probe.what}
        costly = [name for name in probe.what if probes.get(name).facts.costly]
        cheap = tuple(name for name in probe.what if name not in costly)
        costs = []
        if cheap:
            steps = counts[cheap[0]]
            costs.append(ProbeCost(cheap, steps, steps * self.look))
        for name in costly:
            passes = probes.get(name).facts.passes
            each = self.one_pass * (passes(self.layers) if passes else 1.0)
            costs.append(ProbeCost((name,), counts[name], counts[name] * each))
        return tuple(costs)


def measures_by_step(probe: Probe, planned: int) -> dict[int, tuple[str, ...]]:
    """What is called at each step of a run of so many, in the order of the study; costly measures at fewer steps."""
    steps, costly = set(probe.steps(planned)), set(probe.costly_steps(planned))
    by_step = {
        step: tuple(
            name for name in probe.what if step in (costly if probes.get(name).facts.costly else steps)
        )
        for step in sorted(steps | costly)
    }
    return {step: names for step, names in by_step.items() if names}
