"""The checks, one function each; importing this package fills `bnbench.verify.checklist.CHECKS`, in order."""

from bnbench.verify.checks import (  # isort: skip  # the order of the table
    training,
    statistics,
    inference,
    registration,
    precision,
    robustness,
)

__all__ = ["inference", "precision", "registration", "robustness", "statistics", "training"]
