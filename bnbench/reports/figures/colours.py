"""Colours and dash patterns of the variants, and the ground that they are drawn on."""

from __future__ import annotations

from collections.abc import Sequence

#: The first variant in a legend, which is the baseline.
BASELINE_COLOUR = "#7a7a7a"
#: Chosen by computation: any two differ for every kind of red-green vision, and each has a contrast of 3 to 1
#: on white and on the page's dark ground; tests/reports/ measures both.
COLOURS = ("#0072b2", "#d55e00", "#428a4e", "#8c1aff", "#d41132", "#5c5cd6")
#: The second channel. There is one more than colours, so that a colour and a dash meet again after 42 variants.
#: The gaps grow: a line that lies under another can be seen.
DASHES = ([1, 0], [14, 2], [5, 5], [2, 4], [9, 3, 2, 3], [3, 2], [1, 3])
#: The neutral colour of a forest plot's zero line and a cell's border; no variant has it.
RULE_COLOUR, CELL_BORDER = "#8a8a8a", "#8a8a8a"


def colours(variants: Sequence[str]) -> list[str]:
    """One colour per variant; the first is the baseline's. The others repeat after six."""
    return [BASELINE_COLOUR, *(COLOURS[i % len(COLOURS)] for i in range(len(variants) - 1))][: len(variants)]


def dashes(variants: Sequence[str]) -> list[list[int]]:
    """One dash pattern per variant, so that both of two overlapping lines are visible."""
    return [DASHES[i % len(DASHES)] for i in range(len(variants))]
