"""The data that a network of the user's is looked at with: a study's, or batches that are given in Python."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnbench.api.arguments import data_folder
from bnbench.base.errors import BnbenchError

if TYPE_CHECKING:
    from torch import nn

    from bnbench.api.study_data import StudyData
    from bnbench.engine.own import Recipe, Use
    from bnbench.engine.own.fit import Fit
    from bnbench.network.doctor.data import PatientData
    from bnbench.network.doctor.patient import Patient
    from bnbench.network.source import LoadedModel, Wanted


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


def require_study(data: StudyData | PatientData | None) -> None:
    """Raises BnbenchError where a finding is to be trained, and there is no study to train on."""
    from bnbench.api.study_data import StudyData

    if not isinstance(data, StudyData):
        raise BnbenchError("--train-the-difference: there is no study to train on.", fix="--data quickstart")


def wanted_of(data: StudyData | PatientData | None) -> Wanted | None:
    """What a study's data ask of a network; None without a study."""
    if data is None:
        return None
    from bnbench.api.study_data import StudyData

    return data.use.wanted() if isinstance(data, StudyData) else None


def loaded_for(word: str, wanted: Wanted, data: StudyData | PatientData | None) -> LoadedModel:
    """The network of a MODEL word. Unless --input says otherwise, its inputs are like those of a study's data.

    Raises BnbenchError.
    """
    from bnbench.network.source import LoadedModel, load_model

    if data is None or wanted.input is not None:
        return load_model(word, wanted)
    from bnbench.api.study_data import StudyData
    from bnbench.network.source.arguments import call_text
    from bnbench.network.source.load import find_origin
    from bnbench.network.source.words import read_word

    if not isinstance(data, StudyData):
        return load_model(word, wanted)
    read = read_word(word)
    origin, options = find_origin(read), {**read.options, **wanted.options}
    model = recipe_of(word, data, wanted.num_classes).built(wanted.seed)
    arguments = origin.arguments(replace(data.use.wanted(), num_classes=wanted.num_classes, options=options))
    said = () if origin.ready else (f"built as {call_text(origin.name, arguments)}",)
    fit, _ = fit_for(model, data.use)
    shape = " x ".join(map(str, data.use.sizes.input_shape))

    def inputs(samples: int) -> Any:
        return fit.call(data.use.inputs(samples))

    return LoadedModel(model, word, origin.content(), inputs, shape, said)


def recipe_of(word: str, data: StudyData, classes: int | None = None) -> Recipe:
    """What the network of a word is built from for a study; its normalizers stay. classes: in place of the data's."""
    from bnbench.engine.own import Recipe
    from bnbench.models.layers import NormLayer
    from bnbench.models.own_options import built_by
    from bnbench.network.source.load import find_origin
    from bnbench.network.source.words import read_word
    from bnbench.norms import norms

    read = read_word(word)
    origin, none = find_origin(read), norms.get("none")

    def make(wanted: Wanted) -> nn.Module:
        known = wanted if classes is None else replace(wanted, num_classes=classes)
        return built_by(origin, known, read.options)

    return Recipe(word, make, {}, NormLayer(none, none.typed({})), data.use)


def data_for(model: nn.Module, given: StudyData | PatientData | None) -> PatientData | None:
    """The batches as this network takes them: gray images in three channels, features as vectors.

    Where its outputs are not those of the task, there is no loss and no metric. Raises BnbenchError for a network that
    takes no batch of the data.
    """
    if given is None:
        return None
    from bnbench.api.study_data import StudyData

    if not isinstance(given, StudyData):
        _check_taken(model, given)
        return given
    fit, wrong = fit_for(model, given.use)
    data = given.data
    changed = replace(
        data,
        batches=tuple(replace(batch, inputs=fit.call(batch.inputs)) for batch in data.batches),
        padded=data.padded and tuple(fit.call(inputs) for inputs in data.padded),
        said=tuple(filter(None, (fit.said(), wrong))),
    )
    return replace(changed, objective=None, metrics=None) if wrong else changed


def _check_taken(model: nn.Module, data: PatientData) -> None:
    """Raises BnbenchError where the network does not take the first batch; tried on the CPU, without lazy layers."""
    import torch

    from bnbench.network.doctor.untouched import device_of, shape_text
    from bnbench.network.source.trial import tried

    tensors = (*model.parameters(), *model.buffers())
    spread = isinstance(model, torch.nn.DataParallel)
    if spread or device_of(model).type != "cpu" or any(map(torch.nn.parameter.is_lazy, tensors)):
        return
    first = data.batches[0].inputs
    if fault := tried(model, first).fault:
        raise BnbenchError(
            f"data: the network does not take the data: {fault}",
            f"A batch of it is {shape_text(first)}.",
            "batches as the network is called with them: inputs, or (inputs, targets).",
        )


def fit_for(model: nn.Module, use: Use) -> tuple[Fit, str]:
    """How a batch of the task reaches the network, and what is wrong with its outputs, "" where nothing is."""
    from bnbench.engine.own import fit_of
    from bnbench.engine.own.build import SAMPLES
    from bnbench.engine.own.fit import candidates
    from bnbench.network.source.trial import tried

    try:
        return fit_of(type(model).__name__, model, use), ""
    except BnbenchError as error:
        for fit in candidates(model, use, None):
            if not tried(model, fit.call(use.inputs(SAMPLES))).fault:
                return fit, f"no loss and no metric: {error.what}"
        raise


def said_with(data: PatientData | None, said: Sequence[str]) -> Iterator[str]:
    """What was decided for a network (`said`), and the data that it is looked at with, whose inputs take the place."""
    for text in said:
        if data is None or data.inputs is None or not text.startswith("input "):
            yield text
    if data is not None:
        how = f" ({'; '.join(data.said)})" if data.said else ""
        yield f"looked at with {data.total} samples in {len(data.batches)} batches of {data.source}{how}"


def gap_values(patient: Patient) -> dict[str, Any] | None:
    """What was measured of the train/eval gap, as JSON values; None where nothing was."""
    from bnbench.network.doctor.rules.gap import RECORD

    record = patient.kept.get(RECORD)
    return None if record is None else {RECORD: asdict(record)}
