"""Whether the parts of somebody's own data fit together: scales, and samples that are in two parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from bnbench.base.errors import DataError
from bnbench.data.tensors import channel_statistics

#: Parts whose spread or place differ by more than this factor are not of one scale.
REFUSED, STRANGE = 50.0, 3.0
#: Samples of fewer values are often equal by chance.
LEAST_VALUES = 16
#: Approximate number of evenly spaced samples that measure the scale of a part.
SAMPLES = 5000


def check_scales(name: str, parts: Mapping[str, Tensor], *, refuse: bool) -> Iterator[str]:
    """Cautions on parts that lie elsewhere than train. parts: images by part, "train" among them.

    Raises DataError where they differ by more than a factor of REFUSED and `refuse` says so.
    """
    train = _place(parts["train"])
    for part, images in parts.items():
        mean, std = _place(images)
        if part == "train" or not train[1]:
            continue
        if not std:
            if len(images) > 1:
                yield f"every input of {part} is equal, and those of train are not"
            continue
        factor = max(std / train[1], train[1] / std, abs(mean - train[0]) / max(train[1], std))
        facts = f"{part} has mean {mean:.3g} and standard deviation {std:.3g}, train {train[0]:.3g} and {train[1]:.3g}"
        if factor > REFUSED and refuse:
            raise DataError(
                f"{name}: train and {part} are on different scales: {facts}.",
                "A network that trains on one scale fails on another.",
                f"{_scaling(parts['train'], images, part)}, or same_scale: false if they are meant to differ.",
            )
        if factor > STRANGE:
            yield f"{facts}: are they on one scale?"
        else:
            yield from _strange_inputs(parts["train"], images, part)


def _place(images: Tensor) -> tuple[float, float]:
    """Mean and std of all values."""
    means, stds = channel_statistics(images[:: max(1, len(images) // SAMPLES)])
    mean = means.mean()
    return float(mean), float((stds.square() + (means - mean).square()).mean().sqrt())


def _strange_inputs(train: Tensor, images: Tensor, part: str) -> Iterator[str]:
    """Whether single channels (features) among many are on another scale."""
    if train.shape[1] <= 4 or len(images) < 10:
        return
    (mean, std), (other_mean, other_std) = channel_statistics(train), channel_statistics(images)
    known = (std > 0) & (other_std > 0)
    factor = torch.maximum(torch.maximum(std / other_std, other_std / std), (mean - other_mean).abs() / std)
    wrong = known & (factor > 10)
    if wrong.any():
        first = int(wrong.nonzero()[0])
        yield (
            f"{int(wrong.sum())} of {len(std)} inputs of {part} are on another scale than those of train, e.g. input "
            f"{first}: mean {other_mean[first]:.3g} and standard deviation {other_std[first]:.3g}, "
            f"train {mean[first]:.3g} and {std[first]:.3g}"
        )


def _scaling(train: Tensor, images: Tensor, part: str) -> str:
    if (
        float(train.max()) > 1.5
        and float(train.min()) >= 0
        and -1 <= float(images.min())
        and float(images.max()) <= 1
    ):
        return (
            f"x_{part} = x_{part} * 255"
            if float(images.min()) >= 0
            else "scale x_train as you scaled the other"
        )
    if (
        float(images.max()) > 1.5
        and float(images.min()) >= 0
        and float(train.max()) <= 1
        and float(train.min()) >= 0
    ):
        return f"x_{part} = x_{part} / 255"
    return "bring them to one scale"


def copies(
    parts: Mapping[str, Tensor], name_of: Callable[[str, int], str] | None = None
) -> tuple[list[str], list[str]]:
    """Notes on training samples that are there twice, value for value; cautions on those that another part has, too.

    name_of: what messages call a sample of a part; None: its number.
    """
    if parts["train"][0].numel() < LEAST_VALUES:
        return [], []
    train = [hash(image.tobytes()) for image in parts["train"].numpy()]
    seen = set(train)
    notes, cautions = [], []
    if extra := len(train) - len(seen):
        notes.append(
            f"{extra} of {len(train)} samples of train are copies of others, value for value; a random validation part "
            "can hold one of two"
        )
    for part, images in parts.items():
        if part == "train" or images.dtype != parts["train"].dtype:
            continue
        twice = [index for index, image in enumerate(images.numpy()) if hash(image.tobytes()) in seen]
        if twice:
            cautions.append(
                f"in {part} and in train, value for value: {len(twice)} of {len(images)} samples of {part}, "
                f"e.g. {name_of(part, twice[0]) if name_of else f'sample {twice[0]}'}: the {part} numbers are too good"
            )
    return notes, cautions
