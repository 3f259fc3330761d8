"""Which states runs go on from: the newest that they have in common, else in groups by their steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bnbench.base.errors import ResultsError
from bnbench.engine.state.content import Content
from bnbench.engine.state.keeping import Keeping
from bnbench.engine.state.kinds import WrongState
from bnbench.study.plan import RunSpec


@dataclass(frozen=True)
class Group:
    """Runs that train together from one step on. contents: their states, empty where they begin.

    unused: why a run that begins does not go on from the states that it has, by its key.
    """

    runs: Sequence[RunSpec]
    step: int = 0
    contents: Sequence[Content] = field(default=(), repr=False)
    unused: Mapping[tuple[str, int], str] = field(default_factory=dict)


def groups_of(
    runs: Sequence[RunSpec], keeping: Keeping, wanted: Mapping[tuple[str, int], Mapping[str, Any]]
) -> list[Group]:
    """The runs in groups, in their order. wanted: by run, what its states have to belong to."""
    if keeping.states is None or not keeping.resume:
        return [Group(runs)]
    unused: dict[tuple[str, int], str] = {}
    found = {run.key: _usable(run, keeping, wanted[run.key], unused) for run in runs}
    common = set.intersection(*(set(states) for states in found.values()))
    if common:
        step = max(common)
        return [Group(runs, step, [found[run.key][step] for run in runs])]
    newest: dict[int, list[RunSpec]] = {}
    for run in runs:
        newest.setdefault(max(found[run.key], default=0), []).append(run)
    return [
        Group(part, step, [found[run.key][step] for run in part])
        if step or found[part[0].key]
        else Group(part, unused=unused)
        for step, part in newest.items()
    ]


def _usable(
    run: RunSpec, keeping: Keeping, wanted: Mapping[str, Any], unused: dict[tuple[str, int], str]
) -> dict[int, Content]:
    """Its states that are whole and its own, by their step. unused: gets why the newest of the others is none."""
    assert keeping.states is not None
    usable = {}
    for step in keeping.states.steps(run):
        try:
            content = Content.of(keeping.states.read(run, step))
        except (WrongState, ResultsError):
            continue
        facts = content.facts
        if facts.get("step") == step and all(facts.get(name) == value for name, value in wanted.items()):
            usable[step] = content
        else:
            unused.setdefault(run.key, began_again(step, _difference(facts, wanted)))
    return usable


def began_again(step: int, reason: object) -> str:
    """A note of a run."""
    return f"it began again, as its state of step {step} could not be used: {reason}"


def _difference(facts: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Such as "it was made with engine stacked, and this is sequential"."""
    for name, value in wanted.items():
        if facts.get(name) != value:
            shown = name.replace("_", " ")
            if name in ("engine", "planned_steps"):
                return f"it was made with {shown} {facts.get(name)}, and this is {value}"
            return f"it is of other {shown}"
    return "it is of another step"
