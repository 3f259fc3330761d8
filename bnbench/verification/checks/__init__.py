"""The checks, one function each; importing this package fills `bnbench.verification.checklist.CHECKS`, in order."""

from bnbench.verification.checks import (
    inference,
    precision,
    registration,
    robustness,
    sizes,
    statistics,
    tools,
    training,
)

__all__ = [
    "inference",
    "precision",
    "registration",
    "robustness",
    "sizes",
    "statistics",
    "tools",
    "training",
]
