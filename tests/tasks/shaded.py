"""A plugin whose task makes pictures: noise, each image as bright as the network is sure of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnbench.base.task_facts import IMAGE_CLASSIFICATION as FACTS
from bnbench.data.prepared import Prepared
from bnbench.tasks import tasks
from bnbench.tasks.image_classification import ImageClassification

COUNT = 20


def noise(draw: torch.Generator) -> Tensor:
    """The latent numbers."""
    return torch.rand(COUNT, 1, 8, 8, generator=draw)


@tasks.register(
    "shaded",
    metrics=FACTS.metrics,
    losses=("cross_entropy",),
    primary="accuracy",
    shown=FACTS.shown,
    per_class=True,
)
class Shaded(ImageClassification):
    """Image classification that shows pictures; with `broken`, its function raises."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken

    def samples(self, model: nn.Module, data: Prepared, draw: torch.Generator) -> Tensor | None:
        """(20, 1, 8, 8)."""
        if self.broken:
            raise ValueError("no paint")
        assert not model.training
        latent = noise(draw)
        sure: Tensor = model(latent.to(data.val_inputs.device)).softmax(1).amax(1)
        return latent * sure.cpu()[:, None, None, None]
