"""The training loop, for a run alone and for replicas together. It yields events; it reads and writes no files."""

from __future__ import annotations

import copy
import itertools
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.process_state import in_private, left_as_found
from bnbench.base.seeding import derive, generator
from bnbench.base.stacked import aligned
from bnbench.base.user_code import raise_interrupt
from bnbench.data.augmentations import Augmentation
from bnbench.data.batches import batch_sizes, epoch_permutation, steps_per_epoch
from bnbench.data.class_batches import class_batches
from bnbench.data.prepared import Prepared
from bnbench.data.tensors import gathered
from bnbench.engine.backends.base import backend_of
from bnbench.engine.build import build_model, make_schedule
from bnbench.engine.choose import EngineChoice
from bnbench.engine.device import synchronize
from bnbench.engine.inference import Evaluation
from bnbench.engine.probing import Course, Probing
from bnbench.engine.replica import Replica
from bnbench.engine.state.keeping import PLAIN, Handling
from bnbench.engine.steppers.base import Stepper
from bnbench.engine.task_batches import training_batches
from bnbench.study.events import Event, RunStarted, Stepped
from bnbench.study.plan import RunSpec

#: Steps between two checks that the loss is still finite (each waits for the device).
CHECK_EVERY = 50
#: Seconds between two Stepped events.
TICK_SECONDS = 0.2
#: Steps of a warm-up.
WARM_UP_STEPS = 3


def train_replicas(
    runs: Sequence[RunSpec],
    data: Prepared,
    augmentation: Augmentation | None,
    device: torch.device,
    choice: EngineChoice,
    handling: Handling = PLAIN,
) -> Iterator[Event]:
    """Train runs that differ in their seed alone, as one stack where that is the choice, else one after the other.

    augmentation: of the training batches; None for none. The same runs on the same machine with the same versions give
    the same bits, whether they go on from a kept state or were never interrupted.
    """
    groups = [runs] if choice.engine == "stacked" else [[run] for run in runs]
    for group in groups:
        # the streams are for what a user's own layer draws in training
        start = partial(_start, group, data, augmentation, device, choice, handling)
        seed = derive(group[0].settings.seed_of("noise", group[0].seed), "layers")
        yield from in_private(start, seed, device)
        handling = replace(handling, warm_up=False)


def _start(*arguments: Any) -> Generator[Event]:
    return Training(*arguments).events()


class Training:
    """The training of one run, or of replicas in one stack.

    runs: alike in all but their seed; more than one only where the choice is the stacked engine.
    """

    def __init__(
        self,
        runs: Sequence[RunSpec],
        data: Prepared,
        augmentation: Augmentation | None,
        device: torch.device,
        choice: EngineChoice,
        handling: Handling = PLAIN,
    ) -> None:
        self.runs, self.data, self.settings, self.device = runs, data, runs[0].settings, device
        self.augmentation, self.choice, self.backend = augmentation, choice, backend_of(self.settings)
        torch.set_num_threads(choice.threads)
        settings = self.settings
        self.seeds = [run.seed for run in runs]
        models = [build_model(settings, data.sizes, seed) for seed in self.seeds]
        if choice.engine == "stacked" and choice.doubles and len(runs) == 1:
            # a stack of one would take other kernels: it gets a double, and has the numbers of any other stack
            self.seeds *= 2
            models.append(copy.deepcopy(models[0]))
        evaluation = Evaluation(settings, data, device, models[0])
        models = [model.to(device) for model in models]
        if handling.warm_up and not choice.compiles:
            self._warm_up(models[:2])
        self.class_batches = class_batches(settings, data.train_targets)
        self.steps_per_epoch = steps_per_epoch(
            len(data.train_targets), settings.batch_size, settings.last_batch
        )
        self.planned_steps = settings.total_steps(self.steps_per_epoch)
        self.stepper = self._make_stepper(models)
        self.lr_factor = make_schedule(settings, self.planned_steps, self.steps_per_epoch)
        self.step_losses = torch.zeros(self.planned_steps, len(self.seeds), device=device)
        columns = self.step_losses.T[: len(runs)]
        self.replicas = [
            Replica(run, model, data, losses, self.steps_per_epoch, evaluation)
            for run, model, losses in zip(runs, self.stepper.models, columns, strict=False)
        ]
        self.clock, self.probe_clock = _Stopwatch(device, choice), _Stopwatch(device, choice)
        course = Course(self.lr_factor, self.planned_steps)
        self.probing = Probing(self.stepper, self.replicas, data, device, course)

    def _make_stepper(self, models: Sequence[nn.Module]) -> Stepper:
        return self.backend.stepper(models, self.settings, self.data.sizes, self.choice, self.device)

    def _warm_up(self, models: Sequence[nn.Module]) -> None:
        """Train copies of these models for a few steps, then discard the copies."""
        try:
            with left_as_found(self.device):
                stepper = self._make_stepper(copy.deepcopy(models))
                for inputs, targets in itertools.islice(self.batches(), WARM_UP_STEPS):
                    stepper.step(inputs[: len(models)], targets[: len(models)])
        except BaseException as error:  # no warm-up for a model that can't be copied; other errors come again
            raise_interrupt(error)

    def events(self) -> Generator[Event]:
        """The runs, event by event."""
        active = self.replicas
        for replica in active:
            notes = (*replica.notes(), *self.backend.notes(replica.run))
            yield RunStarted(replica.run, self.planned_steps, self.epochs, notes)
        yield from self._evaluated(active, 0)
        if self.probing.is_due(0):
            self._probe(self.probing.look, active, 0)
        if self.planned_steps:
            self.stepper.prepare(*next(self.batches()))
        step, checked, reported = 0, 0, time.monotonic()
        self.clock.start()
        for inputs, targets in self.batches():
            if self.probing.is_due(step + 1):
                self.clock.stop()
                self._probe(self.probing.keep_weights, active)
                self.clock.start()
            self.step_losses[step] = self.train_step(step, inputs, targets)
            step += 1
            if self.probing.is_due(step):
                self.clock.stop()
                self._probe(self.probing.look, active, step)
                self.clock.start()
            if self._evaluation_is_due(step):
                self.clock.stop()
                yield from self._evaluated(active, step)
                self.clock.start()
            elif time.monotonic() - reported > TICK_SECONDS:
                self.clock.stop()
                yield from [Stepped(replica.run, step) for replica in active]
                self.clock.start()
                reported = time.monotonic()
            if step % CHECK_EVERY == 0 or self._evaluation_is_due(step):
                diverged, checked = self._diverged(active, checked, step), step
                if diverged:
                    self.clock.stop()
                    yield from [self._ended(replica, step) for replica in diverged]
                    self.clock.start()
                    active = [replica for replica in active if replica not in diverged]
                if not active:
                    break
        self.clock.stop()
        yield from (self._ended(replica, step) for replica in active)

    def _probe(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call it while the clock of the training stands still, by a clock of its own."""
        self.probe_clock.start()
        function(*arguments)
        self.probe_clock.stop()

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs (S, N, ...) and targets (S, N, ...) of every step, in each replica's order, as the task makes them."""
        return itertools.islice(self._all_batches(), self.planned_steps)

    def _all_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        for epoch in itertools.count():
            seeds = [self.settings.seed_of("augmentation", seed) for seed in self.seeds]
            draws = [generator(seed, "augment", epoch) for seed in seeds]
            made = training_batches(self.settings, self.seeds, epoch)
            for index in self._orders(epoch):
                inputs, targets = self._gather(index)
                if self.augmentation:
                    pixels = self.data.pixels()
                    for batch, asked, draw in zip(inputs, targets, draws, strict=True):
                        changed, moved = self.augmentation.augmented(batch, asked, draw, pixels)
                        batch.copy_(changed)
                        if moved is not asked:
                            asked.copy_(moved)
                yield made(inputs, targets) if made else (inputs, targets)

    def _orders(self, epoch: int) -> Iterator[Tensor]:
        """The samples (S, N) of every step of an epoch, on the device."""
        count, settings = len(self.data.train_targets), self.settings
        seeds = [settings.seed_of("order", seed) for seed in self.seeds]
        size, last = settings.batch_size, settings.last_batch
        if self.class_batches:
            orders = [torch.cat(self.class_batches.order(seed, epoch)) for seed in seeds]
        else:
            orders = [epoch_permutation(count, size, seed, epoch, last) for seed in seeds]
        whole, start = torch.stack(orders).to(self.device), 0
        # step by step: an epoch of a text has a window at every token, and most studies end long before it does
        for samples in batch_sizes(count, size, last):
            yield whole[:, start : start + samples]
            start += samples

    def _gather(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The training inputs of an index (S, N), each replica's at an aligned place, and their targets."""
        data, samples = self.data, index.flatten()
        inputs = gathered(data.train_inputs, samples)
        inputs = inputs.view(*index.shape, *inputs.shape[1:])
        targets = gathered(data.train_targets, samples)
        targets = targets.view(*index.shape, *targets.shape[1:])
        if data.center is None:
            return inputs, targets
        out = aligned(inputs.shape, data.center)
        return data.normalise_(out.copy_(inputs)), targets

    @property
    def epochs(self) -> float:
        """Passes over the training part."""
        return self.planned_steps / self.steps_per_epoch

    def train_step(self, step: int, inputs: Tensor, targets: Tensor) -> Tensor:
        """One update of every replica; the batches' objectives before it, (S,) on the device."""
        self.stepper.scale_rates(self.lr_factor(step))
        return self.stepper.step(inputs, targets)

    def seconds(self) -> float:
        """Training time of a run so far: its share of the stack's."""
        return self.clock.seconds / len(self.runs)

    def _evaluation_is_due(self, step: int) -> bool:
        every = self.settings.evaluate_every
        interval = self.steps_per_epoch if every == "epoch" else every
        return step % interval == 0 or step == self.planned_steps

    def _evaluated(self, replicas: Sequence[Replica], step: int) -> Iterator[Event]:
        return (replica.evaluated(step, self.seconds()) for replica in replicas)

    def _diverged(self, replicas: Sequence[Replica], since: int, step: int) -> list[Replica]:
        """Those with a loss that is not finite; checked on fixed steps, so that the answer is reproducible."""
        finite = self.step_losses[since:step].isfinite().all(0).tolist()
        return [replica for replica in replicas if not finite[self.replicas.index(replica)]]

    def _ended(self, replica: Replica, step: int) -> Event:
        environment = {**self.backend.environment(self.device), "engine": self.stepper.engine}
        environment["replicas"] = len(self.runs)
        if self.choice.reason:
            environment["engine_reason"] = self.choice.reason
        notes = (*self.backend.notes(replica.run), *self.stepper.notes)
        layers = self.stepper.layers(replica.model)
        event = replica.ended(step, self.seconds(), environment, notes, layers)
        if cautions := self.stepper.cautions(replica.model):
            named = [f"{replica.run.label}: {text}" for text in cautions]
            record = replace(event.record, cautions=(*event.record.cautions, *named))
            event = replace(event, record=record)
        return self.probing.ended(replica, event, self.probe_clock.seconds / len(self.runs))


class _Stopwatch:
    """Adds up the seconds between start and stop; waits for the device at both ends.

    Where this thread does all the work its processor time counts, as other processes may share its core.
    """

    def __init__(self, device: torch.device, choice: EngineChoice) -> None:
        self.device, self.seconds, self._since = device, 0.0, 0.0
        alone = device.type == "cpu" and choice.threads == 1 and not choice.own_threads
        # elsewhere than on POSIX the ticks of a thread's clock are coarse
        self._now = time.thread_time if alone and os.name == "posix" else time.perf_counter

    def start(self) -> None:
        synchronize(self.device)
        self._since = self._now()

    def stop(self) -> None:
        synchronize(self.device)
        self.seconds += self._now() - self._since
