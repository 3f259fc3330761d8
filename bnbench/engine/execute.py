"""All the runs of a plan, in this process; a run that crashes is recorded, and the rest go on."""

from __future__ import annotations

import inspect
import itertools
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch

from bnbench.base.errors import BnbenchError, DataError, Mistake
from bnbench.base.process_state import left_as_found
from bnbench.base.user_code import raise_interrupt, text_of
from bnbench.data import Dataset, datasets
from bnbench.data.augmentations import Augmentation, augmentation_of
from bnbench.data.batches import Prepared, prepare
from bnbench.data.split import Sampling
from bnbench.engine.backends.base import trainer_of, training_of
from bnbench.engine.device import environment
from bnbench.engine.rehearsal import Case, Rehearsal, build_mistake, rehearse_cases
from bnbench.study import Settings
from bnbench.study.events import Event, RunEnded
from bnbench.study.layer_names import label_of
from bnbench.study.plan import RunSpec
from bnbench.study.records import RunRecord
from bnbench.study.schema import Validation


class Prepares(Protocol):
    """Whatever has the data of some settings ready."""

    def prepared(self, settings: Settings) -> Prepared:
        """The data set, split and normalised, on the device."""
        ...


#: The settings that choose and prepare the data.
_OF_THE_DATA = {"dataset", "validation", "max_train_samples", "max_eval_samples", "normalize"}


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
    """Whether the data set can leave unread what is not used. Not where the seeds use different samples."""
    limited = settings.max_train_samples or settings.max_eval_samples
    return (
        bool(limited) and "split" not in settings.vary and "sampling" in inspect.signature(factory).parameters
    )


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
        chosen = {"sampling": _sampling(settings)} if _reads_a_part(entry.factory, settings) else {}
        key = f"{settings.dataset.model_dump_json()} {chosen}"
        if key not in self._datasets:
            try:
                self._datasets[key] = entry.factory(
                    self._data_dir, **chosen, **entry.typed(settings.dataset.options)
                )
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
                some = data_key(settings.model_copy(update={"validation": _SOME_SPLIT}))
                self._prepared.pop(self._last_split.get(some, ""), None)
                self._last_split[some] = key
            self._prepared[key] = prepare(
                self.dataset(settings),
                val_fraction=settings.validation.fraction,
                split_seed=settings.validation.split_seed,
                max_train_samples=settings.max_train_samples,
                device=self._device,
                normalize=settings.normalize,
                by=settings.validation.by,
                max_eval_samples=settings.max_eval_samples,
            )
        return self._prepared[key]


def _check_varied(dataset: Dataset) -> None:
    if dataset.val_labels is not None:
        raise DataError(
            "vary: split: the data has a validation part of its own, which is the same for every seed.",
            "There is no split to vary.",
            "validation: {by: sample}, which holds out a part of train and leaves the data's own one unused.",
        )


def execute(
    runs: Iterable[RunSpec], library: Library, device: torch.device, debug: bool = False
) -> Iterator[Event]:
    """Train the runs, the seeds of a cell together. debug: let an exception through instead of recording it."""
    for group in replicas(runs):
        yield from execute_group(group, library, device, debug)


def replicas(runs: Iterable[RunSpec]) -> list[list[RunSpec]]:
    """Runs that differ in their seed alone and have the same data, together; in the order of their first."""
    groups: dict[tuple[str, str, str, str], list[RunSpec]] = {}
    for run in runs:
        data = data_key(run.settings.for_seed(run.seed))
        groups.setdefault((run.label, run.cell, run.settings.engine, data), []).append(run)
    return list(groups.values())


def execute_group(
    runs: Sequence[RunSpec], library: Prepares, device: torch.device, debug: bool = False
) -> Iterator[Event]:
    """Train replicas. Where several raise together, each is tried again alone: only the guilty one crashes."""
    left, settings = list(runs), runs[0].settings
    error: BaseException | None = None
    events: Iterator[Event] = iter(())
    try:
        data, augmentation = (
            library.prepared(settings.for_seed(runs[0].seed)),
            augmentation_of(settings.augment),
        )
        _warm_up(runs[0], data, augmentation, device)
        events = trainer_of(settings)(runs, data, augmentation, device)
    except BaseException as raised:
        raise_interrupt(raised)
        error = raised
    while error is None:
        try:
            event = next(events)
        except StopIteration:
            return
        except BaseException as raised:
            raise_interrupt(raised)
            error = raised
            break
        if isinstance(event, RunEnded):
            left.remove(event.run)
        yield event
    if debug:
        raise error
    if len(runs) == 1:
        yield RunEnded(runs[0], crashed(runs[0], error, device))
        return
    for run in left:
        yield from execute_group([run], library, device)


#: Steps that a process makes of every cell before the first one that is timed.
WARM_UP_STEPS = 3
#: What this process has made such steps of: cells, by the engine that was asked for.
_WARM: set[tuple[str, str]] = set()


def _warm_up(run: RunSpec, data: Prepared, augmentation: Augmentation | None, device: torch.device) -> None:
    """First steps load libraries and find their kernels: they are made untimed, and thrown away.

    Keras and the compiled engine trace and compile before their clocks start.
    """
    key = (run.cell, run.settings.engine)
    if key in _WARM or run.settings.framework == "keras" or run.settings.engine == "compiled":
        return
    _WARM.add(key)
    try:
        with left_as_found(device):
            training = training_of(run, data, augmentation, device)
            for images, labels in itertools.islice(training.batches(), WARM_UP_STEPS):
                training.train_step(0, images, labels)
    except BaseException as error:  # the run itself will say what is wrong
        raise_interrupt(error)


def rehearse(runs: Iterable[RunSpec], library: Prepares, device: torch.device) -> Rehearsal:
    """Build the network of every cell once and probe it: what can't have its meaning is found before training.

    A network that can be built and raises on a batch is no mistake here: its runs crash, and the others go on.
    """
    cells: dict[str, list[RunSpec]] = {}
    for run in runs:
        cells.setdefault(run.label, []).append(run)
    cases: list[Case] = []
    mistakes: dict[str, Mistake] = {}
    for label, (run, *others) in cells.items():
        seeds = (run.seed, *(other.seed for other in others))
        try:
            data = library.prepared(run.settings.for_seed(run.seed))
            with left_as_found(device):
                training_of(run, data, augmentation_of(run.settings.augment), device)
        except BaseException as error:
            raise_interrupt(error)
            mistake = build_mistake(label, error)
            mistakes.setdefault(mistake.message, mistake)
            continue
        parts = (len(labels) for labels in (data.probe_labels, data.val_labels, data.test_labels))
        shape, classes, num_train = data.input_shape, data.num_classes, len(data.train_labels)
        augmentation = augmentation_of(run.settings.augment)
        cases.append(Case(label, run.settings, shape, classes, num_train, min(parts), augmentation, seeds))
    done = rehearse_cases(cases)
    done.mistakes = [*mistakes.values(), *done.mistakes]
    return done


def crashed(run: RunSpec, error: BaseException, device: torch.device) -> RunRecord:
    """The record of a run that raised: its error's first line says what, the rest where."""
    what = str(error) if isinstance(error, BnbenchError) else text_of(error)
    where = "" if isinstance(error, BnbenchError) else "".join(traceback.format_exception(error))
    return RunRecord(
        variant=run.variant,
        setting=run.setting,
        seed=run.seed,
        cell=run.cell,
        norm=label_of(run.settings.norm.name),
        outcome="crashed",
        error=f"{what}\n{where}".strip(),
        environment=environment(device),
    )
