"""The state of one run: everything that its next steps and its record depend on, taken out of its stack.

It names what it was made by, so that a run that goes on elsewhere can say so, and what it belongs to, so that it is
used for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from bnbench.base.user_code import text_of
from bnbench.engine.backends.base import backend_of
from bnbench.engine.batch_stream import BatchStream
from bnbench.engine.choose import EngineChoice
from bnbench.engine.probing import Probing
from bnbench.engine.ranks.group import current
from bnbench.engine.replica import Replica
from bnbench.engine.state.content import Content
from bnbench.engine.state.kinds import Unkeepable, WrongState
from bnbench.engine.state.outside import Outside
from bnbench.engine.state.read import Reader
from bnbench.engine.state.streams import put_streams, streams_now
from bnbench.engine.state.write import Writer
from bnbench.engine.steppers.base import Stepper
from bnbench.probes import probes
from bnbench.study.plan import RunSpec
from bnbench.tasks import task_of


class InTraining(Protocol):
    """The training of one run, or of replicas in one stack, as a state sees it."""

    runs: Sequence[RunSpec]
    replicas: list[Replica]
    stepper: Stepper
    stream: BatchStream
    probing: Probing
    choice: EngineChoice
    device: torch.device
    lr_factor: Callable[[int], float]
    resumed: list[list[dict[str, Any]]]
    planned_steps: int

    def seconds(self, replica: Replica) -> float:
        """Of its training so far."""
        ...

    def probe_seconds(self, replica: Replica) -> float:
        """Of its probes so far."""
        ...


class RunStates:
    """Takes states out of a training, and puts them in.

    Made where the training stands before its first step: what it holds there is what every run of it begins with.
    """

    def __init__(self, training: InTraining) -> None:
        self.training = training
        self._start: list[Writer] = []
        self._stacked = training.choice.engine == "stacked"
        self._streams = streams_now(training.device)
        self._outside = Outside(code_of(training.stream), transforms_of(training.stream))
        #: Why no state of a run can be kept, by its place; "" where one can.
        self.why_not = [""] * len(training.runs)
        for index in range(len(training.runs)):
            writer = self._writer(index, None)
            try:
                writer.node(self._living(index), "")
            except Exception as error:
                self.why_not[index] = reason_of(error)
            self._start.append(writer)
        self._outside.begin(self._start)

    def _living(self, index: int) -> dict[str, Any]:
        """What a state fills in place."""
        return {"stepper": self.training.stepper.kept(index), "schedule": self.training.lr_factor}

    def _writer(self, index: int, start: Mapping[str, Any] | None) -> Writer:
        return Writer(start, self.training.stepper.keeps_grad)

    def taken(self, index: int, step: int) -> Content:
        """The state of a run after `step`. Raises Unkeepable."""
        training, replica = self.training, self.training.replicas[index]
        if self.why_not[index]:
            raise Unkeepable(self.why_not[index])
        if self._stacked and not _same_streams(streams_now(training.device), self._streams):
            raise Unkeepable("a layer of the stack draws from the global random streams")
        self._outside.check()
        start = self._start[index]
        writer = self._writer(index, start.found)
        node = writer.node({**self._living(index), **self._facts_of(replica, index, step)}, "")
        if writer.overlaps.pairs() != start.overlaps.pairs():
            raise Unkeepable("tensors share memory in another way than at the start of the run")
        return Content(self._facts(replica, step), node, writer.tensors)

    def _facts_of(self, replica: Replica, index: int, step: int) -> dict[str, Any]:
        training = self.training
        return {
            "measured": replica.kept(step),
            "probes": training.probing.kept(replica),
            "draws": training.stream.draws(index) if step % training.stream.steps_per_epoch else {},
            # those of a stack follow from whoever stands first in it, and nothing draws from them
            "streams": {} if self._stacked else streams_now(training.device),
            "seconds": (training.seconds(replica), training.probe_seconds(replica)),
        }

    def _facts(self, replica: Replica, step: int) -> dict[str, Any]:
        training = self.training
        return {
            **belongs_to(training, replica.run),
            "step": step,
            "outside": self._outside.before,
            "made_by": circumstances(training),
            "resumed": training.resumed[training.replicas.index(replica)],
        }

    def put(self, index: int, content: Content) -> dict[str, Tensor]:
        """Let a run go on from there; where its generators of the epoch are. Raises WrongState."""
        training, replica = self.training, self.training.replicas[index]
        if name := self._outside.differs(content.facts.get("outside", {})):
            raise WrongState(
                f"{name} has another value than where it was kept, and lies outside of the network"
            )
        reader = Reader(content.tensors, training.device)
        living = self._living(index)
        try:
            found = reader.value(content.node, living)
            self.training.stepper.put_back(index, found["stepper"])
            replica.put_back(found["measured"])
            training.probing.put_back(replica, found["probes"])
            replica.seconds_before, replica.probe_seconds_before = found["seconds"]
            draws: dict[str, Tensor] = found["draws"]
            training.stream.check_draws(content.facts["step"], draws)
            if not self._stacked:
                put_streams(found["streams"], training.device)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            raise WrongState(f"it does not fit: {type(error).__name__}: {error}") from error
        then, now = content.facts["made_by"], circumstances(training)
        elsewhere = {
            name: [then.get(name), now.get(name)]
            for name in sorted(then.keys() | now.keys())
            if then.get(name) != now.get(name)
        }
        before = content.facts["resumed"]
        training.resumed[index] = [*before, {"step": content.facts["step"], "elsewhere": elsewhere}]
        return draws

    def put_double(self, content: Content) -> None:
        """The same for the double of a stack of one."""
        stepper = self.training.stepper
        reader = Reader(content.tensors, self.training.device)
        living = {"stepper": stepper.kept(1), "schedule": self.training.lr_factor}
        stepper.put_back(1, reader.value(content.node, living)["stepper"])


def reason_of(error: Exception) -> str:
    """Why no state is kept, where this was raised on the way."""
    return str(error) if isinstance(error, Unkeepable) else text_of(error).partition("\n")[0]


def code_of(stream: BatchStream) -> list[Any]:
    """Functions and classes that a training calls beside its network, optimizer, objective and schedule."""
    settings, augmentation = stream.settings, stream.augmentation
    steps = (augmentation, *augmentation.steps) if augmentation else ()
    measures = settings.probe.what if settings.probe else ()
    factories = [probes.get(name).factory for name in measures]
    return [*(step.function for step in steps), *factories, type(task_of(settings.task))]


def transforms_of(stream: BatchStream) -> dict[str, Any]:
    """The transforms of an augmentation that is made for one image: a user's may remember something."""
    steps = (stream.augmentation, *stream.augmentation.steps) if stream.augmentation else ()
    return {f"augment {step.name}": step.transform for step in steps if step.facts.of_one_image}


def belongs_to(training: InTraining, run: RunSpec) -> dict[str, Any]:
    """What a state is of: it is used for nothing else."""
    return identity(run, training.choice, training.replicas[0].data.fingerprint, training.planned_steps)


def identity(run: RunSpec, choice: EngineChoice, data: str, planned_steps: int) -> dict[str, Any]:
    """The run, its cell, the content of its data, its engine and its steps."""
    return {
        "run": [run.label, run.seed, run.cell],
        "data": data,
        "engine": choice.engine,
        "planned_steps": planned_steps,
    }


def circumstances(training: InTraining) -> dict[str, Any]:
    """What can change the last bits of a number: the machine, the versions, those of the framework too, the threads."""
    of_backend = backend_of(training.runs[0].settings).environment(training.device)
    group = current()
    ranks = {"ranks": group.size} if group is not None else {}
    return {**of_backend, **ranks, "processor_flags": torch.backends.cpu.get_cpu_capability()}


def _same_streams(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return all(_same_streams(one[key], other[key]) for key in one)
    return bool((one == other) if isinstance(one, tuple | int | float | str | None) else (one == other).all())
