"""One run in Keras: the same data, batches, initial weights, evaluations and records as in torch."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bnbench.base.errors import BnbenchError
from bnbench.base.process_state import in_private
from bnbench.base.seeding import derive, generator
from bnbench.data.augmentations import Augmentation
from bnbench.data.batches import (
    Prepared,
    epoch_order,
    steps_per_epoch,
)
from bnbench.engine import build
from bnbench.engine.backends.keras.build import KerasModel, check_model
from bnbench.engine.backends.keras.loading import tensorflow
from bnbench.engine.backends.keras.optimize import (
    check_optimization,
    make_gradient_rule,
    make_objective,
    make_optimizer,
)
from bnbench.engine.device import environment
from bnbench.engine.evaluate import evaluate
from bnbench.engine.loop import CHECK_EVERY, TICK_SECONDS
from bnbench.engine.replica import Replica
from bnbench.study.events import Event, RunStarted, Stepped
from bnbench.study.plan import RunSpec


def train_replicas(
    runs: Sequence[RunSpec], data: Prepared, augmentation: Augmentation | None, device: torch.device
) -> Iterator[Event]:
    """Train the runs one by one, each from its seed to its record, on the CPU, on one thread."""
    for run in runs:  # Keras draws from the global streams when a layer is made
        start = partial(_start, run, data, augmentation, device)
        yield from in_private(start, derive(run.settings.seed_of("noise", run.seed), "layers"), device)


def _start(*what: Any) -> Generator[Event]:
    return KerasTraining(*what).events()


class KerasTraining:
    """The state of one run. Raises BnbenchError where Keras can't do what its settings say."""

    def __init__(
        self, run: RunSpec, data: Prepared, augmentation: Augmentation | None, device: torch.device
    ) -> None:
        settings = run.settings
        self.run, self.data, self.settings, self.augmentation = run, data, settings, augmentation
        twin = build.build_model(settings, data.input_shape, data.num_classes, run.seed)
        build.make_optimizer(settings)(twin)  # for its checks
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
        self.lr_factor = build.make_schedule(settings, self.planned_steps, self.steps_per_epoch)
        self.optimizer = make_optimizer(settings, self.model.trainable)
        self.update = self._update()
        self.factor = 1.0
        self.step_losses = torch.zeros(self.planned_steps)
        self.replica = Replica(
            run,
            self.model,
            data,
            self.step_losses,
            self.steps_per_epoch,
            lambda model, splits: evaluate(model, data, splits),
        )

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

    def events(self) -> Generator[Event]:
        """The run, event by event."""
        notes = self._notes()
        yield RunStarted(self.run, self.planned_steps, self.settings.epochs, (*self.replica.notes(), *notes))
        yield self.replica.evaluated(0, 0.0)
        self.update.get_concrete_function()  # traced here, so that training time is training
        step, seconds, shown = 0, 0.0, time.monotonic()
        started = time.perf_counter()
        for images, labels in self.batches():
            self.step_losses[step] = self.train_step(step, images, labels)
            step += 1
            due = self._evaluation_is_due(step)
            if due or time.monotonic() - shown > TICK_SECONDS:
                seconds += time.perf_counter() - started
                yield self.replica.evaluated(step, seconds) if due else Stepped(self.run, step)
                shown = time.monotonic()
                started = time.perf_counter()
            # looked at when torch's runs are
            if (due or step % CHECK_EVERY == 0) and not self.step_losses[:step].isfinite().all():
                break
        seconds += time.perf_counter() - started
        ended = self.replica.ended(step, seconds, self._environment(), notes)
        yield replace(ended, record=replace(ended.record, layers=tuple(self.model.lines)))

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (N, C, H, W) and labels of every step, in the order and with the augmentation of torch's runs."""
        data, settings, seed = self.data, self.settings, self.run.seed
        for epoch in range(settings.epochs):
            draw = generator(settings.seed_of("augmentation", seed), "augment", epoch)
            order, count = settings.seed_of("order", seed), len(data.train_labels)
            for index in epoch_order(count, settings.batch_size, order, epoch, settings.last_batch):
                images = data.train_batch(index)
                yield (
                    self.augmentation(images, draw) if self.augmentation else images,
                    data.train_labels[index],
                )

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

    def _environment(self) -> dict[str, Any]:
        tf = tensorflow()
        versions = {"engine": "keras", "tensorflow": str(tf.__version__), "keras": str(tf.keras.__version__)}
        return {**environment(torch.device("cpu")), "num_threads": 1, **versions}

    def _notes(self) -> tuple[str, ...]:
        tf, variant = tensorflow(), self.run.variant
        told = (
            f"{variant}: trained by Keras {tf.keras.__version__} (TensorFlow {tf.__version__}), on one thread",
            f"{variant}: Keras's BatchNormalization with torch's eps and momentum; it stores the biased variance, "
            "torch the unbiased one, n / (n - 1) as large",
        )
        return told if self.settings.norm.name == "batch" else told[:1]
