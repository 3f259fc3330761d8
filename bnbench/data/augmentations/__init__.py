"""Augmentations of training batches. To add one: one function in a file of this folder, registered by name.

    @augmentations.register("cutout")
    def cutout(inputs: Tensor, draw: torch.Generator, *, size: int = 4) -> Tensor:

inputs: a whole batch (N, ...) of normalised inputs, float32, on any device. draw: a private generator on the CPU;
    every random number comes from it, so that one seed is one augmentation for every variant, on every device.
keyword-only parameters: the options that a study may set (`augment: {name: cutout, size: 8}`).
The result: a batch of the same shape and type. Labels stay as they are.
Facts given to `register`: see `AugmentationFacts`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bnbench.base.errors import BnbenchError
from bnbench.base.registry import Registry
from bnbench.base.user_code import raise_interrupt, text_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from bnbench.study import Choice


@dataclass(frozen=True)
class AugmentationFacts:
    """Further facts on an augmentation.

    tasks: those whose targets stay right when the inputs are changed so; a task may also name others that fit.
    remark: `remark(input_shape, **options)`, asked before anything trains: raises BnbenchError where the augmentation
        makes no sense on inputs of this shape; a sentence for the notes, or None.
    """

    tasks: tuple[str, ...] = ("image_classification",)
    remark: Callable[..., str | None] | None = None


augmentations = Registry("augmentation", __name__, AugmentationFacts)

#: Samples of the made-up batch on which an augmentation is tried.
TRIAL = 4


@dataclass(frozen=True)
class Augmentation:
    """A registered augmentation with its options."""

    name: str
    function: Callable[..., Tensor]
    options: Mapping[str, Any]
    facts: AugmentationFacts

    def __call__(self, inputs: Tensor, draw: torch.Generator) -> Tensor:
        """The batch, augmented."""
        return self.function(inputs, draw, **self.options)

    def remark(self, input_shape: Sequence[int]) -> str | None:
        """A note on what it does to inputs of this shape. Raises BnbenchError where it makes no sense on them."""
        return self.facts.remark(input_shape, **self.options) if self.facts.remark else None

    def check(self, batch: Tensor) -> None:
        """Try it on a made-up batch of TRIAL samples. Raises BnbenchError where it breaks a promise of this page."""
        self.remark(batch.shape[1:])
        if wrong := _broken_promise(self, batch):
            problem, why, fix = wrong
            raise BnbenchError(f"augment: {self.name}: {problem}", why, fix)


def augmentation_of(choice: Choice) -> Augmentation | None:
    """The augmentation that a study's settings choose; None for none."""
    if choice.name == "none":
        return None
    entry = augmentations.get(choice.name)
    return Augmentation(choice.name, entry.factory, entry.typed(choice.options), entry.facts)


def _broken_promise(augmentation: Augmentation, batch: Tensor) -> tuple[str, str, str] | None:
    """The problem, its consequence and its fix; None for an augmentation that keeps its contract."""
    import torch

    from bnbench.base.process_state import ProcessState, left_as_found
    from bnbench.base.seeding import generator

    device = torch.device("cpu")
    with left_as_found(device) as before:
        try:
            results = [augmentation(batch.clone(), generator(seed, "trial")) for seed in (0, 0)]
        except BaseException as error:
            raise_interrupt(error)
            shape = "x".join(map(str, batch.shape))
            return f"it fails on a batch of {shape}: {text_of(error)}", "", "mend it, or augment: none."
        drawn = ProcessState.now(device).has_drawn_since(before)
    if drawn:
        return (
            "it draws random numbers from torch's global generator.",
            "Two variants of one seed would train on different batches.",
            "give torch's functions the generator: torch.rand(..., generator=draw).",
        )
    for result in results:
        if not isinstance(result, torch.Tensor) or (result.shape, result.dtype) != (batch.shape, batch.dtype):
            output = (
                f"{result.dtype} of shape {tuple(result.shape)}"
                if isinstance(result, torch.Tensor)
                else type(result).__name__
            )
            return (
                f"it makes {output} of a batch of {batch.dtype} and shape {tuple(batch.shape)}.",
                "A batch keeps its shape and its type.",
                "return a tensor like `inputs`.",
            )
        if not result.isfinite().all():
            return "it makes NaN or infinity of finite inputs.", "", "mend it, or augment: none."
    if not torch.equal(*results):
        return (
            "it gives two results for one state of the generator.",
            "A run could not be repeated.",
            "take every random number from `draw`.",
        )
    return None
