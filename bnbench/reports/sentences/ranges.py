"""The range of a swept value in which a variant trains, in words."""

from __future__ import annotations

from collections.abc import Iterator

from bnbench.analysis.contents import Summary
from bnbench.analysis.ranges import Shift, UsableRange, baseline_ranges
from bnbench.reports.numbers import NOTHING, p_text

_SHIFT_WORDS = {"further": "further out", "less far": "less far out"}


def range_sentences(summary: Summary) -> Iterator[str]:
    """One sentence per variant: the ranges in which it and the baseline train, and the distance of their edges."""
    for key in dict.fromkeys(usable.key for usable in summary.usable_ranges):
        ranges = [usable for usable in summary.usable_ranges if usable.key == key]
        if all(map(trains_everywhere, ranges)):
            yield _everywhere(key, ranges[0])
            continue
        for usable, baseline in zip(ranges, baseline_ranges(ranges, summary.baseline), strict=True):
            if baseline and baseline is not usable:
                yield _range(usable, baseline)


def usable_sentences(summary: Summary) -> Iterator[str]:
    """One sentence per swept key, with the range of every variant.

    >>> next(usable_sentences(summary))
    "Usable optimizer.lr, where every seed trains: none 0.01 to 0.1; batch 0.01 to 1 (the sweep's highest)."
    """
    for key in dict.fromkeys(usable.key for usable in summary.usable_ranges):
        ranges = [usable for usable in summary.usable_ranges if usable.key == key]
        if all(map(trains_everywhere, ranges)):
            yield _everywhere(key, ranges[0])
        else:
            yield f"Usable {key}, where every seed trains: {'; '.join(map(_short, ranges))}."


def trains_everywhere(usable: UsableRange) -> bool:
    """Whether every seed trains with every value of the sweep."""
    return usable.n > 0 and usable.cut_below == usable.cut_above == usable.n and usable.first is not None and all(
        seed.first == usable.first and seed.last == usable.last for seed in usable.seeds
    )  # fmt: skip


def _everywhere(key: str, usable: UsableRange) -> str:
    return (
        f"Every variant trains with every {key} from {usable.first:g} to {usable.last:g}: the edges of the usable "
        "range lie outside the sweep."
    )


def _short(usable: UsableRange) -> str:
    """For example "batch 0.001 to 1 (the sweep's highest)": where the sweep ends, the range may go on."""
    if not usable.n:
        return f"{usable.label} not known (runs are missing)"
    if usable.first is None or usable.last is None:
        return f"{usable.label} with no value"
    low = " (the sweep's lowest)" if usable.fails_below is None else ""
    high = " (the sweep's highest)" if usable.fails_above is None else ""
    if usable.first == usable.last:
        return f"{usable.label} {usable.first:g}{low}{high}"
    return f"{usable.label} {usable.first:g}{low} to {usable.last:g}{high}"


def _range(own: UsableRange, base: UsableRange) -> str:
    """Where both train, then each edge by itself."""
    head = f"{_span(own)}; {_span(base)}"
    edges = [
        f"the {name} edge of {own.label} {_edge(shift)}"
        for name, shift in (("lower", own.lower), ("upper", own.upper))
        if shift is not None
    ]
    return f"{head}: {'; '.join(edges)}." if edges else f"{head}."


def _span(usable: UsableRange) -> str:
    seeds = f"{usable.n} seed{'s' * (usable.n != 1)}"
    if not usable.n:
        return f"{usable.label}: no seed has a run at every {usable.key}"
    if usable.first is None or usable.last is None:
        return f"{usable.label} trains with no {usable.key} on all of {seeds}"
    return (
        f"{usable.label} trains on all of {seeds} with {usable.key} from "
        f"{edge_text(usable.first, usable.fails_below)} to {edge_text(usable.last, usable.fails_above)}"
    )


def _edge(shift: Shift) -> str:
    if shift.verdict == "cut":
        return "can't be compared, as the sweep cuts it with some seed of both"
    if shift.verdict == "too_few_seeds":
        return f"has no verdict ({shift.n} seed{'s' * (shift.n != 1)} with a range on both sides)"
    numbers = f"{shift_text(shift)} decades, {shift.n} paired seeds, Holm p {p_text(shift.p_holm)}"
    if shift.verdict == "undecided":
        return f"is undecided ({numbers})"
    return f"lies {_SHIFT_WORDS[shift.verdict]} ({numbers})"


def edge_text(trains: float | None, fails: float | None) -> str:
    """For example "0.1 (0.3 fails)", "0.1 (cut)"."""
    if trains is None:
        return NOTHING
    return f"{trains:g} ({'cut' if fails is None else f'{fails:g} fails'})"


def shift_text(shift: Shift) -> str:
    """For example "+1.0 to +2.0 [+0.6, +2.4]", ">= +1.0 [>= +0.6]" and "<= ..." where the sweep cuts one of the two."""
    low, high = shift.low, shift.high
    if low is None and high is None:
        return "cut"
    if high is None and low is not None:
        return f">= {low:+.2f}{'' if shift.ci_low is None else f' [>= {shift.ci_low:+.2f}]'}"
    if low is None:
        return f"<= {high:+.2f}{'' if shift.ci_high is None else f' [<= {shift.ci_high:+.2f}]'}"
    interval = (
        ""
        if shift.ci_low is None or shift.ci_high is None
        else f" [{shift.ci_low:+.2f}, {shift.ci_high:+.2f}]"
    )
    return f"{low:+.2f} to {high:+.2f}{interval}"
