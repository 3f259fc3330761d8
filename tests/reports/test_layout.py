"""Tables on terminals of any width: every name and every number is there, whole."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from bnbench.base.terminal import one_line
from bnbench.base.terminal_console import SafeConsole
from bnbench.reports.console import print_table
from bnbench.reports.tables.layout import table_lines, wrapped
from bnbench.reports.tables.table import Table

WIDTHS = st.integers(20, 200)
NAMES = st.text(
    st.characters(categories=["L", "N", "P", "S", "Cc"], max_codepoint=0x9FFF) | st.just(" "),
    min_size=1,
    max_size=60,
).map(lambda name: name.strip() or "x")
NUMBERS = st.sampled_from(
    ["10 of 12", "0.381 ± 0.020 (4 of 5)", "+1.83 pp [+1.10, +2.56]", "not by step 300 (120 to >300)", "–", "1e+10"]
)  # fmt: skip
COLUMNS = ("variant", "metric", "difference [95% CI]", "pairs", "p (Holm)", "why it is so")


@st.composite
def tables(draw: st.DrawFn) -> Table:
    align = "l" + draw(st.text("lr", min_size=1, max_size=5))
    row = st.tuples(*(NAMES if side == "l" else NUMBERS for side in align))
    rows = draw(st.lists(row, min_size=1, max_size=12))
    return Table("A title", "A caption.", COLUMNS[: len(align)], tuple(rows), align)


def shown(table: Table, width: int) -> list[str]:
    console = SafeConsole(file=io.StringIO(), width=width)
    print_table(console, table)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def parts(cell: str, side: str) -> list[str]:
    """What may stand on lines of its own: a number and its brackets, or words."""
    return (
        re.split(r" (?=[(\[])", cell) if side == "r" else [word for word in one_line(cell).split(" ") if word]
    )


@given(tables(), WIDTHS)
@settings(max_examples=300, deadline=None)
def test_every_part_of_every_cell_is_whole_on_a_line(table: Table, width: int) -> None:
    lines = shown(table, width)
    for row in table.rows:
        for cell, side in zip(row, table.align, strict=True):
            for part in parts(cell, side):
                assert any(part in line for line in lines), (cell, part)


@given(tables(), WIDTHS)
@settings(max_examples=300, deadline=None)
def test_a_line_is_wider_than_the_terminal_only_for_one_cell(table: Table, width: int) -> None:
    """Only in the layout of last resort, which is recognised by its "variant: ..."."""
    lines = [str(line) for line in table_lines(table, width)]
    if any(cell_len(line) > width for line in lines):
        assert lines[0].startswith("variant:")


def test_the_layouts_in_their_order() -> None:
    table = Table("", "", ("variant", "reached"), (("batch_custom", "8 [7, 9]"), ("none", "12 [1, 2]")), "lr")
    assert [str(line) for line in table_lines(table, 40)] == [
        "variant         reached",
        "───────────────────────",
        "batch_custom   8 [7, 9]",
        "none          12 [1, 2]",
    ]
    assert [str(line) for line in table_lines(table, 21)] == [
        "variant       reached",
        "─────────────────────",
        "batch_custom        8",
        "               [7, 9]",
        "none               12",
        "               [1, 2]",
    ]
    assert [str(line) for line in table_lines(table, 12)] == [
        "variant: batch_custom",
        "  reached: 8 [7, 9]",
        "variant: none",
        "  reached: 12 [1, 2]",
    ]


def test_long_names_stand_above_their_numbers() -> None:
    name = "a_name_of_a_variant_that_has_as_many_as_sixty_letters_in_it_"
    table = Table("", "", ("variant", "at", "loss"), ((name, "final", "0.5"), (name, "best", "0.4")), "llr")
    assert [str(line) for line in table_lines(table, 62)] == [
        "variant",
        "  at     loss",
        "─" * 60,
        name,
        "  final   0.5",
        "  best    0.4",
    ]


def test_a_seed_stays_with_its_number_and_a_message_wraps_at_spaces() -> None:
    assert wrapped("0: 91.43, 1: 91.91, 2: 90.5", 18) == ["0: 91.43,", "1: 91.91, 2: 90.5"]
    assert wrapped("ValueError: /a/path/longer/than/that is bad", 12) == [
        "ValueError:",
        "/a/path/longer/than/that",
        "is bad",
    ]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_columns_stand_in_line_whatever_the_terminal_can_show(encoding: str) -> None:
    table = Table("", "", ("variant", "loss"), (("größe", "0.41 ± 0.01"), ("雪", "–")), "lr")
    lines = [str(line) for line in table_lines(table, 80, encoding)]
    assert len({cell_len(line) for line in lines}) == 1
    assert "".join(lines).encode(encoding)
    assert ("0.41 +/- 0.01" if encoding == "ascii" else "0.41 ± 0.01") in lines[2]


def test_names_that_differ_only_in_a_control_character_differ_on_the_screen() -> None:
    table = Table("", "", ("variant", "n"), (("a\x1b", "1"), ("a\r", "2"), ("a\nb", "3")), "lr")
    assert [str(line).split()[0] for line in table_lines(table, 80)[2:]] == ["a\\x1b", "a\\r", "a\\nb"]
