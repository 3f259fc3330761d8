"""Which framework trains a run. TensorFlow is imported only where a run asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from bnbench.config import Settings
from bnbench.engine.train import Training, train
from bnbench.plan import Event


def trainer_of(settings: Settings) -> Callable[..., Iterator[Event]]:
    """train(run, data, augmentation, device) of the settings' framework: the events of one run."""
    if settings.framework == "keras":
        from bnbench.engine.keras import train as keras

        return keras.train
    return train


def training_of(settings: Settings) -> Callable[..., Any]:
    """The class that holds the state of one run: `Training`, or what stands for it in Keras."""
    if settings.framework == "keras":
        from bnbench.engine.keras import train as keras

        return keras.KerasTraining
    return Training
