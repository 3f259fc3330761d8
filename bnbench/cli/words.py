"""The words of a command: studies and overrides."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence

import typer


def study_and_overrides(words: Sequence[str] | None) -> tuple[str, list[str]]:
    """The one study of a command that takes no more, and the overrides. Raises BadParameter."""
    studies, overrides = studies_and_overrides(words)
    if len(studies) > 1:
        raise typer.BadParameter(f"one study at a time, but there are {len(studies)}: {', '.join(studies)}.")
    return studies[0], overrides


def studies_and_overrides(words: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Split the words: those with "=" (and no such file) are overrides; without a study, the quickstart."""
    words = words or []
    overrides = [word for word in words if "=" in word and not os.path.isfile(word)]
    studies = [word for word in words if word not in overrides]
    if studies.count("-") > 1:
        raise typer.BadParameter("standard input (-) can be read once.")
    return studies or ["quickstart"], overrides


def command_without_seeds() -> str:
    """The command line without its seeds, for advice to add seeds."""
    words = [word for word in sys.argv[1:] if not word.startswith("seeds=")]
    return shlex.join(["bnbench", *words])
