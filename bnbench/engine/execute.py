"""All the runs of a plan, one after the other; a run that crashes is recorded, and the rest go on."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from bnbench.config import Settings
from bnbench.data import Dataset, datasets
from bnbench.data.batches import Augmentation, Prepared, epoch_order, prepare
from bnbench.engine.device import environment
from bnbench.engine.frameworks import trainer_of, training_of
from bnbench.errors import BnbenchError, DataError, Mistake
from bnbench.norms import norms
from bnbench.plan import Event, RunEnded, RunRecord, RunSpec


class Library:
    """The data sets of a study, each loaded once and prepared once for each way of splitting it."""

    def __init__(self, data_dir: Path, device: torch.device) -> None:
        self._data_dir, self._device = data_dir, device
        self._datasets: dict[str, Dataset] = {}
        self._prepared: dict[str, Prepared] = {}

    def dataset(self, settings: Settings) -> Dataset:
        """The data set of these settings. Raises DataError."""
        key = settings.dataset.model_dump_json()
        if key not in self._datasets:
            entry = datasets.get(settings.dataset.name)
            options = entry.options().model_validate(settings.dataset.options)
            values = {name: getattr(options, name) for name in type(options).model_fields}
            try:
                self._datasets[key] = entry.factory(self._data_dir, **values)
            except (BnbenchError, KeyboardInterrupt):
                raise
            except Exception as error:
                raise DataError(
                    f"data set {entry.name}: {type(error).__name__}: {error}",
                    f"Its function in {entry.factory.__module__} raised this.",
                    "--debug shows where.",
                ) from error
        return self._datasets[key]

    def prepared(self, settings: Settings) -> Prepared:
        """The data set, split and normalised, on the device. Raises DataError."""
        what = ("dataset", "validation", "max_train_samples", "normalize")
        key = settings.model_dump_json(include=set(what))
        if key not in self._prepared:
            self._prepared[key] = prepare(
                self.dataset(settings),
                val_fraction=settings.validation.fraction,
                split_seed=settings.validation.split_seed,
                max_train_samples=settings.max_train_samples,
                device=self._device,
                normalize=settings.normalize,
            )
        return self._prepared[key]


def execute(
    runs: Iterable[RunSpec], library: Library, device: torch.device, debug: bool = False
) -> Iterator[Event]:
    """Train the runs in order. debug: let an exception of a run through instead of recording it."""
    for run in runs:
        try:
            train = trainer_of(run.settings)
            yield from train(run, library.prepared(run.settings), augmentation_of(run.settings), device)
        except Exception as error:
            if debug:
                raise
            yield RunEnded(run, _crashed(run, error, device))


def rehearse(runs: Iterable[RunSpec], library: Library, device: torch.device) -> list[Mistake]:
    """Build the model and the optimizer of every cell once: what does not fit together is told before training.

    Only our own errors count; what else goes wrong is a crash of that run, and is recorded as such.
    """
    mistakes: dict[str, Mistake] = {}
    for run in {run.cell: run for run in runs}.values():
        try:
            data = library.prepared(run.settings)
            training_of(run.settings)(run, data, augmentation_of(run.settings), device)
            check_batches(run.settings, len(data.train_labels))
        except BnbenchError as error:
            mistakes.setdefault(str(error), Mistake(f"variant {run.label}", str(error)))
        except Exception:
            continue
    return list(mistakes.values())


def check_batches(settings: Settings, num_train: int) -> None:
    """Raises BnbenchError where a batch of one sample would reach a normalizer that can't take one."""
    if not norms.get(settings.norm.name).facts.get("needs_batch"):
        return
    sizes = {len(index) for index in epoch_order(num_train, settings.batch_size, 0, 0, settings.last_batch)}
    if 1 in sizes:
        raise BnbenchError(
            f"batch_size: {num_train} training samples in batches of {settings.batch_size} leave a batch of 1, "
            f"and norm: {settings.norm.name} has no variance for 1 value.",
            fix="last_batch: merge (the default), last_batch: drop, another batch_size, more data, or norm: layer.",
        )


def augmentation_of(settings: Settings) -> Augmentation:
    """The augmentation of these settings: "none" or "crop_flip"."""
    if settings.augment != "auto":
        return settings.augment
    usual: Augmentation = datasets.get(settings.dataset.name).facts.get("augment", "none")
    return usual


def _crashed(run: RunSpec, error: Exception, device: torch.device) -> RunRecord:
    """The record of a run that raised: its error's first line says what, the rest where."""
    what = str(error) if isinstance(error, BnbenchError) else f"{type(error).__name__}: {error}"
    where = "" if isinstance(error, BnbenchError) else "".join(traceback.format_exception(error))
    return RunRecord(
        variant=run.variant,
        setting=run.setting,
        seed=run.seed,
        cell=run.cell,
        norm=run.settings.norm.name,
        outcome="crashed",
        error=f"{what}\n{where}".strip(),
        environment=environment(device),
    )
