"""Images through a few numbers and back: the error of the reconstruction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from bnbench.base.metrics import Metric
from bnbench.data import Dataset
from bnbench.data.pixels import to_unit, unit_scale
from bnbench.data.prepared import Prepared
from bnbench.tasks import tasks
from bnbench.tasks.images import Reconstruction, check_images, fixed_images, variation

#: R² on the validation part below which the reconstructions are hardly better than the mean image.
LEAST = 0.05


@tasks.register(
    "autoencoder",
    metrics=(
        Metric("loss", "lower"),
        Metric("mse", "lower"),
        Metric("psnr", "higher", lowest=None),
        Metric("r2", "higher", lowest=None),
    ),
    losses=("pixel_mse",),
    models=("autoencoder",),
    dataset="digits",
    primary="mse",
    shown=("loss", "mse", "r2"),
    chance=f"R² on the validation part is below {LEAST}: hardly better than the best constant image",
)
class Autoencoder(Reconstruction):
    """Images from images, through a code: squared error of the reconstruction, PSNR, R².

    loss: mean squared error of the normalised values. mse: mean squared error a pixel, where a pixel is in 0..1 (the
    smallest to the largest value of the training part). psnr: 10 log10(1 / mse), in dB. r2: 1 - squared error / squared
    distance to the mean image of the part.
    """

    def check(self, dataset: Dataset) -> None:
        """Images, or features."""
        check_images("autoencoder", dataset, features=True)

    def measured(self, outputs: Tensor, targets: Tensor, data: Prepared) -> Iterator[tuple[str, float]]:
        """Of reconstructions (N, C, H, W), float64 on the CPU."""
        squares = (outputs - targets.double()).square()
        yield "loss", float(squares.mean())
        scale = unit_scale(data)
        in_unit = squares if scale is None else squares * scale.cpu().double().square()
        mse = float(in_unit.mean())
        yield "mse", mse
        yield "psnr", 10 * math.log10(1 / mse) if mse > 0 else math.inf
        spread = variation(targets)
        yield "r2", 1 - float(squares.sum()) / spread if spread else math.nan

    def samples(self, model: nn.Module, data: Prepared, draw: torch.Generator) -> Tensor | None:
        """Reconstructions of images of the test part; None for features."""
        if data.input_shape[1:] == (1, 1):
            return None
        return to_unit(model(fixed_images(data.test_inputs, draw)), data)

    def has_learnt(self, first: Mapping[str, float], last: Mapping[str, float], targets: Tensor) -> bool:
        """By R², of which the best constant image has 0."""
        return last["val_r2"] >= LEAST
