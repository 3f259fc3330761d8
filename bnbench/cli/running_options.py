"""The options of how runs are trained: their states, their machines, their time. No result depends on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from bnbench.base.running import SAVE_EVERY, Running

_PANEL = "Machines and time"

SaveEvery = Annotated[
    float,
    typer.Option(
        "--save-every",
        metavar="SECONDS",
        rich_help_panel=_PANEL,
        help="How often a run saves its state, from which the same command goes on.",
    ),
]
Resume = Annotated[
    Literal["auto", "never"],
    typer.Option(
        "--resume", rich_help_panel=_PANEL, help="never: begin half-done runs again from their first step."
    ),
]


@dataclass(frozen=True)
class RunningOptions:
    """How runs are trained."""

    save_every: SaveEvery = SAVE_EVERY
    resume: Resume = "auto"

    def running(self) -> Running:
        """The same, checked."""
        return Running(save_every=self.save_every, resume=self.resume)
