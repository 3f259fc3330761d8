"""Rival: the expert's peer, hand-written JAX: all seeds of a variant at once, an epoch in one compiled call.

Form: the JAX documentation: jax.vmap over the seeds ("Automatic vectorization"), jax.lax.scan over the
steps, jax.jit around the epoch with donated buffers. Nothing of it is ready-made: network, batch norm,
Adam and evaluation are written out, for this one network. It is here as a mark of what is possible.
The hand-written batch norm is the formula; the built-in one is jax.nn.standardize for the normalization.
Tuned: data on the device once, batches gathered inside the scan, the last incomplete batch as a step of its own.
"""

from __future__ import annotations

import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import shared

B1, B2, ADAM_EPS = 0.9, 0.999, 1e-8


def initial(variant: str, key):
    """Parameters, running mean and variance of one seed, as PyTorch starts them."""

    def uniform(key, shape, fan_in):
        return jax.random.uniform(key, shape, minval=-(fan_in**-0.5), maxval=fan_in**-0.5)

    keys = jax.random.split(key, 4)
    params = {
        "w1": uniform(keys[0], (784, shared.HIDDEN), 784),
        "w2": uniform(keys[1], (shared.HIDDEN, 10), shared.HIDDEN),
        "b2": uniform(keys[2], (10,), shared.HIDDEN),
    }
    if variant == "none":
        params["b1"] = uniform(keys[3], (shared.HIDDEN,), 784)
    else:
        params |= {"gamma": jnp.ones(shared.HIDDEN), "beta": jnp.zeros(shared.HIDDEN)}
    return params, (jnp.zeros(shared.HIDDEN), jnp.ones(shared.HIDDEN))


def forward(variant: str, params, running, x, training: bool):
    """Logits and the running statistics."""
    h = x @ params["w1"]
    if variant == "none":
        h = h + params["b1"]
    else:
        mean, var = running
        if training:
            mean, var = h.mean(0), h.var(0)
            running = jax.tree.map(
                lambda old, new: (1 - shared.MOMENTUM) * old + shared.MOMENTUM * new, running, (mean, var)
            )
        if training and variant == "builtin":
            h = jax.nn.standardize(h, axis=0, epsilon=shared.EPS)
        else:
            h = (h - mean) / jnp.sqrt(var + shared.EPS)
        h = params["gamma"] * h + params["beta"]
    return jax.nn.relu(h) @ params["w2"] + params["b2"], running


def cross_entropy(logits, y):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean()


def step(variant: str, state, x, y):
    """One step of Adam."""
    params, running, m, v, t = state

    def objective(params):
        logits, new = forward(variant, params, running, x, training=True)
        return cross_entropy(logits, y), new

    (loss, running), grads = jax.value_and_grad(objective, has_aux=True)(params)
    t = t + 1
    m = jax.tree.map(lambda m, g: B1 * m + (1 - B1) * g, m, grads)
    v = jax.tree.map(lambda v, g: B2 * v + (1 - B2) * g * g, v, grads)
    rate = shared.LEARNING_RATE / (1 - B1**t)
    correction = 1 - B2**t
    params = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v / correction) + ADAM_EPS), params, m, v)
    return (params, running, m, v, t), loss


def epoch(variant: str, state, order, images, labels):
    """All steps of an epoch, for one seed."""
    full = len(order) // shared.BATCH_SIZE * shared.BATCH_SIZE

    def body(state, index):
        return step(variant, state, images[index], labels[index])

    state, losses = jax.lax.scan(body, state, order[:full].reshape(-1, shared.BATCH_SIZE))
    if full < len(order):
        state, _ = body(state, order[full:])
    return state, losses


def evaluate(variant: str, state, x, y):
    logits, _ = forward(variant, state[0], state[1], x, training=False)
    return (logits.argmax(1) == y).mean(), cross_entropy(logits, y)


def train(variant: str, args: shared.Arguments, data) -> list[shared.Run]:
    """All seeds of one variant."""
    run_epoch = jax.jit(jax.vmap(partial(epoch, variant), (0, 0, None, None)), donate_argnums=0)
    measure = jax.jit(jax.vmap(partial(evaluate, variant), (0, None, None)))

    def accuracies(name: str) -> np.ndarray:
        return np.asarray(measure(state, *data[name])[0])

    params, running = jax.vmap(partial(initial, variant))(
        jnp.stack([jax.random.key(seed) for seed in range(args.seeds)])
    )
    zeros = jax.tree.map(jnp.zeros_like, params)
    state = (params, running, zeros, jax.tree.map(jnp.copy, zeros), jnp.zeros(args.seeds))
    draws = [np.random.default_rng(seed) for seed in range(args.seeds)]
    val, probe = [], []
    for _ in range(args.epochs):
        order = np.stack([draw.permutation(len(data["train"][1])) for draw in draws]).astype(np.int32)
        state, _ = run_epoch(state, order, *data["train"])
        val.append(accuracies("val"))
        probe.append(accuracies("probe"))
    test, steps = accuracies("test"), np.asarray(state[4])
    return [
        shared.Run(
            int(steps[seed]),
            [float(values[seed]) for values in val],
            [float(values[seed]) for values in probe],
            float(test[seed]),
        )
        for seed in range(args.seeds)
    ]


def main() -> None:
    args = shared.arguments()
    data = {name: (jnp.asarray(x), jnp.asarray(y)) for name, (x, y) in shared.floats(args).items()}
    records = []
    for variant in shared.VARIANTS:
        start = time.perf_counter()
        runs = train(variant, args, data)
        seconds = (time.perf_counter() - start) / args.seeds
        records += [shared.record(variant, seed, run, seconds) for seed, run in enumerate(runs)]
    shared.report(records, jax=jax.__version__)


if __name__ == "__main__":
    main()
