"""Listeners hear what happens while a study trains, and change nothing.

A listener is a function of one event, or an object with a method `on(event)`:

    def show(event):
        if isinstance(event, RunEnded):
            print(event.run.label, event.run.seed, event.record.outcome)

    bnbench.compare("quickstart", listeners=[show])

- The events are in `bnbench.study.events`: RunStarted, Stepped (a few times a second), Evaluated, RunEnded. Each has
  its `run`; several runs may be under way at the same time.
- A run that goes on from a kept state starts at `RunStarted.step`. A listener that writes as it hears drops what it
  wrote of later steps before: they come again, with the same numbers.
- It is called in the thread that called `compare`, and training waits for it; its time is not training time.
- A run is on disk when its RunEnded is heard, so a listener may `bnbench.load` the folder.
- What a listener draws from the global random generators changes no number.
- What it raises ends the call, and comes through as it is. Finished runs are kept, and the next call goes on there.

`LiveProgress` is the command line's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from bnbench.study.events import Event


class Listener(Protocol):
    """Hears every event."""

    def on(self, event: Event) -> object:
        """Called with one event after the other. What it returns is not looked at."""
        ...


#: The types that can be passed as a listener.
Hears = Listener | Callable[[Event], object]
