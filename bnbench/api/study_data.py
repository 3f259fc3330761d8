"""The data of a study for `doctor`: its training batches in their order, its loss and its metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnbench.api.arguments import StudyLike
from bnbench.api.plugins import Names
from bnbench.api.several import load_studies
from bnbench.base.errors import BnbenchError
from bnbench.base.user_code import guarded, raise_interrupt
from bnbench.study import Settings, Study

if TYPE_CHECKING:
    from torch import Tensor

    from bnbench.data.prepared import Prepared
    from bnbench.engine.own import Use
    from bnbench.network.doctor.data import PatientData
    from bnbench.tasks import Task


@dataclass(frozen=True)
class StudyData:
    """A study and its data. settings: of its baseline, whose batches these are. use: the task as a network sees it.

    overrides: as they were given.
    """

    study: Study
    settings: Settings
    use: Use
    data: PatientData
    overrides: tuple[str, ...] = ()


def study_data(given: StudyLike, names: Names, data_dir: Path, device: str = "cpu") -> StudyData:
    """Load a study and its data. names: with the overrides. Raises BnbenchError and ConfigError.

    The batches are the first ones of its first seed's first epoch, without augmentation, as precise statistics are
    taken; of a study with several variants those of the baseline.
    """
    import torch

    from bnbench.engine.build import two_networks
    from bnbench.engine.library import Library
    from bnbench.engine.own import Use
    from bnbench.tasks import task_of

    (study,) = load_studies([given], names)
    settings = study.variants[study.baseline]
    if settings.framework != "torch" or two_networks(settings):
        what = "framework: keras" if settings.framework != "torch" else f"task: {settings.task.name}"
        raise BnbenchError(
            f"study {study.name} with {what} has no batches for one network of torch.",
            fix="--data with another study, such as quickstart.",
        )
    with guarded():
        prepared = Library(data_dir, torch.device(device)).prepared(settings)
    return StudyData(
        study,
        settings,
        Use(settings.task.name, task_of(settings.task), prepared.sizes),
        _data(study, settings, prepared),
        tuple(names.overrides),
    )


def _data(study: Study, settings: Settings, prepared: Prepared) -> PatientData:
    from bnbench.base.seeding import generator
    from bnbench.data.batches import batch_sizes, epoch_order
    from bnbench.engine.build import make_objective
    from bnbench.network.doctor.data import DataBatch, PatientData, is_enough, padded_pair
    from bnbench.tasks import task_of

    task, count, seed = task_of(settings.task), len(prepared.train_targets), study.seeds[0]
    draw = generator(settings.seed_of("noise", seed), "batch", 0)
    order = epoch_order(count, settings.batch_size, settings.seed_of("order", seed), 0, settings.last_batch)
    batches: list[DataBatch] = []
    for index in order:
        place = index.to(prepared.train_inputs.device)
        targets = prepared.standard_targets(prepared.train_targets[place])
        inputs, targets = task.batch(prepared.train_batch(place), targets, draw)
        batches.append(DataBatch(inputs, targets, len(index)))
        if is_enough(len(batches), sum(batch.size for batch in batches)):
            break
    sizes = batch_sizes(count, settings.batch_size, settings.last_batch)
    steps = settings.steps if settings.steps is not None else int((settings.epochs or 0) * len(sizes))
    objective = make_objective(settings)
    return PatientData(
        f"study {study.name}",
        tuple(batches),
        batch_size=settings.batch_size,
        samples=count,
        last_size=sizes[-1],
        steps=steps,
        objective=objective,
        objective_name=settings.loss.name,
        metrics=_metrics(task, objective, prepared),
        padded=padded_pair(batches[0].inputs) if prepared.sizes.masked else None,
    )


def _metrics(
    task: Task, objective: Callable[[Tensor, Tensor], Tensor], prepared: Prepared
) -> Callable[[Any, Any], Mapping[str, float]]:
    """The loss and the primary metric of a batch; what does not fit the outputs is left out."""
    primary = task.facts.primary

    def metrics(outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        found: dict[str, float] = {}
        try:
            found["loss"] = float(objective(outputs, targets.to(outputs.device)))
            measured = dict(task.measured(task.kept(outputs, targets), targets.cpu(), prepared))
        except BaseException as error:  # outputs of another form: the layers can be judged all the same
            raise_interrupt(error)
            return found
        if primary in measured:
            found[primary] = measured[primary]
        return found

    return metrics
