"""Metrics, against scikit-learn; and how far the answer on one sample can move them, by brute force."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score, recall_score
from torch import Tensor

from bnbench.base.errors import UnknownNameError
from bnbench.base.metrics import METRICS, columns_of, metric_named, metric_of, parted, recall_of, value_of
from bnbench.base.task_facts import IMAGE_CLASSIFICATION
from bnbench.tasks.classification import BY_CLASS, BY_SAMPLE, confusion, measure

NAMES = ("cat", "dog", "emu: big")


def logits_for(answers: Any, classes: int = 3) -> Tensor:
    """Logits whose largest is that of each answer; `classes` stands for logits that hold a NaN."""
    logits = torch.zeros(len(answers), classes, dtype=torch.float64)
    for row, answer in zip(logits, answers, strict=True):
        row[answer % classes] = math.nan if answer == classes else 1.0
    return logits


def test_loss_and_accuracy_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [2.0, 0.0], [math.nan, 5.0]])
    labels = torch.tensor([1, 0, 1])
    loss, accuracy = BY_SAMPLE["loss"], BY_SAMPLE["accuracy"]
    assert loss(logits, labels)[:2].tolist() == pytest.approx([math.log(2), math.log(1 + math.exp(-2))])
    assert loss(logits, labels)[2].isnan()
    assert accuracy(logits, labels).tolist() == [0.0, 1.0, 0.0]


def test_metrics_of_classes_against_scikit_learn() -> None:
    draw = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 1, 2]).repeat_interleave(torch.tensor([40, 9, 3]))
    answers = torch.where(
        torch.rand(52, generator=draw) < 0.6, labels, torch.randint(3, (52,), generator=draw)
    )
    found = dict(measure(logits_for(answers), labels, NAMES))
    recalls = recall_score(labels, answers, average=None)
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, answers))
    assert found["macro_f1"] == pytest.approx(f1_score(labels, answers, average="macro"))
    assert [found[f"recall:{name}"] for name in NAMES] == pytest.approx(recalls.tolist())
    assert found["accuracy"] == pytest.approx(float((labels == answers).double().mean()))


def test_a_class_without_samples_has_no_recall_and_no_part_in_the_means() -> None:
    labels, answers = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 2, 1, 1])
    found = dict(measure(logits_for(answers), labels, NAMES))
    assert math.isnan(found["recall:emu: big"])
    assert found["balanced_accuracy"] == 0.75
    assert found["macro_f1"] == pytest.approx(f1_score(labels, answers, labels=[0, 1], average="macro"))


def test_logits_with_a_nan_are_wrong_answers_and_taken_for_no_class() -> None:
    labels = torch.tensor([0, 0, 1, 2])
    logits = logits_for([0, 3, 1, 2])
    assert confusion(logits, labels).tolist() == [[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0]]
    found = dict(measure(logits, labels, NAMES))
    assert math.isnan(found["loss"])
    assert (found["accuracy"], found["recall:cat"]) == (0.75, 0.5)
    assert found["balanced_accuracy"] == pytest.approx(2.5 / 3)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 1 + 1) / 3)


def largest_change(name: str, sizes: tuple[int, ...]) -> float:
    """Over all answers to all samples, and every other answer to one of them."""
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    names = [str(label) for label in range(len(sizes))]

    def value(answers: tuple[int, ...]) -> float:
        return dict(measure(logits_for(answers, len(sizes)), labels, names))[name]

    choices = range(len(sizes) + 1)
    values = {answers: value(answers) for answers in itertools.product(choices, repeat=len(labels))}
    return max(
        abs(values[answers] - values[(*answers[:place], other, *answers[place + 1 :])])
        for answers in values
        for place in range(len(answers))
        for other in choices
    )


SIZES = [(1, 1), (2, 1), (2, 2), (1, 3), (4, 1), (1, 1, 1), (2, 1, 1), (1, 2, 2), (5,)]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "recall:0"])
def test_granularity_is_the_largest_change_by_one_answer(name: str, sizes: tuple[int, ...]) -> None:
    metric = metric_named(name)
    assert metric
    names = [str(label) for label in range(len(sizes))]
    assert metric.granularity(sizes, names) == pytest.approx(largest_change(name, sizes))


@pytest.mark.parametrize("sizes", SIZES)
def test_granularity_of_macro_f1_is_a_bound_and_no_wide_one(sizes: tuple[int, ...]) -> None:
    bound, largest = METRICS["macro_f1"].granularity(sizes), largest_change("macro_f1", sizes)
    assert bound is not None
    assert largest - 1e-12 <= bound <= 1.25 * largest


def test_granularity_of_macro_f1_is_reached_where_there_is_a_third_class() -> None:
    # all of class 0 are taken for class 2 but one, which is taken for class 1, all of which is right
    sizes, labels = (3, 4, 9), torch.tensor([0] * 3 + [1] * 4 + [2] * 9)
    before = [1, 2, 2] + [1] * 4 + [2] * 9
    after = [0, *before[1:]]
    values = [dict(measure(logits_for(answers), labels, NAMES))["macro_f1"] for answers in (before, after)]
    assert METRICS["macro_f1"].granularity(sizes) == pytest.approx(values[1] - values[0])


def test_granularity_by_hand() -> None:
    assert METRICS["loss"].granularity((5, 5)) is None
    assert METRICS["accuracy"].granularity((30, 60)) == 1 / 90
    assert METRICS["balanced_accuracy"].granularity((30, 60, 0)) == 1 / 60  # two classes have samples
    assert recall_of("dog").granularity((30, 60, 5), NAMES) == 1 / 60
    assert recall_of("dog").granularity((30, 60, 5)) == 1 / 5  # not known which class: the largest
    assert recall_of("emu: big").granularity((30, 60, 0), NAMES) is None
    assert METRICS["accuracy"].granularity(()) is None


def test_names() -> None:
    assert metric_of("test_recall:emu: big").class_name == "emu: big"
    assert metric_of("val_macro_f1").percent
    assert columns_of(["loss", "recall:cat"])[:3] == ("train_loss", "train_recall:cat", "val_loss")
    for wrong in ("accuracy", "test_recall", "test_recall:", "val_f1", "gap_f1", "gap"):
        with pytest.raises(UnknownNameError, match=wrong):
            metric_of(wrong)


def test_only_a_study_knows_its_further_test_sets() -> None:
    assert metric_of("dark_loss").name == "loss"
    with pytest.raises(UnknownNameError, match="dark_loss"):
        IMAGE_CLASSIFICATION.metric_of("dark_loss")
    assert (
        dataclasses.replace(IMAGE_CLASSIFICATION, test_sets=("dark",)).metric_of("dark_loss").name == "loss"
    )


def test_a_gap_is_the_later_part_minus_train_in_the_direction_of_its_metric() -> None:
    values = {
        "train_loss": 0.1,
        "val_loss": 0.35,
        "test_loss": 0.4,
        "train_accuracy": 0.99,
        "test_accuracy": 0.9,
    }
    assert value_of(values, "gap_loss") == pytest.approx(0.3)
    assert value_of(values, "val_gap_loss") == pytest.approx(0.25)
    assert value_of(values, "gap_accuracy") == pytest.approx(-0.09)
    assert math.isnan(value_of(values, "val_gap_accuracy"))
    assert [parted(column) for column in ("val_gap_macro_f1", "gap_recall:a_b", "val_loss")] == [
        ("val_gap", "macro_f1"),
        ("gap", "recall:a_b"),
        ("val", "loss"),
    ]
    loss, accuracy = metric_of("gap_loss"), metric_of("gap_accuracy")
    assert (loss.better, loss.lowest, accuracy.better, accuracy.lowest) == ("lower", None, "higher", -1.0)


def test_the_recall_of_more_than_a_hundred_classes_is_not_listed() -> None:
    names = [str(label) for label in range(101)]
    found = dict(measure(torch.eye(101), torch.arange(101), names))
    assert set(found) == {*BY_SAMPLE, *BY_CLASS} == set(IMAGE_CLASSIFICATION.names)
