"""Notes and mistakes on a study's data, before anything trains on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bnbench.base.errors import Mistake
from bnbench.data import datasets
from bnbench.data.classes import unmeasured
from bnbench.engine.library import Library
from bnbench.engine.replica import notes_on_data
from bnbench.study import Settings


def early_notes(settings: Settings, library: Library) -> tuple[str, ...]:
    """Cautions and notes on the data; none of data that would have to be downloaded first."""
    facts = datasets.get(settings.dataset.name).facts
    if facts.num_train or facts.plan:
        return ()
    data = library.prepared(settings)
    return (*data.cautions, *notes_on_data(data, settings))


def class_mistakes(
    settings: Iterable[Settings], library: Library, columns: Iterable[str], *, loads: bool
) -> Iterator[Mistake]:
    """A mistake for each metric of a class that the data lacks. loads: also download data for this."""
    columns, seen = list(columns), set()
    for each in settings:
        facts = datasets.get(each.dataset.name).facts
        if loads or not facts.downloads:
            for text in unmeasured(columns, library.prepared(each)):
                if text not in seen:
                    seen.add(text)
                    yield Mistake("metrics of single classes", text)
