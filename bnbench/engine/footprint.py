"""The memory that a process needs to train a job: measured on one small step, and counted for the whole job.

Figures of `PROCESS` and of the counts are checked against real processes in tests/benchmarks/memory.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.process_state import left_as_found
from bnbench.base.seeding import generator
from bnbench.base.user_code import raise_interrupt
from bnbench.data import Sizes
from bnbench.data.augmentations import augmentation_of
from bnbench.data.prepared import Prepared
from bnbench.engine.build import build_model, make_objective, two_networks
from bnbench.engine.cell import Cell
from bnbench.engine.loop import Training
from bnbench.engine.steppers.base import autocast
from bnbench.engine.task_batches import EVAL_BATCH, EVAL_LEAST, EVAL_VALUES, made_up_prepared
from bnbench.study import Settings
from bnbench.tasks import task_of

#: Bytes of a process that has imported what training needs, and trains next to nothing; more where steps are those of
#: torch's optimizers, whose first step imports a compiler, and where TensorFlow is imported.
STACK_PROCESS, PROCESS, KERAS_PROCESS = 360 * 10**6, 540 * 10**6, 1200 * 10**6
#: The part of each that processes forked from one server share: the libraries that it has imported for all.
SHARED = 330 * 10**6
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


def together(needs: Iterable[int]) -> int:
    """Bytes of worker processes side by side, each of which would need so many alone."""
    return SHARED + sum(max(0, need - SHARED) for need in needs)


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
    """One pass on a few made-up samples, by a network of its own. A network that raises: by its weights alone."""
    settings = cell.runs[0].settings
    try:
        with left_as_found(device):
            if two_networks(settings):
                model, kept = _adversarial_step(cell, sizes, device)
            else:
                model = build_model(settings, sizes, cell.runs[0].seed).to(device).train()
                kept = Kept([model])
                draw = generator(0, "footprint")
                inputs, targets = task_of(settings.task).made_up(sizes, SAMPLES, draw)
                with kept.watched(), autocast(settings, device):
                    make_objective(settings)(model(inputs.to(device)), targets.to(device))
    except BaseException as error:
        raise_interrupt(error)
        return Footprint(0, 0, 4 * cell.num_parameters, 8 * cell.num_parameters)
    weights = sum(value.numel() * value.element_size() for value in (*model.parameters(), *model.buffers()))
    return Footprint(kept.total // SAMPLES, kept.largest // SAMPLES, weights, _moments(settings) * weights)


def _adversarial_step(cell: Cell, sizes: Sizes, device: torch.device) -> tuple[nn.Module, Kept]:
    """A whole step of both networks, of which each passes on what the other made."""
    settings = cell.runs[0].settings
    data = made_up_prepared(
        settings.task, sizes, (settings.batch_size, SAMPLES), generator(0, "footprint"), device
    )
    training = Training(cell.runs[:1], data, augmentation_of(settings.augment), device, cell.choice)
    inputs, targets = next(training.batches())
    kept = Kept(training.stepper.models)
    with kept.watched():
        training.train_step(0, inputs[:, :SAMPLES], targets[:, :SAMPLES])
    return training.stepper.models[0], kept


def _moments(settings: Settings) -> int:
    """Copies of the weights that an optimizer keeps: of SGD, its momentum; of any other, as many as Adam's."""
    if settings.optimizer.name != "sgd":
        return 2
    return 1 if settings.optimizer.options.get("momentum") else 0
