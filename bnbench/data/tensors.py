"""From raw tensors to a `Dataset`: the checks that every data set passes, and its fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from bnbench.base.errors import DataError
from bnbench.data import Dataset
from bnbench.data.split import Chosen

#: Samples that are widened to float64 at once.
CHUNK = 1024
#: The class of pixels that count nowhere, as in PASCAL VOC and Cityscapes.
IGNORED = 255

Pair = tuple[Tensor, Tensor]


def make_dataset(
    name: str,
    train: Pair,
    test: Pair,
    class_names: Sequence[str],
    *,
    val: Pair | None = None,
    groups: Sequence[str] | None = None,
    shifted: bool = False,
    notes: Sequence[str] = (),
    cautions: Sequence[str] = (),
    chosen: Chosen | None = None,
) -> Dataset:
    """A data set from (images, labels) of its parts.

    name: what messages call it. images: (N, C, H, W) uint8 or float32; labels: (N,) integers in
    0..len(class_names)-1, (N, H, W) of them (255: ignored), or (N, columns) numbers, float64. val: a validation
    part of its own. groups: of each training sample. shifted, notes, cautions, chosen: see `Dataset`. Raises
    DataError where lengths, image shapes or labels do not fit.
    """
    parts = {"train": train, **({"val": val} if val else {}), "test": test}
    for part, (images, labels) in parts.items():
        _check_part(name, part, images, labels, len(class_names))
        _check_shape(name, part, images, train[0])
    if again := sorted({n for n in class_names if list(class_names).count(n) > 1}):
        raise DataError(f"{name}: two classes have one name: {', '.join(again)}.")
    group_index = index_of(groups) if groups is not None else None
    if group_index is not None and len(group_index) != len(train[1]):
        raise DataError(f"{name}: there are {len(train[1])} training samples and {len(group_index)} groups.")
    whole = {
        part: (images.contiguous(), labels if labels.is_floating_point() else labels.long())
        for part, (images, labels) in parts.items()
    }
    tensors = [tensor for pair in whole.values() for tensor in pair]
    extra = [group_index] if group_index is not None else []
    own = whole.get("val", (None, None))
    return Dataset(
        *whole["train"],
        *whole["test"],
        class_names=tuple(class_names),
        fingerprint=fingerprint(*tensors, *extra),
        val_inputs=own[0],
        val_targets=own[1],
        groups=group_index,
        shifted=shifted,
        notes=tuple(notes),
        cautions=tuple(cautions),
        chosen=chosen,
    )


def _check_shape(name: str, part: str, images: Tensor, train: Tensor) -> None:
    """Raises DataError where an image of the part has another shape than one of the training part."""
    if images.shape[1:] != train.shape[1:]:
        raise DataError(
            f"{name}: a training image has the shape {shape_text(train)} and a {part} image {shape_text(images)}.",
            "one network has to take both.",
        )


def index_of(groups: Sequence[str]) -> Tensor:
    """(N,) int64, from 0 in the order of the names."""
    places = {name: place for place, name in enumerate(sorted(set(groups)))}
    return torch.tensor([places[name] for name in groups])


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and std (divisor N) of each channel (axis 1), each (C,) float64. In two passes: no digits are lost."""
    count = images.numel() / images.shape[1]
    chunks, others = torch.split(images, CHUNK), (0, *range(2, images.ndim))
    mean = sum((chunk.double().sum(others) for chunk in chunks), torch.zeros(())) / count
    center = mean.reshape(-1, *[1] * (images.ndim - 2))
    squares = sum(((chunk.double() - center).square_().sum(others) for chunk in chunks), torch.zeros(()))
    return mean, (squares / count).sqrt()


def shape_text(images: Tensor) -> str:
    """Channels, height and width of one image, e.g. "3x32x32"."""
    return "x".join(str(size) for size in images.shape[1:])


def gathered(tensor: Tensor, index: Tensor) -> Tensor:
    """The samples of an index (N,). From overlapping windows, which are a view, only these are copied."""
    # index_select would copy the whole view first
    return tensor.index_select(0, index) if tensor.is_contiguous() else tensor[index]


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """On the device. Overlapping windows stay a view: their text is moved once."""
    held = base_of(tensor)
    if held is None or tensor.device == device:
        return tensor.to(device)
    return held.to(device).as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


def base_of(tensor: Tensor) -> Tensor | None:
    """The memory behind a view that shows more values than it holds, as overlapping windows do; None for any other."""
    values = tensor.untyped_storage().nbytes() // tensor.element_size()
    return tensor.as_strided((values,), (1,), 0) if values < tensor.numel() else None


def fingerprint(*tensors: Tensor) -> str:
    """Hash of the types, shapes and values of CPU tensors: 32 hex digits."""
    digest = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def _check_part(name: str, part: str, images: Tensor, labels: Tensor, num_classes: int) -> None:
    if images.ndim != 4 or images.dtype not in (torch.uint8, torch.float32):
        raise DataError(
            f"{name}: {part} images are {images.dtype} of shape {tuple(images.shape)}.",
            "They have to be uint8 or float32 of shape (samples, channels, height, width).",
        )
    if len(images) != len(labels):
        raise DataError(f"{name}: {part} has {len(images)} images and {len(labels)} labels.")
    if not len(images):
        raise DataError(f"{name}: {part} holds no samples.")
    if labels.is_floating_point():
        return
    labels = labels if labels.ndim == 1 else labels[labels != IGNORED]
    if not labels.numel():
        raise DataError(f"{name}: every pixel of {part} is {IGNORED}, which is ignored.")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise DataError(f"{name}: {part} has labels from {low} to {high}; 0 to {num_classes - 1} are known.")
