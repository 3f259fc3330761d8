"""One run in Keras: the same data, batches, initial weights, evaluations and records as in torch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnbench.data.batches import (
    Augmentation,
    Prepared,
    augment,
    epoch_order,
    last_batch_note,
    steps_per_epoch,
)
from bnbench.engine.build import build_model
from bnbench.engine.device import environment
from bnbench.engine.evaluate import evaluate, no_better_than_chance
from bnbench.engine.keras.build import KerasModel, check_model
from bnbench.engine.keras.loading import tensorflow
from bnbench.engine.keras.optimize import (
    check_optimization,
    make_gradient_rule,
    make_objective,
    make_optimizer,
)
from bnbench.engine.train import CHECK_EVERY, TICK_SECONDS
from bnbench.errors import BnbenchError
from bnbench.metrics import SPLITS
from bnbench.optim import optimizers, schedules
from bnbench.plan import (
    Evaluated,
    Event,
    HistoryRow,
    Outcome,
    RunEnded,
    RunRecord,
    RunSpec,
    RunStarted,
    Stepped,
)
from bnbench.seeding import generator

State = dict[str, np.ndarray[Any, Any]]


def train_replicas(
    runs: Sequence[RunSpec], data: Prepared, augmentation: Augmentation, device: torch.device
) -> Iterator[Event]:
    """Train the runs one by one, each from its seed to its record, on the CPU, on one thread."""
    for run in runs:
        yield from KerasTraining(run, data, augmentation, device).events()


class KerasTraining:
    """The state of one run. Raises BnbenchError where Keras can't do what its settings say."""

    def __init__(
        self, run: RunSpec, data: Prepared, augmentation: Augmentation, device: torch.device
    ) -> None:
        settings = run.settings
        self.run, self.data, self.settings, self.augmentation = run, data, settings, augmentation
        twin = build_model(settings, data.input_shape, data.num_classes, run.seed)
        optimizers.get(settings.optimizer.name).factory(twin, **settings.optimizer.options)  # for its checks
        check_model(twin, settings.norm)
        check_optimization(settings)
        if device.type != "cpu":
            raise BnbenchError(
                f"framework: keras trains on the CPU, and this study's device is {device.type}.",
                "Seconds on two devices would not compare.",
                "--device cpu.",
            )
        self.model = KerasModel(twin, data.input_shape, settings.norm)
        self.models = [self.model]
        self.steps_per_epoch = steps_per_epoch(
            len(data.train_labels), settings.batch_size, settings.last_batch
        )
        self.planned_steps = self.steps_per_epoch * settings.epochs
        self.lr_factor = schedules.get(settings.schedule.name).factory(
            self.planned_steps, self.steps_per_epoch, **settings.schedule.options
        )
        self.optimizer = make_optimizer(settings, self.model.trainable)
        self.update = self._update()
        self.factor = 1.0
        self.step_losses = np.zeros(self.planned_steps, np.float32)
        self.history: list[HistoryRow] = []
        self.best: tuple[float, int, State] | None = None
        self.train_seconds = 0.0

    def _update(self) -> Any:
        """The compiled optimizer update: a batch in, its objective before the update out."""
        tf = tensorflow()
        network, weights, optimizer = self.model.network, self.model.trainable, self.optimizer
        objective = make_objective(self.settings)
        rule = make_gradient_rule(self.settings, weights)
        variables = [weight.variable for weight in weights]

        def update(images: Any, labels: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = objective(network(images, training=True), labels)
            optimizer.apply(rule(tape.gradient(loss, variables)))
            return loss

        images = tf.TensorSpec((None, *network.input_shape[1:]), tf.float32)
        return tf.function(update, input_signature=[images, tf.TensorSpec((None,), tf.int64)])

    def events(self) -> Iterator[Event]:
        """The run, event by event."""
        yield RunStarted(self.run, self.planned_steps, self.settings.epochs, self._notes())
        yield self._evaluated(0)
        self.update.get_concrete_function()  # traced here, so that training time is training
        step, shown = 0, time.monotonic()
        started = time.perf_counter()
        for images, labels in self.batches():
            self.step_losses[step] = self.train_step(step, images, labels)
            step += 1
            due = self._evaluation_is_due(step)
            if due or time.monotonic() - shown > TICK_SECONDS:
                self.train_seconds += time.perf_counter() - started
                yield self._evaluated(step) if due else Stepped(self.run, step)
                shown = time.monotonic()
                started = time.perf_counter()
            if self._went_wrong(step):
                break
        self.train_seconds += time.perf_counter() - started
        yield RunEnded(self.run, self._record(step), self.model.state())

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (N, C, H, W) and labels of every step, in the order and with the augmentation of torch's runs."""
        data, settings, seed = self.data, self.settings, self.run.seed
        for epoch in range(settings.epochs):
            draw = generator(seed, "augment", epoch)
            for index in epoch_order(
                len(data.train_labels), settings.batch_size, seed, epoch, settings.last_batch
            ):
                yield augment(data.train_images[index], self.augmentation, draw), data.train_labels[index]

    def train_step(self, step: int, images: Tensor, labels: Tensor) -> float:
        """One optimizer update; the batch's objective before it."""
        factor = self.lr_factor(step)
        if factor != self.factor:
            self.optimizer.learning_rate.assign(self.settings.optimizer.options["lr"] * factor)
            self.factor = factor
        return float(self.update(self.model.inputs(images), labels.numpy()))

    def _evaluation_is_due(self, step: int) -> bool:
        every = self.settings.evaluate_every
        interval = self.steps_per_epoch if every == "epoch" else every
        return step % interval == 0 or step == self.planned_steps

    def _evaluated(self, step: int) -> Evaluated:
        """Evaluate on the training probe and the validation part; keep the best weights so far."""
        metrics = evaluate(self.model, self.data, ("train", "val"))
        since = self.history[-1].step if self.history else 0
        batch_loss = float(self.step_losses[since:step].mean()) if step > since else None
        row = HistoryRow(step, step / self.steps_per_epoch, self.train_seconds, batch_loss, metrics)
        self.history.append(row)
        val_loss = metrics["val_loss"]
        if step and math.isfinite(val_loss) and (self.best is None or val_loss < self.best[0]):
            self.best = (val_loss, step, self.model.state())
        return Evaluated(self.run, row)

    def _went_wrong(self, step: int) -> bool:
        """Looked at when torch's runs are: every CHECK_EVERY steps and at every evaluation."""
        if step % CHECK_EVERY and self.history[-1].step != step:
            return False
        return not np.isfinite(self.step_losses[:step]).all()

    def _record(self, step: int) -> RunRecord:
        final = best = evaluate(self.model, self.data, SPLITS)
        best_step, final_state = step, self.model.state()
        if self.best and self.best[1] != step:
            _, best_step, state = self.best
            self.model.load(state)
            best = evaluate(self.model, self.data, SPLITS)
            self.model.load(final_state)
        run = self.run
        return RunRecord(
            variant=run.variant,
            setting=run.setting,
            seed=run.seed,
            cell=run.cell,
            norm=self.settings.norm.name,
            outcome=self._outcome(step, final),
            steps=step,
            planned_steps=self.planned_steps,
            steps_per_epoch=self.steps_per_epoch,
            train_seconds=self.train_seconds,
            num_parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            final=final,
            best=best,
            best_step=best_step,
            history=tuple(self.history),
            step_losses=tuple(self.step_losses[:step].tolist()),
            notes=self._notes(),
            layers=tuple(self.model.lines),
            environment=self._environment(),
            num_samples=self._num_samples(),
        )

    def _outcome(self, step: int, final: Mapping[str, float]) -> Outcome:
        finite = math.isfinite(final["val_loss"]) and bool(np.isfinite(self.step_losses[:step]).all())
        return "finished" if finite and not no_better_than_chance(final, self.data.val_labels) else "diverged"

    def _environment(self) -> dict[str, Any]:
        tf = tensorflow()
        versions = {"engine": "keras", "tensorflow": str(tf.__version__), "keras": str(tf.keras.__version__)}
        return {**environment(torch.device("cpu")), "num_threads": 1, **versions}

    def _num_samples(self) -> dict[str, int]:
        full_batches = self.steps_per_epoch * self.settings.batch_size
        train = len(self.data.train_labels)
        return {
            "train": min(train, full_batches),  # an epoch leaves out what `last_batch: drop` drops
            "val": len(self.data.val_labels),
            "test": len(self.data.test_labels),
        }

    def _notes(self) -> tuple[str, ...]:
        tf = tensorflow()
        notes = [
            *self.data.notes,
            last_batch_note(len(self.data.train_labels), self.settings.batch_size, self.settings.last_batch),
            f"{self.run.variant}: trained by Keras {tf.keras.__version__} (TensorFlow {tf.__version__}), on one thread",
        ]
        if self.settings.norm.name == "batch":
            notes.append(
                f"{self.run.variant}: Keras's BatchNormalization with torch's eps and momentum; it stores the "
                "biased variance, torch the unbiased one, n / (n - 1) as large"
            )
        return tuple(note for note in notes if note)
