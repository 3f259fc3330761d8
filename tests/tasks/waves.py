"""A plugin with a task of its own: the mean frequency of a wave from a few of its values. No images, no classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from bnbench.base.metrics import Metric
from bnbench.data import Dataset, Sizes, datasets
from bnbench.data.tensors import fingerprint
from bnbench.models import models
from bnbench.models.layers import NormLayer
from bnbench.optim import losses
from bnbench.tasks import Task, tasks


@tasks.register(
    "regression",
    metrics=(Metric("loss", "lower"), Metric("mae", "lower"), Metric("r2", "higher", lowest=None)),
    losses=("squared_error",),
    primary="r2",
    shown=("loss", "r2"),
    chance="R² on the validation part is below 0.05",
)
class Regression(Task):
    """Numbers from numbers: mean squared error, mean absolute error, R²."""

    def __init__(self, *, least: float = 0.05) -> None:
        self.least = least

    def made_up(self, sizes: Sizes, count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise."""
        inputs = torch.randn((count, *sizes.input_shape), generator=draw)
        return inputs, torch.randn((count, sizes.num_outputs), generator=draw)

    def measure(
        self, outputs: Tensor, targets: Tensor, class_names: Sequence[str]
    ) -> Iterable[tuple[str, float]]:
        """Over all values."""
        errors = outputs - targets
        yield "loss", float(errors.square().mean())
        yield "mae", float(errors.abs().mean())
        spread = (targets.double() - targets.double().mean(0)).square().mean()
        yield "r2", float(1 - errors.square().mean() / spread)

    def has_learnt(self, first: Mapping[str, float], last: Mapping[str, float], targets: Tensor) -> bool:
        """By R², of which a constant guess has at most 0."""
        return last["val_r2"] > self.least


@losses.register("squared_error", tasks=("regression",))
def squared_error() -> Callable[[Tensor, Tensor], Tensor]:
    """Mean squared error."""
    return nn.functional.mse_loss


@datasets.register("waves", task="regression")
def waves(data_dir: Path, *, length: int = 12) -> Dataset:
    """Sines of 1 to 3 turns with noise, two channels; the target is the number of turns."""
    draw = torch.Generator().manual_seed(0)
    turns = 1 + 2 * torch.rand(600, 1, generator=draw)
    place = torch.linspace(0, 1, length)
    signal = torch.stack([torch.sin(6.28 * turns * place), torch.cos(6.28 * turns * place)], 1)
    inputs = 5 + signal + 0.05 * torch.randn(signal.shape, generator=draw)
    parts = inputs[:500], turns[:500], inputs[500:], turns[500:]
    return Dataset(*parts, class_names=(), fingerprint=fingerprint(*parts))


@models.register("small_conv", init="torch")
def small_conv(
    input_shape: tuple[int, int], num_outputs: int, norm: NormLayer, *, width: int = 8
) -> nn.Module:
    """Two layers over the values of a wave."""
    hidden = nn.Linear(input_shape[0] * input_shape[1], width, bias=not norm.absorbs_bias)
    return nn.Sequential(nn.Flatten(), hidden, norm(width, 1), nn.ReLU(), nn.Linear(width, num_outputs))
