"""What the commands print: the short answer, the tables of --tables, and documents in every format."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bnbench.cli.app import app
from bnbench.reports.formats import FORMATS, Document
from bnbench.reports.sections import section_names

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The quickstart's folder, and what the command that trained it printed at 80 columns."""
    folder = tmp_path_factory.mktemp("quickstart")
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["compare", "--output", str(folder / "results")])
    assert result.exit_code == 0, result.output
    return folder, result


@pytest.fixture
def run(trained: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(trained[0])
    return lambda *words, width="80": CliRunner(env={"COLUMNS": width}).invoke(app, words)


def test_the_quickstart_answers_in_25_lines(trained: tuple[Path, Result]) -> None:
    text = trained[1].stdout
    assert len(text.splitlines()) <= 25
    words = " ".join(text.split())
    assert words.startswith(
        "quickstart: Batch norm on 8x8 digits, hand-written and built-in, against none (3 variants"
    )
    assert re.search(
        r"batch is better than none in test accuracy: 9\d\.\d% → 99\.\d%, \+\d\.\d points \(95% interval [\d.]+ to "
        r"[\d.]+, p [\d.]+, 5 seeds; for new test samples as well: [\d.]+ to [\d.]+\)\. It reaches 93% val accuracy "
        r"\d\.\d times sooner \(95% interval [\d.]+ to [\d.]+, in steps\)\.",
        words,
    )
    assert "batch_custom gives the same results as batch on every seed." in words
    assert "report.html" in words
    assert "--tables all" in words


def test_a_log_has_a_line_a_run(trained: tuple[Path, Result]) -> None:
    lines = trained[1].stderr.splitlines()
    assert len([line for line in lines if "seed" in line]) == 15
    assert not any("epoch" in line for line in lines)


def test_epochs_with_verbose_and_nothing_with_quiet(run: Run) -> None:
    words = ("compare", "quickstart", "epochs=2", "seeds=1", "-o", "two")
    assert run(*words, "--verbose").stderr.count("epoch 2/2") == 3
    quiet = run(*words, "--force", "--quiet")
    assert (quiet.stdout, quiet.stderr) == ("", "")


def test_report_repeats_the_answer(run: Run, trained: tuple[Path, Result]) -> None:
    again = run("report", str(trained[0] / "results")).stdout
    assert again == trained[1].stdout


def test_all_tables_are_there(run: Run) -> None:
    text = run("report", "results", "--tables", "all").stdout
    for title in (
        "Main results", "Loss", "Accuracy (%)", "Every seed: final test accuracy (%)", "Where the scatter comes from",
        "Difference from none", "Robustness checks: difference from none", "Agreement: test accuracy",
        "Time to target: val_accuracy >= 93%", "Speed-up to target: val_accuracy >= 93%",
        "Area under the curve: val accuracy (%)", "Cost and outcomes", "Learning curves", "Layers", "Notes", "Speed",
        "Verdicts",
    ):  # fmt: skip
        assert f"\n{title}" in f"\n{text}", title
    assert text.index("Layers") < text.index("Verdicts")  # the answer stands last


def test_tables_by_name(run: Run) -> None:
    text = run("report", "results", "--tables", "cost, seeds,verdicts").stdout
    assert [line for line in text.splitlines() if line and line[0].isupper()][:2] == [
        "Cost and outcomes", "Every seed: final test accuracy (%)",
    ] or text.startswith("Cost and outcomes")  # fmt: skip
    assert "Verdicts" in text
    assert "Loss\n" not in text


def test_a_table_without_rows_is_named(run: Run) -> None:
    result = run("report", "results", "--tables", "classes,cost")
    assert result.exit_code == 0
    assert result.stderr == "quickstart has nothing to show in: classes.\n"
    assert result.stdout.startswith("Cost and outcomes")


@pytest.mark.parametrize("names", ["targit", "", "main,targit", "Targit"])
def test_a_wrong_name_gets_the_nearest_one_and_the_list(run: Run, names: str) -> None:
    result = run("report", "results", "--tables", names, width="200")
    assert result.exit_code == 2
    told = re.sub(r"[│\s]+", " ", result.stderr)
    assert f'unknown table "{names.lower().rpartition(",")[2]}".' in told
    assert 'Did you mean "target"?' in told or not names
    assert all(name in told for name in section_names())


def test_the_help_lists_tables_and_formats(run: Run) -> None:
    for command in ("compare", "train", "report"):
        told = re.sub(r"[│\s]+", " ", run(command, "--help", width="200").stdout)
        assert all(name in told for name in section_names())
        assert all(name in told for name in FORMATS)


def test_a_format_is_one_function(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registered, it works on the command line; a wrong name is told of it."""

    def names(document: Document) -> str:
        return "".join(f"{v.label}\n" for summary in document.studies.values() for v in summary.variants)

    monkeypatch.setitem(FORMATS, "names", names)
    assert run("report", "results", "--format", "names").stdout == "none\nbatch_custom\nbatch\n"
    wrong = run("report", "results", "--format", "nams", width="200")
    assert wrong.exit_code == 2
    assert 'Did you mean "names"?' in wrong.stderr


def test_a_format_in_a_file_is_in_the_help(tmp_path: Path) -> None:
    script = (
        "from bnbench.reports.formats import output_format\n"
        "@output_format('names')\n"
        "def write(document):\n    return ' '.join(document.studies)\n"
        "from bnbench.cli.app import main\nmain()\n"
    )
    (tmp_path / "mine.py").write_text(script)
    command = [sys.executable, "mine.py", "report", "--help"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={"COLUMNS": "200", **_path()}
    )
    assert "[table|csv|json|latex|markdown|names]" in done.stdout, done.stderr


def _path() -> dict[str, str]:
    import os

    return {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ}


def test_documents_have_the_sentences_too(run: Run) -> None:
    values = json.loads(run("report", "results", "--format", "json").stdout)
    assert values["sentences"]["headline"][0].startswith("batch is better than none in test accuracy: ")
    assert values["notes"]
    markdown = run("report", "results", "--format", "markdown").stdout
    for title in ("Verdicts", "Speed", "Notes", "Main results", "Layers"):
        assert f"\n## {title}\n" in markdown


def test_tables_narrow_a_document(run: Run) -> None:
    values = json.loads(run("report", "results", "--format", "json", "--tables", "main").stdout)
    assert [section["title"] for section in values["sections"]] == ["Main results"]
    rows = list(
        csv.DictReader(io.StringIO(run("report", "results", "--format", "csv", "--tables", "main").stdout))
    )
    assert [row["variant"] for row in rows] == ["none", "batch_custom", "batch"]
    markdown = run("report", "results", "--format", "markdown", "--tables", "main").stdout
    assert markdown.count("## ") == 1


def test_the_main_table_for_a_paper(run: Run, tmp_path: Path) -> None:
    text = run("report", "results", "--format", "latex", "--tables", "main").stdout
    assert text.isascii()
    assert text.count(r"\begin{table}") == 1
    assert r"\label{tab:main-results}" in text
    assert r"\toprule" in text
    assert "5 seeds" in text
    assert "paired t test" in text
    assert re.search(r"batch & 9\d\.\d+ \$\\pm\$ 0\.\d+ & \+1\.2\* \[", text)
    compiles(text, tmp_path)


def test_the_whole_document_compiles(run: Run, tmp_path: Path) -> None:
    text = run("report", "results", "--format", "latex").stdout
    # so many tables in a row fill TeX's memory for floats
    compiles(text.replace(r"\end{table}", "\\end{table}\n\\clearpage"), tmp_path)


def compiles(text: str, folder: Path) -> None:
    if not shutil.which("pdflatex"):
        pytest.skip("no pdflatex on this machine")
    rules = r"\let\toprule\hline\let\midrule\hline\let\bottomrule\hline"
    package = rf"\IfFileExists{{booktabs.sty}}{{\usepackage{{booktabs}}}}{{{rules}}}"
    document = f"\\documentclass{{article}}\n{package}\n\\begin{{document}}\n{text}\n\\end{{document}}\n"
    (folder / "t.tex").write_text(document, encoding="ascii")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True)
    assert done.returncode == 0, done.stdout[-2000:]
