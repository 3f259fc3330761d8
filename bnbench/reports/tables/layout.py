"""A table as lines for a terminal of any width: nothing of it is ever cut, and no word or number is broken.

Tried in turn, the first that fits is taken: the table as it is; headings on two lines; intervals and counts on
a second line of their cell; words wrapped as well; long names on lines of their own above their rows. What fits
in none of these is written out: a line a cell, wider than the terminal where a single word is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from bnbench.base.terminal import encodable, one_line
from bnbench.reports.tables.table import Table

#: Colours that differ for every kind of colour vision; the word says the same without them.
STYLES = {
    "better": "bold blue",
    "worse": "bold yellow",
    "not_finite": "yellow",
    "crashed": "yellow",
    "FAILED": "bold yellow",
    "skipped": "dim",
}
_GAP = "  "
#: In place of a space at which no line is broken.
UNBROKEN = "\0"
#: A column of messages is wrapped to no less than this.
_MESSAGE = 30


@dataclass(frozen=True)
class _Grid:
    """Cells as lists of lines, the header first; names: of the first column, where they stand above their rows."""

    rows: list[list[list[str]]]
    align: str
    names: Sequence[str] | None = None


def table_lines(table: Table, width: int, encoding: str = "utf-8") -> list[Text]:
    """The header, a rule and the rows."""
    cells = [[encodable(one_line(cell), encoding) for cell in row] for row in (table.columns, *table.rows)]
    rule = "─" if encodable("─", encoding) == "─" else "-"
    for grid in _grids(cells, table.align):
        if (widths := _widths(grid, width)) is not None:
            return list(_drawn(grid, widths, rule, width))
    return list(_written_out(cells, table.align, width))


def least_width(table: Table) -> int:
    """Columns of a screen on which the table's rows stand in one line each; its headings may take two."""
    heads = [max(map(cell_len, _balanced(one_line(heading)))) for heading in table.columns]
    cells = ([cell_len(one_line(row[place])) for row in table.rows] for place in range(len(heads)))
    widths = [max([head, *own]) for head, own in zip(heads, cells, strict=True)]
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _grids(cells: list[list[str]], align: str) -> Iterator[_Grid]:
    whole = [[[cell] for cell in row] for row in cells]
    yield _Grid(whole, align)
    widest = [max(map(cell_len, column)) for column in zip(*cells[1:], strict=True)] or [0] * len(align)
    heads = [
        [cell] if cell_len(cell) <= width else _balanced(cell)
        for cell, width in zip(cells[0], widest, strict=True)
    ]
    yield _Grid([heads, *whole[1:]], align)
    broken = [
        [_in_two(cell) if side == "r" else [cell] for cell, side in zip(row, align, strict=True)]
        for row in cells
    ]
    yield _Grid(broken, align)
    yield _Grid(_wrapped_words(broken, align), align)
    if len(align) > 2 and align[0] == "l":
        names = [row[0] for row in cells]
        for rows in ([heads, *whole[1:]], broken, _wrapped_words(broken, align)):
            yield _Grid([row[1:] for row in rows], align[1:], names)


def _balanced(heading: str) -> list[str]:
    """The heading on two lines, as narrow as they can be."""
    words = _words(heading)
    halves = ((" ".join(words[:place]), " ".join(words[place:])) for place in range(1, len(words)))
    best = min(halves, key=lambda pair: max(map(cell_len, pair)), default=(heading,))
    return list(best)


def _in_two(cell: str) -> list[str]:
    """For example "0.41 ± 0.01 (4 of 5)" and "+1.2 [+0.9, +1.5]" before and after the space of the bracket."""
    return cell.replace(" (", "\n(").replace(" [", "\n[").split("\n")


def _wrapped_words(rows: list[list[list[str]]], align: str) -> list[list[list[str]]]:
    """Columns of words as narrow as their longest word; a header over numbers no wider than they are."""
    columns = []
    for side, *cells in zip(align, *rows, strict=True):
        if side == "l":
            limit = max(cell_len(word) for cell in cells for line in cell for word in _words(line))
            columns.append([wrapped(" ".join(cell), limit) for cell in cells])
        else:
            limit = max((cell_len(line) for cell in cells[1:] for line in cell), default=0)
            columns.append([wrapped(" ".join(cells[0]), limit), *cells[1:]])
    return [list(row) for row in zip(*columns, strict=True)]


def _words(line: str) -> list[str]:
    """The unbreakable pieces of a text; a seed and its number ("3: 97.5") form one piece."""
    return [word.replace(UNBROKEN, " ") for word in re.sub(r"(?<=\d:) (?=\S)", UNBROKEN, line).split(" ")]


def wrapped(text: str, limit: int) -> list[str]:
    """The text on lines of at most so many columns, broken at spaces alone: a longer word is longer."""
    lines = [""]
    for word in _words(text):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and cell_len(longer) > limit:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _widths(grid: _Grid, width: int) -> list[int] | None:
    """Of every column, None where they do not fit; the last column, if it is one of words, takes what is left."""
    widths = [max(cell_len(line) for row in grid.rows for line in row[i]) for i in range(len(grid.align))]
    indent = len(_GAP) if grid.names else 0
    if grid.names and max(map(cell_len, grid.names)) > width:
        return None
    left = width - indent - sum(widths[:-1]) - len(_GAP) * (len(widths) - 1)
    if grid.align[-1] == "l":
        words = (word for row in grid.rows for line in row[-1] for word in _words(line))
        least = max(min(_MESSAGE, widths[-1]), *(cell_len(word) for word in words))
        widths[-1] = max(least, min(widths[-1], left))
    return widths if widths[-1] <= left else None


def _drawn(grid: _Grid, widths: Sequence[int], rule: str, width: int) -> Iterator[Text]:
    header, *rows = grid.rows
    body = sum(widths) + len(_GAP) * (len(widths) - 1)
    names = grid.names or [""] * len(grid.rows)
    indent = _indent(names, width - body) if grid.names else 0
    yield from _named_lines(names[0], header, grid.align, widths, indent, "bold")
    yield Text(rule * max(body + indent, *map(cell_len, names)))
    last = ""
    for name, row in zip(names[1:], rows, strict=True):
        first = name if grid.names else " ".join(row[0])
        repeated = first == last
        cells = [[""], *row[1:]] if repeated and not grid.names else row
        yield from _named_lines("" if repeated else name, cells, grid.align, widths, indent)
        last = first


def _indent(names: Sequence[str], room: int) -> int:
    """Columns before the rows: as many as the names need that fit beside their row, two where none does."""
    beside = [cell_len(name) for name in names[1:] if cell_len(name) + len(_GAP) <= room]
    return max(beside, default=0) + len(_GAP)


def _named_lines(
    name: str, row: Sequence[list[str]], align: str, widths: Sequence[int], indent: int, style: str = ""
) -> Iterator[Text]:
    """The lines of a row, its name before the first of them, or above where it is too long."""
    lines = _row_lines(row, align, widths, " " * indent, style)
    if name and cell_len(name) + len(_GAP) <= indent:
        first = next(lines)
        yield Text(name, style=style) + Text(" " * (indent - cell_len(name))) + first[indent:]
    elif name:
        yield Text(name, style=style)
    yield from lines


def _row_lines(
    row: Sequence[list[str]], align: str, widths: Sequence[int], indent: str, style: str = ""
) -> Iterator[Text]:
    cells = [
        *row[:-1],
        wrapped(row[-1][0], widths[-1]) if align[-1] == "l" and len(row[-1]) == 1 else row[-1],
    ]
    for index in range(max(map(len, cells))):
        line = Text(indent)
        for place, (cell, side, width) in enumerate(zip(cells, align, widths, strict=True)):
            text = cell[index] if index < len(cell) else ""
            pad = " " * (width - cell_len(text))
            line.append(_GAP if place else "")
            line.append(pad if side == "r" else "")
            line.append(text, style or STYLES.get(" ".join(cell), ""))
            line.append(pad if side == "l" else "")
        line.rstrip()
        yield line


def _written_out(cells: Sequence[Sequence[str]], align: str, width: int) -> Iterator[Text]:
    """A paragraph a row: its first cell, then "column: cell"."""
    header, *rows = cells
    for row in rows:
        yield Text(f"{header[0]}: {row[0]}", style="bold")
        for column, side, cell in zip(header[1:], align[1:], row[1:], strict=True):
            text = f"{column}: {cell}"
            lines = [text] if side == "r" else wrapped(text, width - 2 * len(_GAP))
            for place, line in enumerate(lines):
                yield Text(f"{_GAP if place == 0 else 2 * _GAP}{line}", style=STYLES.get(cell, ""))
