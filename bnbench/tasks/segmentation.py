"""Images (N, channels, height, width) with a class at every pixel (N, height, width); 255: the pixel counts nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from bnbench.base.errors import DataError
from bnbench.base.metrics import MOST_CLASSES, RECALL, Metric
from bnbench.data import Dataset, Sizes, count_classes
from bnbench.data.tally import listed
from bnbench.data.tensors import IGNORED
from bnbench.tasks import Task, tasks

#: A validation loss below the best constant guess by more than this share has learnt.
BETTER = 0.05


@tasks.register(
    "segmentation",
    metrics=(
        Metric("loss", "lower"),
        Metric("mean_iou", "higher", percent=True),
        Metric("pixel_accuracy", "higher", percent=True),
    ),
    losses=("pixel_cross_entropy",),
    primary="mean_iou",
    per_class=True,
    per_position=True,
    chance="the validation loss not 5% below that of the best constant guess, the entropy of the classes' shares of "
    "the pixels",
    models=("unet",),
    dataset="shapes",
)
class Segmentation(Task):
    """A class at every pixel: cross-entropy, pixel accuracy, mean intersection over union, recall by class.

    All are counted over the pixels of the whole part. IoU of a class: pixels of it that were taken for it, by the
    pixels of it or taken for it. mean_iou: the mean over the classes that the part has.
    """

    def check(self, dataset: Dataset) -> None:
        """Images, and masks of their size."""
        inputs, targets = dataset.train_inputs, dataset.train_targets
        fit = inputs.ndim == 4 and targets.ndim == 3 and targets.shape[1:] == inputs.shape[2:]
        if not fit or targets.dtype != torch.int64 or not dataset.class_names:
            raise DataError(
                f"task: segmentation: inputs of {inputs.dtype} and shape {tuple(inputs.shape)}, targets of "
                f"{targets.dtype} and shape {tuple(targets.shape)}, {len(dataset.class_names)} classes.",
                "It takes images (samples, channels, height, width) and masks (samples, height, width) of class ids.",
                "the task that the data set is made for; a .npz file with masks as y, or the data set maskfolder.",
            )

    def sizes(self, dataset: Dataset) -> Sizes:
        """The shape of an image, and one output a class at every pixel."""
        shape = tuple(dataset.train_inputs.shape[1:])
        return Sizes(shape, len(dataset.class_names), per_position=True)

    def remarks(self, part: str, targets: Tensor, class_names: Sequence[str]) -> Iterator[str]:
        """The share of pixels that are ignored; classes without a pixel."""
        ignored = int((targets == IGNORED).sum())
        if ignored:
            yield f"{ignored / targets.numel():.1%} of the pixels of the {part} part are {IGNORED}: they count nowhere"
        counts = count_classes(targets, len(class_names))
        if absent := [name for name, count in zip(class_names, counts, strict=True) if not count]:
            have = "has" if len(absent) == 1 else "have"
            few = f"{len(absent)} of {len(class_names)} classes {have}"
            yield f"{few} no pixel in the {part} part: {listed(absent, 3)}"

    def made_up(self, sizes: Sizes, count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise, and any classes."""
        images = torch.randn((count, *sizes.input_shape), generator=draw)
        return images, torch.randint(sizes.num_outputs, (count, *sizes.input_shape[1:]), generator=draw)

    def kept(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Of each image (1 + 3 K,) float64: its summed loss; of each class its pixels, those taken for it, those right.

        outputs: (N, K, H, W). A pixel whose outputs are not all finite is taken for no class.
        """
        classes, counted = outputs.shape[1], targets != IGNORED
        # in float64 where the device has it: a sum of many pixels
        outputs = outputs if outputs.device.type == "mps" else outputs.double()
        losses = torch.nn.functional.cross_entropy(outputs, targets, ignore_index=IGNORED, reduction="none")
        taken = outputs.argmax(1).masked_fill(~outputs.isfinite().all(1), classes)
        own, taken = (ids.masked_fill(~counted, classes) for ids in (targets, taken))
        counts = [_by_class(ids, classes) for ids in (own, taken, own.masked_fill(own != taken, classes))]
        return torch.cat([losses.flatten(1).sum(1, keepdim=True), *counts], 1).cpu().double()

    def measure(
        self, outputs: Tensor, targets: Tensor, class_names: Sequence[str]
    ) -> Iterator[tuple[str, float]]:
        """Of what `kept` keeps."""
        sums = outputs.sum(0)
        own, taken, right = sums[1:].reshape(3, -1)
        yield "loss", float(sums[0] / own.sum())
        present = own > 0
        yield "mean_iou", float((right / (own + taken - right))[present].mean())
        yield "pixel_accuracy", float(right.sum() / own.sum())
        if len(class_names) <= MOST_CLASSES:
            for name, value in zip(class_names, (right / own).tolist(), strict=True):
                yield f"{RECALL}:{name}", value

    def has_learnt(self, first: Mapping[str, float], last: Mapping[str, float], targets: Tensor) -> bool:
        """By the loss, against the entropy of the shares of the classes."""
        shares = targets[targets != IGNORED].cpu().bincount().double()
        entropy = float(torch.special.entr(shares / shares.sum()).sum())
        return last["val_loss"] < (1 - BETTER) * entropy


def _by_class(ids: Tensor, classes: int) -> Tensor:
    """(N, classes): how often each image has each id; an id of `classes` is not counted."""
    count = len(ids)
    places = ids.flatten(1) + (classes + 1) * torch.arange(count, device=ids.device)[:, None]
    counts = places.flatten().bincount(minlength=count * (classes + 1))
    return counts.reshape(count, classes + 1)[:, :classes].to(
        torch.float32 if ids.device.type == "mps" else torch.float64
    )
