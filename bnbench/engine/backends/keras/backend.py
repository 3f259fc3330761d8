"""Keras, on TensorFlow: one run at a time, on the CPU, on one thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import nn

from bnbench.base.errors import BnbenchError
from bnbench.data import Sizes
from bnbench.engine.backends.keras.build import check_model
from bnbench.engine.backends.keras.loading import tensorflow
from bnbench.engine.backends.keras.optimize import check_optimization
from bnbench.engine.backends.keras.stepper import KerasStepper
from bnbench.engine.choose import EngineChoice
from bnbench.engine.device import environment
from bnbench.engine.steppers.base import Stepper
from bnbench.study import Settings
from bnbench.study.plan import RunSpec
from bnbench.tasks import task_of

#: The distributions that install each package.
_DISTRIBUTIONS = {"keras": ("keras",), "tensorflow": ("tensorflow", "tensorflow-cpu")}


class KerasBackend:
    """See `Backend`."""

    def check(self, model: nn.Module, settings: Settings, device: torch.device) -> None:
        """Raises BnbenchError for what Keras lacks, for another device than the CPU, and without TensorFlow."""
        _check_task(settings)
        check_model(model, settings.norm)
        check_optimization(settings)
        if device.type != "cpu":
            raise BnbenchError(
                f"framework: keras trains on the CPU, and this study's device is {device.type}.",
                "Seconds on two devices would not compare.",
                "--device cpu.",
            )
        tensorflow()

    def choose(
        self, model: nn.Module, settings: Settings, sizes: Sizes, device: torch.device
    ) -> EngineChoice:
        """One run at a time; TensorFlow is given one thread of its own."""
        return EngineChoice("keras", 1, compiles=True, own_threads=True)

    def stepper(
        self,
        models: Sequence[nn.Module],
        settings: Settings,
        sizes: Sizes,
        choice: EngineChoice,
        device: torch.device,
    ) -> Stepper:
        """The same network in Keras, with the same weights."""
        return KerasStepper(models[0], settings, sizes.input_shape)

    def environment(self, device: torch.device) -> Mapping[str, Any]:
        """The CPU's, whatever the device of the study, and the versions of Keras and TensorFlow."""
        return {**environment(torch.device("cpu")), "num_threads": 1, **_versions()}

    def notes(self, run: RunSpec) -> tuple[str, ...]:
        """The versions, and how Keras's own batch normalization differs from torch's."""
        tf, variant = tensorflow(), run.variant
        trained = (
            f"{variant}: trained by Keras {tf.keras.__version__} (TensorFlow {tf.__version__}), on one thread"
        )
        if run.settings.norm.name != "batch":
            return (trained,)
        return (
            trained,
            f"{variant}: Keras's BatchNormalization with torch's eps and momentum; it stores the biased variance, "
            "torch the unbiased one, n / (n - 1) as large",
        )


def _check_task(settings: Settings) -> None:
    """Raises BnbenchError for a task whose batches, losses or networks have no form in Keras here."""
    task = task_of(settings.task)
    facts = task.facts
    if task.makes_batches or facts.per_position or facts.tokens or not facts.per_class:
        raise BnbenchError(
            f"framework: keras does not train the task {settings.task.name}.",
            "In Keras there are networks that tell the classes of images or features apart.",
            "framework: torch.",
        )


def _versions() -> dict[str, str]:
    """The installed versions; TensorFlow is not imported for them."""
    versions = {}
    for package, distributions in _DISTRIBUTIONS.items():
        for distribution in distributions:
            try:
                versions[package] = version(distribution)
                break
            except PackageNotFoundError:
                continue
    return versions


BACKEND = KerasBackend()
