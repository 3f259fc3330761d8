"""A plugin with a task that makes its own batches: noise is added to the inputs, and the network is asked for it.

It has metrics that need an aid, and another one of its own for a data set of the task's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.metrics import Metric
from bnbench.data import Dataset, Sizes
from bnbench.data.prepared import Prepared
from bnbench.models import models
from bnbench.models.layers import NormLayer
from bnbench.optim import losses
from bnbench.tasks import Task, tasks


@tasks.register(
    "find_noise",
    metrics=(Metric("loss", "lower"), Metric("beyond", "lower")),
    losses=("squares",),
    models=("bottle", "small_bottle"),
)
class FindNoise(Task):
    """The noise that was added to an image, from their sum."""

    def sizes(self, dataset: Dataset) -> Sizes:
        """As many outputs as an image has values."""
        shape = tuple(dataset.train_inputs.shape[1:])
        return Sizes(shape, prod(shape))

    def batch(self, inputs: Tensor, targets: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Image and noise, (N, values); the noise."""
        noise = torch.randn(inputs.shape, generator=draw).to(inputs.device).flatten(1)
        return inputs.flatten(1) + noise, noise

    def made_up_data(self, sizes: Sizes, count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise, and any label."""
        return torch.randn((count, *sizes.input_shape), generator=draw), torch.zeros(count, dtype=torch.long)

    def aid(self, dataset: Dataset, device: torch.device) -> float:
        """A number that `measured` needs."""
        return 100.0 + len(dataset.class_names)

    def kept(self, outputs: Any, targets: Tensor) -> Tensor:
        """The squared error of each sample."""
        return (outputs - targets).square().mean(1).cpu().double()

    def measured(self, outputs: Tensor, targets: Tensor, data: Prepared) -> Iterable[tuple[str, float]]:
        """The mean of the squared errors, and that beside the aid."""
        yield "loss", float(outputs.mean())
        yield "beyond", float(outputs.mean()) + (data.aid if isinstance(data.aid, float) else 0.0)


@losses.register("squares", tasks=("find_noise",))
def squares() -> Callable[[Tensor, Tensor], Tensor]:
    """Mean squared error."""
    return nn.functional.mse_loss


@models.register("bottle", tasks=("find_noise",))
def bottle(input_shape: tuple[int, ...], num_outputs: int, norm: NormLayer, *, width: int = 8) -> nn.Module:
    """One hidden layer."""
    hidden = nn.Linear(prod(input_shape), width, bias=not norm.absorbs_bias)
    return nn.Sequential(hidden, norm(width, 1), nn.ReLU(), nn.Linear(width, num_outputs))


@models.register("wide_bottle", tasks=("find_noise",))
def wide_bottle(input_shape: tuple[int, ...], num_outputs: int, norm: NormLayer) -> nn.Module:
    """One hidden layer of 16 units."""
    return bottle(input_shape, num_outputs, norm, width=16)
