"""What is known of an index of a network's inside without computing it: its words, its scale and its noise floor.

A probe (`bnbench.probes`) computes the indices of a run; what keeps, compares and reports them reads these facts alone,
and needs no torch. No index is better where it is larger: that is what a study asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: How two variants are compared. ratio: of positive numbers, on the scale of their logarithm. points: a difference of
#: shares, in percentage points. difference: of any numbers.
Scale = Literal["ratio", "points", "difference"]
#: How the names of noise floors end.
FLOOR = "_floor"


@dataclass(frozen=True)
class IndexFacts:
    """One number of a run's inside.

    words: its name in a sentence, behind "the". unit: of the number, in words. rises: whether a larger number
    means more of what is measured, so that "above the noise floor" means larger than the floor. measure: the
    measure that `probe: {what: [...]}` names to have it; "" where that is not known.
    """

    name: str
    words: str
    scale: Scale
    unit: str = ""
    rises: bool = True
    measure: str = ""

    @property
    def floor(self) -> str:
        """The index that holds its noise floor, where one was measured."""
        return f"{self.name}{FLOOR}"


INDICES: dict[str, IndexFacts] = {
    facts.name: facts
    for facts in (
        IndexFacts(
            "drift",
            "drift of the pre-activations",
            "ratio",
            "widths of a unit's distribution",
            measure="activations",
        ),
        IndexFacts(
            "shift_norm",
            "shift of the gradient (norm)",
            "ratio",
            "share of the gradient's norm",
            measure="gradient_shift",
        ),
        IndexFacts(
            "shift_cosine",
            "cosine of the gradient before and after",
            "difference",
            "cosine",
            rises=False,
            measure="gradient_shift",
        ),
        IndexFacts("loss_range", "range of the loss along the step", "ratio", "loss", measure="landscape"),
        IndexFacts(
            "gradient_change",
            "change of the gradient along the step",
            "ratio",
            "norm of the gradient",
            measure="landscape",
        ),
        IndexFacts(
            "smoothness",
            "change of the gradient per length of the step",
            "ratio",
            "β-smoothness along the gradient",
            measure="landscape",
        ),
        IndexFacts(
            "update_loss_range",
            "range of the loss along the study's own update",
            "ratio",
            "loss",
            measure="landscape",
        ),
        IndexFacts(
            "update_gradient_change",
            "change of the gradient along the study's own update",
            "ratio",
            "norm of the gradient",
            measure="landscape",
        ),
        IndexFacts(
            "update_smoothness",
            "change of the gradient per length of the study's own update",
            "ratio",
            "β-smoothness along the update",
            measure="landscape",
        ),
        IndexFacts(
            "sharpness_train",
            "sharpness in train mode",
            "ratio",
            "largest eigenvalue of the Hessian",
            measure="hessian",
        ),
        IndexFacts(
            "sharpness_eval",
            "sharpness in eval mode",
            "ratio",
            "largest eigenvalue of the Hessian",
            measure="hessian",
        ),
        IndexFacts(
            "converged_train",
            "share of steps with a converged eigenvalue in train mode",
            "points",
            "share",
            measure="hessian",
        ),
        IndexFacts(
            "converged_eval",
            "share of steps with a converged eigenvalue in eval mode",
            "points",
            "share",
            measure="hessian",
        ),
        IndexFacts(
            "gradient_growth", "growth of squared gradients per layer", "ratio", "factor", measure="gradients"
        ),
        IndexFacts("dead_share", "share of dead units", "points", "share", measure="activations"),
        IndexFacts("saturated_share", "share of saturated units", "points", "share", measure="activations"),
        IndexFacts(
            "update_ratio",
            "size of an update against the weights",
            "ratio",
            "share of the weights' norm",
            measure="weights",
        ),
    )
}


def index_facts(name: str) -> IndexFacts:
    """The facts of an index; of one that is not known (a plugin's), what its name says.

    >>> index_facts("my_index").words
    'my index'
    """
    return INDICES.get(name) or IndexFacts(name, name.replace("_", " "), "difference")


def is_floor(name: str) -> bool:
    """Whether the number is the noise floor of another."""
    return name.endswith(FLOOR)
