"""The data sets. To add one: one function in `catalogue.py`, registered by name.

A factory is `factory(data_dir, **options) -> Dataset`:
    data_dir: the folder where downloads and caches live (a pathlib.Path, made where missing).
    keyword-only parameters: the options that a study may set (`dataset: {name: npz, path: x.npz}`).
Facts given to `register`: see `DatasetFacts`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bnbench.base.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from bnbench.data.split import Chosen


@dataclass(frozen=True)
class Sizes:
    """Facts on the data that a network and a random batch need.

    input_shape: of one sample. num_outputs: classes, or values to predict. vocabulary: how many tokens there are; None
    where inputs are numbers. per_position: there is one output vector at every position of a sample. masked: inputs
    carry padding.
    """

    input_shape: tuple[int, ...]
    num_outputs: int
    vocabulary: int | None = None
    per_position: bool = False
    masked: bool = False


@dataclass(frozen=True)
class Plan:
    """The sizes of a data set before it is downloaded.

    num_val: None where it is held out of the training set. bytes_a_value: that its inputs will take in memory.
    """

    num_train: int
    num_val: int | None
    num_test: int
    sizes: Sizes
    bytes_a_value: float = 1


@dataclass(frozen=True)
class DatasetFacts:
    """Facts on a data set that are known before it is read.

    augment: the augmentation that is usual for it, which a study has where it names none.
    task: what it is for, which a study has where it names none.
    num_train, num_test, input_shape (channels, height, width), num_classes: all or none of them; the
        plan's estimate uses them, so that nothing is downloaded for it.
    plan: the same, where they depend on the options: `plan(**options) -> Plan`, near enough for an estimate.
    embedded: it comes with a package, so that `check` can look at it without a download.
    holds: `holds(path)`, of a data set with an option `path`: the task that the file is for where its targets say so,
        such as numbers or masks; "" where they are classes or can't be read.
    """

    augment: str = "none"
    task: str = "image_classification"
    num_train: int | None = None
    num_test: int | None = None
    input_shape: tuple[int, int, int] | None = None
    num_classes: int | None = None
    plan: Callable[..., Plan] | None = None
    embedded: bool = False
    holds: Callable[[Path], str] | None = None

    @property
    def downloads(self) -> bool:
        """Whether it may have to be downloaded first."""
        return bool(self.num_train or self.plan) and not self.embedded

    def __post_init__(self) -> None:
        sizes = (self.num_train, self.num_test, self.input_shape, self.num_classes)
        if any(sizes) and not all(sizes):
            raise ValueError("num_train, num_test, input_shape and num_classes go together")


datasets = Registry("data set", __name__, DatasetFacts)


@dataclass(frozen=True)
class Tokens:
    """What the integers of a text stand for.

    unit: a token's unit, such as "characters". size: how many tokens there are, with those of padding and of what is
    not known. characters: how many characters of the text each token stands for, so that bits are counted by
    characters whatever the unit is. padded: shorter texts end in `bnbench.base.tokens.PAD`.
    """

    unit: str
    size: int
    characters: tuple[int, ...]
    padded: bool = False


@dataclass(frozen=True)
class Dataset:
    """A whole data set in memory, as it came.

    *_inputs: (N, ...); images are (N, channels, height, width), uint8 (0..255) or float32; integers of other types
    are tokens. *_targets: (N, ...); classes are (N,) int64 in 0..len(class_names)-1. class_names: empty where targets
    are no classes. fingerprint: hash of the content of all tensors, hex. val_*: a validation part of
    the data's own; None where there is none. groups: (N,) of each training sample, from 0: what belongs
    together. shifted: the inputs were centred as they were read, so zero is not what was zero. notes:
    what reading left out or changed; cautions: what of that limits every answer. chosen: where not all
    was read: which samples these are, train, val and test as they are used. tokens: of a text.
    """

    train_inputs: Tensor
    train_targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    class_names: tuple[str, ...]
    fingerprint: str
    val_inputs: Tensor | None = None
    val_targets: Tensor | None = None
    groups: Tensor | None = None
    shifted: bool = False
    notes: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    chosen: Chosen | None = None
    tokens: Tokens | None = None


def count_classes(targets: Tensor, num_classes: int) -> tuple[int, ...]:
    """The number of targets of each class; of masks (N, H, W), of their pixels, without those that are ignored."""
    return tuple(targets.cpu().flatten().bincount(minlength=num_classes)[:num_classes].tolist())
