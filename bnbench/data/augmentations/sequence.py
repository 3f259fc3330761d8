"""Augmentations one after the other: what a list in a study means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field, ValidationError
from torch import Tensor

from bnbench.base.errors import UnknownNameError
from bnbench.base.options import OptionFaults
from bnbench.data.augmentations import augmentations
from bnbench.study.augment_names import SEQUENCE, why_refused
from bnbench.study.value_faults import faults_by_path, message

Fault = tuple[tuple[str, ...], str]


def _complete(*, steps: list[Any]) -> Mapping[str, Any]:
    """Every step by its name, with all its options. Raises OptionFaults with the faults of all steps."""
    faults: list[Fault] = []
    whole: list[dict[str, Any]] = []
    for place, step in enumerate(steps):
        try:
            whole.append(_completed(step))
        except OptionFaults as error:
            faults += [(("steps", str(place), *path), text) for path, text in error.faults]
    if faults:
        raise OptionFaults(faults)
    return {"steps": whole}


def _completed(step: Any) -> dict[str, Any]:
    options = dict(step) if isinstance(step, Mapping) else {"name": step}
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise OptionFaults(
            [((), f"{step!r} has no name. Fix: such as {{name: RandomHorizontalFlip, p: 0.5}}.")]
        )
    if name in (SEQUENCE, "none", "auto"):
        raise OptionFaults([(("name",), f"{name} can't stand in a list. Fix: name each step itself.")])
    if why := why_refused(name):
        raise OptionFaults([(("name",), why)])
    try:
        entry = augmentations.get(name)
    except UnknownNameError as error:
        raise OptionFaults([(("name",), str(error))]) from None
    model = entry.options()
    try:
        model.model_validate(options)
    except ValidationError as error:
        raise OptionFaults(
            [
                (path[1:], message(details, path, model, f"augment {name}"))
                for path, details in faults_by_path(error, ("augment",)).items()
            ]
        ) from None
    typed = entry.typed(options)
    if entry.facts.complete:
        typed = dict(entry.facts.complete(**typed))
    return {"name": name, **typed}


@augmentations.register(SEQUENCE, complete=_complete)
def sequence(
    inputs: Tensor, draw: torch.Generator, *, steps: Annotated[list[Any], Field(min_length=1)]
) -> Tensor:
    """Several augmentations, one after the other. A list in a study means this.

    steps: a name, or a mapping of a name and its options, each
    """
    raise NotImplementedError  # `augmentation_of` makes each step by itself
