"""A torch model and the Keras network made of it give the same logits; what can't be made is refused."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
import torch

from bnbench.base.errors import BnbenchError
from bnbench.engine.backends.keras.build import MODELS, NORMS, KerasModel, check_model
from bnbench.engine.build import initialise
from bnbench.models import models
from bnbench.models.layers import NormLayer
from bnbench.norms import norms
from bnbench.study import Choice

pytestmark = pytest.mark.keras
needs_tensorflow = pytest.mark.skipif(
    find_spec("tensorflow") is None, reason="TensorFlow is not installed (pip install '.[keras]')"
)

OF_IMAGES = [
    entry.name
    for entry in models.entries()
    if not entry.facts.whole and (not entry.facts.tasks or "image_classification" in entry.facts.tasks)
]
SHAPE = (3, 10, 7)  # neither square nor of one channel: a wrong order of axes shows


def twin_of(model: str, norm: str, **options: Any) -> tuple[torch.nn.Module, Choice]:
    """A torch model whose every weight and statistic is off its default, and its norm as a study has it."""
    entry = norms.get(norm)
    choice = Choice(name=norm, options=entry.options()().model_dump())
    twin = models.get(model).factory(SHAPE, 4, NormLayer(entry, choice.options), **options)
    initialise(twin, 0, "torch")
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in twin.state_dict().items():
            if value.is_floating_point():
                value.add_(torch.rand(value.shape, generator=draw) * (0.5 if "running_var" in name else 0.1))
    return twin.eval(), choice


CASES = [
    *((model, norm, {}) for model in MODELS for norm in NORMS),
    *(("cnn", "batch", {"activation": name}) for name in ("sigmoid", "tanh", "gelu")),
    ("mlp", "batch_keras", {"hidden": [6, 5], "norm_position": "after", "bias": "always"}),
    ("cnn", "batch_keras", {"channels": [4], "norm_position": "after", "bias": "always"}),
]


@needs_tensorflow
@pytest.mark.parametrize(("model", "norm", "options"), CASES, ids=str)
def test_the_same_logits_weights_and_parameters(model: str, norm: str, options: dict[str, Any]) -> None:
    twin, choice = twin_of(model, norm, **options)
    keras = KerasModel(twin, SHAPE, choice)
    images = torch.randn((5, *SHAPE), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        torch.testing.assert_close(keras(images), twin(images), rtol=2e-5, atol=2e-5)
    state = {name: value for name, value in twin.state_dict().items() if value.is_floating_point()}
    assert keras.state_dict().keys() == state.keys()
    for name, value in keras.state_dict().items():
        assert torch.equal(value, state[name])
    assert sum(p.numel() for p in keras.parameters()) == sum(p.numel() for p in twin.parameters())
    assert [weight.variable.path for weight in keras.trainable] == [
        variable.path for variable in keras.network.trainable_variables
    ]


@needs_tensorflow
def test_layers_are_listed_under_their_names() -> None:
    twin, choice = twin_of("mlp", "batch", hidden=[6])
    assert KerasModel(twin, SHAPE, choice).lines == [
        "blocks.0.linear: Dense(units=6, use_bias=False)",
        "blocks.0.norm: BatchNormalization(momentum=0.9, epsilon=1e-05)",
        "blocks.0.activation: Activation(activation=relu)",
        "head: Dense(units=4, use_bias=True)",
    ]


@pytest.mark.parametrize("name", OF_IMAGES)
def test_every_model_is_built_or_refused_with_what_is_supported(name: str) -> None:
    twin, choice = twin_of(name, "batch", **({"patch": 1} if name == "vit" else {}))
    if name in MODELS:
        check_model(twin, choice)
        return
    with pytest.raises(
        BnbenchError, match=r"framework: keras can't build this model: its part .* is (.|\n)*mlp, cnn"
    ):
        check_model(twin, choice)


@pytest.mark.parametrize("name", [name for name in norms.names() if name not in NORMS])
def test_other_norms_are_refused(name: str) -> None:
    twin, _ = twin_of("mlp", "none")
    with pytest.raises(BnbenchError, match=f"no norm: {name}(.|\n)*Fix: norm: none, batch, batch_keras"):
        check_model(twin, Choice(name=name))


@pytest.mark.parametrize("options", [{"momentum": None}, {"track_running_stats": False}], ids=str)
def test_options_that_keras_does_not_have_are_refused(options: dict[str, Any]) -> None:
    twin, _ = twin_of("mlp", "none")
    with pytest.raises(BnbenchError, match="always keeps running statistics, with a fixed momentum"):
        check_model(twin, Choice(name="batch", options=options))
