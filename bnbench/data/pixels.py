"""Images in pixel values: normalised values put back, on a scale from 0 to 1."""

from __future__ import annotations

from torch import Tensor

from bnbench.data.prepared import Prepared


def pixel_range(data: Prepared) -> tuple[float, float]:
    """The values that stand for 0 and 1: the smallest and the largest pixel of the training part."""
    low, high = float(data.train_inputs.min()), float(data.train_inputs.max())
    return low, high if high > low else low + 1


def to_unit(images: Tensor, data: Prepared) -> Tensor:
    """Normalised images (N, C, H, W) as pixel values in 0..1: float32, cut where they are outside."""
    low, high = pixel_range(data)
    if data.center is not None and data.scale is not None:
        images = images * data.scale + data.center
    return ((images - low) / (high - low)).clamp(0, 1).float()


def unit_scale(data: Prepared) -> Tensor | None:
    """What one unit of the normalised values of each channel is on that scale, (C, 1, 1); None for 1."""
    low, high = pixel_range(data)
    return None if data.scale is None else data.scale / (high - low)
