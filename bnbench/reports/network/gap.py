"""The train/eval gap on a terminal: layers, output and metrics, by running, batch and precise statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from bnbench.reports.console import print_table, print_text
from bnbench.reports.network.names import shortened
from bnbench.reports.tables.table import Table

#: Layers that are shown without --all: the first that opens, and the largest gaps.
_SHOWN = 6
_NAME = 32
#: Batches from which there is an interval.
_FEWEST = 4
_WAYS = ("running", "batch", "precise")


def print_gap(console: Console, gap: Mapping[str, Any] | None, *, every: bool = False) -> None:
    """Print what was measured; nothing without data."""
    if gap is None or not gap["layers"]:
        return
    print_text(console, answer(gap), style="bold")
    if not gap["judged"] and not every:  # initial statistics fit nothing
        console.print()
        return
    print_table(console, layer_table(gap, every=every), headed=False)
    if gap["output"] is not None:
        print_text(console, output_sentence(gap["output"]))
    if gap["metrics"]:
        print_table(console, metric_table(gap["metrics"]), headed=False)
    print_text(console, _WORDS)
    console.print()


_WORDS = (
    "Gaps are in standard deviations, with 95 % intervals (bootstrap over batches). Floor: between two halves of the "
    "data. Precise: E[var] + Var[mean] of all batches, from one pass in which layers before use the statistics of the "
    "batch; dropout is off."
)


def answer(gap: Mapping[str, Any]) -> str:
    """One line: whether and where the gap opens."""
    data = f"{gap['samples']} samples in {gap['batches']} batches of {gap['source']}"
    opened = sum(layer["opens"] for layer in gap["layers"])
    if not gap["judged"]:
        return f"Train/eval gap ({data}): not judged, as nothing shows that the network was trained."
    if gap["batches"] < _FEWEST:
        return f"Train/eval gap ({data}): not judged, as fewer than {_FEWEST} batches have no interval."
    if not gap["first"]:
        return f"Train/eval gap ({data}): none of {len(gap['layers'])} layers is beyond the noise."
    return f"Train/eval gap ({data}): it opens at {gap['first']}, in {opened} of {len(gap['layers'])} layers."


def layer_table(gap: Mapping[str, Any], *, every: bool) -> Table:
    """One row a layer: its gap, the interval, the floor."""
    layers: Sequence[Mapping[str, Any]] = gap["layers"]
    if not every and len(layers) > _SHOWN:
        largest = sorted(layers, key=lambda layer: -layer["gap"]["value"])
        chosen = {layer["name"] for layer in largest[: _SHOWN - 1]} | {gap["first"] or layers[0]["name"]}
        layers = [layer for layer in layers if layer["name"] in chosen]
    rows = tuple(
        (
            shortened(layer["name"], _NAME),
            _measure(layer["gap"]),
            _number(layer["floor"]),
            "opens" if layer["opens"] and gap["judged"] else "",
        )
        for layer in layers
    )
    more = len(gap["layers"]) - len(layers)
    title = f"Layers in the order of execution{f' ({more} smaller ones: --all)' if more else ''}"
    return Table(title, "", ("layer", "gap", "floor", ""), rows, "llll")


def output_sentence(output: Mapping[str, Any]) -> str:
    """What the gaps of the layers make of the output."""
    return (
        f"Output: running and precise differ by {_measure(output['running_precise'])} of its standard deviation, "
        f"running and batch by {_measure(output['running_batch'])} (floor {_number(output['floor'])})."
    )


def metric_table(metrics: Sequence[Mapping[str, Any]]) -> Table:
    """One row a metric: by each way, and running minus precise."""
    rows = tuple(
        (metric["name"], *(_number(metric[way]) for way in _WAYS), _measure(metric["running_precise"]))
        for metric in metrics
    )
    return Table("Metrics by statistics", "", ("metric", *_WAYS, "running - precise"), rows, "lllll")


def _measure(value: Mapping[str, Any]) -> str:
    low, high = value["low"], value["high"]
    interval = f" [{_number(low)}, {_number(high)}]" if low == low else ""
    return f"{_number(value['value'])}{interval}"


def _number(value: float) -> str:
    return "" if value != value else f"{value:.3f}" if abs(value) < 1000 else f"{value:.3g}"
