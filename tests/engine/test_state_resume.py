"""A run that is paused and goes on from its state is the undisturbed one, bit for bit.

The oracle is the same run without a pause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bnbench.data.prepared import Prepared
from bnbench.engine.library import Library
from bnbench.study import Settings, Vocabulary, load_study
from bnbench.study.events import Evaluated, RunStarted
from bnbench.study.plan import RunSpec
from tests.resuming import CPU, Memory, assert_equal, ends, paused, trained

BASE = """
dataset: digits
max_train_samples: 100
max_eval_samples: 60
model: {name: mlp, hidden: [6]}
optimizer: {name: sgd, lr: 0.1, momentum: 0.9}
batch_size: 32
steps: 9
evaluate_every: 3
"""
#: 100 training samples less the validation part in batches of 32: an epoch has 4 steps or fewer.
STEPS = 9


@pytest.fixture
def make(vocabulary: Vocabulary, tmp_path: Path) -> Callable[..., tuple[Settings, Prepared]]:
    library = Library(tmp_path, CPU)

    def settings(*changes: str) -> tuple[Settings, Prepared]:
        path = tmp_path / "s.yaml"
        path.write_text(BASE)
        (variant,) = load_study(path, changes, vocabulary).variants.values()
        return variant, library.prepared(variant.for_seed(0))

    return settings


def runs_of(settings: Settings, seeds: Sequence[int]) -> list[RunSpec]:
    return [RunSpec("v", {}, seed, "cell", settings) for seed in seeds]


def resumed(settings: Settings, data: Prepared, seeds: Sequence[int], step: int) -> None:
    """Whole; then paused after `step` and gone on with."""
    whole = ends(trained(runs_of(settings, seeds), data))
    states = Memory()
    first = trained(runs_of(settings, seeds), data, states, step)
    assert paused(first) == dict.fromkeys(seeds, step), "it does not pause where it is asked to"
    second = trained(runs_of(settings, seeds), data, states)
    assert [event.step for event in second if isinstance(event, RunStarted)] == [step] * len(seeds)
    assert not step or all(event.row.step > step for event in second if isinstance(event, Evaluated))
    for seed, event in ends(second).items():
        assert_equal(whole[seed], event)
        if step:
            assert event.record.environment["resumed"] == [{"step": step, "elsewhere": {}}]


@pytest.mark.parametrize("engine", ["stacked", "sequential"])
def test_a_run_goes_on_from_any_step(engine: str, make: Any) -> None:
    settings, data = make(f"engine={engine}", "norm=batch_custom", "augment=crop_flip")
    for step in range(STEPS):
        resumed(settings, data, [3], step)
