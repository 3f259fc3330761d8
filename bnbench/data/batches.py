"""From a data set to batches: the split, normalisation, order and augmentation.

All of it is drawn from private CPU streams, so it is the same for every variant, on every device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from bnbench.data import Dataset
from bnbench.errors import DataError
from bnbench.metrics import SPLITS
from bnbench.seeding import generator

LastBatch = Literal["merge", "keep", "drop"]
Augmentation = Literal["none", "crop_flip"]
Normalize = Literal["standard", "unit"]

#: At most so many training samples stand for the training part when train_loss is measured.
PROBE_SIZE = 5000
#: Pixels of padding on each side before a random crop (He et al. 2015, section 4.2).
PADDING = 4
#: Samples that are widened to float64 at once.
CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Prepared:
    """A data set split and on the device.

    train_images: (N, C, H, W), uint8 or float32, as they came: `normalise_` is for each batch, so that
    bytes stay bytes in memory. Other *_images: float32, (images as they came - mean) / std.
    *_labels: (N,) int64. probe_*: the fixed samples of the training part, as they are, on which
    train_loss is measured. center, scale: mean and std of the channels, (C, 1, 1) float32; the scale of
    a channel that never varies is 1. notes: what the user should know.
    """

    train_images: Tensor
    train_labels: Tensor
    val_images: Tensor
    val_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    probe_images: Tensor
    probe_labels: Tensor
    class_names: tuple[str, ...]
    input_shape: tuple[int, int, int]
    fingerprint: str
    center: Tensor
    scale: Tensor
    notes: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """How many classes there are, in whichever part."""
        return len(self.class_names)

    def class_counts(self) -> dict[str, tuple[int, ...]]:
        """Samples of each class that are trained on, and that each part is evaluated on."""
        parts = {"train": self.train_labels, "val": self.val_labels, "test": self.test_labels}
        return {split: count_classes(parts[split], self.num_classes) for split in SPLITS}

    def normalise_(self, images: Tensor) -> Tensor:
        """(images - mean) / std, in place: float32 of shape (..., C, H, W)."""
        return _normalise_(images, self.center, self.scale)

    def train_batch(self, index: Tensor) -> Tensor:
        """The normalised training images of an index (N,)."""
        return self.normalise_(self.train_images.index_select(0, index).float())


def count_classes(labels: Tensor, num_classes: int) -> tuple[int, ...]:
    """How many labels there are of each class."""
    return tuple(labels.cpu().bincount(minlength=num_classes).tolist())


def prepare(
    dataset: Dataset,
    *,
    val_fraction: float,
    split_seed: int,
    max_train_samples: int | None,
    device: torch.device,
    normalize: Normalize = "standard",
) -> Prepared:
    """Hold out the validation part, cut the rest to `max_train_samples`, move to the device.

    Both are the first samples of one seeded permutation and of its rest, so they do not depend on each
    other, and a smaller training part is a part of a larger one. What is evaluated is shuffled, once and
    for all: a layer that uses the batch's statistics at inference should not see a class at a time.
    normalize: "standard" takes out the training part's mean and std per channel; "unit" divides by its
    largest absolute value, so that what is zero stays zero. Raises DataError where nothing is left to
    train on.
    """
    val, train, available = _split(len(dataset.train_labels), val_fraction, split_seed, max_train_samples)
    test = torch.randperm(len(dataset.test_labels), generator=generator(0, "test order"))
    train_images, train_labels = dataset.train_images[train], dataset.train_labels[train]
    if normalize == "unit":
        largest = max(abs(float(train_images.min())), abs(float(train_images.max())))
        mean = torch.zeros(train_images.shape[1], dtype=torch.float64)
        std = torch.full_like(mean, largest)
    else:
        mean, std = channel_statistics(train_images)

    center = mean.float()[:, None, None]
    scale = torch.where(std > 0, std, 1.0).float()[:, None, None]

    def ready(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        normalised = _normalise_(images.to(torch.float32, copy=True), center, scale)
        return normalised.to(device), labels.to(device)

    channels, height, width = dataset.train_images.shape[1:]
    return Prepared(
        train_images.to(device),
        train_labels.to(device),
        *ready(dataset.train_images[val], dataset.train_labels[val]),
        *ready(dataset.test_images[test], dataset.test_labels[test]),
        *ready(*_probe(train_images, train_labels, split_seed)),
        class_names=dataset.class_names,
        input_shape=(channels, height, width),
        fingerprint=dataset.fingerprint,
        center=center.to(device),
        scale=scale.to(device),
        notes=_notes(train_labels, dataset.class_names, std, available),
    )


def _split(total: int, fraction: float, seed: int, limit: int | None) -> tuple[Tensor, Tensor, int]:
    """Indices of the validation and the training part, and how many could be trained on without the limit."""
    num_val = max(1, round(total * fraction))
    available = total - num_val
    if available < 1:
        raise DataError(
            f"validation.fraction: {fraction:g} of {total} training samples are {num_val}: none is left to train on.",
            "The validation part is taken out of the training set.",
            "a smaller validation.fraction, or more data.",
        )
    order = torch.randperm(total, generator=generator(seed, "split"))
    val, train = order[:num_val], order[num_val:][:limit]
    return val, train.sort().values, available


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and std (divisor N) over samples and pixels, each (C,) float64. In two passes: no digits are lost."""
    count = images.numel() / images.shape[1]
    chunks = torch.split(images, CHUNK)
    mean = sum((chunk.double().sum((0, 2, 3)) for chunk in chunks), torch.zeros(())) / count
    center = mean[:, None, None]
    squares = sum(((chunk.double() - center).square_().sum((0, 2, 3)) for chunk in chunks), torch.zeros(()))
    return mean, (squares / count).sqrt()


def _normalise_(images: Tensor, center: Tensor, scale: Tensor) -> Tensor:
    """All at once or a batch at a time: the same operations, so the same bits."""
    return images.sub_(center).div_(scale)


def _probe(images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """A fixed draw from the training part, or all of it where it is small."""
    index = torch.randperm(len(labels), generator=generator(seed, "probe"))[:PROBE_SIZE]
    return images.index_select(0, index), labels.index_select(0, index)


def _notes(labels: Tensor, class_names: tuple[str, ...], std: Tensor, available: int) -> tuple[str, ...]:
    notes = []
    if len(labels) < available:
        notes.append(f"{len(labels)} of {available} training samples are used (max_train_samples)")
    absent = int((labels.bincount(minlength=len(class_names)) == 0).sum())
    if absent:
        notes.append(f"{absent} of {len(class_names)} classes have no sample in the training part")
    flat = int((std == 0).sum())
    if flat:
        notes.append(
            f"{flat} of {len(std)} input channels never vary in the training part: centred, not scaled"
        )
    return tuple(notes)


def _cut(num_samples: int, batch_size: int, last_batch: LastBatch) -> tuple[int, int]:
    """How many batches, and how many samples they use together. Only the last may differ in size."""
    full, rest = divmod(num_samples, batch_size)
    if rest == 0 or (last_batch == "merge" and rest == 1 and full):
        return full, num_samples
    if last_batch == "drop" and full:
        return full, num_samples - rest
    return full + 1, num_samples


def steps_per_epoch(num_samples: int, batch_size: int, last_batch: LastBatch = "merge") -> int:
    """The number of batches that `epoch_order` gives."""
    return _cut(num_samples, batch_size, last_batch)[0]


def epoch_order(
    num_samples: int, batch_size: int, seed: int, epoch: int, last_batch: LastBatch = "merge"
) -> tuple[Tensor, ...]:
    """The samples of each batch of an epoch: int64 indices on the CPU, a permutation cut into batches.

    last_batch: what happens to an incomplete one. merge: one of a single sample, which has no variance,
    joins the batch before it, and others stay. keep: it stays. drop: it goes, unless it is the only one.
    """
    steps, used = _cut(num_samples, batch_size, last_batch)
    order = torch.randperm(num_samples, generator=generator(seed, "order", epoch))
    return order[:used].tensor_split([batch_size * step for step in range(1, steps)])


def last_batch_note(num_samples: int, batch_size: int, last_batch: LastBatch = "merge") -> str | None:
    """What happens to an incomplete last batch, where the user should know it; else None."""
    full, rest = divmod(num_samples, batch_size)
    start = f"{num_samples} training samples in batches of {batch_size} leave a last batch of {rest}"
    if rest and full and last_batch == "drop":
        return f"{start}: dropped"
    if rest == 1 and full and last_batch == "merge":
        return f"{start}: merged into the one before it"
    if rest == 1:
        return f"{start}: kept, and a batch of one has no variance"
    return None


def augment(images: Tensor, kind: Augmentation, draw: torch.Generator) -> Tensor:
    """A batch of normalised images, augmented; the same shape.

    crop_flip: pad 4 pixels on each side, crop back to the size at a random place, mirror left and right with
    probability 1/2, each sample by itself. The padding is 0 in normalised images, which is the mean
    colour (He et al. 2015 pad after taking the mean out, too). draw: a CPU generator; one call
    takes the same numbers from it whatever the device.
    """
    if kind == "none":
        return images
    count, _, height, width = images.shape
    offsets = torch.randint(0, 2 * PADDING + 1, (2, count), generator=draw)
    mirror = torch.randint(0, 2, (1, count), generator=draw)
    top, left, mirrored = torch.cat((offsets, mirror)).to(images.device)
    # every window of the padded images, as a view: (N, C, 2*PADDING+1, 2*PADDING+1, H, W)
    windows = pad(images, (PADDING,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    crops = windows[torch.arange(count, device=images.device), :, top, left]
    return torch.where(mirrored.bool()[:, None, None, None], crops.flip(3), crops)
