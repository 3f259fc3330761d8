"""Which framework trains a run. TensorFlow is imported only where a run asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from bnbench.data.augmentations import Augmentation
from bnbench.data.batches import Prepared
from bnbench.engine.choose import choose
from bnbench.engine.loop import Training, train_replicas
from bnbench.study import Settings
from bnbench.study.events import Event
from bnbench.study.plan import RunSpec


def trainer_of(settings: Settings) -> Callable[..., Iterator[Event]]:
    """train(runs, data, augmentation, device) of the settings' framework: the events of replicas."""
    if settings.framework == "keras":
        from bnbench.engine.backends.keras import train as keras

        return keras.train_replicas
    return train_replicas


def training_of(run: RunSpec, data: Prepared, augmentation: Augmentation | None, device: torch.device) -> Any:
    """The state of one run before its first step: a `Training`, or what stands for it in Keras."""
    if run.settings.framework == "keras":
        from bnbench.engine.backends.keras import train as keras

        return keras.KerasTraining(run, data, augmentation, device)
    choice = choose(run.settings, data.input_shape, data.num_classes, device)
    return Training([run], data, augmentation, device, choice)
