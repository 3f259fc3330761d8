"""Errors in a user's code as mistakes that name the line."""

from __future__ import annotations

import traceback
from pathlib import Path

import torch

import bnbench
from bnbench.base.errors import BnbenchError, Mistake
from bnbench.base.user_code import text_of

_PACKAGES = tuple(str(Path(package.__file__ or "").parent) for package in (bnbench, torch))


def build_mistake(label: str, error: BaseException) -> Mistake:
    """The mistake behind an error in making a network, its optimizer or its schedule."""
    return _mistake(label, error, "it can't be built: ")


def crash_mistake(label: str, error: BaseException) -> Mistake:
    """The mistake behind an error in sending a batch through a network."""
    return _mistake(label, error, "")


def _mistake(label: str, error: BaseException, head: str) -> Mistake:
    if isinstance(error, BnbenchError):
        return Mistake(f"variant {label}", str(error))
    place = place_of(error)
    message = text_of(error)
    fix = ". Fix: a smaller model" if "can't allocate memory" in message else ""
    return Mistake(f"variant {label}", f"{head}{message}{f' ({place})' if place else ''}{fix}")


def place_of(error: BaseException) -> str:
    """The last line of the user's own code in the traceback, "my_norms.py:12"; "" where none is."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame
        for frame in frames
        if not frame.filename.startswith((*_PACKAGES, "<")) and "site-packages" not in frame.filename
    ]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else ""
