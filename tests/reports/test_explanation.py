"""The steps of a normalizer as text of 40 columns, Markdown and LaTeX, in both languages."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from rich.cells import cell_len

from bnbench.base.words import LANGUAGES
from bnbench.norms.steps import with_steps, work_out
from bnbench.reports.explanation.blocks import number_texts
from bnbench.reports.explanation.formats import as_latex, as_markdown, as_text
from bnbench.reports.explanation.formulas import Formulas


@pytest.mark.parametrize("name", with_steps())
@pytest.mark.parametrize("language", LANGUAGES)
def test_text_fits_forty_columns(name: str, language: str) -> None:
    for width in (40, 80):
        lines = as_text(work_out(name), language, width).splitlines()
        assert max(map(cell_len, lines)) <= width, max(lines, key=cell_len)
        assert len(lines) > 40


@pytest.mark.parametrize("name", with_steps())
def test_a_terminal_without_greek_letters_gets_their_names(name: str) -> None:
    for width in (40, 80):
        text = as_text(work_out(name), "en", width, "ascii")
        assert text.isascii()
        assert "\\" not in text
        assert max(map(len, text.splitlines())) <= width
    if name == "batch":
        assert "x_hat_i = (x_i - mu_B) / sqrt (sigma_B^2 + eps)" in text
        assert "     gamma  2.0  0.5\n     beta   1.0  0.0\n" in text


def test_the_formulas_are_those_of_the_paper_in_its_letters() -> None:
    formulas = Formulas(work_out("batch"))
    assert formulas.x_hat().latex == r"\hat{x_{i}} = \frac{x_{i} - \mu_B}{\sqrt{\sigma_B^2 + \epsilon}}"
    assert formulas.y().latex == r"y_{i} = \gamma\,\hat{x_{i}} + \beta"
    assert formulas.x_hat().text == "x̂_i = (x_i − μ_B) / √(σ_B² + ε)"
    assert Formulas(work_out("rms")).y().text == "y_ij = γ_j x̂_ij"
    assert Formulas(work_out("batch_no_gamma")).y().text == "y_i = x̂_i + β"
    assert Formulas(work_out("batch_mean_only")).x_hat().text == "x̂_i = x_i − μ_B"


def test_the_text_has_the_numbers_of_every_step() -> None:
    text = as_text(work_out("batch"), width=40)
    for line in ("x_1  1  10", "μ_B  4  25", "σ_B²  5  125", "x̂_1  −1.342  −1.342", "y_1  −1.683  −0.671",
                 "dx_1  −0.0358  −0.0089", "Σ dx  0  0", "μ_R   0.400   2.500", "σ_R²   6.667  166.662",
                 "Expected more", "m = 0.1"):  # fmt: skip
        assert line in text
    assert "N/(N−1)" not in as_text(work_out("batch_keras"))
    assert "no running statistics" in as_text(work_out("layer"))


def test_markdown_has_a_table_and_a_formula_a_step() -> None:
    text = as_markdown(work_out("batch"))
    assert "$$y_{i} = \\gamma\\,\\hat{x_{i}} + \\beta$$" in text
    assert "| $\\mu_B$ | 4 | 25 |" in text
    assert all(line.count("|") in (0, 4) for line in text.splitlines())


def test_numbers_of_one_kind_have_the_same_decimals() -> None:
    assert number_texts([(1.0, 10.0)]) == [["1", "10"]]
    assert number_texts([(2.0, 0.5)]) == [["2.0", "0.5"]]
    assert number_texts([(1 / 3, 2.0)]) == [["0.333", "2.000"]]
    assert number_texts([(0.0022360, 0.1)]) == [["0.0022", "0.1000"]]
    assert number_texts([(-8e-8, 0.0)]) == [["-8.0e-08", "0"]]
    assert number_texts([(0.0, 0.0)]) == [["0", "0"]]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
@pytest.mark.parametrize(("name", "language"), [("batch", "en"), ("layer", "cs")])
def test_latex_compiles_to_a_page_a_part(name: str, language: str, tmp_path: Path) -> None:
    text = as_latex(work_out(name), language)
    assert text.isascii()
    (tmp_path / "t.tex").write_text(text)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "(4 pages" in done.stdout
    assert "Overfull" not in done.stdout
