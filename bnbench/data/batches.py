"""From a data set to batches: the split, normalisation and order.

All of it is drawn from private CPU streams, so it is the same for every variant, on every device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bnbench.base.errors import DataError
from bnbench.base.seeding import generator
from bnbench.data import Dataset
from bnbench.data.split import Chosen, Sampling, SplitBy, choose
from bnbench.data.tally import listed
from bnbench.data.tensors import Pair, channel_statistics

LastBatch = Literal["merge", "keep", "drop"]
Normalize = Literal["standard", "unit"]

#: At most so many training samples stand for the training part when train_loss is measured.
PROBE_SIZE = 5000
#: The largest class has so many times the samples of the smallest: accuracy alone would mislead.
IMBALANCED = 2


@dataclass(frozen=True, eq=False)
class Prepared:
    """A data set split and on the device.

    train_images: (N, C, H, W), uint8 or float32, as they came: `normalise_` is for each batch, so that
    bytes stay bytes in memory. Other *_images: float32, (images as they came - mean) / std.
    *_labels: (N,) int64. probe_*: the fixed samples of the training part, as they are, on which
    train_loss is measured. center, scale: mean and std of the channels, (C, 1, 1) float32; the scale of
    a channel that never varies is 1. notes: what the user should know. cautions: what limits the answer.
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
    cautions: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """How many classes there are, in whichever part."""
        return len(self.class_names)

    def class_counts(self) -> dict[str, tuple[int, ...]]:
        """Samples of each class in "train" (trained on), "probe" (what train metrics are of), "val" and "test"."""
        parts = {
            "train": self.train_labels,
            "probe": self.probe_labels,
            "val": self.val_labels,
            "test": self.test_labels,
        }
        return {part: count_classes(labels, self.num_classes) for part, labels in parts.items()}

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
    by: SplitBy = "auto",
    max_eval_samples: int | None = None,
) -> Prepared:
    """Hold out the validation part and choose what is used (see `choose`), move to the device.

    normalize: "standard" takes out the training part's mean and std per channel; "unit"
    divides by its largest absolute value, so that what is zero stays zero. Raises DataError where
    nothing is left to train on.
    """
    chosen = dataset.chosen or choose(
        dataset, Sampling(by, val_fraction, split_seed, max_train_samples, max_eval_samples)
    )
    (train_images, train_labels), val, test = _parts(dataset, chosen)
    if normalize == "unit" and dataset.shifted:
        raise DataError(
            "normalize: unit: the inputs were centred before they became float32, as their values are too large.",
            "What is zero in the file is not zero any more.",
            "normalize: standard (the default), or smaller numbers in the file.",
        )
    if normalize == "unit":
        largest = max(abs(float(train_images.min())), abs(float(train_images.max())))
        mean = torch.zeros(train_images.shape[1], dtype=torch.float64)
        std = torch.full_like(mean, largest)
    else:
        mean, std = channel_statistics(train_images)

    center = mean.float()[:, None, None]
    scale = torch.where(std.float() > 0, std, 1.0).float()[:, None, None]

    def ready(part: str, pair: Pair) -> tuple[Tensor, Tensor]:
        images, labels = pair
        normalised = _normalise_(images.to(torch.float32, copy=True), center, scale)
        _check_finite(normalised, part, scale)
        return normalised.to(device), labels.to(device)

    channels, height, width = dataset.train_images.shape[1:]
    return Prepared(
        train_images.to(device),
        train_labels.to(device),
        *ready("validation", val),
        *ready("test", test),
        *ready("training", _probe(train_images, train_labels, split_seed, max_eval_samples)),
        class_names=dataset.class_names,
        input_shape=(channels, height, width),
        fingerprint=dataset.fingerprint,
        center=center.to(device),
        scale=scale.to(device),
        notes=(
            *dataset.notes,
            *chosen.notes,
            *_notes(train_labels, dataset.class_names, std, chosen.available),
            *_notes_on_evaluation(chosen.sizes, (val[1], test[1]), dataset.class_names),
        ),
        cautions=dataset.cautions,
    )


def _parts(dataset: Dataset, chosen: Chosen) -> tuple[Pair, Pair, Pair]:
    """Images and labels to train on, to validate and to test with."""
    own = dataset.val_images, dataset.val_labels
    if dataset.chosen:  # it holds nothing else
        assert own[0] is not None
        assert own[1] is not None
        return (
            (dataset.train_images, dataset.train_labels),
            (own[0], own[1]),
            (dataset.test_images, dataset.test_labels),
        )
    images, labels = own if chosen.own_val else (dataset.train_images, dataset.train_labels)
    assert images is not None
    assert labels is not None
    return (
        (dataset.train_images[chosen.train], dataset.train_labels[chosen.train]),
        (images[chosen.val], labels[chosen.val]),
        (dataset.test_images[chosen.test], dataset.test_labels[chosen.test]),
    )


def _normalise_(images: Tensor, center: Tensor, scale: Tensor) -> Tensor:
    """All at once or a batch at a time: the same operations, so the same bits."""
    return images.sub_(center).div_(scale)


def _check_finite(normalised: Tensor, part: str, scale: Tensor) -> None:
    """Raises DataError where a spread of the training part is too small for the values of another part."""
    wrong = int((~normalised.isfinite()).flatten(1).any(1).sum())
    if wrong:
        raise DataError(
            f"{wrong} of {len(normalised)} {part} samples are too large for a float32 once they are normalised.",
            f"The training part varies by {float(scale.min()):.3g} in one input, and they lie far outside of it.",
            "remove that input from the data, or values of one scale in all parts.",
        )


def _probe(images: Tensor, labels: Tensor, seed: int, limit: int | None) -> tuple[Tensor, Tensor]:
    """A fixed draw from the training part, or all of it where it is small."""
    index = torch.randperm(len(labels), generator=generator(seed, "probe"))[
        : min(PROBE_SIZE, limit or PROBE_SIZE)
    ]
    return images.index_select(0, index), labels.index_select(0, index)


def _notes(labels: Tensor, class_names: tuple[str, ...], std: Tensor, available: int) -> tuple[str, ...]:
    notes = []
    if len(labels) < available:
        notes.append(f"{len(labels)} of {available} training samples are used (max_train_samples)")
    counts = count_classes(labels, len(class_names))
    notes += _absent(counts, class_names, "training")
    seen = [count for count in counts if count]
    if max(seen) > IMBALANCED * min(seen):
        notes.append(
            f"classes of the training part have {min(seen):,} to {max(seen):,} samples, and accuracy is mostly that of "
            "the large ones (metrics: [balanced_accuracy] counts all alike)"
        )
    flat = int((std == 0).sum())
    if flat:
        notes.append(
            f"{flat} of {len(std)} input channels never vary in the training part: centred, not scaled"
        )
    return tuple(notes)


def _absent(counts: Sequence[int], class_names: Sequence[str], part: str) -> list[str]:
    absent = [name for name, count in zip(class_names, counts, strict=True) if not count]
    if not absent:
        return []
    return [
        f"{len(absent)} of {len(class_names)} classes have no sample in the {part} part: {listed(absent, 3)}"
    ]


def _notes_on_evaluation(
    sizes: Mapping[str, int], labels: Sequence[Tensor], class_names: Sequence[str]
) -> Iterator[str]:
    """Of validation and test: what is left out, and which classes are not there."""
    for (part, size), found in zip(sizes.items(), labels, strict=True):
        if len(found) < size:
            yield f"{len(found):,} of {size:,} {part} samples are evaluated, a fixed random draw (max_eval_samples)"
        yield from _absent(count_classes(found, len(class_names)), class_names, part)


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
        return f"{start}: kept"
    return None
