"""Runs that went on from a state of another machine, version or number of threads: their last bits may differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bnbench.analysis.circumstances import runs_text, word_of
from bnbench.study.records import RunRecord

#: The key of a run's environment: where it went on, and what was different there.
RESUMED = "resumed"
#: So many differences are named; the rest is counted. A longer value (the flags of a processor) is cut.
_NAMED, _LONGEST = 3, 48


def resumed_elsewhere(runs: Iterable[RunRecord]) -> tuple[str, ...]:
    """A sentence where runs went on elsewhere than where they stopped; else nothing."""
    moved = [run for run in runs if run.outcome != "crashed" and was_moved(run)]
    if not moved:
        return ()
    parts = list(dict.fromkeys(text for run in moved for text in _differences(run)))
    others = len(parts) - _NAMED
    more = f"; and {others} more difference{'s' * (others > 1)}" if len(parts) > _NAMED else ""
    count = f"{len(moved)} run{'s' * (len(moved) > 1)}"
    which = runs_text(moved)
    named = count if which == f"{len(moved)} runs" else f"{count}, {which}"
    return (
        f"resumed elsewhere: {named} ({'; '.join(parts[:_NAMED])}{more}): their last bits may differ from those of a "
        "run without a stop. `--refresh changed` trains them again; `--resume never` begins half-done runs again.",
    )


def was_moved(run: RunRecord) -> bool:
    """Whether it ever went on elsewhere."""
    return any(True for _ in _moves(run))


def _differences(run: RunRecord) -> Iterator[str]:
    for move in _moves(run):
        for key, values in move.items():
            if isinstance(values, Sequence) and len(values) == 2 and not isinstance(values, str):
                yield f"{word_of(str(key))} {_short(values[0])} then, {_short(values[1])} now"
            else:
                yield word_of(str(key))


def _moves(run: RunRecord) -> Iterator[Mapping[str, Any]]:
    """What differed, of every time that it went on elsewhere. A file that says something else says nothing."""
    times = run.environment.get(RESUMED)
    for time in times if isinstance(times, list | tuple) else ():
        elsewhere = time.get("elsewhere") if isinstance(time, Mapping) else None
        if isinstance(elsewhere, Mapping) and elsewhere:
            yield elsewhere


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
