"""Every part of a state matters: where one is changed or lacks, the run has other numbers, or refuses the state.

What may be changed without a trace is listed, with the reason.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bnbench.engine.state.content import Content
from bnbench.engine.state.kinds import WrongState
from bnbench.study.events import RunStarted
from tests.resuming import Memory, Study, assert_equal, ends, study_of, trained

STEP = 5


def changed(tensor: Tensor) -> Tensor:
    """Other values; of a generator the state of another one."""
    if tensor.dtype == torch.uint8 and tensor.numel() > 1000:
        return torch.Generator().manual_seed(99).get_state()
    if tensor.dtype == torch.bool:
        return ~tensor
    return tensor + 1 if tensor.is_floating_point() else tensor ^ 1


def matters(given: Study, content: Content, whole: Any) -> bool:
    """Whether a run that goes on from this state has other numbers, or begins again."""
    states = Memory()
    states.kept["v", 3] = {STEP: content.to_bytes()}
    try:
        events = trained(given, [3], states)
    except Exception:
        return True  # the run begins again: see `Trainer`
    if [event.step for event in events if isinstance(event, RunStarted)] == [0]:
        return True
    try:
        assert_equal(whole, ends(events)[3])
    except AssertionError:
        return True
    return False


def parts_of(node: Any) -> Iterator[tuple[str, list[Any]]]:
    """The named parts of a description, at every depth: the name, and the pair that holds it."""
    if isinstance(node, list):
        if len(node) == 4 and node[0] == "dict":
            for pair in node[3]:
                yield str(pair[0]), pair
        for item in node:
            yield from parts_of(item)


@pytest.fixture(scope="module", params=["stacked", pytest.param("sequential", marks=pytest.mark.slow)])
def kept(
    request: pytest.FixtureRequest, vocabulary: Any, tmp_path_factory: Any
) -> tuple[Study, Any, Content]:
    """A study, its run, and the run's state in the middle: momentum, dropout's draws, shifts, probes, a best step."""
    changes = [f"engine={request.param}", "norm=batch_noisy", "augment=crop_flip", "evaluate_every=2"]
    changes += ["probe={every: 3, what: [weights]}", "optimizer={name: adam, lr: 0.3}"]
    if request.param == "sequential":
        changes.append("model={name: mlp, hidden: [6], dropout: {p: 0.2, place: last}}")
    given = study_of(vocabulary, tmp_path_factory.mktemp("study"), changes)
    whole, states = ends(trained(given, [3]))[3], Memory()
    trained(given, [3], states, STEP)
    return given, whole, Content.of(states.kept["v", 3][STEP])


#: Parts that may change or lack without a trace, by the end of their name. Of the best weights what evaluation does not
#: read; what the run finds again when it is built (the defaults of torch, which the optimizer has again); the
#: random streams, from which no layer of bnbench draws (a user's does: test_state_user_code.py).
NO_MATTER = (
    "noise_seed", "num_masks", "num_batches_tracked", "streams.cpu", "streams.numpy.state.key",
    "schedule", "streams", "shared", "notes", "objective", "lr", "betas", "eps", "weight_decay", "amsgrad",
    "maximize", "foreach", "capturable", "fused", "decoupled_weight_decay", "has_gauss", "gauss",
)  # fmt: skip


@pytest.mark.slow
def test_every_tensor_matters(kept: tuple[Study, Any, Content]) -> None:
    """Each of them with other values; and one that lacks is noticed."""
    given, whole, content = kept
    assert whole.record.best_step <= STEP, "the best weights of the state are the run's"
    assert not matters(given, content, whole)
    without_trace = [
        name
        for name, tensor in content.tensors.items()
        if not matters(given, replace(content, tensors={**content.tensors, name: changed(tensor)}), whole)
    ]
    assert all(name.endswith(NO_MATTER) for name in without_trace), without_trace
    assert not any(name.startswith(".stepper") for name in without_trace)
    for name in list(content.tensors)[::5]:
        fewer = {other: tensor for other, tensor in content.tensors.items() if other != name}
        assert matters(given, replace(content, tensors=fewer), whole), name


@pytest.mark.slow
def test_every_part_matters(kept: tuple[Study, Any, Content]) -> None:
    """Every fifth of the named parts lacks once; all of them did when this was written."""
    given, whole, content = kept
    without_trace = []
    for place, (name, _) in list(enumerate(parts_of(content.node)))[::5]:
        node = copy.deepcopy(content.node)
        _, pair = list(parts_of(node))[place]
        _remove(node, pair)
        if not matters(given, replace(content, node=node), whole):
            without_trace.append(name)
    assert {name for name in without_trace if not name.endswith(NO_MATTER)} == set()


def _remove(node: Any, part: Any) -> None:
    if isinstance(node, list):
        node[:] = [item for item in node if item is not part]
        for item in node:
            _remove(item, part)


def test_the_parts_of_the_record(kept: tuple[Study, Any, Content]) -> None:
    """Of what a run has measured so far, each part with other values: no training hides it."""
    given, whole, content = kept
    names = [".measured.step_losses", ".probes.rows.value", ".draws.augment"]
    for name in names:
        other = {**content.tensors, name: changed(content.tensors[name])}
        assert matters(given, replace(content, tensors=other), whole), name


@pytest.mark.parametrize("name", ["run", "data", "engine", "planned_steps", "step"])
def test_a_state_of_something_else(name: str, kept: tuple[Study, Any, Content]) -> None:
    """Another run, data, engine, length or step: the state is not used, and a note is all that is left of it."""
    given, whole, content = kept
    states = Memory()
    states.kept["v", 3] = {STEP: replace(content, facts={**content.facts, name: "another"}).to_bytes()}
    events = trained(given, [3], states)
    assert [event.step for event in events if isinstance(event, RunStarted)] == [0]
    ended = ends(events)[3]
    said = [note for note in ended.record.notes if note.startswith("it began again, as its state of step 5")]
    assert len(said) == (name != "step"), "what has no step is no state"
    notes = tuple(note for note in ended.record.notes if note not in said)
    assert_equal(whole, replace(ended, record=replace(ended.record, notes=notes)))


def test_elsewhere(kept: tuple[Study, Any, Content]) -> None:
    """A state of another machine is used, and the record says what differs."""
    given, _, content = kept
    made_by = {**content.facts["made_by"], "processor": "another", "torch": "1.0"}
    states, facts = Memory(), {**content.facts, "made_by": made_by}
    states.kept["v", 3] = {STEP: replace(content, facts=facts).to_bytes()}
    (resumed,) = ends(trained(given, [3], states))[3].record.environment["resumed"]
    own = content.facts["made_by"]
    elsewhere = {"processor": ["another", own["processor"]], "torch": ["1.0", own["torch"]]}
    assert resumed == {"step": STEP, "elsewhere": elsewhere}


@pytest.mark.parametrize("damage", [lambda text: b"", lambda text: text[:-1], lambda text: text[1:]])
def test_damaged_bytes(damage: Callable[[bytes], bytes], kept: tuple[Study, Any, Content]) -> None:
    """What is no state is not used; an older one is."""
    given, whole, content = kept
    text = content.to_bytes()
    with pytest.raises(WrongState):
        Content.of(damage(text))
    older = Memory()
    trained(given, [3], older, 2)
    older.kept["v", 3][STEP] = damage(text)
    events = trained(given, [3], older)
    assert [event.step for event in events if isinstance(event, RunStarted)] == [2]
    assert_equal(whole, ends(events)[3])


@pytest.mark.parametrize(
    "facts", [None, [1], 5, {}, {"step": "4", "outside": {}, "made_by": {}, "resumed": []}]
)
def test_facts_of_another_form_are_no_state(facts: Any) -> None:
    """They are read before anything is filled; whatever they hold, the run begins again and does not crash."""
    with pytest.raises(WrongState):
        Content.of(Content(facts, 1, {"a": torch.zeros(1)}).to_bytes())
