"""The training loop, for a run alone and for replicas together. It yields events; it reads and writes no files."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.process_state import ProcessState, in_private, left_as_found
from bnbench.base.seeding import derive
from bnbench.base.user_code import raise_interrupt
from bnbench.data.augmentations import Augmentation
from bnbench.data.prepared import Prepared
from bnbench.engine.backends.base import backend_of
from bnbench.engine.batch_stream import BatchStream, Draws, planned_steps
from bnbench.engine.build import build_model, make_schedule
from bnbench.engine.choose import EngineChoice
from bnbench.engine.inference import Evaluation
from bnbench.engine.probe_steps import Course
from bnbench.engine.probing import Probing
from bnbench.engine.ranks.group import current
from bnbench.engine.replica import Replica
from bnbench.engine.state.going_on import Group, began_again, groups_of
from bnbench.engine.state.keeping import PLAIN, Handling
from bnbench.engine.state.kinds import WrongState
from bnbench.engine.state.run_state import RunStates, identity
from bnbench.engine.state.saving import Saving, pause_reason
from bnbench.engine.steppers.base import Stepper
from bnbench.engine.stopwatch import Stopwatch
from bnbench.study.events import Event, RunPaused, RunStarted, Stepped
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
    the same bits, whether they go on from a kept state, in whichever stack, or were never interrupted.
    """
    training = partial(Training, data=data, augmentation=augmentation, device=device, choice=choice)
    keeping, stacked = handling.keeping, choice.engine == "stacked"
    parts = [runs] if stacked else [[run] for run in runs]
    planned = planned_steps(runs[0].settings, data)
    wanted = {run.key: identity(run, choice, data.fingerprint, planned) for run in runs}
    began = False
    for part in parts:
        for group in groups_of(part, keeping, wanted):
            reason = pause_reason(keeping)
            if began and reason:
                yield from (RunPaused(run, group.step, reason) for run in group.runs)
                continue
            # the streams are for what a user's own layer draws in training
            seed = derive(runs[0].settings.seed_of("noise", group.runs[0].seed), "layers")
            yield from in_private(partial(_start, training, device, group, handling), seed, device)
            handling, began = replace(handling, warm_up=False), True


def _start(
    make: Callable[..., Training], device: torch.device, group: Group, handling: Handling
) -> Generator[Event]:
    """The events of a group; from the first step on where its states do not fit."""
    before = ProcessState.now(device)
    training = make(group.runs, handling=handling)
    training.saving.unused = group.unused
    try:
        training.go_on_from(group)
    except WrongState as error:
        before.restore()
        training = make(group.runs, handling=handling)
        training.saving.unused = dict.fromkeys(
            (run.key for run in group.runs), began_again(group.step, error)
        )
    return training.events()


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
        self.choice, self.backend, self.augmentation = choice, backend_of(self.settings), augmentation
        torch.set_num_threads(choice.threads)
        settings = self.settings
        self.seeds = [run.seed for run in runs]
        models = [build_model(settings, data.sizes, seed) for seed in self.seeds]
        if choice.engine == "stacked" and choice.doubles and len(runs) == 1:
            # a stack of one would take other kernels: it gets a double, and has the numbers of any other stack
            self.seeds *= 2
            models.append(copy.deepcopy(models[0]))
        self.stream = BatchStream(settings, self.seeds, data, augmentation, device)
        evaluation = Evaluation(settings, data, device, models[0])
        models = [model.to(device) for model in models]
        self.planned_steps = planned_steps(settings, data)
        if handling.warm_up and not choice.compiles:
            self._warm_up(models[:2])
        self.steps_per_epoch = self.stream.steps_per_epoch
        self.stepper = self._make_stepper(models)
        self.lr_factor = make_schedule(settings, self.planned_steps, self.steps_per_epoch)
        self.step_losses = torch.zeros(self.planned_steps, len(self.seeds), device=device)
        columns = self.step_losses.T[: len(runs)]
        self.replicas = [
            Replica(run, model, data, losses, self.steps_per_epoch, evaluation)
            for run, model, losses in zip(runs, self.stepper.models, columns, strict=False)
        ]
        self.clock, self.probe_clock = Stopwatch(device, choice), Stopwatch(device, choice)
        course = Course(self.lr_factor, self.planned_steps)
        self.probing = Probing(self.stepper, self.replicas, data, device, course)
        #: Where training begins, and of each run, where it went on from a state.
        self.first_step, self._draws = 0, list[Draws]()
        self.resumed: list[list[dict[str, Any]]] = [[] for _ in runs]
        self.saving = Saving(self, handling.keeping)

    def go_on_from(self, group: Group) -> None:
        """The states of its runs; without them training begins. Raises WrongState, after which it is of no use."""
        if not group.contents:
            return
        self._prepare()
        states = self.saving.states or RunStates(self)
        self._draws = [states.put(index, content) for index, content in enumerate(group.contents)]
        if len(self.seeds) > len(self.runs):
            states.put_double(group.contents[0])
            self._draws *= 2
        self.first_step = group.step
        self.saving.went_on(group.step)

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
            if current() is not None:  # the other processes of this run have to hear of it
                raise

    def _prepare(self) -> None:
        if self.planned_steps:
            self.stepper.prepare(*next(self.batches()))

    def events(self) -> Generator[Event]:
        """The runs, event by event."""
        active, step = list(self.replicas), self.first_step
        for replica in active:
            notes = (*replica.notes(), *self.backend.notes(replica.run))
            yield RunStarted(replica.run, self.planned_steps, self.epochs, notes, step)
        if not self.resumed[0]:
            yield from self._evaluated(active, 0)
            if self.probing.is_due(0):
                self._probe(self.probing.look, active, 0)
            self._prepare()
        batches, checked, reported = (
            self.stream.from_step(step, self._draws),
            self._checked(step),
            time.monotonic(),
        )
        self.clock.start()
        while active and step < self.planned_steps:
            reason = self.stepper.agreed(pause_reason(self.saving.keeping))
            if reason or self.saving.is_due():
                self.clock.stop()
                if reason:
                    yield from self.saving.paused(active, step, reason)
                    return
                self.saving.save(active, step)
                self.clock.start()
            self._step(step, active, *next(batches))
            step += 1
            if self._evaluation_is_due(step):
                self.clock.stop()
                yield from self._evaluated(active, step)
                self.clock.start()
            elif time.monotonic() - reported > TICK_SECONDS:
                self.clock.stop()
                yield from [Stepped(replica.run, step) for replica in active]
                self.clock.start()
                reported = time.monotonic()
            if self._checked(step) == step:
                diverged, checked = self._diverged(active, checked, step), step
                if diverged:
                    self.clock.stop()
                    yield from [self._ended(replica, step) for replica in diverged]
                    self.clock.start()
                    active = [replica for replica in active if replica not in diverged]
        self.clock.stop()
        yield from (self._ended(replica, step) for replica in active)

    def _step(self, step: int, active: Sequence[Replica], inputs: Tensor, targets: Tensor) -> None:
        """One step of all, with the looks of the probes before and after it, while the clock stands still."""
        if self.probing.is_due(step + 1):
            self.clock.stop()
            self._probe(self.probing.keep_weights, active)
            self.clock.start()
        self.step_losses[step] = self.train_step(step, inputs, targets)
        if self.probing.is_due(step + 1):
            self.clock.stop()
            self._probe(self.probing.look, active, step + 1)
            self.clock.start()

    def _checked(self, step: int) -> int:
        """The last step up to this one at which losses are checked to be finite."""
        every = [CHECK_EVERY, self._evaluation_interval]
        return step if step == self.planned_steps else max(step // each * each for each in every)

    def _probe(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call it while the clock of the training stands still, by a clock of its own."""
        self.probe_clock.start()
        function(*arguments)
        self.probe_clock.stop()

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs (S, N, ...) and targets (S, N, ...) of every step, from the first on."""
        return itertools.islice(self.stream.from_step(0), self.planned_steps)

    @property
    def epochs(self) -> float:
        """Passes over the training part."""
        return self.planned_steps / self.steps_per_epoch

    def train_step(self, step: int, inputs: Tensor, targets: Tensor) -> Tensor:
        """One update of every replica; the batches' objectives before it, (S,) on the device."""
        self.stepper.scale_rates(self.lr_factor(step))
        return self.stepper.step(inputs, targets)

    def seconds(self, replica: Replica) -> float:
        """Training time of a run so far: its share of the stack's."""
        return replica.seconds_before + self.clock.seconds / len(self.runs)

    def probe_seconds(self, replica: Replica) -> float:
        """The same of its probes."""
        return replica.probe_seconds_before + self.probe_clock.seconds / len(self.runs)

    @property
    def _evaluation_interval(self) -> int:
        every = self.settings.evaluate_every
        return self.steps_per_epoch if every == "epoch" else every

    def _evaluation_is_due(self, step: int) -> bool:
        return step % self._evaluation_interval == 0 or step == self.planned_steps

    def _evaluated(self, replicas: Sequence[Replica], step: int) -> Iterator[Event]:
        return (replica.evaluated(step, self.seconds(replica)) for replica in replicas)

    def _diverged(self, replicas: Sequence[Replica], since: int, step: int) -> list[Replica]:
        """Those with a loss that is not finite; checked on fixed steps, so that the answer is reproducible."""
        finite = self.step_losses[since:step].isfinite().all(0).tolist()
        return [replica for replica in replicas if not finite[self.replicas.index(replica)]]

    def _ended(self, replica: Replica, step: int) -> Event:
        environment = {**self.backend.environment(self.device), "engine": self.stepper.engine}
        environment["replicas"] = len(self.runs)
        if self.choice.reason:
            environment["engine_reason"] = self.choice.reason
        if resumed := self.resumed[self.replicas.index(replica)]:
            environment["resumed"] = resumed
        notes = (*self.backend.notes(replica.run), *self.stepper.notes, *self.saving.notes(replica))
        layers = self.stepper.layers(replica.model)
        event = replica.ended(step, self.seconds(replica), environment, notes, layers)
        if cautions := self.stepper.cautions(replica.model):
            named = [f"{replica.run.label}: {text}" for text in cautions]
            record = replace(event.record, cautions=(*event.record.cautions, *named))
            event = replace(event, record=record)
        return self.probing.ended(replica, event, self.probe_seconds(replica))
