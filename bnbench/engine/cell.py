"""A cell of a study with everything that was decided for it before training."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bnbench.engine.choose import EngineChoice
from bnbench.study.plan import RunSpec

#: The cost of a step on one thread: seconds of a step by itself, and for each parameter and sample, and each
#: parameter of each replica, fitted to stacks of 2 and 5 networks of 784-64-10 on a 2.6 GHz core. Only their
#: ratios matter, and only for packing.
STEP_SECONDS, STACK_SECONDS = 350e-6, 250e-6
SECONDS_A_PRODUCT, SECONDS_A_PARAMETER = 6e-11, 1.1e-9


@dataclass(frozen=True)
class Cell:
    """Runs that differ in their seed alone, and their engine.

    steps: of one run. cautions: what limits the answer of this cell. ways: further
    ways of inference that its networks have. trained_parameters: None where all learn.
    """

    runs: tuple[RunSpec, ...]
    choice: EngineChoice
    steps: int
    num_parameters: int
    cautions: tuple[str, ...] = ()
    ways: tuple[str, ...] = ()
    trained_parameters: int | None = None

    def limited_by(self, caution: str) -> Cell:
        """The same cell with one more caution, if there is one."""
        return replace(self, cautions=(*self.cautions, caution)) if caution else self

    def part(self, runs: tuple[RunSpec, ...]) -> Cell:
        """Some of its runs."""
        return replace(self, runs=runs)

    def seconds(self, count: int) -> float:
        """Predicted for that many of the runs, together where they stack."""
        batch_size = self.runs[0].settings.batch_size
        each = self.num_parameters * (batch_size * SECONDS_A_PRODUCT + SECONDS_A_PARAMETER)
        if self.choice.engine != "stacked":
            return self.steps * count * (STEP_SECONDS + each)
        return self.steps * (STACK_SECONDS + max(count, 2) * each)  # a stack of one has a double
