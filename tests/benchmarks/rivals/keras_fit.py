"""Rivals: Keras 3 with model.fit, on the backend that KERAS_BACKEND names (jax or tensorflow).

Form: keras.io, "Introduction to Keras for engineers" (Sequential, compile, fit, evaluate) and "Making new layers
and models via subclassing" (the hand-written layer: build, add_weight, call(training), keras.ops).
The same model: Keras' defaults are set to PyTorch's (kernel and bias U(±1/√fan_in), batch norm with momentum
0.9 and epsilon 1e-5, Adam's epsilon 1e-8), as bnbench has them.
Tuned: verbose=0 (a progress bar costs); arrays flattened and converted once; evaluation in batches of
1000; steps_per_execution ("can greatly improve performance on TPUs or small models with a large Python
overhead") and jit_compile, see TUNED; on JAX its persistent compilation cache in a fresh folder, so that a
variant is compiled for its first seed only. STEPS_PER_EXECUTION=n, JIT_COMPILE=0|1 and COMPILATION_CACHE=0 in the
environment try something else.
"""

from __future__ import annotations

import os
import tempfile

import keras
import shared
from keras import layers, ops

#: steps_per_execution and jit_compile: the fastest of 1, 8 and 32 and, on TensorFlow, of "auto" and False.
TUNED = {"jax": (8, "auto"), "tensorflow": (32, False)}


class NaiveBatchNorm(layers.Layer):
    """Batch normalization over (N, C), operation by operation."""

    def build(self, input_shape) -> None:
        width = (input_shape[-1],)
        self.gamma = self.add_weight(shape=width, initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=width, initializer="zeros", name="beta")
        self.moving_mean = self.add_weight(shape=width, initializer="zeros", trainable=False, name="mean")
        self.moving_var = self.add_weight(shape=width, initializer="ones", trainable=False, name="var")

    def call(self, inputs, training=False):
        mean, var = self.moving_mean, self.moving_var
        if training:
            mean = ops.mean(inputs, axis=0)
            var = ops.mean(ops.square(inputs - mean), axis=0)
            keep = 1 - shared.MOMENTUM
            self.moving_mean.assign(keep * self.moving_mean + shared.MOMENTUM * mean)
            self.moving_var.assign(keep * self.moving_var + shared.MOMENTUM * var)
        return self.gamma * (inputs - mean) / ops.sqrt(var + shared.EPS) + self.beta


class Probe(keras.callbacks.Callback):
    """Evaluates on the training probe after each epoch."""

    def __init__(self, images, labels) -> None:
        super().__init__()
        self.images, self.labels, self.accuracies = images, labels, []

    def on_epoch_end(self, epoch, logs=None) -> None:
        self.accuracies.append(accuracy(self.model, self.images, self.labels))


def accuracy(model: keras.Model, images, labels) -> float:
    return float(model.evaluate(images, labels, batch_size=shared.EVAL_BATCH, verbose=0)[1])


def dense(fan_in: int, units: int, bias: bool = True) -> layers.Dense:
    """A linear layer that starts as PyTorch's does."""
    bound = fan_in**-0.5
    return layers.Dense(
        units,
        use_bias=bias,
        kernel_initializer=keras.initializers.RandomUniform(-bound, bound),
        bias_initializer=keras.initializers.RandomUniform(-bound, bound),
    )


def mlp(variant: str) -> keras.Sequential:
    norms = {
        "none": [],
        "custom": [NaiveBatchNorm()],
        "builtin": [layers.BatchNormalization(momentum=1 - shared.MOMENTUM, epsilon=shared.EPS)],
    }
    return keras.Sequential(
        [
            keras.Input((784,)),
            dense(784, shared.HIDDEN, bias=variant == "none"),
            *norms[variant],
            layers.ReLU(),
            dense(shared.HIDDEN, 10),
        ]
    )


def cache_compilations(folder: str) -> None:
    """JAX's documented persistent cache, in a folder of this process alone: nothing is carried over."""
    import jax

    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def main() -> None:
    args = shared.arguments()
    data = shared.floats(args)
    backend = keras.backend.backend()
    steps_per_execution, jit_compile = TUNED[backend]
    steps_per_execution = int(os.environ.get("STEPS_PER_EXECUTION", steps_per_execution))

    jit_compile = {"0": False, "1": True}.get(os.environ.get("JIT_COMPILE", ""), jit_compile)

    def train(variant: str, seed: int) -> shared.Run:
        keras.utils.clear_session()
        keras.utils.set_random_seed(seed)
        model = mlp(variant)
        model.compile(
            optimizer=keras.optimizers.Adam(learning_rate=shared.LEARNING_RATE, epsilon=1e-8),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
        )
        probe = Probe(*data["probe"])
        history = model.fit(
            *data["train"],
            batch_size=shared.BATCH_SIZE,
            epochs=args.epochs,
            verbose=0,
            callbacks=[probe],
            validation_data=data["val"],
            validation_batch_size=shared.EVAL_BATCH,
        )
        steps = int(model.optimizer.iterations)
        val = [float(value) for value in history.history["val_accuracy"]]
        return shared.Run(steps, val, probe.accuracies, accuracy(model, *data["test"]))

    with tempfile.TemporaryDirectory() as folder:
        if backend == "jax" and os.environ.get("COMPILATION_CACHE", "1") == "1":
            cache_compilations(folder)
        runs = shared.each_run(args, train)
    shared.report(runs, keras=keras.__version__, **{backend: __import__(backend).__version__})


if __name__ == "__main__":
    main()
