"""The contents of a table, independent of its format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bnbench.analysis.contents import Summary, VariantSummary


@dataclass(frozen=True)
class Table:
    """A title, a caption that says what the numbers are, and rows of finished text.

    align: "l" for a column of words, "r" for one of numbers. bars: whether cells are drawn with block
    characters, which not every terminal has. judges: whether it holds verdicts, so that cautions belong to it.
    """

    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    align: str
    bars: bool = False
    judges: bool = False


def baseline_first(
    summary: Summary, variants: Sequence[VariantSummary] | None = None
) -> list[VariantSummary]:
    """The baseline's rows, then the others, each in the study's order."""
    return sorted(
        summary.variants if variants is None else variants,
        key=lambda variant: variant.variant != summary.baseline,
    )


def labels_of(items: Sequence[object]) -> list[str]:
    """The labels of comparisons or the like, each once, in their order."""
    return list(dict.fromkeys(item.label for item in items))  # type: ignore[attr-defined]
