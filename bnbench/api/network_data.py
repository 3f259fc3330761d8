"""The data that a network of the user's is looked at with: a study's, or batches that are given in Python."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnbench.api.arguments import data_folder
from bnbench.base.errors import BnbenchError

if TYPE_CHECKING:
    from torch import nn

    from bnbench.api.study_data import StudyData
    from bnbench.network.doctor.data import PatientData
    from bnbench.network.doctor.patient import Patient
    from bnbench.network.source import Wanted


def given_data(
    data: Any, overrides: Sequence[str] = (), plugins: Sequence[Path] = ()
) -> StudyData | PatientData | None:
    """The batches that are meant: of a study, or of what was given. Raises BnbenchError and ConfigError."""
    is_study = isinstance(data, str | os.PathLike | Mapping)
    if overrides and not is_study:
        raise BnbenchError(
            f"{overrides[0]}: this replaces a setting of a study, and there is none.", fix="--data STUDY"
        )
    if data is None:
        return None
    if not is_study:
        from bnbench.network.doctor.data import data_of

        return data_of(data)
    from bnbench.api.plugins import known_names
    from bnbench.api.study_data import study_data

    return study_data(data, known_names(plugins, overrides), data_folder(None))


def wanted_of(data: StudyData | PatientData | None, seed: int = 0) -> Wanted | None:
    """What a study's data ask of a network; None without a study."""
    from bnbench.api.study_data import StudyData
    from bnbench.network.source import Wanted

    if not isinstance(data, StudyData):
        return None
    sizes = data.sizes
    image = len(sizes.input_shape) == 3
    return Wanted(
        num_classes=sizes.num_outputs if not sizes.per_position else None,
        in_channels=sizes.input_shape[0] if image else None,
        shape=sizes.input_shape,
        vocabulary=sizes.vocabulary,
        outputs=sizes.num_outputs,
        task=data.settings.task.name,
        seed=seed,
    )


def data_for(model: nn.Module, given: StudyData | PatientData | None) -> PatientData | None:
    """The batches as this network takes them: gray images in three channels, of its size."""
    from bnbench.api.study_data import StudyData

    return fitted(model, given.data) if isinstance(given, StudyData) else given


def fitted(model: nn.Module, data: PatientData) -> PatientData:
    """The same data, whose images are repeated to the channels of the network, and resized to its `image_size`."""
    import torch

    from bnbench.network.doctor.fitted import fit_of

    fit = fit_of(model)
    images = [b.inputs for b in data.batches if isinstance(b.inputs, torch.Tensor) and b.inputs.ndim == 4]
    if len(images) < len(data.batches) or fit is None:
        return data
    return replace(data, batches=tuple(replace(batch, inputs=fit(batch.inputs)) for batch in data.batches))


def gap_values(patient: Patient) -> dict[str, Any] | None:
    """What was measured of the train/eval gap, as JSON values; None where nothing was."""
    from bnbench.network.doctor.rules.gap import RECORD

    record = patient.kept.get(RECORD)
    return None if record is None else {RECORD: asdict(record)}
