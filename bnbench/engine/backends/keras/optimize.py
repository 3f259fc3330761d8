"""The objective and the optimizer in TensorFlow: Keras's own optimizers, with torch's meaning where the two differ.

                  torch                                      Keras
    eps of Adam   added to √v after the bias correction      before it (as `adam_keras` has it)
    momentum      buffer of gradients, times this step's lr  buffer of steps, each with the lr of its time
    weight decay  sgd, adam: added to the gradient           always decoupled from the gradient
    clipping      by the norm + 1e-6                         by the norm

The left column is what a study means, so the right one is bent to it; `adam_keras` is Keras's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bnbench.base.errors import BnbenchError
from bnbench.engine.backends.keras.build import Weight
from bnbench.engine.backends.keras.loading import tensorflow
from bnbench.study import Settings

OPTIMIZERS = ("sgd", "adam", "adamw", "adam_keras")
LOSSES = ("cross_entropy", "double_softmax")


def check_optimization(settings: Settings) -> None:
    """Raises BnbenchError where Keras runs do not have the optimizer, the loss, the precision or the engine."""
    if settings.precision != "float32":
        raise BnbenchError(
            f"framework: keras trains in float32, not in {settings.precision}.",
            fix="precision: float32, or framework: torch.",
        )
    if settings.engine not in ("auto", "sequential"):
        raise BnbenchError(
            f"framework: keras trains one run at a time, and engine: {settings.engine} is torch's.",
            fix="engine: auto, or framework: torch.",
        )
    if settings.clip.name != "none":
        raise BnbenchError(
            f"framework: keras has no clip: {settings.clip.name}.",
            "Keras clips by the norm of a variable or of all of them, not of a unit.",
            "clip_norm: 1, or framework: torch.",
        )
    if settings.optimizer.options.get("groups"):
        raise BnbenchError(
            "framework: keras has no optimizer.groups.",
            "A Keras optimizer has one learning rate and one weight decay for all weights.",
            "optimizer.decay_norm_and_bias: false, or framework: torch.",
        )
    for key, known in (("optimizer", OPTIMIZERS), ("loss", LOSSES)):
        name = getattr(settings, key).name
        if name not in known:
            raise BnbenchError(
                f"framework: keras has no {key}: {name}.",
                fix=f"{key}: {', '.join(known)}, or framework: torch.",
            )


def make_objective(settings: Settings) -> Callable[[Any, Any], Any]:
    """(N, classes) logits and (N,) labels in, a scalar out.

    In plain TensorFlow: the losses of Keras look for a softmax before them and undo it, and so a double one.
    """
    tf = tensorflow()
    smoothing = settings.loss.options["label_smoothing"]
    doubled = settings.loss.name == "double_softmax"

    def objective(logits: Any, labels: Any) -> Any:
        classes = logits.shape[-1]
        wanted = tf.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes
        scores = tf.nn.softmax(logits) if doubled else logits
        return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(wanted, scores))

    return objective


def make_optimizer(settings: Settings, weights: Sequence[Weight]) -> Any:
    """The Keras optimizer, built for these weights."""
    tf = tensorflow()
    name, options = settings.optimizer.name, settings.optimizer.options
    optimizer: Any
    if name == "sgd":
        kind = _torch_sgd(tf) if options["momentum"] else tf.keras.optimizers.SGD
        optimizer = kind(options["lr"], momentum=options["momentum"], nesterov=options["nesterov"])
    else:
        kind = tf.keras.optimizers.Adam if name == "adam_keras" else _torch_adam(tf)
        beta_1, beta_2 = options["betas"]
        decay = options["weight_decay"] if name in ("adamw", "adam_keras") else 0.0
        optimizer = kind(options["lr"], beta_1, beta_2, epsilon=options["eps"], weight_decay=decay or None)
        if decay:
            spared = [weight.variable for weight in weights if not _is_decayed(settings, weight)]
            optimizer.exclude_from_weight_decay(var_list=spared)
    optimizer.build([weight.variable for weight in weights])
    return optimizer


def make_gradient_rule(settings: Settings, weights: Sequence[Weight]) -> Callable[[list[Any]], list[Any]]:
    """What happens to the gradients before the optimizer sees them: clipping, then sgd's and adam's decay."""
    tf = tensorflow()
    clip = settings.clip_norm
    name, options = settings.optimizer.name, settings.optimizer.options
    decay = options["weight_decay"] if name in ("sgd", "adam") else 0.0
    decayed = [decay if decay and _is_decayed(settings, weight) else 0.0 for weight in weights]

    def rule(gradients: list[Any]) -> list[Any]:
        if clip is not None:
            scale = tf.minimum(1.0, clip / (tf.linalg.global_norm(gradients) + 1e-6))
            gradients = [gradient * scale for gradient in gradients]
        return [
            gradient + share * weight.variable if share else gradient
            for gradient, share, weight in zip(gradients, decayed, weights, strict=True)
        ]

    return rule


def _is_decayed(settings: Settings, weight: Weight) -> bool:
    """By its owner, as torch's runs decide it."""
    return bool(settings.optimizer.options["decay_norm_and_bias"]) or not weight.spared


def _torch_adam(tf: Any) -> Any:
    """Keras's Adam with eps after the bias correction, which is worked out in float64, as torch does."""

    class TorchAdam(tf.keras.optimizers.Adam):  # type: ignore[misc]
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            index = self._get_variable_index(variable)
            mean, square = self._momentums[index], self._velocities[index]
            mean.assign_add((gradient - mean) * (1 - self.beta_1))
            square.assign_add((gradient * gradient - square) * (1 - self.beta_2))
            steps = tf.cast(self.iterations + 1, tf.float64)
            first, second = (
                tf.cast(1 - tf.pow(tf.constant(beta, tf.float64), steps), tf.float32)
                for beta in (self.beta_1, self.beta_2)
            )
            root = tf.sqrt(square) / tf.sqrt(second)
            variable.assign_sub(learning_rate / first * mean / (root + self.epsilon))

    return TorchAdam


def _torch_sgd(tf: Any) -> Any:
    """Keras's SGD whose momentum gathers gradients, not steps: they differ once the learning rate changes."""

    class TorchSGD(tf.keras.optimizers.SGD):  # type: ignore[misc]
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            buffer = self.momentums[self._get_variable_index(variable)]
            buffer.assign(buffer * self.momentum + gradient)
            step = gradient + buffer * self.momentum if self.nesterov else buffer
            variable.assign_sub(step * learning_rate)

    return TorchSGD
