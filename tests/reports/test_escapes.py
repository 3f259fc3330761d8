"""Names of others in Markdown, LaTeX, CSV and JSON: shown as they are, never read as markup or as a formula."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnbench.base.files import to_csv, to_json
from bnbench.reports.formats.escapes import csv_cell, latex_text, markdown_text
from bnbench.reports.formats.latex import latex_table
from bnbench.reports.formats.markdown import markdown_table
from bnbench.reports.tables.table import Table

NASTY = [
    r"a_b%c#d&e~f^g\h{i}j$k", "x--y---z", "<b>|`q`\"'", "[0.1, 0.2]", "* star", "größe é ñ ç ő š ø ł ß æ",
    "αβσω µ √n ±", "雪 🙂", "-0.5 <= 3 >= 2 → ×", "a\nb\tc\x1b[31m", "''x'' ,,y,,", "\\\\", "-", "",
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("0.41 ± 0.01", r"0.41 $\pm$ 0.01"),
        ("√n times", r"$\surd$n times"),
        ("-0.5 [-1, 2]", "$-$0.5 [$-$1, 2]"),
        ("val_loss <= 0.1", r"val\_loss $\leq$ 0.1"),
        ("größe", r"gr\"{o}\ss{}e"),
        ("Moré", r"Mor\'{e}"),
        ("σ", r"$\sigma$"),
        ("雪", r"\texttt{U+96EA}"),
        ("a--b", "a-{}-b"),
        ("a|b", "a$|$b"),
        ("batch-norm-2", "batch-norm-2"),
        ("x\x1b", r"x\textbackslash{}x1b"),
    ],
)
def test_latex(text: str, right: str) -> None:
    assert latex_text(text) == right


@given(st.text())
def test_latex_is_ascii_and_its_braces_and_dollars_are_paired(text: str) -> None:
    out = latex_text(text)
    assert out.isascii()
    assert out.isprintable()
    for command in (r"\textbackslash", r"\$", r"\{", r"\}", r"\&", r"\%", r"\#", r"\_"):
        out = out.replace(command, "")
    assert out.count("$") % 2 == 0
    assert out.count("{") == out.count("}")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_latex_compiles(tmp_path: Path) -> None:
    rows = tuple((name, name) for name in NASTY)
    body = latex_table(Table("A_title & more", "√n ± 5%", ("*variant", "[x]"), rows, "lr"))
    rules = "\\let\\toprule\\hline\\let\\midrule\\hline\\let\\bottomrule\\hline"
    package = f"\\IfFileExists{{booktabs.sty}}{{\\usepackage{{booktabs}}}}{{{rules}}}"
    document = f"\\documentclass{{article}}\n{package}\n\\begin{{document}}\n{body}\n\\end{{document}}\n"
    (tmp_path / "t.tex").write_text(document, encoding="ascii")
    result = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"], cwd=tmp_path, capture_output=True
    )
    assert result.returncode == 0, result.stdout[-2000:]


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("a|b", r"a\|b"),
        ("<img src=x>", r"\<img src=x\>"),
        ("&lt;", r"\&lt;"),
        ("~~gone~~ $x$ :smile: @user #12", r"\~\~gone\~\~ \$x\$ \:smile: \@user \#12"),
        ("a\nb", r"a\\nb"),
        ("1. x", r"1\. x"),
        ("# x", r"\# x"),
        ("- x", r"\- x"),
        ("-0.5 [1, 2]", r"-0.5 \[1, 2\]"),
        ("batch @ optimizer.lr=0.1", "batch @ optimizer.lr=0.1"),
        ("none: 0.5, 1: 2", "none: 0.5, 1: 2"),
    ],
)
def test_markdown(text: str, right: str) -> None:
    assert markdown_text(text) == right


@given(st.lists(st.text(), min_size=2, max_size=2))
def test_a_markdown_table_has_as_many_cells_as_columns_whatever_the_names(names: list[str]) -> None:
    lines = markdown_table(Table("t", "c", ("a", "b"), (tuple(names),), "ll")).split("\n")
    row = lines[4]
    assert len(lines) == 7
    assert row.replace("\\\\", "").replace("\\|", "").count("|") == 3


@pytest.mark.parametrize("text", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\n=1", "＝1", "-", "+"])
def test_a_csv_cell_is_no_formula(text: str) -> None:
    assert csv_cell(text) == f"'{text}"
    rows = list(
        csv.reader(io.StringIO(to_csv([{"variant": text, "value": -0.5}], cell=csv_cell), newline=""))
    )
    assert rows[1] == [f"'{text}", "-0.5"]


@pytest.mark.parametrize("value", [-0.5, 3, None, "-0.5", "+1e-3", "batch", "a=b", "-inf"])
def test_a_csv_cell_that_is_a_number_or_a_plain_name_stays(value: object) -> None:
    assert csv_cell(value) == value


@given(st.text())
def test_json_comes_back_whatever_the_stream(text: str) -> None:
    out = to_json({text: [text]}, ascii=True)
    assert out.isascii()
    assert json.loads(out) == {text: [text]}


def test_a_csv_cell_holds_no_control_character() -> None:
    assert csv_cell("\r=1\x1b") == "\\r=1\\x1b"


def test_json_is_strict() -> None:
    assert json.loads(to_json({"a": [math.nan, (math.inf, 1.5)]}), parse_constant=pytest.fail) == {
        "a": [None, [None, 1.5]]
    }
