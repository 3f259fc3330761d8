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
#: Of a transformer of two blocks, fitted to widths of 32 and 64 and windows of 32 tokens: seconds of a step by itself,
#: and the cost of a product with all that comes with it at a position, such as attention and activations.
SEQUENCE_SECONDS, SECONDS_AT_A_POSITION = 2e-3, 13e-11


@dataclass(frozen=True)
class Cell:
    """Runs that differ in their seed alone, and their engine.

    steps: of one run. cautions: what limits the answer of this cell. ways: further
    ways of inference that its networks have. trained_parameters: None where all learn. positions: of a sample, each of
    which the weights are multiplied with; 1 where samples are no sequences. network: what was done to the
    normalizers of a network that was not written for bnbench.
    """

    runs: tuple[RunSpec, ...]
    choice: EngineChoice
    steps: int
    num_parameters: int
    cautions: tuple[str, ...] = ()
    ways: tuple[str, ...] = ()
    trained_parameters: int | None = None
    positions: int = 1
    network: str = ""

    def limited_by(self, caution: str) -> Cell:
        """The same cell with one more caution, if there is one."""
        return replace(self, cautions=(*self.cautions, caution)) if caution else self

    def part(self, runs: tuple[RunSpec, ...]) -> Cell:
        """Some of its runs."""
        return replace(self, runs=runs)

    @property
    def seconds_alone(self) -> float:
        """Predicted for one run by itself, whatever engine this machine has chosen: the same on every machine."""
        return replace(self, choice=replace(self.choice, engine="sequential")).seconds(1)

    def seconds(self, count: int) -> float:
        """Predicted for that many of the runs, together where they stack."""
        alone, together, product = self._costs()
        each = self.num_parameters * (
            self.runs[0].settings.batch_size * self.positions * product + SECONDS_A_PARAMETER
        )
        if self.choice.engine != "stacked":
            return self.steps * count * (alone + each)
        return self.steps * (together + max(count, 2 if self.choice.doubles else 1) * each)

    def _costs(self) -> tuple[float, float, float]:
        """Seconds of a step by itself, of one run and of a stack, and of a product."""
        if self.positions > 1:
            return SEQUENCE_SECONDS, SEQUENCE_SECONDS, SECONDS_AT_A_POSITION
        return STEP_SECONDS, STACK_SECONDS, SECONDS_A_PRODUCT
