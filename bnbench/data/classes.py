"""Checks of per-class settings against the classes of the data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bnbench.base.errors import unknown_name
from bnbench.base.metrics import MOST_CLASSES, RECALL, metric_of
from bnbench.data.prepared import Prepared


def unmeasured(columns: Iterable[str], data: Prepared) -> Iterator[str]:
    """One sentence for each column, such as "test_recall:cat", that has no number on this data."""
    counts = data.class_counts()
    for column in dict.fromkeys(columns):
        split, class_name = column.partition("_")[0], metric_of(column).class_name
        if class_name is None:
            continue
        if class_name not in data.class_names:
            yield f"{column}: {unknown_name('class', class_name, data.class_names)}"
        elif len(data.class_names) > MOST_CLASSES:
            yield (
                f"{column}: the data has {len(data.class_names)} classes; the {RECALL} of each is measured for at most "
                f"{MOST_CLASSES}. Fix: {split}_balanced_accuracy or {split}_macro_f1."
            )
        elif not counts["probe" if split == "train" else split][data.class_names.index(class_name)]:
            yield (
                f'{column}: no sample of the {split} part is of class "{class_name}". '
                "Fix: another class, or a larger part."
            )
