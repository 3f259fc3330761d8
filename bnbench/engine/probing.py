"""The probes of a training: at which steps, on what, and so that nothing of the training notices them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.process_state import left_as_found, seed_streams
from bnbench.base.seeding import derive, generator
from bnbench.base.user_code import raise_interrupt, text_of
from bnbench.data.prepared import Prepared
from bnbench.engine.build import make_objective, make_optimizers
from bnbench.engine.device import synchronize
from bnbench.engine.mirror import Mirror
from bnbench.engine.private_copy import private_copy
from bnbench.engine.probe_steps import Course, Timed, measures_by_step
from bnbench.engine.probed_stack import ProbedStack
from bnbench.engine.replica import Replica
from bnbench.engine.state.probe_rows import columns_of, rows_of
from bnbench.engine.steppers.base import Stepper, autocast
from bnbench.probes import probes
from bnbench.probes.batch import probe_batch, probe_batches
from bnbench.probes.indices import drift_rows, indices
from bnbench.probes.inside import Inside, Layer, Objective, Private, Row, Rows
from bnbench.probes.layers import Found, chosen, find_layers
from bnbench.probes.together import Together
from bnbench.study import Settings
from bnbench.study.events import RunEnded
from bnbench.study.records import DEPTH, HIDDEN, ProbeRow


class Probing:
    """The probes of replicas that train together. Without `probe` in their settings it does nothing."""

    def __init__(
        self,
        stepper: Stepper,
        replicas: Sequence[Replica],
        data: Prepared,
        device: torch.device,
        course: Course,
    ) -> None:
        self.stepper, self.replicas, self.device, self.course = stepper, list(replicas), device, course
        self.settings = replicas[0].settings
        self._looks: dict[int, tuple[str, ...]] = {}
        if self.settings.probe is None:
            return
        self._looks = measures_by_step(self.settings.probe, course.planned)
        self._detailed = frozenset(self.settings.probe.costly_steps(course.planned))
        with left_as_found(device):
            self._network = _Network(replicas[0].model, data, self.settings)
            self._batches = [probe_batches(data, self.settings, replica.run.seed) for replica in replicas]
            self._together = ProbedStack.of(stepper, self._network.layers, self._batches)
        self._measured: list[list[tuple[int, list[Row | Rows]]]] = [[] for _ in replicas]
        self._failed: list[dict[str, str]] = [{} for _ in replicas]
        self._before: list[dict[str, Tensor]] = [{} for _ in replicas]

    def is_due(self, step: int) -> bool:
        """Whether there is something to look at after so many updates."""
        return step in self._looks

    def keep_weights(self, active: Sequence[Replica]) -> None:
        """Before the update that the next probe sees: the weights, for the size of that update."""
        if self._together is not None:
            self._together.keep_weights(self.stepper)
            return
        for index in map(self.replicas.index, active):
            self._before[index] = self._network.weights(self.replicas[index].model)

    def look(self, active: Sequence[Replica], step: int) -> None:
        """Measure these replicas after `step` updates. Call it while the clock stands still."""
        with left_as_found(self.device):
            stack = self._stack(step)
            for index in map(self.replicas.index, active):
                self._look(index, step, stack)

    def _look(self, index: int, step: int, stack: Together | None) -> None:
        replica = self.replicas[index]
        seed = derive(self.settings.seed_of("noise", replica.run.seed), "probe", step)
        seed_streams(seed, self.device)
        inside = self._inside(index, step, stack)
        for name in self._looks[step]:
            measure = probes.get(name)
            if measure.facts.costly:  # what it draws does not depend on the measures before it
                seed_streams(seed, self.device)
            try:
                measured = [*measure.factory(inside)]
            except BaseException as error:  # whatever a measure raises: the run goes on without its numbers
                raise_interrupt(error)
                self._failed[index].setdefault(
                    name, f"probe {name}: not measured at step {step}: {text_of(error)}"
                )
                continue
            self._measured[index].append((step, measured))

    def _stack(self, step: int) -> Together | None:
        """All replicas of a stack as they are now, to be measured together."""
        if self._together is None:
            return None
        lr = self._network.lr * self.course.at(step)
        return self._together.now(
            self.stepper, step, self.course.planned, step in self._detailed, lr, self._network.rates
        )

    def _inside(self, index: int, step: int, stack: Together | None) -> Inside:
        network, factor = self._network, self.course.at(step)
        if stack is not None and self._together is not None:
            model, layers = self._together.private.models[index], self._together.private.layers[index]
            before = {name: weights[index] for name, weights in stack.before.items()}
        else:
            model = network.mirror.of(self.replicas[index].model)
            layers = network.of(model)
            before, self._before[index] = self._before[index], {}
        return Inside(
            model,
            layers,
            *self._batches[index],
            network.objective,
            _loss(model, network.objective, self.settings, self.device),
            self.settings,
            step,
            self.course.planned,
            step in self._detailed,
            network.lr * factor,
            lambda: self._private(index, factor),
            network.rates,
            before,
            stack,
            index if stack is not None else 0,
        )

    def _private(self, index: int, factor: float) -> Private:
        twin = private_copy(self.stepper, index, factor)
        return Private(
            twin.model,
            twin.optimizer,
            tuple(layer.of(twin.model) for layer in self._network.layers),
            _loss(twin.model, twin.objective, self.settings, self.device),
            twin.update,
        )

    def kept(self, replica: Replica) -> dict[str, Any]:
        """What was measured of a replica so far, and which measures failed."""
        if self.settings.probe is None:
            return {}
        index = self.replicas.index(replica)
        rows = [row for step, rows in self._measured[index] for row in _rows(step, rows)]
        return {"rows": columns_of(rows), "failed": self._failed[index]}

    def put_back(self, replica: Replica, kept: dict[str, Any]) -> None:
        """Go on from there."""
        if kept:
            index = self.replicas.index(replica)
            self._failed[index] = kept["failed"]
            self._measured[index] = [
                (row.step, [Row(row.layer, row.quantity, row.value, row.unit)])
                for row in rows_of(kept["rows"])
            ]

    def timed(self) -> Timed:
        """Seconds of a look at one replica, once everything is warm. Of a probe that is there."""
        assert self.settings.probe is not None
        cheap = [name for name in self.settings.probe.what if not probes.get(name).facts.costly]

        def look() -> tuple[float, float]:
            start = time.perf_counter()
            inside = self._inside(0, 0, self._stack(0))
            _ = inside.passed
            synchronize(self.device)
            passed = time.perf_counter()
            for name in cheap:
                _ = [*probes.get(name).factory(inside)]
            synchronize(self.device)
            return time.perf_counter() - start, passed - start

        with left_as_found(self.device):
            look()
            total, one_pass = look()
        shared = len(self.replicas) if self._together is not None else 1
        return Timed(total / shared if cheap else 0.0, one_pass / shared, len(self._network.layers))

    def ended(self, replica: Replica, event: RunEnded, seconds: float) -> RunEnded:
        """The same end of a run, with what its probes measured. seconds: that they took."""
        if self.settings.probe is None:
            return event
        index = self.replicas.index(replica)
        measured = [row for step, rows in self._measured[index] for row in _rows(step, rows)]
        rows = [*_places(self._network.layers, min(self._looks)), *measured]
        record = replace(
            event.record,
            notes=(*event.record.notes, *self._failed[index].values()),
            inside=indices(rows, diverged=event.record.outcome == "not_finite"),
            probe_seconds=seconds,
        )
        return replace(event, record=record, probes=(*rows, *drift_rows(rows)))


class _Network:
    """What the probes know of a network before its first step; the same for all replicas."""

    def __init__(self, model: nn.Module, data: Prepared, settings: Settings) -> None:
        assert settings.probe is not None
        self.mirror = Mirror(model)
        copied = self.mirror.of(model)
        few = torch.arange(min(8, len(data.train_targets)))
        inputs, _ = probe_batch(data, few, generator(0, "batch", "layers"))
        self.layers: tuple[Found, ...] = chosen(
            find_layers(copied, lambda count: inputs[:count]), settings.probe.layers
        )
        self.objective = make_objective(settings)
        self._bound: tuple[nn.Module, tuple[Layer, ...]] | None = None
        of = {id(parameter): name for name, parameter in copied.named_parameters()}
        groups = [group for each in make_optimizers(copied, settings) for group in each.param_groups]
        self.lr = float(groups[0]["lr"]) if groups and "lr" in groups[0] else float("nan")
        self.rates = {
            of[id(parameter)]: float(group["lr"]) / self.lr
            for group in groups
            for parameter in group["params"]
            if id(parameter) in of and self.lr and "lr" in group
        }

    def of(self, model: nn.Module) -> tuple[Layer, ...]:
        """The layers in the mirror's copy, which is mostly the one that it was the last time."""
        if self._bound is None or self._bound[0] is not model:
            self._bound = model, tuple(layer.of(model) for layer in self.layers)
        return self._bound[1]

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        """A copy of every layer's weight, by the layer's name."""
        return {layer.name: layer.of(model).weight.clone() for layer in self.layers}


def _loss(model: nn.Module, objective: Objective, settings: Settings, device: torch.device) -> Objective:
    def loss(inputs: Tensor, targets: Tensor) -> Tensor:
        with autocast(settings, device):
            return objective(model(inputs), targets)

    return loss


def _places(layers: Sequence[Found], step: int) -> Iterator[ProbeRow]:
    """Where each layer stands, so that a number or "head" finds it in the rows."""
    for layer in layers:
        yield ProbeRow(step, layer.name, DEPTH, "", float(layer.depth))
        yield ProbeRow(step, layer.name, HIDDEN, "", float(layer.hidden))


def _rows(step: int, measured: Iterable[Row | Rows]) -> Iterator[ProbeRow]:
    """One row a number."""
    for one in measured:
        if isinstance(one, Rows):
            for unit, value in zip(one.units, one.values, strict=True):
                yield ProbeRow(step, one.layer, one.quantity, str(unit), float(value))
        else:
            unit = "" if one.unit is None else str(one.unit)
            yield ProbeRow(step, one.layer, one.quantity, unit, float(one.value))
