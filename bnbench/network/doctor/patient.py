"""What the rules of `doctor` look at: a network, its normalizations, and what the user gave beside it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from bnbench.network.doctor.data import PatientData
from bnbench.network.sites.norm_site import NormSite, NormSites
from bnbench.network.snapshot import untouched


@dataclass(frozen=True)
class Patient:
    """A network to be looked at. A rule may run, train and change the model: it is put back after each rule.

    inputs: from a number of samples to what the network is called with; None where no input is known. optimizers: those
    that train it. checkpoint: what was missing or extra in it. was_trained: whether it was trained at all (else
    statistics that were never updated are no finding). kept: what several rules measure, by a name.
    """

    model: nn.Module
    sites: NormSites
    inputs: Callable[[int], Any] | None = None
    optimizers: tuple[Optimizer, ...] = ()
    checkpoint: Any = None
    data: PatientData | None = None
    was_trained: bool = False
    input_text: str = ""
    kept: dict[str, Any] = field(default_factory=dict)

    @property
    def norms(self) -> tuple[NormSite, ...]:
        """The sites that are modules, each once."""
        return tuple(site for site in self.sites.sites if site.module is not None)

    def untouched(self) -> AbstractContextManager[torch.device]:
        """Inside, the model may be changed; afterwards it is as it was."""
        return untouched(self.model)

    def has(self, need: str) -> bool:
        """Whether something that a rule needs is there: forward, data, optimizer or checkpoint."""
        present = {
            "forward": self.sites.tracer != "none",
            "data": self.data is not None,
            "optimizer": bool(self.optimizers),
            "checkpoint": self.checkpoint is not None,
        }
        return present[need]
