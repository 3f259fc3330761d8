"""What a study will cost: a few steps of every variant on made-up data of the right shape. Downloads nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from bnbench.config import Settings, Study
from bnbench.data import datasets
from bnbench.data.batches import PROBE_SIZE, Prepared, check_augmentation, steps_per_epoch
from bnbench.data.split import no_groups
from bnbench.engine.augmentation import augmentation_of
from bnbench.engine.evaluate import EVAL_BATCH, evaluate
from bnbench.engine.execute import Library, check_batches
from bnbench.engine.frameworks import training_of
from bnbench.engine.memory import keep_freed_memory
from bnbench.engine.train import Training
from bnbench.errors import BnbenchError, ConfigError, DataError, Mistake
from bnbench.plan import CellEstimate, RunSpec, cell_label
from bnbench.seeding import generator
from bnbench.user_code import raise_interrupt

#: How long the steps of one variant are timed, after a warm-up.
TIMED_SECONDS = 0.3


@dataclass(frozen=True)
class Shape:
    """The size of a data set, known before it is there."""

    num_train: int
    num_val: int
    num_test: int
    input_shape: tuple[int, int, int]
    num_classes: int
    bytes_a_value: int = 1


def estimate_study(study: Study, device: torch.device, library: Library) -> list[CellEstimate]:
    """One estimate a cell, in the study's order. Own data is read; a data set to be downloaded is not fetched.

    Raises ConfigError with every variant whose settings do not fit together.
    """
    keep_freed_memory()
    estimates: list[CellEstimate] = []
    mistakes: dict[str, Mistake] = {}
    for cell in study.cells:
        label = cell_label(cell.variant, cell.setting)
        try:
            estimates.append(_estimate(label, cell.settings, device, library))
        except DataError:
            raise
        except BnbenchError as error:
            mistakes.setdefault(str(error), Mistake(f"variant {label}", str(error)))
        except BaseException as error:  # from inside a layer: what every run of this variant would crash with
            raise_interrupt(error)
            what = f"{type(error).__name__}: {error}"
            mistakes.setdefault(what, Mistake(f"variant {label}", what))
    if mistakes:
        raise ConfigError(list(mistakes.values()))
    return estimates


def shape_of(settings: Settings, library: Library) -> Shape:
    """Sizes of the three parts: from what is registered of the data set, or else from the data itself."""
    facts = datasets.get(settings.dataset.name).facts
    if facts.num_train:
        total, num_test = facts.num_train, facts.num_test
        input_shape, num_classes = facts.input_shape, facts.num_classes
        if settings.validation.by == "group":
            raise no_groups()
        num_val = max(1, round(total * settings.validation.fraction))
        num_train = min(total - num_val, settings.max_train_samples or total)
        limit = settings.max_eval_samples or total
        return Shape(num_train, min(num_val, limit), min(num_test, limit), input_shape, num_classes)
    data = library.prepared(settings)
    return Shape(
        len(data.train_labels),
        len(data.val_labels),
        len(data.test_labels),
        data.input_shape,
        data.num_classes,
        data.train_images.element_size(),
    )


def _estimate(label: str, settings: Settings, device: torch.device, library: Library) -> CellEstimate:
    shape = shape_of(settings, library)
    check_batches(settings, shape.num_train)
    check_augmentation(augmentation_of(settings), shape.input_shape)
    data = _made_up(shape, settings.batch_size, device)
    run = RunSpec(label, {}, 0, "", settings)
    training = training_of(run, data, augmentation_of(settings), device)
    seconds_a_step, activations = _timed_steps(training)
    probe = min(PROBE_SIZE, shape.num_train, settings.max_eval_samples or PROBE_SIZE)
    evaluated = probe + shape.num_val
    seconds_a_sample = _timed(lambda: evaluate(training.models[0], data, ("val",))) / len(data.val_labels)
    steps = steps_per_epoch(shape.num_train, settings.batch_size, settings.last_batch) * settings.epochs
    every = settings.evaluate_every
    evaluations = settings.epochs if every == "epoch" else steps // every
    seconds = steps * seconds_a_step + seconds_a_sample * ((evaluations + 1) * evaluated + 2 * shape.num_test)
    num_parameters = sum(parameter.numel() for parameter in training.models[0].parameters())
    size = shape.bytes_a_value
    # data as it came, the part to train on once more, and float32 to evaluate
    held = 2 * size * shape.num_train + (size + 4) * (shape.num_val + shape.num_test) + 4 * probe
    # weights, gradients, two moments, the best weights
    memory = held * math.prod(shape.input_shape) + 4 * 5 * num_parameters + activations
    return CellEstimate(label, num_parameters, steps, seconds, memory)


def _made_up(shape: Shape, batch_size: int, device: torch.device) -> Prepared:
    """Noise of the right shape: a few batches to train on, one to evaluate."""
    draw = generator(0, "estimate")

    def samples(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.randn((count, *shape.input_shape), generator=draw)
        labels = torch.randint(shape.num_classes, (count,), generator=draw)
        return images.to(device), labels.to(device)

    train = samples(min(4 * batch_size, shape.num_train))
    other = samples(min(EVAL_BATCH, max(shape.num_val, 2)))
    return Prepared(
        *train,
        *other,
        *other,
        *other,
        class_names=tuple(map(str, range(shape.num_classes))),
        input_shape=shape.input_shape,
        fingerprint="",
        center=torch.zeros((), device=device),
        scale=torch.ones((), device=device),
        notes=(),
    )


def _timed_steps(training: Any) -> tuple[float, int]:
    """Seconds a step, and the bytes that one step keeps for its backward pass."""
    saved: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        images, labels = next(training.batches())
        training.train_step(0, images, labels)
    if isinstance(training, Training):
        training.stepper.prepare(images, labels)

    def step() -> None:
        for index, (images, labels) in zip(range(4), training.batches(), strict=False):
            training.train_step(index % training.planned_steps, images, labels)

    return _timed(step) / min(4, training.planned_steps), sum(saved.values())


def _timed(call: Callable[[], object]) -> float:
    """Seconds a call, after one call as warm-up."""
    call()
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < TIMED_SECONDS:
        call()
        count += 1
    return (time.perf_counter() - start) / count
