"""What a study will cost: a few steps of every variant on made-up data of the right shape. Downloads nothing."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from bnbench.base.errors import ConfigError, DataError
from bnbench.base.process_state import left_as_found
from bnbench.base.seeding import generator
from bnbench.base.user_code import raise_interrupt
from bnbench.data import Dataset, DatasetFacts, Plan, Sizes, datasets
from bnbench.data.augmentations import augmentation_of
from bnbench.data.batches import steps_per_epoch
from bnbench.data.prepared import PROBE_SIZE, Prepared
from bnbench.data.split import no_groups, none_left
from bnbench.engine.cell import Cell
from bnbench.engine.device import synchronize
from bnbench.engine.evaluate import evaluate
from bnbench.engine.library import Library
from bnbench.engine.loop import Training
from bnbench.engine.memory_plan import with_memory
from bnbench.engine.networks import Networks
from bnbench.engine.probe_steps import Timed
from bnbench.engine.rehearsal.case import Case
from bnbench.engine.rehearsal.mistakes import crash_mistake
from bnbench.engine.rehearsal.rehearse import rehearse_cases
from bnbench.engine.task_batches import EVAL_BATCH, EVAL_LEAST, made_up_prepared
from bnbench.engine.workers.room import work_of
from bnbench.study import Settings, Study
from bnbench.study.cautions import step_cautions
from bnbench.study.labels import cell_label
from bnbench.study.plan import CellEstimate, RunSpec
from bnbench.study.probed_claims import claim_faults, way_faults
from bnbench.study.schema import StudyCell
from bnbench.tasks import task_of

#: Seconds in which all timings together should be done, and the least and the most for one of them.
ALL_SECONDS, LEAST_SECONDS, MOST_SECONDS = 4.0, 0.2, 0.8
#: Samples of the first step, which says how many the timed ones may have.
FIRST_SAMPLES = 8

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Shape:
    """The size of a data set, known before it is there. num_probe: of the training samples that train_loss is of."""

    num_train: int
    num_val: int
    num_test: int
    sizes: Sizes
    bytes_a_value: float = 1
    num_probe: int | None = None


def estimate_study(
    study: Study, device: torch.device, library: Library, progress: Progress = lambda text: None
) -> list[CellEstimate]:
    """One estimate a cell, in the study's order. Own data is read; a data set to be downloaded is not fetched.

    Cells whose steps do the same work are timed once. progress: called with a line on what is being done.
    Raises ConfigError with every variant whose settings do not fit together.
    """
    cells = {cell_label(cell.variant, cell.setting): cell.settings for cell in study.cells}
    progress(f"Looking at {len(cells)} networks")
    shapes = {label: shape_of(settings, library) for label, settings in cells.items()}
    cases = [_case(cell, shapes[cell_label(cell.variant, cell.setting)], study.seeds) for cell in study.cells]
    rehearsal = rehearse_cases(cases, device, Networks())
    # errors inside a layer, which would crash every run of this variant
    raised = [crash_mistake(label, error) for label, error in rehearsal.forward_errors.items()]
    mistakes = [*rehearsal.mistakes, *claim_faults(study, rehearsal.looked), *raised]
    if mistakes := mistakes or [*way_faults(study, rehearsal.lines)]:
        raise ConfigError(list(dict.fromkeys(mistakes)))
    work = {label: f"{work_of(settings)} {shapes[label]}" for label, settings in cells.items()}
    seconds = min(MOST_SECONDS, max(LEAST_SECONDS, ALL_SECONDS / len(set(work.values()))))
    timings: dict[str, Timing] = {}
    for label in cells:
        if work[label] not in timings:
            progress(f"Timing a few steps of {label} ({len(timings) + 1} of {len(set(work.values()))})")
            timings[work[label]] = _timing(rehearsal.cells[label], shapes[label], device, seconds)
    found = [_estimate(label, rehearsal.cells[label], shapes[label], timings[work[label]]) for label in cells]
    sizes = {label: shape.sizes for label, shape in shapes.items()}
    held = {label: _data_bytes(settings, shapes[label]) for label, settings in cells.items()}
    return with_memory(found, rehearsal.cells, sizes, held, device)


def _case(cell: StudyCell, shape: Shape, seeds: tuple[int, ...]) -> Case:
    runs = tuple(RunSpec(cell.variant, cell.setting, seed, "", cell.settings) for seed in seeds)
    smallest = min(PROBE_SIZE, shape.num_train, shape.num_val, shape.num_test)
    return Case(runs, shape.sizes, shape.num_train, smallest)


def shape_of(settings: Settings, library: Library) -> Shape:
    """Sizes of the three parts: as registered for the data set, or else from the data itself."""
    entry = datasets.get(settings.dataset.name)
    facts = entry.facts
    if facts.plan:
        return _planned(settings, facts.plan(**entry.typed(settings.dataset.options)))
    if facts.num_train:
        return _planned(settings, Plan(facts.num_train, None, facts.num_test, _sizes_of(settings, facts)))
    data = library.prepared(settings)
    held = data.train_inputs.untyped_storage().nbytes()  # of overlapping windows, less than they show
    return Shape(
        len(data.train_targets),
        len(data.val_targets),
        len(data.test_targets),
        data.sizes,
        min(data.train_inputs.element_size(), held / max(1, data.train_inputs.numel())),
        len(data.probe_targets),
    )


def _planned(settings: Settings, plan: Plan) -> Shape:
    """The sizes of the three parts of data that is not there yet."""
    total, num_val, num_train = plan.num_train, plan.num_val, plan.num_train
    if settings.validation.by == "group":
        raise no_groups()
    if num_val is None:
        num_val = max(1, round(total * settings.validation.fraction))
        num_train = total - num_val
        if num_val >= total:
            raise none_left(settings.validation.fraction, total, num_val)
    limit = settings.max_eval_samples or total
    num_train, num_val = min(num_train, settings.max_train_samples or total), min(num_val, limit)
    probe = num_val if plan.num_val else None
    return Shape(num_train, num_val, min(plan.num_test, limit), plan.sizes, plan.bytes_a_value, probe)


def _sizes_of(settings: Settings, facts: DatasetFacts) -> Sizes:
    """What the task tells a network of a data set whose images are not there. Raises DataError where they don't fit."""
    assert facts.input_shape
    assert facts.num_classes
    image, label = torch.zeros(1, *facts.input_shape, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64)
    names = tuple(map(str, range(facts.num_classes)))
    stand_in = Dataset(image, label, image, label, class_names=names, fingerprint="")
    task = task_of(settings.task)
    task.check(stand_in)
    return task.sizes(stand_in)


@dataclass(frozen=True)
class Timing:
    """Seconds a step and a sample of evaluation; of its probes."""

    step: float
    sample: float
    probing: Timed | None = None


def _timing(cell: Cell, shape: Shape, device: torch.device, seconds: float) -> Timing:
    """A few steps and an evaluation of noise: one to warm up and at least one that counts."""
    run, choice = cell.runs[0], cell.choice
    if choice.engine == "compiled":
        # compiling takes longer than `check` may: the steps are timed without it, which is an upper bound
        choice = replace(choice, engine="sequential", compiles=False)
    settings = run.settings
    if settings.is_only_a_look:
        run = replace(run, settings=settings.model_copy(update={"epochs": 1, "steps": None}))
        settings = run.settings
    try:
        with left_as_found(device):
            data = _made_up(settings, shape, device)
            training = Training([run], data, augmentation_of(settings.augment), device, choice)
            step = _timed_steps(training, settings.batch_size, device, seconds / 2)
            model = training.stepper.models[0]
            sample = _timed_evaluation(model, data, step / settings.batch_size, seconds / 2)
            probing = training.probing.timed() if settings.probe else None
    except BaseException as error:
        raise_interrupt(error)
        if isinstance(error, DataError):
            raise
        raise ConfigError([crash_mistake(run.label, error)]) from error
    return Timing(step, sample, probing)


def _estimate(label: str, cell: Cell, shape: Shape, timing: Timing) -> CellEstimate:
    settings = cell.runs[0].settings
    probe = _probe_samples(settings, shape)
    epoch = steps_per_epoch(shape.num_train, settings.batch_size, settings.last_batch)
    steps = cell.steps
    every = settings.evaluate_every
    evaluations = math.ceil(steps / (epoch if every == "epoch" else every))
    # before the first step, at every evaluation, and the test set for the last and the best weights
    tested = shape.num_test * (1 + len(settings.test_sets))
    samples = (evaluations + 1) * (probe + shape.num_val) + 2 * tested
    # in each further way of inference every part, and the samples of precise statistics
    precise = sum(min(way.samples, shape.num_train) for way in settings.evaluate if way.samples and cell.ways)
    samples += 2 * (len(cell.ways) * (probe + shape.num_val + tested) + precise)
    evaluation = samples * timing.sample
    costs = timing.probing.costs(settings.probe, steps) if timing.probing and settings.probe else ()
    seconds = steps * timing.step + evaluation + sum(cost.seconds for cost in costs)
    return CellEstimate(
        label,
        cell.num_parameters,
        steps,
        seconds,
        memory_bytes=0,
        evaluation_seconds=evaluation,
        trained_parameters=cell.trained_parameters,
        warnings=(*cell.cautions, *step_cautions(settings, epoch)),
        probes=costs,
        network=cell.network,
    )


def _data_bytes(settings: Settings, shape: Shape) -> int:
    """Data as it came, the part to train on once more, and float32 to evaluate."""
    probe, size = _probe_samples(settings, shape), shape.bytes_a_value
    tested = shape.num_test * len(settings.test_sets)
    held = 2 * size * shape.num_train + (size + 4) * (shape.num_val + shape.num_test) + 4 * (probe + tested)
    return int(held) * math.prod(shape.sizes.input_shape)


def _probe_samples(settings: Settings, shape: Shape) -> int:
    return shape.num_probe or min(PROBE_SIZE, shape.num_train, settings.max_eval_samples or PROBE_SIZE)


def _made_up(settings: Settings, shape: Shape, device: torch.device) -> Prepared:
    """Noise of the right shape: a few batches to train on, one to evaluate."""
    counts = min(4 * settings.batch_size, shape.num_train), min(EVAL_BATCH, max(shape.num_val, 2))
    return made_up_prepared(settings.task, shape.sizes, counts, generator(0, "estimate"), device)


def _timed_steps(training: Training, batch_size: int, device: torch.device, seconds: float) -> float:
    """Seconds a step. Where whole batches take too long, a part of one stands for it."""
    inputs, targets = next(training.batches())
    whole = targets.shape[1]
    count = min(whole, FIRST_SAMPLES) if device.type == "cpu" else whole

    def step(samples: int) -> float:
        start = time.perf_counter()
        training.train_step(0, inputs[:, :samples], targets[:, :samples])
        synchronize(device)
        return time.perf_counter() - start

    step(count)
    first = step(count)
    if count < whole:
        # two steps of so many samples should fit, if they take no less a sample than the first ones
        count = max(count, min(whole, int(count * seconds / 2 / first)))
    if count == whole:
        training.stepper.prepare(inputs, targets)
    step(count)
    times = [step(count)]
    while sum(times) < seconds / 2:
        times.append(step(count))
    gathering = _seconds_of(lambda: next(training.batches()))
    return (statistics.median(times) * whole / count + gathering) * batch_size / whole


def _timed_evaluation(model: Any, data: Prepared, seconds_a_sample: float, seconds: float) -> float:
    """Seconds a sample, from as many samples as the time is good for: a step takes at least as long a sample."""
    count = min(len(data.val_targets), max(EVAL_LEAST, int(seconds / 2 / max(seconds_a_sample, 1e-9))))
    part = replace(data, val_inputs=data.val_inputs[:count], val_targets=data.val_targets[:count])

    def call() -> object:
        return evaluate(model, part, ("val",))

    first = _seconds_of(call)
    return (_seconds_of(call) if first < seconds else first) / count


def _seconds_of(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
