"""The replicas of a stack as its probes see them: all at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from bnbench.engine.stacked.private import PrivateStack, side_by_side
from bnbench.engine.steppers.base import Stepper
from bnbench.engine.steppers.stacked import Stacked
from bnbench.probes.batch import Batches
from bnbench.probes.layers import Found
from bnbench.probes.together import Together


class ProbedStack:
    """The replicas of a stack, measured together."""

    def __init__(self, private: PrivateStack, batches: Sequence[Batches]) -> None:
        self.private = private
        doubled = len(private.models) - len(batches)  # a stack of one has a double
        parts = [*batches, *[batches[-1]] * doubled]
        self._batches = [side_by_side(part) for part in zip(*parts, strict=True)]
        self._before: dict[str, Tensor] = {}

    @classmethod
    def of(cls, stepper: Stepper, layers: Sequence[Found], batches: Sequence[Batches]) -> ProbedStack | None:
        """None where the replicas have to be measured one by one."""
        if not isinstance(stepper, Stacked):
            return None
        try:
            return cls(PrivateStack(stepper.stack, stepper.settings, layers), batches)
        except ValueError:
            return None

    def keep_weights(self, stepper: Stepper) -> None:
        """A copy of every layer's weights, of all replicas."""
        assert isinstance(stepper, Stacked)
        first, stacked = stepper.models[0], stepper.stack.parameters
        self._before = {
            layer.name: stacked.of(first.get_parameter(layer.weight_name)).clone()
            for layer in self.private.layers[0]
        }

    def now(
        self, stepper: Stepper, step: int, planned: int, detailed: bool, lr: float, rates: Mapping[str, float]
    ) -> Together:
        """The replicas as they are."""
        assert isinstance(stepper, Stacked)
        self.private.update(stepper.stack)
        before, self._before = self._before, {}
        inputs, targets, others, _ = self._batches
        return Together(
            len(self.private.models), self.private.layers[0], step, planned, detailed, lr, rates, before,
            self.private.all, lambda: self.private.passed(inputs, targets), lambda: self.private.pre(others),
        )  # fmt: skip
