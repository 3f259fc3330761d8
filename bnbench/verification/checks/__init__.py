"""The checks, one function each; importing this package fills `bnbench.verification.checklist.CHECKS`, in order."""

from bnbench.verification.checks import (  # isort: skip  # the order of the table
    training,
    statistics,
    inference,
    registration,
    sizes,
    robustness,
    precision,
    tools,
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
