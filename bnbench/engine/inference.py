"""The ways of inference of a study, with one trained network and without training again (see `network/ways.py`)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from bnbench.base.seeding import generator
from bnbench.data import Sizes
from bnbench.data.prepared import Prepared
from bnbench.engine.evaluate import Measured, evaluate
from bnbench.engine.steppers.base import autocast
from bnbench.engine.task_batches import largest_batch
from bnbench.network.statistics import Statistics, statistics_of_network
from bnbench.network.ways import inferring
from bnbench.study import Settings
from bnbench.study.evaluation import Inference
from bnbench.tasks import task_of


class Evaluation:
    """Measures the networks of one cell, on its data, in its precision.

    model: one of them, from which the layers with running statistics are known where the study has further ways of
    inference. It is left as it was.
    """

    def __init__(self, settings: Settings, data: Prepared, device: torch.device, model: nn.Module) -> None:
        self.settings, self.data, self.device = settings, data, device
        further = [way for way in settings.evaluate if way.further]
        self.layers = statistics_layers(settings, data.sizes, model).layers if further else ()
        self.ways = further if self.layers else []

    def __call__(self, model: nn.Module, parts: tuple[str, ...], size: int | None = None) -> Measured:
        """Every metric of the network on these parts."""
        with autocast(self.settings, self.device):
            return evaluate(model, self.data, parts, size)

    def by_way(self, model: nn.Module) -> dict[str, dict[str, float]]:
        """By further way of inference: every metric of the network on every part."""
        parts = ("train", "val", "test", *self.data.test_sets)
        results: dict[str, dict[str, float]] = {}
        for way in self.ways:
            with inferring(model, way, self.layers, self._precise):
                results[way.name] = dict(self(model, parts, way.size if way.name == "batch" else None))
        return results

    def entered(self, model: nn.Module) -> dict[str, AbstractContextManager[None]]:
        """By further way of inference: a context in which the network infers in that way."""
        return {way.name: inferring(model, way, self.layers, self._precise) for way in self.ways}

    def _precise(self, model: nn.Module, way: Inference) -> Iterator[Tensor]:
        """Batches of training samples without augmentation, near-equal parts of a fixed draw."""
        count = len(self.data.train_targets)
        index = torch.randperm(count, generator=generator(0, "precise statistics"))[: way.samples]
        data, task = self.data, task_of(self.settings.task)
        size = min(way.size or self.settings.batch_size, largest_batch(data.train_inputs, data.sizes))
        draw = generator(0, "batch", "precise statistics")
        for part in index.tensor_split(math.ceil(len(index) / max(2, size))):
            place = part.to(data.train_inputs.device)
            inputs, _ = task.batch(data.train_batch(place), data.train_targets[place], draw)
            with autocast(self.settings, self.device):
                model(inputs)
            yield part


def statistics_layers(settings: Settings, sizes: Sizes, model: nn.Module) -> Statistics:
    """The layers of a network with running statistics; Keras's are not looked into."""
    if settings.framework != "torch":
        return Statistics()

    def inputs(count: int) -> Tensor:
        return task_of(settings.task).made_up(sizes, count, torch.Generator().manual_seed(0))[0]

    return statistics_of_network(model, inputs)
