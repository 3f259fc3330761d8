"""How a run ended. Oracle: the definitions in `study.records.Outcome`, and the binomial standard error by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bnbench.engine.outcome import outcome_of
from bnbench.study.records import HistoryRow, Outcome
from bnbench.tasks import task_of
from bnbench.tasks.classifying import above_chance
from tests.prepared import IMAGES

#: 100 labels of 4 classes: chance is 0.25, two standard errors are 2 √(0.25 · 0.75 / 100) = 0.0866.
FOUR = torch.arange(4).repeat(25)
DATA = SimpleNamespace(val_targets=FOUR)


def ended(
    accuracy: float, loss: float, *, first: float = 1.5, weight: float = 1.0, step_loss: float = 1.0
) -> Outcome:
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, weight)
    history = [HistoryRow(0, 0.0, 0.0, None, {"val_loss": first, "val_accuracy": 0.2})]
    final = {"val_loss": loss, "val_accuracy": accuracy}
    return outcome_of(history, final, torch.tensor([1.0, step_loss]), model, task_of(IMAGES), DATA)


@pytest.mark.parametrize(
    ("accuracy", "loss", "outcome"),
    [
        (0.9, 0.3, "finished"),
        (0.34, 1.3, "finished"),  # 0.3366 is the threshold
        (0.33, 1.3, "stuck_at_chance"),
        (0.10, 1.3, "stuck_at_chance"),  # below chance is not above it
        (0.25, 1.574, "stuck_at_chance"),  # 4.9 % above the first loss
        (0.25, 1.576, "worse_than_at_start"),  # 5.1 %
        (0.9, 50.0, "finished"),  # confident and wrong on few: it has learnt
        (0.25, math.nan, "not_finite"),
        (0.25, math.inf, "not_finite"),
    ],
)
def test_definitions(accuracy: float, loss: float, outcome: Outcome) -> None:
    assert ended(accuracy, loss) == outcome


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_weight_or_a_step_that_is_not_finite(value: float) -> None:
    assert ended(0.9, 0.3, weight=value) == "not_finite"
    assert ended(0.9, 0.3, step_loss=value) == "not_finite"


def test_a_first_loss_that_is_not_finite_makes_no_run_worse_than_at_the_start() -> None:
    """A network whose inference overflows before its statistics are filled."""
    assert ended(0.25, 1.3, first=math.inf) == "stuck_at_chance"
    assert ended(0.9, 0.3, first=math.nan) == "finished"


def test_an_infinity_in_a_buffer_is_a_mask() -> None:
    model = nn.Linear(1, 1)
    model.register_buffer("mask", torch.full((2,), -math.inf))
    history = [HistoryRow(0, 0.0, 0.0, None, {"val_loss": 1.5})]
    assert (
        outcome_of(
            history, {"val_loss": 0.3, "val_accuracy": 0.9}, torch.ones(1), model, task_of(IMAGES), DATA
        )
        == "finished"
    )


@pytest.mark.parametrize(
    "labels",
    [torch.zeros(5, dtype=torch.long), torch.tensor([0] * 19 + [1])],
    ids=["one class", "19 of 20: 0.95 + 0.097 is above 1"],
)
def test_where_no_accuracy_can_beat_the_largest_class_the_loss_decides(labels: torch.Tensor) -> None:
    assert above_chance(1.0, 0.7, 0.1, labels)
    assert above_chance(0.95, 0.7, 0.693, labels)
    assert not above_chance(1.0, 0.7, 0.694, labels)


def test_where_one_class_is_large_a_loss_below_every_constant_guess_has_learnt() -> None:
    """95 of 100 in one class: accuracy is above chance from 0.9936. The entropy by hand is 0.19852."""
    labels = torch.tensor([0] * 950 + [1] * 50)
    entropy = -(0.95 * math.log(0.95) + 0.05 * math.log(0.05))
    assert entropy == pytest.approx(0.19852, abs=1e-5)
    assert above_chance(0.95, 0.7, 0.94 * entropy, labels)
    assert not above_chance(0.95, 0.7, 0.96 * entropy, labels)
    assert not above_chance(0.95, 0.7, entropy, labels)  # the constant guess itself
