"""The tasks: their batches, preparation and metrics. To add one: one class in a file here.

    @tasks.register("sequence_regression", metrics=(Metric("loss", "lower"), Metric("mae", "lower")), losses=("mse",))
    class SequenceRegression(Task):
        def made_up(self, sizes, count, draw): ...
        def measure(self, outputs, targets, class_names): ...

The engine (its loop, its evaluation, its rehearsal, its estimates) asks the task, and knows neither images nor labels.
A study names one by `task:`; without the key it is the one of its data set (`DatasetFacts.task`).

The keyword-only parameters of the class's `__init__` are the options that a study may set. Facts given to `register`:
see `bnbench.base.task_facts.TaskFacts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from bnbench.base.errors import DataError
from bnbench.base.metrics import declare
from bnbench.base.registry import Entry, Registry
from bnbench.base.task_facts import TaskFacts
from bnbench.data import Sizes

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from bnbench.data import Dataset
    from bnbench.data.prepared import Preparation, Prepared
    from bnbench.study import Choice
    from bnbench.study.records import TestSamples

#: A loss or primary metric that improved by less than this share of its start has learnt nothing.
NO_PROGRESS = 0.01


class Task:
    """The common behaviour of tasks; a task overrides the differences, and must define `made_up` and `measure`.

    A batch is two tensors, inputs (N, ...) and targets (N, ...). A loss is a function of the network's outputs for the
    inputs and of the targets. A task whose batches are not the samples as they are overrides `batch` and
    `made_up_data`, any other one `made_up`.
    """

    #: What it was registered with.
    facts: ClassVar[TaskFacts]

    def check(self, dataset: Dataset) -> None:
        """Raises DataError where the data set is not one of this task."""

    def sizes(self, dataset: Dataset) -> Sizes:
        """What a network must know of the data set: here, the values of one target are its outputs."""
        return Sizes(tuple(dataset.train_inputs.shape[1:]), max(1, dataset.train_targets[0].numel()))

    def prepare(self, dataset: Dataset, preparation: Preparation, device: torch.device) -> Prepared:
        """The data set split, normalised and on the device. Raises DataError."""
        from bnbench.data.prepared import prepare

        self.check(dataset)
        sizes = self.sizes(dataset)
        self._compare(dataset, sizes, preparation.task.name)
        prepared = prepare(dataset, preparation, device, sizes, self.remarks, self.probe_size(dataset))
        aid = self.aid(dataset, device)
        if aid is None:
            return prepared
        note: str = getattr(aid, "note", "")
        return replace(prepared, aid=aid, notes=(*prepared.notes, *([note] if note else [])))

    def probe_size(self, dataset: Dataset) -> int:
        """The most training samples on which train_loss is measured."""
        from bnbench.data.prepared import PROBE_SIZE

        return PROBE_SIZE

    def aid(self, dataset: Dataset, device: torch.device) -> object | None:
        """What `measured` needs beside the data, such as a network that makes features of images; here: nothing.

        It is made once for a data set, before anything trains, and stands in `Prepared.aid`. Where it has a `note`, a
        sentence, that stands among the notes on the data.
        """
        return None

    def _compare(self, dataset: Dataset, sizes: Sizes, name: str) -> None:
        """Raises DataError where the data set's targets, or tokens, are not like those that the task makes up."""
        import torch

        inputs, targets = self.made_up(sizes, 1, torch.Generator().manual_seed(0))
        own = dataset.train_inputs[:1], dataset.train_targets[:1]
        if self.makes_batches:
            numbers = own[0].is_floating_point() or own[0].dtype == torch.uint8
            own = self.batch(own[0].float() if numbers else own[0], own[1], torch.Generator().manual_seed(0))
        held = {"inputs": (own[0], inputs), "targets": (own[1], targets)}
        for part, (real, made) in held.items():
            tokens = (real.dtype == torch.int64, made.dtype == torch.int64)
            if real.shape[1:] != made.shape[1:] or tokens[0] != tokens[1]:
                raise DataError(
                    f"task: {name}: the data set has {part} of {real.dtype} and shape {tuple(real.shape[1:])} per "
                    f"sample, and the task makes {made.dtype} and shape {tuple(made.shape[1:])}.",
                    "A network that is rehearsed on one can't train on the other.",
                    "the task that the data set is made for, or another data set.",
                )

    def remarks(self, part: str, targets: Tensor, class_names: Sequence[str]) -> Iterable[str]:
        """What the user should know of the targets of a part: "training", "validation" or "test"."""
        return ()

    def network_arguments(self, sizes: Sizes) -> tuple[Any, ...]:
        """What the model factories of this task are called with, before the norm."""
        return sizes.input_shape, sizes.num_outputs

    @property
    def makes_batches(self) -> bool:
        """Whether its batches are not the samples as they are."""
        return type(self).batch is not Task.batch

    def batch(self, inputs: Tensor, targets: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """What a network is given and asked for in one batch; here: the samples as they are.

        inputs: (N, ...), normalised and augmented. targets: (N, ...). draw: a private generator on the CPU, from which
        every random number comes. In training it follows from the run's seed and the epoch, and is equal for all
        variants; in evaluation it is equal for all runs.
        """
        return inputs, targets

    def made_up(self, sizes: Sizes, count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """A batch of so many samples, of the right shapes and types, drawn on the CPU; here: of `made_up_data`."""
        return self.batch(*self.made_up_data(sizes, count, draw), draw)

    def made_up_data(self, sizes: Sizes, count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Inputs and targets of so many samples as a data set has them, normalised, drawn on the CPU."""
        if self.makes_batches or type(self).made_up is Task.made_up:
            raise NotImplementedError(f"{type(self).__name__} defines no made_up_data")
        return self.made_up(sizes, count, draw)

    def kept(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What of the outputs for some samples `measure` needs, (N, ...) on the CPU; here: all, in float64."""
        return outputs.cpu().double()  # on the CPU, as not every device has float64

    def measure(
        self, outputs: Tensor, targets: Tensor, class_names: Sequence[str]
    ) -> Iterable[tuple[str, float]]:
        """Every metric of the task by name. outputs: the `kept` ones of a whole part; targets: on the CPU."""
        raise NotImplementedError

    def measured(self, outputs: Tensor, targets: Tensor, data: Prepared) -> Iterable[tuple[str, float]]:
        """Every metric of a part by name; here: what `measure` makes of the classes.

        outputs: the `kept` ones of a whole part; targets: those of its batches (see `batch`), on the CPU.
        data: `data.aid` is what `aid` has made, and None on made-up data.
        """
        return self.measure(outputs, targets, data.class_names)

    def samples(self, model: nn.Module, data: Prepared, draw: torch.Generator) -> Tensor | None:
        """(K, C, H, W) float32 in 0..1: what the trained network makes, to be looked at; None where it makes nothing.

        model: in eval mode, at the end of a run. draw: a private generator on the CPU, equal for all variants.
        """
        return None

    def at_end(self, model: nn.Module, data: Prepared, draw: torch.Generator) -> Mapping[str, float]:
        """Metrics that cost too much for every evaluation, by name: of the test part, at the end of a run alone.

        `measured` gives NaN for them. model: in eval mode. draw: a private generator on the CPU, equal for all runs.
        """
        return {}

    def answers(self, outputs: Tensor, targets: Tensor) -> TestSamples | None:
        """Right or wrong, and the loss, for each test sample; None where the task has none."""
        return None

    def answered(self, outputs: Tensor, targets: Tensor, data: Prepared) -> TestSamples | None:
        """As `answers`, for a task that needs more of the data than the targets."""
        return self.answers(outputs, targets)

    def has_learnt(self, first: Mapping[str, float], last: Mapping[str, float], targets: Tensor) -> bool:
        """Whether a run with finite numbers is above chance; else it is worse than at the start, or stuck.

        first, last: its metrics before the first step and at the end. targets: of the validation part. Here: the
        primary metric improved on the validation part by at least 1 % of its start.
        """
        metric = self.facts.metric_of(f"val_{self.facts.primary}")
        before, after = (values[f"val_{metric.name}"] for values in (first, last))
        gain = before - after if metric.better == "lower" else after - before
        return gain >= NO_PROGRESS * abs(before) and gain > 0

    def learnt(self, first: Mapping[str, float], last: Mapping[str, float], data: Prepared) -> bool:
        """As `has_learnt`, for a task that needs more of the data than the validation targets."""
        return self.has_learnt(first, last, data.val_targets)


def _declare(entry: Entry, others: list[Entry]) -> None:
    """Make the metrics of a new task known. Raises PluginError where one of them is another task's, too."""
    declare(entry.facts.metrics, kept=[metric for other in others for metric in other.facts.metrics])
    entry.factory.facts = entry.facts  # type: ignore[attr-defined]


tasks = Registry("task", __name__, TaskFacts, check=_declare)


def task_of(choice: Choice) -> Task:
    """The task that a study's settings choose, with its options."""
    entry = tasks.get(choice.name)
    task: Task = entry.factory(**entry.typed(choice.options))
    return task


__all__ = ["NO_PROGRESS", "Sizes", "Task", "TaskFacts", "task_of", "tasks"]
