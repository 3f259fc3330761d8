"""The data sets of a study, each loaded once and prepared once for each way of splitting it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch

from bnbench.base.errors import BnbenchError, DataError
from bnbench.base.user_code import raise_interrupt, text_of
from bnbench.data import Dataset, datasets
from bnbench.data.further import further_test_sets
from bnbench.data.prepared import Preparation, Prepared
from bnbench.data.split import Sampling
from bnbench.data.torch_datasets import taken
from bnbench.study import Choice, Settings
from bnbench.study.sections import Validation
from bnbench.tasks import task_of


class Prepares(Protocol):
    """A source of prepared data."""

    def prepared(self, settings: Settings) -> Prepared:
        """The data set, split and normalised, on the device."""
        ...


#: The settings that choose and prepare the data.
_OF_THE_DATA = {
    "task",
    "dataset",
    "validation",
    "max_train_samples",
    "max_eval_samples",
    "normalize",
    "test_sets",
}


def data_key(settings: Settings) -> str:
    """Settings of the same key have the same data, split and normalised alike."""
    return settings.model_dump_json(include=_OF_THE_DATA)


_SOME_SPLIT = Validation()


def _sampling(settings: Settings) -> Sampling:
    validation = settings.validation
    return Sampling(
        validation.by,
        validation.fraction,
        validation.split_seed,
        settings.max_train_samples,
        settings.max_eval_samples,
    )


def _reads_a_part(factory: Callable[..., Dataset], settings: Settings) -> bool:
    """Whether the data set may skip unused samples. False where the seeds use different samples."""
    limited = settings.max_train_samples or settings.max_eval_samples
    return (
        bool(limited) and "split" not in settings.vary and "sampling" in inspect.signature(factory).parameters
    )


def _hears_of_the_task(factory: Callable[..., Dataset]) -> bool:
    """Whether what the data set reads depends on the task: such as classes or numbers."""
    parameter = inspect.signature(factory).parameters.get("task")
    return parameter is not None and parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD


class Library:
    """The data sets of a study, each loaded once and prepared once for each way of splitting it."""

    def __init__(self, data_dir: Path, device: torch.device) -> None:
        self._data_dir, self._device = data_dir, device
        self._datasets: dict[str, Dataset] = {}
        self._prepared: dict[str, Prepared] = {}
        self._last_split: dict[str, str] = {}

    def dataset(self, settings: Settings) -> Dataset:
        """The data set of these settings. Raises DataError."""
        entry = datasets.get(settings.dataset.name)
        chosen: dict[str, Any] = (
            {"sampling": _sampling(settings)} if _reads_a_part(entry.factory, settings) else {}
        )
        if _hears_of_the_task(entry.factory):
            chosen["task"] = settings.task.name
        key = f"{settings.dataset.model_dump_json()} {chosen}"
        if key not in self._datasets:
            try:
                made = entry.factory(self._data_dir, **chosen, **entry.typed(settings.dataset.options))
                self._datasets[key] = made if isinstance(made, Dataset) else taken(entry.name, made)
            except BnbenchError:
                raise
            except BaseException as error:
                raise_interrupt(error)
                raise DataError(
                    f"data set {entry.name}: {text_of(error)}",
                    f"Its function in {entry.factory.__module__} raised this.",
                    "--debug shows where.",
                ) from error
        return self._datasets[key]

    def prepared(self, settings: Settings) -> Prepared:
        """The data set, split and normalised, on the device. Raises DataError."""
        key = data_key(settings)
        if key not in self._prepared:
            if "split" in settings.vary and settings.validation.by == "auto":
                _check_varied(self.dataset(settings))
            if "split" in settings.vary:  # of the splits of all seeds, only the last one is kept
                without_split = data_key(settings.model_copy(update={"validation": _SOME_SPLIT}))
                self._prepared.pop(self._last_split.get(without_split, ""), None)
                self._last_split[without_split] = key
            preparation = Preparation(_sampling(settings), settings.task, settings.normalize)
            task = task_of(settings.task)
            prepared = task.prepare(self.dataset(settings), preparation, self._device)
            self._prepared[key] = self._with_test_sets(prepared, settings) if settings.test_sets else prepared
        return self._prepared[key]

    def _with_test_sets(self, prepared: Prepared, settings: Settings) -> Prepared:
        def load(choice: Choice) -> Dataset:
            dataset = self.dataset(settings.model_copy(update={"dataset": choice}))
            task_of(settings.task).check(dataset)
            return dataset

        sets = further_test_sets(
            prepared, self.dataset(settings), settings.test_sets, _sampling(settings), load
        )
        return replace(prepared, test_sets=sets)

    def fingerprints(self, settings: Settings) -> dict[str, str]:
        """What stands for the content of the further test sets that are data sets of their own."""
        return {
            one.name: self.dataset(settings.model_copy(update={"dataset": one.dataset})).fingerprint
            for one in settings.test_sets
            if one.dataset
        }


def _check_varied(dataset: Dataset) -> None:
    if dataset.val_targets is not None:
        raise DataError(
            "vary: split: the data has a validation part of its own, which is the same for every seed.",
            "There is no split to vary.",
            "validation: {by: sample}, which holds out a part of train and leaves the data's own one unused.",
        )
