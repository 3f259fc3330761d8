"""The table of frameworks and the schema agree, and every framework has what the engine asks of it."""

from __future__ import annotations

import typing
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

from bnbench.base.errors import BnbenchError
from bnbench.engine.backends.base import BACKENDS, Backend, backend_of
from bnbench.study import Settings, Vocabulary, load_study


def test_every_framework_of_the_schema_has_a_backend() -> None:
    assert set(typing.get_args(Settings.model_fields["framework"].annotation)) == set(BACKENDS)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_has_every_method_of_the_protocol(name: str) -> None:
    backend = backend_of(Settings.model_construct(framework=name))
    methods = [method for method in vars(Backend) if not method.startswith("_")]
    assert {"check", "choose", "stepper", "environment", "notes"} <= set(methods)
    assert all(callable(getattr(backend, method)) for method in methods)


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="no TensorFlow")
def test_the_environment_of_keras_names_the_versions_that_train() -> None:
    """They are read from what is installed; the loaded modules are the oracle."""
    from bnbench.engine.backends.keras.loading import tensorflow

    environment = backend_of(Settings.model_construct(framework="keras")).environment(torch.device("cpu"))
    tf = tensorflow()
    assert environment["tensorflow"] == tf.__version__
    assert environment["keras"] == tf.keras.__version__
    assert environment["num_threads"] == 1


@pytest.mark.parametrize(
    ("task", "data"),
    [
        ("gan", "digits"),
        ("denoising", "digits"),
        ("segmentation", "shapes"),
        ("tabular_regression", "diabetes"),
        ("language_model", "stdlib_text"),
    ],
)
def test_keras_refuses_tasks_that_do_not_tell_classes_apart(
    task: str, data: str, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    (tmp_path / "s.yaml").write_text(f"dataset: {data}\ntask: {task}\noptimizer: {{name: sgd, lr: 0.1}}\n")
    settings = load_study(tmp_path / "s.yaml", ["framework=keras"], vocabulary).variants["none"]
    with pytest.raises(BnbenchError, match=f"framework: keras does not train the task {task}"):
        backend_of(settings).check(nn.Identity(), settings, torch.device("cpu"))
