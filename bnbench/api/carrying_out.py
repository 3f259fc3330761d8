"""Training the runs of a study that is ready, each on disk as soon as it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

from bnbench.api.session import Work
from bnbench.base.circumstances import session
from bnbench.base.user_code import was_interrupted
from bnbench.study.events import Event, RunEnded
from bnbench.study.plan import RunSpec


def carry_out(work: Work, runs: Sequence[RunSpec], listener: Callable[[Event], None]) -> None:
    """Train these runs of a study; each is on disk as soon as it ends. `work.turns` says what was left, and why."""
    if not runs:
        return
    now = session()
    with work.present():
        for left in work.turns.portions(runs):
            try:
                with closing(
                    work.events(left)
                ) as events:  # whatever comes in between, no worker is left behind
                    for event in events:
                        if isinstance(event, RunEnded) and not event.kept:
                            event = _saved(work, event, now)
                        work.turns.hear(event)
                        listener(event)
                        if was_interrupted():
                            raise KeyboardInterrupt
            finally:  # nothing trains any more: the report must not say that this process does
                work.turns.claims.release(left)


def _saved(work: Work, event: RunEnded, now: Mapping[str, Any]) -> RunEnded:
    """The run with the circumstances of this command, on disk."""
    with work.phases.during("files"):
        environment = {**event.record.environment, "session": now}
        event = replace(event, record=replace(event.record, environment=environment))
        work.folder.save(event.run, event.record, event.weights, event.extras)
    return event


def open_all(works: Sequence[Work]) -> list[Work]:
    """Start what trains, then make the folders: an executor that can't start leaves none. Raises BnbenchError.

    With more than one study, the executor is tried on the first one that has runs to train.
    """
    with ExitStack() as stack:
        for first in [work for work in works if work.todo][:1]:
            stack.callback(first.close)
            first.start()
        opened = [work.open() for work in works]
        stack.pop_all()
    return opened


def carry_out_all(work: Work, listener: Callable[[Event], None]) -> None:
    """Train what is left to do of a study, as far as its time reaches."""
    for runs in work.rounds():
        carry_out(work, runs, listener)
        if work.turns.stopped:
            break
