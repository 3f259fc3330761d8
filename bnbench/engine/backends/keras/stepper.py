"""One optimizer step in Keras, from torch's batch and to torch's loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bnbench.engine.backends.keras.build import KerasModel
from bnbench.engine.backends.keras.loading import tensorflow
from bnbench.engine.backends.keras.optimize import make_gradient_rule, make_objective, make_optimizer
from bnbench.engine.steppers.base import Stepper
from bnbench.study import Settings


class KerasStepper(Stepper):
    """Forward, backward and update of a single network: S is 1."""

    engine = "keras"

    def __init__(self, twin: nn.Module, settings: Settings, input_shape: tuple[int, ...]) -> None:
        self.model = KerasModel(twin, input_shape, settings.norm)
        super().__init__([self.model])
        self.optimizer = make_optimizer(settings, self.model.trainable)
        self.update = self._update(settings)
        self._rate, self._factor = settings.optimizer.options["lr"], 1.0

    def _update(self, settings: Settings) -> Any:
        """The compiled optimizer update: a batch in, its objective before the update out."""
        tf = tensorflow()
        network, weights, optimizer = self.model.network, self.model.trainable, self.optimizer
        objective = make_objective(settings)
        rule = make_gradient_rule(settings, weights)
        variables = [weight.variable for weight in weights]

        def update(images: Any, labels: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = objective(network(images, training=True), labels)
            optimizer.apply(rule(tape.gradient(loss, variables)))
            return loss

        images = tf.TensorSpec((None, *network.input_shape[1:]), tf.float32)
        signature = [images, tf.TensorSpec((None,), tf.int64)]
        # nothing here branches on a tensor, and AutoGraph writes its code into files that a kill leaves behind
        return tf.function(update, input_signature=signature, autograph=False)

    def prepare(self, images: Tensor, labels: Tensor) -> None:
        """Trace the update, so that training time is training."""
        self.update.get_concrete_function()

    def scale_rates(self, factor: float) -> None:
        """Keras keeps the rate in a variable, which is written only where it changes."""
        if factor != self._factor:
            self.optimizer.learning_rate.assign(self._rate * factor)
            self._factor = factor

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """One update; the objective before it, (1,)."""
        loss = self.update(self.model.inputs(images[0]), labels[0].numpy())
        return torch.tensor([float(loss)])

    def kept(self, index: int) -> dict[str, Any]:
        """Copies of every variable: weights, running statistics, seeds of layers, moments, the rate and its count."""
        return {
            "network": _values(self.model.network.variables),
            "optimizer": _values(self.optimizer.variables),
            "factor": self._factor,
            "notes": self.notes,
        }

    def put_back(self, index: int, kept: dict[str, Any]) -> None:
        """Give every variable its value of then. Raises ValueError where there are others."""
        _assign(self.model.network.variables, kept["network"])
        _assign(self.optimizer.variables, kept["optimizer"])
        self._factor = kept["factor"]

    def layers(self, model: nn.Module) -> tuple[str, ...]:
        """Keras's layers."""
        return tuple(self.model.lines)


def _values(variables: Sequence[Any]) -> list[Tensor]:
    return [torch.from_numpy(np.array(variable.numpy())) for variable in variables]


def _assign(variables: Sequence[Any], values: Sequence[Tensor]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value.numpy())
