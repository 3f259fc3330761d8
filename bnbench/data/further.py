"""Further test sets of a study: the test part of another data set, or the study's own with a corruption.

They are normalised with the numbers of the study's training part, as the test part is, and evaluated in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from bnbench.base.errors import DataError
from bnbench.data import Dataset
from bnbench.data.corruptions import corrupted
from bnbench.data.prepared import Prepared
from bnbench.data.split import Sampling, choose
from bnbench.data.tensors import Pair
from bnbench.study import Choice
from bnbench.study.evaluation import TestSet


def further_test_sets(
    prepared: Prepared,
    dataset: Dataset,
    sets: Sequence[TestSet],
    sampling: Sampling,
    load: Callable[[Choice], Dataset],
) -> Mapping[str, Pair]:
    """Inputs (N, ...), normalised, on the device of the data, and targets (N, ...), by name.

    dataset: the study's own. sampling: its settings; the largest number of evaluated samples holds here, too. load:
    reads another data set. Raises DataError, with the place of the test set in the study, where one does not fit.
    """
    return {one.name: _test_set(one, prepared, dataset, sampling, load) for one in sets}


def _test_set(
    one: TestSet, prepared: Prepared, dataset: Dataset, sampling: Sampling, load: Callable[[Choice], Dataset]
) -> Pair:
    try:
        if one.corruption:
            inputs, targets = _test_part(dataset, sampling)
            inputs = _corrupted(inputs, dataset, one.corruption)
        else:
            assert one.dataset is not None
            other = load(one.dataset)
            _check_alike(dataset, other)
            inputs, targets = _test_part(other, sampling)
        targets = prepared.standard_targets(targets)
        return _normalised(inputs, prepared), targets.to(prepared.test_targets.device)
    except DataError as error:
        raise DataError(f"{one.place}: test_sets.{one.name}: {error.what}", error.why, error.fix) from None


def _test_part(dataset: Dataset, sampling: Sampling) -> Pair:
    """The samples that are evaluated, in their order."""
    if dataset.chosen:  # it holds nothing else
        return dataset.test_inputs, dataset.test_targets
    index = choose(dataset, sampling).test
    return dataset.test_inputs[index], dataset.test_targets[index]


def _corrupted(inputs: Tensor, dataset: Dataset, corruption: Choice) -> Tensor:
    train = dataset.train_inputs
    if not (train.is_floating_point() or str(train.dtype) == "torch.uint8"):
        raise DataError(
            f"{corruption.name}: the inputs are of {train.dtype}, which are tokens.",
            "A corruption changes numbers.",
            "{dataset: ...}, a test set of your own.",
        )
    return corrupted(inputs, corruption, float(train.min()), float(train.max()))


def _normalised(inputs: Tensor, prepared: Prepared) -> Tensor:
    """As the test part is."""
    if prepared.center is None:
        return inputs.to(prepared.test_inputs.device)
    import torch

    normalised = prepared.normalise_(inputs.to(prepared.center.device, torch.float32, copy=True))
    wrong = int((~normalised.isfinite()).flatten(1).any(1).sum())
    if wrong:
        raise DataError(
            f"{wrong} of {len(inputs)} samples are too large for a float32 once they are normalised.",
            "They lie far outside of the training part.",
            "give all parts one scale.",
        )
    return normalised


def _check_alike(dataset: Dataset, other: Dataset) -> None:
    """Raises DataError where a network of the one can't be measured on the other."""
    for what, one, another, fix in _differences(dataset, other):
        if one != another:
            raise DataError(
                f"{what}: {another} there, {one} in the study's own data.",
                "The same network is measured on both.",
                fix,
            )
    if dataset.shifted or other.shifted:
        raise DataError(
            "the inputs were centred before they became float32, as their values are too large.",
            "Each file was centred by its own mean, so their values do not compare.",
            "smaller numbers in the files.",
        )


def _differences(dataset: Dataset, other: Dataset) -> Iterator[tuple[str, Any, Any, str]]:
    """What has to be equal: its name, the study's, the other's, and the fix."""
    for what, fact, fix in (
        (
            "shape of a sample",
            lambda data: tuple(data.test_inputs.shape[1:]),
            "a data set of the same shape.",
        ),
        ("type of numbers", lambda data: data.test_inputs.dtype, "save both in the same type, on one scale."),
        (
            "shape of a target",
            lambda data: tuple(data.test_targets.shape[1:]),
            "a data set of the same targets.",
        ),
        (
            "number of classes",
            lambda data: len(data.class_names),
            "a data set with every class of the study's.",
        ),
        ("classes", lambda data: ", ".join(data.class_names), "the same labels in both data sets."),
    ):
        yield what, fact(dataset), fact(other), fix
