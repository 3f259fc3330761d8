"""Corruptions of a test set. To add one: one function in a file of this folder, registered by name.

    @corruptions.register("salt")
    def salt(images: Tensor, draw: torch.Generator, *, share: float = 0.1) -> Tensor:

images: the test inputs (N, channels, ...) as they came, not normalised, float64 on the CPU, on a scale of 0 to 255: 0
    stands for the smallest and 255 for the largest value of the study's training set, which for photographs are 0 and
    255 themselves. (Hendrycks & Dietterich 2019, arXiv 1903.12261, has corruptions of this kind.)
draw: a private generator; every random number comes from it, so that a test set is the same in every run.
keyword-only parameters: the options that a study may set (`test_sets: {dark: {name: brightness, factor: 0.5}}`).
The result: of the same shape, finite; it is then cut to 0 to 255. The targets stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnbench.base.errors import DataError
from bnbench.base.registry import Registry
from bnbench.base.user_code import raise_interrupt, text_of

if TYPE_CHECKING:
    from torch import Tensor

    from bnbench.study import Choice

corruptions = Registry("corruption", __name__)
#: The ends of the scale.
LARGEST = 255.0


def corrupted(inputs: Tensor, choice: Choice, low: float, high: float) -> Tensor:
    """The inputs (N, channels, ...), float32, with that corruption. low, high: what stands for 0 and 255.

    Raises DataError where the corruption fails, or breaks a promise of this page.
    """
    import torch

    from bnbench.base.process_state import left_as_found
    from bnbench.base.seeding import generator

    entry = corruptions.get(choice.name)
    span = (high - low) or 1.0
    images = (inputs.double() - low) * (LARGEST / span)
    with left_as_found(torch.device("cpu")):
        try:
            draw = generator(0, "corruption", choice.model_dump_json())
            changed = entry.factory(images.clone(), draw, **entry.typed(choice.options))
        except BaseException as error:
            raise_interrupt(error)
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"{choice.name}: it fails: {text_of(error)}", fix="correct it, or choose another corruption."
            ) from error
    if not isinstance(changed, torch.Tensor) or changed.shape != images.shape or not changed.isfinite().all():
        raise DataError(
            f"{choice.name}: its result is not finite, or of another shape than {tuple(images.shape)}.",
            "A corrupted test set has the samples of the test set.",
            "return a tensor like `images`.",
        )
    return (changed.double().clamp(0, LARGEST) * (span / LARGEST) + low).float()
