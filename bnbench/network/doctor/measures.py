"""What several rules measure on a patient: each once."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import nn

from bnbench.network.doctor.data import DataBatch
from bnbench.network.doctor.dropout_shift import Shift, dropout_shifts, noise_modules
from bnbench.network.doctor.gap import Measured, measure_gap
from bnbench.network.doctor.padding_effect import PaddingEffect, padding_effect
from bnbench.network.doctor.passes import Tracked, tracked_layers
from bnbench.network.doctor.patient import Patient
from bnbench.network.doctor.updates import Updates, training_step
from bnbench.network.sites.norm_site import NormSite

#: Batches of made-up inputs for rules that work without data, and samples of each.
MADE_UP, SAMPLES = 4, 8

Value = TypeVar("Value")


def _once(patient: Patient, key: str, make: Callable[[], Value]) -> Value:
    if key not in patient.kept:
        patient.kept[key] = make()
    value: Value = patient.kept[key]
    return value


def batches_of(patient: Patient) -> Sequence[DataBatch]:
    """Batches of its data, or of its made-up inputs."""
    if patient.data is not None:
        return patient.data.batches
    assert patient.inputs is not None
    whole = [patient.inputs(SAMPLES * (place + 1)) for place in range(MADE_UP)]
    return [DataBatch(_last(inputs, SAMPLES), None, SAMPLES) for inputs in whole]


def _last(inputs: Any, count: int) -> Any:
    """The last samples: made-up inputs start alike."""
    if isinstance(inputs, dict):
        return {name: _last(value, count) for name, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return tuple(_last(value, count) for value in inputs)
    return inputs[-count:] if getattr(inputs, "ndim", 0) else inputs


def has_inputs(patient: Patient) -> bool:
    """Whether there is something to run the network on."""
    return patient.data is not None or (patient.inputs is not None and not patient.sites.error)


def may_drop(patient: Patient) -> bool:
    """Whether something may drop values in training. A pass without any such call shows that nothing does."""
    nodes = patient.sites.nodes
    if noise_modules(patient.model) or not patient.model.training or not nodes:
        return True
    return any(node.kind == "function" and _MAY_DROP.search(node.name) for node in nodes)


#: Functions that drop something, draw random numbers, or are not known.
_MAY_DROP = re.compile("drop|rand|bernoulli|noise|unknown|mask", re.IGNORECASE)


def tracked_of(patient: Patient) -> Tracked:
    """Its layers with running statistics."""
    return _once(patient, "tracked", lambda: tracked_layers(patient.model, batches_of(patient)[0]))


def gap_of(patient: Patient) -> Measured:
    """The train/eval gap on its data."""
    data = patient.data
    assert data is not None
    return _once(patient, "gap", lambda: measure_gap(patient.model, data))


def shifts_of(patient: Patient) -> dict[str, Shift]:
    """The variance shift of its layers. Without data that of single values alone."""
    layers = tracked_of(patient).layers
    return _once(
        patient,
        "shifts",
        lambda: dropout_shifts(patient.model, batches_of(patient), layers, branches=patient.data is not None),
    )


def updates_of(patient: Patient) -> dict[str, Updates]:
    """The updates of its statistics in a training step."""

    def made() -> dict[str, Updates]:
        batch = batches_of(patient)[0]
        few = DataBatch(_last(batch.inputs, 4), None, min(4, batch.size))
        return training_step(patient.model, few, tracked_of(patient).layers)

    return _once(patient, "updates", made)


def padding_of(patient: Patient) -> PaddingEffect | None:
    """What padding does; None where its data has none."""
    pair = patient.data.padded if patient.data is not None else None
    if pair is None:
        return None
    norms: dict[str, nn.Module] = {
        site.name: site.module for site in patient.norms if site.module is not None
    }
    return _once(patient, "padding", lambda: padding_effect(patient.model, pair, norms))


def site_of(patient: Patient, name: str) -> NormSite | None:
    """The site whose module, or a module inside it, has that name."""
    for site in patient.norms:
        if any(name == own or name.startswith(f"{own}.") or own == "" for own in site.names):
            return site
    return None
