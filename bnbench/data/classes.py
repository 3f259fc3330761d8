"""Checks of per-class settings against the classes of the data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bnbench.base.errors import unknown_name
from bnbench.base.metrics import GAPS, MOST_CLASSES, RECALL, metric_of, parted
from bnbench.data.prepared import Prepared


def unmeasured(columns: Iterable[str], data: Prepared) -> Iterator[str]:
    """One sentence for each column, such as "test_recall:cat", that has no number on this data."""
    counts = data.class_counts()
    for column in dict.fromkeys(columns):
        part, class_name = parted(column)[0], metric_of(column).class_name
        if class_name is None:
            continue
        if class_name not in data.class_names:
            yield f"{column}: {unknown_name('class', class_name, data.class_names)}"
            continue
        if len(data.class_names) > MOST_CLASSES:
            yield (
                f"{column}: the data has {len(data.class_names)} classes; the {RECALL} of each is measured for at most "
                f"{MOST_CLASSES}. Fix: {part}_balanced_accuracy or {part}_macro_f1."
            )
            continue
        place = data.class_names.index(class_name)
        for one in GAPS.get(part, (part,)):
            if not counts["probe" if one == "train" else one][place]:
                yield (
                    f'{column}: no sample of the {one} part is of class "{class_name}". '
                    "Fix: another class, or a larger part."
                )
