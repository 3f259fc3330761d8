"""The usual choices of a study that names none, and the choices that do not fit its task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bnbench.base.registry import Entry
from bnbench.study.augment_names import SEQUENCE, names_in
from bnbench.study.schema import AUTO, Settings

#: The task and augmentation of a study whose data set is not known: the mistake is in the data set then.
#: Names in a row that read as "a or b or c".
MOST_NAMED = 6
_UNKNOWN = {"task": "image_classification", "augment": "none"}


def usual(
    key: str, names: Mapping[str, str], vocabulary: Mapping[str, Mapping[str, Entry]]
) -> tuple[str, str]:
    """The name that `auto` stands for, and whose word it is, for messages ("" where it is bnbench's own).

    names: the data set and the task of the study, where they are known.
    """
    if key == "loss":
        task = vocabulary["task"].get(names.get("task", ""))
        return (
            (task.facts.losses[0], f"the task {task.name} names the loss: ")
            if task
            else ("cross_entropy", "")
        )
    if key == "model":
        task = vocabulary["task"].get(names.get("task", ""))
        return (
            (task.facts.models[0], f"the task {task.name} names the model: ")
            if task and task.facts.models
            else ("", "")
        )
    dataset = vocabulary["dataset"].get(names.get("dataset", ""))
    if dataset is None:
        return _UNKNOWN[key], ""
    name = str(getattr(dataset.facts, key))
    task = vocabulary["task"].get(names.get("task", ""))
    augmentation = vocabulary["augment"].get(name)
    if key == "augment" and task and augmentation and not fits(key, augmentation, task):
        return "none", ""
    return name, f'the data set {dataset.name} is registered with {key}="{name}": '


def fits_model(model: Entry, task: Entry, models: Mapping[str, Entry]) -> bool:
    """Whether a model is for the task: it says nothing, one of the two says so, or nothing speaks of the task."""
    if not model.facts.tasks or task.name in model.facts.tasks or model.name in task.facts.models:
        return True
    return not task.facts.models and not any(task.name in entry.facts.tasks for entry in models.values())


def fits(key: str, entry: Entry, task: Entry) -> bool:
    """Whether a loss or an augmentation is for the task: one of the two says so."""
    of_task = {"loss": task.facts.losses, "augment": task.facts.augmentations}[key]
    return bool(task.name in entry.facts.tasks or entry.name in of_task or entry.name == "none")


def misfits(settings: Settings, vocabulary: Mapping[str, Mapping[str, Entry]]) -> Iterator[tuple[str, str]]:
    """The key of a setting that is for other tasks, and the fault in one sentence."""
    task = vocabulary["task"][settings.task.name]
    if settings.batches.classes is not None and (not task.facts.per_class or task.facts.per_position):
        what = "a class at every position of a sample" if task.facts.per_class else "no classes"
        yield (
            "batches",
            f"batches.classes: {settings.batches.classes}, and the task {task.name} has {what}. Fix: leave it out.",
        )
    ways = task.facts.normalizations
    if ways and settings.normalize not in ways:
        yield (
            "normalize",
            f"normalize: {settings.normalize} is not for the task {task.name}. "
            f"Fix: normalize: {' or '.join(ways)}, or leave it out.",
        )
    models = vocabulary["model"]
    if not fits_model(models[settings.model.name], task, models):
        own = [name for name, entry in models.items() if task.name in entry.facts.tasks]
        fitting = dict.fromkeys([*(name for name in task.facts.models if name in models), *sorted(own)])
        yield (
            "model",
            f"model: {settings.model.name} is not for the task {task.name}. Fix: model: {' or '.join(fitting)}.",
        )
    augment = settings.augment
    chosen = [("loss", settings.loss.name)]
    chosen += [("augment", name) for name in names_in(augment.name, augment.options)]
    for key, name in chosen:
        if not fits(key, vocabulary[key][name], task):
            good = sorted(other for other, entry in vocabulary[key].items() if fits(key, entry, task))
            good = [other for other in good if other != SEQUENCE]
            known = " or ".join(good)
            if len(good) > MOST_NAMED:
                known = (
                    f"none, or one of the {len(good) - 1} that fit ({', '.join(good[:3])}, …: bnbench list)"
                )
            yield key, f"{key}: {name} is not for the task {task.name}. Fix: {key}: {known}."


def is_open(key: str, given: Any) -> bool:
    """Whether a study leaves the name of this section open."""
    name = given.get("name", AUTO) if isinstance(given, Mapping) else given
    return bool(name == AUTO)
