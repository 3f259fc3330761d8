"""The memory that a process needs to train a job: measured on one small step, and counted for the whole job.

Figures of `PROCESS` and of the counts are checked against real processes in tests/benchmarks/memory.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.process_state import left_as_found
from bnbench.base.seeding import generator
from bnbench.base.user_code import raise_interrupt
from bnbench.data import Sizes
from bnbench.data.augmentations import augmentation_of
from bnbench.data.prepared import Prepared
from bnbench.engine.cell import Cell
from bnbench.engine.loop import Training
from bnbench.engine.task_batches import EVAL_BATCH, EVAL_LEAST, EVAL_VALUES, made_up_prepared

#: Bytes of a process that has imported what training needs, and trains next to nothing; more where steps are those of
#: torch's optimizers, whose first step imports a compiler, and where TensorFlow is imported.
STACK_PROCESS, PROCESS, KERAS_PROCESS = 360 * 10**6, 540 * 10**6, 900 * 10**6
#: Samples of the step that is measured.
SAMPLES = 8
#: Of each replica, so many times its weights: those that learn, gradients, the best ones, the last ones, and their way
#: to the results folder. A state that is saved is there as tensors and as the bytes of a file, one replica at a time.
_OF_WEIGHTS, _OF_STATES = 5, 2
#: Of the largest tensor of a step and of an evaluation, so many are there beside what waits for the backward pass.
_BESIDE = 2


@dataclass(frozen=True)
class Footprint:
    """Bytes of one run's network. kept: of a sample, what a step keeps for its backward pass. largest: of a sample, the
    largest tensor of that. weights: parameters and buffers. moments: what its optimizer keeps.
    """

    kept: int
    largest: int
    weights: int
    moments: int

    def of_replicas(self, count: int, batch: int, evaluated: int) -> int:
        """Bytes of so many replicas that train together. batch, evaluated: samples of a batch of each kind."""
        training = count * batch * (self.kept + _BESIDE * self.largest)
        evaluation = _BESIDE * evaluated * self.largest  # one after the other
        replicas = count * (_OF_WEIGHTS * self.weights + self.moments)
        saving = _OF_STATES * (2 * self.weights + self.moments)
        return replicas + saving + max(training, evaluation)


def job_bytes(cell: Cell, footprint: Footprint, sizes: Sizes) -> int:
    """Bytes that a process of its own needs for this job beside the data, which all of them share."""
    settings, count = cell.runs[0].settings, 1
    if cell.choice.engine == "stacked":
        count = max(len(cell.runs), 2 if cell.choice.doubles else 1)
    values = max(1, math.prod(sizes.input_shape))
    evaluated = max(EVAL_LEAST, min(EVAL_BATCH, EVAL_VALUES // values))
    return process_bytes(cell) + footprint.of_replicas(count, settings.batch_size, evaluated)


def process_bytes(cell: Cell) -> int:
    """Bytes of the process itself, with its libraries."""
    if cell.runs[0].settings.framework == "keras":
        return KERAS_PROCESS
    return STACK_PROCESS if cell.choice.engine == "stacked" else PROCESS


def data_bytes(parts: Iterable[Prepared]) -> int:
    """Bytes of prepared data; what two of them share counts once."""
    held: dict[int, int] = {}
    for data in parts:
        for value in _tensors(vars(data).values()):
            held[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
    return sum(held.values())


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict):
            yield from _tensors(value.values())
        elif isinstance(value, tuple):
            yield from _tensors(value)


class Kept:
    """What autograd keeps for the backward pass: bytes by storage, without those of the networks themselves."""

    def __init__(self, models: Iterable[nn.Module]) -> None:
        self._own = {_place(value) for model in models for value in (*model.parameters(), *model.buffers())}
        self._sizes: dict[int, int] = {}
        self.total, self.largest = 0, 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Inside, what is kept is counted."""
        with torch.autograd.graph.saved_tensors_hooks(self._note, lambda tensor: tensor):
            yield
        self.total, self.largest = sum(self._sizes.values()), max(self._sizes.values(), default=0)

    def _note(self, tensor: Tensor) -> Tensor:
        if (place := _place(tensor)) not in self._own:
            self._sizes[place] = tensor.untyped_storage().nbytes()
        return tensor


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def measured_footprint(cell: Cell, sizes: Sizes, device: torch.device) -> Footprint:
    """One step of one run on a few made-up samples, by a network of its own. A network that raises: by its weights."""
    run = cell.runs[0]
    if run.settings.is_only_a_look:
        run = replace(run, settings=run.settings.model_copy(update={"epochs": 1, "steps": None}))
    settings = run.settings
    choice = cell.choice
    if choice.engine in ("stacked", "compiled"):
        choice = replace(choice, engine="sequential", compiles=False)
    try:
        with left_as_found(device):
            counts = settings.batch_size, SAMPLES
            data = made_up_prepared(settings.task, sizes, counts, generator(0, "footprint"), device)
            training = Training([run], data, augmentation_of(settings.augment), device, choice)
            inputs, targets = next(training.batches())
            samples = min(SAMPLES, targets.shape[1])
            kept = Kept(training.stepper.models)
            with kept.watched():
                training.train_step(0, inputs[:, :samples], targets[:, :samples])
            models = training.stepper.models
            weights = _bytes(value for model in models for value in (*model.parameters(), *model.buffers()))
            moments = _moments(training.stepper)
    except BaseException as error:
        raise_interrupt(error)
        return Footprint(0, 0, 4 * cell.num_parameters, 8 * cell.num_parameters)
    return Footprint(kept.total // samples, kept.largest // samples, weights, moments)


def _moments(stepper: Any) -> int:
    """Bytes that torch's optimizers of a stepper keep; of others, as Adam's."""
    optimizers = getattr(stepper, "optimizers", None) or [getattr(stepper, "optimizer", None)]
    if not all(isinstance(optimizer, torch.optim.Optimizer) for optimizer in optimizers):
        weights = (parameter for model in stepper.models for parameter in model.parameters())
        return 2 * _bytes(weights)
    states = (state for optimizer in optimizers for state in optimizer.state.values())
    return _bytes(value for state in states for value in state.values() if isinstance(value, Tensor))


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
