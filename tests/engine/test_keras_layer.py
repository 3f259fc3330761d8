"""`batch_keras` against the real tf.keras.layers.BatchNormalization, in float64."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch

from bnbench.engine.backends.keras.loading import tensorflow
from bnbench.norms import norms

if find_spec("tensorflow") is None:
    pytest.skip("TensorFlow is not installed (pip install '.[keras]')", allow_module_level=True)

pytestmark = pytest.mark.keras

SHAPES = [(16, 5), (2, 3), (6, 5, 4, 3)]
OPTIONS: list[dict[str, Any]] = [{}, {"momentum": 0.7, "eps": 0.1}, {"affine": False}]


@pytest.fixture(params=SHAPES, ids=str)
def shape(request: pytest.FixtureRequest) -> tuple[int, ...]:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=OPTIONS, ids=str)
def pair(request: pytest.FixtureRequest, shape: tuple[int, ...]) -> tuple[torch.nn.Module, Any]:
    """Our layer and Keras's, float64, with the same gamma and beta."""
    options = request.param
    ours = norms.get("batch_keras").factory(shape[1], 1 if len(shape) == 2 else 2, **options).double()
    words = {"momentum": "momentum", "eps": "epsilon"}
    affine = options.get("affine", True)
    told = {words[key]: value for key, value in options.items() if key in words}
    theirs = tensorflow().keras.layers.BatchNormalization(
        dtype="float64", center=affine, scale=affine, **told
    )
    theirs.build((None, *shape[2:], shape[1]))
    if affine:
        draw = np.random.default_rng(1)
        gamma, beta = draw.normal(size=shape[1]), draw.normal(size=shape[1])
        theirs.gamma.assign(gamma)
        theirs.beta.assign(beta)
        with torch.no_grad():
            ours.weight.copy_(torch.from_numpy(gamma))
            ours.bias.copy_(torch.from_numpy(beta))
    return ours, theirs


def channels_last(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.moveaxis(x, 1, -1)


def assert_same(ours: torch.Tensor, theirs: Any) -> None:
    mine = ours.detach().numpy()
    np.testing.assert_allclose(channels_last(mine) if mine.ndim > 1 else mine, theirs, rtol=1e-10, atol=1e-12)


def test_training_inference_and_gradients_over_several_steps(
    pair: tuple[torch.nn.Module, Any], shape: tuple[int, ...]
) -> None:
    tf = tensorflow()
    ours, theirs = pair
    draw = np.random.default_rng(0)
    for _ in range(4):
        x, weights = draw.normal(1.0, 3.0, shape), draw.normal(size=shape)
        mine = torch.tensor(x, requires_grad=True)
        out = ours.train()(mine)
        (out * torch.from_numpy(weights)).sum().backward()
        given = tf.constant(channels_last(x))
        with tf.GradientTape() as tape:
            tape.watch(given)
            other = theirs(given, training=True)
            loss = tf.reduce_sum(other * channels_last(weights))
        gradients = tape.gradient(loss, [given, *theirs.trainable_variables])
        assert_same(out, other)
        parameters = [p.grad for p in ours.parameters()]
        assert len(parameters) == len(gradients) - 1
        for grad, expected in zip([mine.grad, *parameters], gradients, strict=True):
            assert grad is not None
            assert_same(grad, expected)
        ours.zero_grad()
        assert_same(ours.running_mean, theirs.moving_mean.numpy())
        assert_same(ours.running_var, theirs.moving_variance.numpy())
        # inference, with statistics that have moved so far
        assert_same(ours.eval()(torch.from_numpy(x)), theirs(given, training=False))


def test_the_defaults_are_those_of_keras() -> None:
    theirs = tensorflow().keras.layers.BatchNormalization()
    options = norms.get("batch_keras").options()()
    assert options.model_dump() == {"momentum": theirs.momentum, "eps": theirs.epsilon, "affine": True}
    assert theirs.center
    assert theirs.scale
