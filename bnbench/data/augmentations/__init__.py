"""Augmentations of training batches. To add one: one function in a file of this folder, registered by name.

    @augmentations.register("cutout")
    def cutout(inputs: Tensor, draw: torch.Generator, *, size: int = 4) -> Tensor:

inputs: a whole batch (N, ...) of normalised inputs, float32, on any device. draw: a private generator on the CPU;
    every random number comes from it, so that one seed is one augmentation for every variant, on every device.
keyword-only parameters: the options that a study may set (`augment: {name: cutout, size: 8}`).
The result: a batch of the same shape and type. Labels stay as they are.

With `of_one_image=True` the function makes a transform of one image instead, as torchvision has them:

    @augmentations.register("flips", of_one_image=True)
    def flips(*, p: float = 0.5):
        return v2.Compose([v2.RandomHorizontalFlip(p), v2.RandomVerticalFlip(p)])

Its transform is called for each image by itself, (C, H, W) uint8 where the data came as bytes, and draws from torch's
global generator, in a private seeded state. In a segmentation it is called with the image and its `tv_tensors.Mask`.
Facts given to `register`: see `AugmentationFacts`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bnbench.base.errors import BnbenchError
from bnbench.base.registry import Registry
from bnbench.base.user_code import raise_interrupt, text_of
from bnbench.study.augment_names import SEQUENCE

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from bnbench.data.prepared import Prepared
    from bnbench.data.sample_transforms import Pixels
    from bnbench.study import Choice


@dataclass(frozen=True)
class AugmentationFacts:
    """Further facts on an augmentation.

    tasks: those whose targets stay right when the inputs are changed so; a task may also name others that fit.
    remark: `remark(input_shape, **options)`, asked before anything trains: raises BnbenchError where the augmentation
        makes no sense on inputs of this shape; a sentence for the notes, or None.
    of_one_image: the function makes a transform of one image.
    needs_bytes: it changes colours, so that it needs images that came as uint8.
    complete: `complete(**options)`, the options as a study keeps them; raises OptionFaults where they do not fit.
    """

    tasks: tuple[str, ...] = ("image_classification",)
    remark: Callable[..., str | None] | None = None
    of_one_image: bool = False
    needs_bytes: bool = False
    complete: Callable[..., Mapping[str, Any]] | None = None


augmentations = Registry("augmentation", __name__, AugmentationFacts)

#: Samples of the made-up batch on which an augmentation is tried.
TRIAL = 4


@dataclass(frozen=True)
class Augmentation:
    """A registered augmentation with its options. steps: of a sequence, in order."""

    name: str
    function: Callable[..., Any]
    options: Mapping[str, Any]
    facts: AugmentationFacts
    steps: tuple[Augmentation, ...] = ()

    def __call__(self, inputs: Tensor, draw: torch.Generator) -> Tensor:
        """The batch of normalised inputs, augmented; targets are no masks."""
        from bnbench.data.sample_transforms import Pixels

        return self.augmented(inputs, inputs, draw, Pixels(None, None, are_bytes=False))[0]

    def augmented(
        self, inputs: Tensor, targets: Tensor, draw: torch.Generator, pixels: Pixels
    ) -> tuple[Tensor, Tensor]:
        """Normalised inputs (N, ...) and their targets, augmented. Targets change where they are masks."""
        from bnbench.data.sample_transforms import Named, transformed

        if self.steps:
            for step in self.steps:
                inputs, targets = step.augmented(inputs, targets, draw, pixels)
            return inputs, targets
        if self.facts.of_one_image:
            return transformed(Named(self.name, self.transform), inputs, targets, draw, pixels)
        return self.function(inputs, draw, **self.options), targets

    @cached_property
    def transform(self) -> Callable[..., Any]:
        """The transform of one image."""
        made: Callable[..., Any] = self.function(**self.options)
        return made

    def remark(self, input_shape: Sequence[int]) -> str | None:
        """Notes on what it does to inputs of this shape. Raises BnbenchError where it makes no sense on them."""
        notes = [step.remark(input_shape) for step in self.steps]
        if self.facts.of_one_image and (len(input_shape) != 3 or input_shape[0] not in (1, 3)):
            shape = "x".join(map(str, input_shape))
            raise BnbenchError(
                f"augment: {self.name}: the inputs have the shape {shape}.",
                "It takes images of 1 or 3 channels, (channels, height, width).",
                "augment: none.",
            )
        notes.append(self.facts.remark(input_shape, **self.options) if self.facts.remark else None)
        return "; ".join(note for note in notes if note) or None

    def check(self, batch: Tensor, targets: Tensor | None = None, pixels: Pixels | None = None) -> None:
        """Try it on a made-up batch of TRIAL samples. Raises BnbenchError where it breaks a promise of this page.

        pixels: of the data for which it is meant; None: of images that came as bytes.
        """
        import torch

        from bnbench.data.sample_transforms import Pixels

        self.remark(batch.shape[1:])
        targets = batch if targets is None else targets
        if pixels is None:
            masks = targets.ndim == 3 and targets.shape[1:] == batch.shape[2:]
            pixels = Pixels(torch.tensor(127.5), torch.tensor(64.0), are_bytes=True, masks=masks)
        if wrong := _broken_promise(self, batch, targets, pixels):
            problem, why, fix = wrong
            raise BnbenchError(f"augment: {self.name}: {problem}", why, fix)

    def check_data(self, data: Prepared) -> None:
        """Raises BnbenchError where it can't be applied to inputs as this data has them."""
        for step in self.steps:
            step.check_data(data)
        if self.facts.needs_bytes and not data.pixels().are_bytes:
            kind = str(data.train_inputs.dtype).removeprefix("torch.")
            raise BnbenchError(
                f"augment: {self.name}: the inputs are {kind}.",
                "It changes colours, and only of bytes it is known what is black and what is white.",
                "images saved as uint8 (0 to 255), or a transform that moves pixels, such as RandomHorizontalFlip.",
            )


def augmentation_of(choice: Choice) -> Augmentation | None:
    """The augmentation that a study's settings choose; None for none."""
    if choice.name == "none":
        return None
    entry = augmentations.get(choice.name)
    options = entry.typed(choice.options)
    steps: tuple[Augmentation, ...] = ()
    if choice.name == SEQUENCE:
        from bnbench.study import Choice

        of_steps = [
            Choice(name=step["name"], options={key: value for key, value in step.items() if key != "name"})
            for step in options["steps"]
        ]
        steps = tuple(made for one in of_steps if (made := augmentation_of(one)))
    return Augmentation(choice.name, entry.factory, options, entry.facts, steps)


def _broken_promise(
    augmentation: Augmentation, batch: Tensor, targets: Tensor, pixels: Pixels
) -> tuple[str, str, str] | None:
    """The problem, its consequence and its fix; None for an augmentation that keeps its contract."""
    import torch

    from bnbench.base.process_state import ProcessState, left_as_found
    from bnbench.base.seeding import generator

    device = torch.device("cpu")
    with left_as_found(device) as before:
        try:
            pairs = [
                augmentation.augmented(batch.clone(), targets.clone(), generator(seed, "trial"), pixels)
                for seed in (0, 0)
            ]
            results = [inputs for inputs, _ in pairs]
        except BnbenchError:  # of a transform of one image
            raise
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
        if wrong := _wrong_result(result, batch):
            return wrong
    if not torch.equal(*results):
        return (
            "it gives two results for one state of the generator.",
            "A run could not be repeated.",
            "take every random number from `draw`.",
        )
    return None


def _wrong_result(result: Any, batch: Tensor) -> tuple[str, str, str] | None:
    """What is wrong with an augmented batch by itself, as `_broken_promise` says it."""
    import torch

    if not isinstance(result, torch.Tensor) or (result.shape, result.dtype) != (batch.shape, batch.dtype):
        is_tensor = isinstance(result, torch.Tensor)
        output = f"{result.dtype} of shape {tuple(result.shape)}" if is_tensor else type(result).__name__
        return (
            f"it makes {output} of a batch of {batch.dtype} and shape {tuple(batch.shape)}.",
            "A batch keeps its shape and its type.",
            "return a tensor like `inputs`.",
        )
    if not result.isfinite().all():
        return "it makes NaN or infinity of finite inputs.", "", "mend it, or augment: none."
    return None
