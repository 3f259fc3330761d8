"""What a run's probes measured inside its network: one row a number. Written with the run, read where asked for.

    probes.csv    step, layer, quantity, unit, value

step: updates made before. layer: its dotted name. quantity: what was measured (docs/probes.md). unit: which unit of the
layer, which bin of a histogram or which other part the number is about; empty for the whole layer. value: to six
digits; "nan", "inf" and "-inf" where it is not finite.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bnbench.base.errors import UnknownNameError
from bnbench.base.files import csv_text, read_text
from bnbench.study.records import DEPTH, HIDDEN, ProbeRow, RunRecord

PROBES = "probes.csv"


def probes_text(rows: Sequence[ProbeRow]) -> str:
    """The file's content."""
    return csv_text(ProbeRow._fields, ((*row[:4], f"{row.value:.6g}") for row in rows))


def read_probes(path: Path, run: RunRecord) -> tuple[ProbeRow, ...] | None:
    """The rows of a run; None where there is no such file. Raises ValueError where they can't be the run's."""
    if not path.is_file():
        return None
    lines = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        header = next(lines, [])
        if header != list(ProbeRow._fields):
            raise ValueError(
                f"its columns are {', '.join(header) or 'missing'}, not {', '.join(ProbeRow._fields)}"
            )
        return tuple(_row(line, number, run) for number, line in enumerate(lines, start=2))
    except csv.Error as error:
        raise ValueError(f"line {lines.line_num}: {error}") from None


def _row(line: Sequence[str], number: int, run: RunRecord) -> ProbeRow:
    try:
        step, layer, quantity, unit, value = line
        row = ProbeRow(int(step), layer, quantity, unit, float(value))
    except ValueError:
        raise ValueError(f"line {number} is no step, layer, quantity, unit and value") from None
    if not (0 <= row.step <= run.steps and layer and quantity):
        raise ValueError(f"line {number} is of step {step}, and the run has steps 0 to {run.steps}")
    return row


@dataclass(frozen=True)
class Layers:
    """The layers of a run's rows. depths: by name, from 1, in order. head: the one that none comes behind, or ""."""

    depths: Mapping[str, int]
    head: str

    @property
    def hidden(self) -> tuple[str, ...]:
        """All but the head."""
        return tuple(name for name in self.depths if name != self.head)

    def named(self, word: int | str) -> tuple[str, ...]:
        """The layers that a number, a name, "last", "head", "mean" or "all" stands for.

        "last" is the last one before the head; "mean" and "all" are all of them before it. Raises UnknownNameError.
        """
        if word in ("mean", "all") and self.hidden:
            return self.hidden
        if word == "last" and self.hidden:
            return self.hidden[-1:]
        if word == "head" and self.head:
            return (self.head,)
        found = tuple(name for name, depth in self.depths.items() if str(word) in (name, str(depth)))
        if not found:
            raise UnknownNameError("layer", str(word), {*self.depths, "last", "head", "mean"})
        return found


class Probed:
    """The rows of a run, by what they are about."""

    def __init__(self, rows: Sequence[ProbeRow]) -> None:
        self.rows = rows

    @cached_property
    def _values(self) -> dict[tuple[str, str, int, str], float]:
        return {(row.quantity, row.layer, row.step, row.unit): row.value for row in self.rows}

    @cached_property
    def layers(self) -> Layers:
        """In order of depth."""
        depths = {row.layer: round(row.value) for row in self.rows if row.quantity == DEPTH}
        head = next((row.layer for row in self.rows if row.quantity == HIDDEN and not row.value), "")
        return Layers(dict(sorted(depths.items(), key=lambda item: item[1])), head)

    def steps(self, quantity: str) -> tuple[int, ...]:
        """At which steps it was measured, in order; empty where it never was."""
        return tuple(sorted({row.step for row in self.rows if row.quantity == quantity}))

    def value(self, quantity: str, layer: int | str, step: int | str, unit: str = "") -> float:
        """One number: of a layer, or the mean over the layers before the head; at a step, or the "last" one.

        NaN where the quantity was not measured there. Raises UnknownNameError for a quantity or layer that the
        run does not have.
        """
        steps = self.steps(quantity)
        if not steps:
            raise UnknownNameError("quantity", quantity, {row.quantity for row in self.rows})
        at = steps[-1] if step == "last" else int(step)
        whole = self._values.get((quantity, str(layer), at, unit))
        if whole is not None:  # of a layer by its name, or of the network as a whole
            return whole
        values = [self._values.get((quantity, name, at, unit), math.nan) for name in self.layers.named(layer)]
        return sum(values) / len(values)

    def units(self, quantity: str, layer: str, step: int) -> dict[str, float]:
        """Every number of a quantity that has many in a layer: the counts of a histogram, the values of units."""
        return {
            row.unit: row.value
            for row in self.rows
            if (row.quantity, row.layer, row.step) == (quantity, layer, step)
        }
