"""Additions of `seeds: auto` to the verdicts: the stopping point of each variant and its bias on the numbers."""

from __future__ import annotations

from bnbench.analysis.contents import Summary
from bnbench.analysis.difference import Difference
from bnbench.reports.numbers import words


def stop_words(summary: Summary, comparison: Difference) -> str:
    """For example " Stopped at 8 of up to 20 seeds; …" after a sentence; nothing where the number of seeds is fixed."""
    stop = next((stop for stop in summary.stops if stop.label == comparison.label), None)
    if stop is None or comparison.verdict == "too_few_seeds":
        return ""
    seeds = f"{stop.seeds} of up to {stop.most} seeds"
    match stop.stopped:
        case "decided" if stop.seeds == stop.most:
            return f" Decided with all {stop.most} seeds."
        case "decided" if comparison.verdict == "same":
            return f" Stopped at {seeds}."
        case "decided":
            return f" Stopped at {seeds}; the difference shown tends to be too large."
        case "unlikely":
            return f" Stopped at {seeds}: more seeds up to {stop.most} would hardly decide it."
        case "lost":
            return f" Stopped at {seeds}: more seeds don't bring back the lost pairs."
        case "last":
            return f" All {stop.most} seeds are used."
    return f" So far {seeds} are in the verdict; the next look is not complete."


def before_the_first_look(summary: Summary, comparison: Difference) -> str:
    """The sentence where the first look is not complete."""
    pairs = "1 pair is" if comparison.n == 1 else f"{comparison.n} pairs are"
    return (
        f"{comparison.label} against {comparison.baseline_label}: no verdict on {words(comparison.metric)} before the "
        f"first look at {summary.looks[0]} seeds, of which {pairs} there."
    )


def sweep_stop_words(summary: Summary) -> str:
    """For example "The comparisons stopped at 5 to 20 of up to 20 seeds; …" of a sweep."""
    stops = [stop for stop in summary.stops if stop.variant != summary.baseline]
    few, many = min(stop.seeds for stop in stops), max(stop.seeds for stop in stops)
    seeds = str(few) if few == many else f"{few} to {many}"
    waiting = sum(not stop.stopped for stop in stops)
    early = any(stop.stopped == "decided" and stop.seeds < stop.most for stop in stops)
    text = f"The {len(stops)} comparisons at the same setting stand at {seeds} of up to {stops[0].most} seeds"
    text += "; where one was decided early, the difference shown tends to be too large" if early else ""
    return f"{text}; {waiting} wait for a look that is not complete." if waiting else f"{text}."
