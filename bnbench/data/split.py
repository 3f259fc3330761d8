"""Validation splits of the training set: by sample, stratified by class, or by group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from bnbench.base.errors import DataError
from bnbench.base.seeding import generator

SplitBy = Literal["auto", "sample", "class", "group"]


@dataclass(frozen=True)
class Sampling:
    """Settings for the used samples of a data set. by, fraction, seed: of the validation part (see `split`).

    max_train, max_eval: at most so many samples are trained on, and of each other part evaluated; None: all.
    """

    by: SplitBy
    fraction: float
    seed: int
    max_train: int | None = None
    max_eval: int | None = None


class Labelled(Protocol):
    """A data set, or what is known of it before its images are read: see `Labels`."""

    @property
    def train_targets(self) -> Tensor:
        """(N,) int64."""
        ...

    @property
    def val_targets(self) -> Tensor | None:
        """Of the data's own validation part."""
        ...

    @property
    def test_targets(self) -> Tensor:
        """(M,) int64."""
        ...

    @property
    def groups(self) -> Tensor | None:
        """(N,) int64: what belongs together."""
        ...


@dataclass(frozen=True)
class Labels:
    """The labels of each part, and the groups of train, before images are read."""

    train_targets: Tensor
    val_targets: Tensor | None
    test_targets: Tensor
    groups: Tensor | None = None


@dataclass(frozen=True)
class Chosen:
    """Indices of the samples that are used: train ascending, val and test in the order in which they are evaluated.

    val: into the data's own validation part where own_val, else into the training set. sizes: of the
    validation and test part before they were cut. available: how many there would be to train on. notes:
    how it was split.
    """

    train: Tensor
    val: Tensor
    own_val: bool
    test: Tensor
    sizes: dict[str, int]
    available: int
    notes: tuple[str, ...]


def choose(data: Labelled, sampling: Sampling) -> Chosen:
    """The samples to train on and to evaluate. Raises DataError.

    The evaluation samples are shuffled once: a layer that uses batch statistics at inference should not see
    one class at a time. max_eval keeps the first samples of that order.
    """
    sets = split(data, sampling.by, sampling.fraction, sampling.seed, sampling.max_train)
    val = sets.val
    if val is None:
        assert data.val_targets is not None
        val = torch.randperm(len(data.val_targets), generator=generator(0, "val order"))
    test = torch.randperm(len(data.test_targets), generator=generator(0, "test order"))
    return Chosen(
        sets.train,
        val[: sampling.max_eval],
        sets.val is None,
        test[: sampling.max_eval],
        {"validation": len(val), "test": len(test)},
        sets.available,
        sets.notes,
    )


@dataclass(frozen=True)
class Split:
    """Indices into the training set, on the CPU: train ascending, val in the order of a permutation.

    val: None where the data's own validation part is used. available: how many there are to train on.
    notes: how it was split, where that is not plain.
    """

    train: Tensor
    val: Tensor | None
    available: int
    notes: tuple[str, ...] = ()


def split(dataset: Labelled, by: SplitBy, fraction: float, seed: int, limit: int | None) -> Split:
    """Hold out a part, then cut the rest to `limit`.

    Both are the first samples of one seeded permutation and of its rest, so they do not depend on each
    other, and a smaller training part is a part of a larger one. Raises DataError where it can't be done.
    """
    total = len(dataset.train_targets)
    order = torch.randperm(total, generator=generator(seed, "split"))
    notes: list[str] = []
    own = 0 if dataset.val_targets is None else len(dataset.val_targets)
    if own and by == "auto":
        notes.append(
            f"validation: the data's own part of {own:,} samples (validation.fraction and split_seed do nothing)"
        )
        return Split(order[:limit].sort().values, None, total, tuple(notes))
    if own:
        notes.append(f"validation.by: {by}: the data's own validation part of {own:,} samples is not used")
    if by == "group":
        held, text = _by_group(dataset, order, fraction)
        notes.append(text)
    elif by == "class":
        if dataset.train_targets.ndim != 1 or dataset.train_targets.is_floating_point():
            raise DataError(
                "validation.by: class: the targets of this data set are not classes.",
                "The same share of every class is held out.",
                "by: sample (the default), or by: group.",
            )
        held = _by_class(dataset.train_targets, order, fraction)
    else:
        held = torch.zeros(total, dtype=torch.bool)
        held[order[: max(1, round(total * fraction))]] = True
    if by != "group" and dataset.groups is not None:
        notes.append(
            "the data has groups, and samples of one group are both in train and in validation "
            "(validation: {by: group} holds out whole groups)"
        )
    num_val = int(held.sum())
    if num_val == total:
        raise none_left(fraction, total, num_val)
    val, train = order[held[order]], order[~held[order]]
    return Split(train[:limit].sort().values, val, total - num_val, tuple(notes))


def none_left(fraction: float, total: int, num_val: int) -> DataError:
    """Of a validation part that is the whole training set."""
    return DataError(
        f"validation.fraction: {fraction:g} of {total} training samples are {num_val}: none is left to train on.",
        "The validation part is taken out of the training set.",
        "a smaller validation.fraction, or more data.",
    )


def no_groups() -> DataError:
    """Of a split by group."""
    return DataError(
        "validation.by: group: the data has no groups.",
        "A group is what belongs together: the samples of one patient, the pictures of one scene.",
        'npz: an array "groups", one value a sample of x_train; imagefolder: groups: file.csv.',
    )


def _by_class(labels: Tensor, order: Tensor, fraction: float) -> Tensor:
    """The same share of every class, rounded, at least one sample of a class that has two."""
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(int(labels.max()) + 1):
        members = order[labels[order] == label]
        if len(members) < 2:
            continue
        held[members[: min(max(1, round(len(members) * fraction)), len(members) - 1)]] = True
    if not held.any():
        raise DataError(
            "validation.by: class: no class has two samples.", "One of them is trained on.", "by: sample"
        )
    return held


def _by_group(dataset: Labelled, order: Tensor, fraction: float) -> tuple[Tensor, str]:
    """Whole groups, in a seeded order, as long as that brings their samples nearer to the wanted share."""
    groups = dataset.groups
    if groups is None:
        raise no_groups()
    sizes = groups.bincount()
    if len(sizes) == 1:
        raise DataError(
            f"validation.by: group: all {len(groups)} training samples are of one group.",
            "A whole group is held out, and none would be left to train on.",
            "by: sample, or groups that tell samples apart.",
        )
    wanted, taken, held = len(groups) * fraction, 0, torch.zeros(len(sizes), dtype=torch.bool)
    for group in dict.fromkeys(groups[order].tolist()):
        size = int(sizes[group])
        if taken + size < len(groups) and abs(taken + size - wanted) < abs(taken - wanted):
            held[group] = True
            taken += size
    if not taken:
        held[sizes.argmin()] = True
        taken = int(sizes.min())
    share = taken / len(groups)
    text = f"validation by group: {int(held.sum())} of {len(sizes)} groups, {taken:,} samples ({share:.1%})"
    return held[groups], text
