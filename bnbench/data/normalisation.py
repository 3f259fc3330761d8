"""Each channel's offset and divisor, from the training part, and how they are applied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bnbench.base.errors import DataError
from bnbench.base.tokens import split_valid
from bnbench.data.tensors import channel_statistics

Normalize = Literal["standard", "unit", "signed"]


@dataclass(frozen=True, eq=False)
class Normalisation:
    """Each channel's offset and divisor; None, None where inputs are not normalised."""

    center: Tensor | None = None
    scale: Tensor | None = None
    notes: tuple[str, ...] = ()

    def applied(self, part: str, inputs: Tensor, masked: bool) -> Tensor:
        """A copy of a part's inputs, normalised; the inputs themselves where they are not. Raises DataError."""
        if self.center is None or self.scale is None:
            return inputs
        inputs = normalise_(inputs.to(torch.float32, copy=True), self.center, self.scale, masked)
        _check_finite(inputs, part, self.scale)
        return inputs


def normalisation(inputs: Tensor, normalize: Normalize, *, shifted: bool) -> Normalisation:
    """From the training part."""
    if not (inputs.is_floating_point() or inputs.dtype == torch.uint8):
        return Normalisation()
    if normalize == "unit" and shifted:
        raise DataError(
            "normalize: unit: the inputs were centred before they became float32, as their values are too large.",
            "Zeros in the file are no longer zeros.",
            "normalize: standard (the default), or smaller numbers in the file.",
        )
    if normalize == "unit":
        largest = max(abs(float(inputs.min())), abs(float(inputs.max())))
        mean = torch.zeros(inputs.shape[1], dtype=torch.float64)
        std = torch.full_like(mean, largest)
    elif normalize == "signed":
        low, high = float(inputs.min()), float(inputs.max())
        mean = torch.full((inputs.shape[1],), (low + high) / 2, dtype=torch.float64)
        std = torch.full_like(mean, (high - low) / 2)
    else:
        mean, std = channel_statistics(inputs)
    shape = (-1, *[1] * (inputs.ndim - 2))
    flat = int((std == 0).sum())
    channels = f"{flat} of {len(std)} input channels never {'varies' if flat == 1 else 'vary'}"
    if len(std) == 1:
        channels = "the input never varies"
    note = f"{channels} in the training part: centred, not scaled"
    return Normalisation(
        mean.float().reshape(shape),
        torch.where(std.float() > 0, std, 1.0).float().reshape(shape),
        (note,) if flat else (),
    )


def normalisation_of_sequences(inputs: Tensor, normalize: Normalize) -> Normalisation:
    """From the valid positions of the training part, for each of the C numbers; none for tokens."""
    if not inputs.is_floating_point():
        return Normalisation()
    numbers, valid = split_valid(inputs)
    found = normalisation(numbers[valid], normalize, shifted=False)
    assert found.center is not None
    assert found.scale is not None
    return Normalisation(found.center.flatten(), found.scale.flatten(), found.notes)


def normalise_(inputs: Tensor, center: Tensor, scale: Tensor, masked: bool = False) -> Tensor:
    """All at once or a batch at a time: the same operations, so the same bits.

    masked: of padded sequences, whose padding stays 0, as does the column that tells it apart.
    """
    if masked:
        inputs[..., :-1].sub_(center).div_(scale).mul_(inputs[..., -1:])
        return inputs
    return inputs.sub_(center).div_(scale)


def _check_finite(normalised: Tensor, part: str, scale: Tensor) -> None:
    """Raises DataError where a spread of the training part is too small for the values of another part."""
    wrong = int((~normalised.isfinite()).flatten(1).any(1).sum())
    if wrong:
        raise DataError(
            f"{wrong} of {len(normalised)} {part} samples are too large for a float32 once they are normalised.",
            f"The training part varies by {float(scale.min()):.3g} in one input, and they lie far outside of it.",
            "remove that input from the data, or values of one scale in all parts.",
        )
