"""What `bnbench look` prints: the layers at the first and the last probed step, and what the indices say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console

from bnbench.analysis.contents import Summary
from bnbench.reports.console import print_table, print_text
from bnbench.reports.sentences.headline import title
from bnbench.reports.sentences.inside import inside_sentences
from bnbench.reports.sentences.runs import absent_runs_of, failure_sentences
from bnbench.reports.tables.inside import first_and_last, layer_tables, layers_together
from bnbench.reports.tables.layout import least_width
from bnbench.reports.tables.table import Table
from bnbench.study.evaluation import is_line


def print_inside(console: Console, summary: Summary, places: Sequence[str] = ()) -> None:
    """Print the tables of the layers, the sentences on the indices, and the places of the files.

    places: lines that say where a file is.
    """
    print_text(console, title(summary), style="bold")
    console.print()
    tables = [
        (place, table)
        for step in first_and_last(summary)
        for place, table in enumerate(_tables(summary, step, console.width))
        if table.rows
    ]
    if not tables:
        print_text(console, "No run has a deviation of activations, a share of units or a norm of gradients.")
    for place, table in tables:
        print_table(console, table, captioned=not place)
    for line in (*inside_sentences(summary), *_limits(summary)):
        print_text(console, line)
    if places:
        console.print()
    for line in places:
        print_text(console, line)


def _tables(summary: Summary, step: int, width: int) -> list[Table]:
    """One table where it fits the width; else one for each quantity."""
    together = layers_together(summary, step)
    if not summary.swept_keys and least_width(together) <= width:
        return [together]
    return layer_tables(summary, step, width)


def _limits(summary: Summary) -> Iterator[str]:
    """Runs that crashed or are missing, and warnings: nothing is left out in silence."""
    for variant in (variant for variant in summary.variants if not is_line(variant.variant)):
        yield from absent_runs_of(variant)
        if count := variant.outcomes["not_finite"]:
            yield f"{count} of {len(variant.seeds)} runs of {variant.label} {'is' if count == 1 else 'are'} not finite."
    yield from failure_sentences(summary)
    yield from (f"Warning: {text}" for text in summary.warnings)
