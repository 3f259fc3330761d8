"""Biases that do not come back where the normalizer goes that stood for them: an unfair comparison, and a caution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from bnbench.network.sites.recorded import Inputs, WeightLayer, ignores_shift
from bnbench.norms.behaviour import absorbs_bias, has_shift


@dataclass(frozen=True)
class Layers:
    """The weight layers of one cell's network, and whether something shifts the output of each."""

    label: str
    model: str
    norm: str
    covered: tuple[tuple[WeightLayer, bool], ...]

    @property
    def shapes(self) -> list[object]:
        """Networks with the same shapes have the same layers, whatever they are called."""
        weights = [getattr(layer.module, "weight", None) for layer, _ in self.covered]
        return [None if weight is None else tuple(weight.shape) for weight in weights]


def is_covered(layer: WeightLayer, model: nn.Module, inputs: Inputs) -> bool:
    """Whether its output can be shifted, by its own bias or by the normalizer behind it, or needs no shift."""
    if not hasattr(layer.module, "bias") or layer.module.bias is not None:
        return True
    if getattr(layer.module, "shifted_later", False):  # as in an LSTM's cell, behind the normalizer
        return True
    if layer.follower and absorbs_bias(layer.follower.module, layer.follower.shape):
        return True
    if layer.next and has_shift(layer.next.module, layer.next.shape):
        return True
    # a normalizer may still take out what is added here, behind a pooling
    return ignores_shift(model, layer.module, inputs)


def missing_biases(cells: Sequence[Layers]) -> dict[str, str]:
    """By the cell's label: layers that nothing shifts, where in another cell of the same network something does."""
    cautions: dict[str, str] = {}
    for cell in cells:
        for other in cells:
            if other.model != cell.model or other.shapes != cell.shapes:
                continue
            pairs = zip(cell.covered, other.covered, strict=True)
            bare = [
                f"{layer.name} ({type(layer.module).__name__})"
                for (layer, is_shifted), (_, is_shifted_there) in pairs
                if is_shifted_there and not is_shifted
            ]
            if bare:
                cautions[cell.label] = _message(cell, bare, other.label)
                break
    return cautions


def _message(cell: Layers, bare: Sequence[str], other: str) -> str:
    more = f" and {len(bare) - 3} more" if len(bare) > 3 else ""
    return (
        f"{cell.label}: no bias in {', '.join(bare[:3])}{more} of model {cell.model}, and norm: {cell.norm} does not "
        f"shift what comes out, as the normalizer of {other} does: it is not the same network without a normalizer. "
        "Fix: bias=not norm.absorbs_bias in the model, or the blocks of bnbench.models.layers."
    )
