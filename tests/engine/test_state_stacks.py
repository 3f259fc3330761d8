"""A stack may come back in any other composition: no bit of a run depends on its neighbours, before or after a pause.

The oracle is the whole stack without a pause.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from bnbench.engine.loop import Training
from bnbench.engine.stacked.stack import Stack
from bnbench.engine.state.content import Content
from bnbench.engine.state.run_state import RunStates
from bnbench.engine.steppers.stacked import Stacked
from bnbench.study.events import RunStarted
from tests.resuming import CPU, Memory, assert_equal, ends, paused, study_of, trained
from tests.training import chosen_for

SEEDS = [0, 1, 2, 3, 4]


def parts(draw: random.Random, seeds: list[int]) -> list[list[int]]:
    """These seeds in groups, drawn at random."""
    mixed = draw.sample(seeds, len(seeds))
    cuts = sorted(draw.sample(range(1, len(seeds)), draw.randrange(len(seeds))))
    return [mixed[a:b] for a, b in zip([0, *cuts], [*cuts, len(seeds)], strict=True)]


@pytest.mark.parametrize(
    ("engine", "norm", "trials"),
    [
        ("stacked", "batch", 1),
        pytest.param("stacked", "batch_noisy", 4, marks=pytest.mark.slow),
        pytest.param("sequential", "batch_noisy", 2, marks=pytest.mark.slow),
    ],
)
def test_any_composition_any_number_of_pauses(
    engine: str, norm: str, trials: int, vocabulary: Any, tmp_path: Any
) -> None:
    optimizer = "optimizer={name: adam, lr: 0.02}"
    given = study_of(
        vocabulary, tmp_path, [f"engine={engine}", f"norm={norm}", optimizer, "probe={every: 3}"]
    )
    whole = ends(trained(given, SEEDS))
    for trial in range(trials):
        draw, states, step = random.Random(f"{norm} {trial}"), Memory(), 0
        for _ in range(2):
            step = draw.randrange(step, given.steps)
            for part in parts(draw, SEEDS):
                events = trained(given, part, states, step, each=engine == "sequential")
                assert set(paused(events).values()) == {step}
        for part in parts(draw, SEEDS):
            for seed, event in ends(trained(given, part, states)).items():
                assert_equal(whole[seed], event)


def test_states_of_different_steps(vocabulary: Any, tmp_path: Any) -> None:
    """The newest step that all have; where none is, groups by their steps, those without a state from the start."""
    given = study_of(vocabulary, tmp_path, ["engine=stacked", "norm=batch"])
    whole, states = ends(trained(given, SEEDS)), Memory()
    for step in (2, 4, 6):
        trained(given, SEEDS, states, step)
    kept = states.kept
    kept["v", 0] = {step: kept["v", 0][step] for step in (2, 4)}
    kept["v", 1] = {step: kept["v", 1][step] for step in (4, 6)}
    events = trained(given, [0, 1, 2], states)
    assert [event.step for event in events if isinstance(event, RunStarted)] == [4, 4, 4]
    for seed, event in ends(events).items():
        assert_equal(whole[seed], event)

    kept["v", 0], kept["v", 1] = {2: kept["v", 0][2]}, {6: kept["v", 1][6]}
    del kept["v", 3]
    events = trained(given, SEEDS, states)
    starts = {event.run.seed: event.step for event in events if isinstance(event, RunStarted)}
    assert starts == {0: 2, 1: 6, 2: 6, 3: 0, 4: 6}
    for seed, event in ends(events).items():
        assert_equal(whole[seed], event)


def test_what_ended_is_not_in_the_state(vocabulary: Any, tmp_path: Any) -> None:
    """A replica that diverges leaves the stack; the others go on without it."""
    changes = [
        "engine=stacked",
        "norm=none",
        "vary=[init]",
        "optimizer={name: sgd, lr: 1e12}",
        "evaluate_every=2",
    ]
    given = study_of(vocabulary, tmp_path, changes)
    whole, states = ends(trained(given, [0, 1])), Memory()
    assert {event.record.outcome for event in whole.values()} == {"not_finite"}
    steps = {event.record.steps for event in whole.values()}
    trained(given, [0, 1], states, 1)
    for seed, event in ends(trained(given, [0, 1], states)).items():
        assert_equal(whole[seed], event)
    assert max(steps) < given.steps


def test_a_state_moves_no_tensor_of_a_stack(vocabulary: Any, tmp_path: Any) -> None:
    """A CUDA graph has recorded where they lie: parameters, buffers and moments are filled in place."""
    given = study_of(
        vocabulary, tmp_path, ["engine=stacked", "norm=batch", "optimizer={name: adam, lr: 0.02}"]
    )
    choice = chosen_for(given.settings, given.data.sizes)

    def training() -> tuple[Training, Stack]:
        made = Training(given.runs(SEEDS), given.data, None, CPU, choice)
        assert isinstance(made.stepper, Stacked)
        return made, made.stepper.stack

    trained_one, stack = training()
    states = RunStates(trained_one)
    list(trained_one.events())
    contents = [Content.of(states.taken(index, given.steps).to_bytes()) for index in range(len(SEEDS))]
    other, filled = training()
    places = [tensor.data_ptr() for tensor in filled.state()]
    own = RunStates(other)
    for index, content in enumerate(contents):
        own.put(index, content)
    assert [tensor.data_ptr() for tensor in filled.state()] == places
    for tensor, wanted in zip(filled.state(), stack.state(), strict=True):
        assert torch.equal(tensor, wanted)
