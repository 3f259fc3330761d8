"""The door to the terminal: what others wrote is shown and never obeyed; a stream that fails stops nothing."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnbench.base.terminal import encodable, indented, one_line, visible
from bnbench.base.terminal_console import SafeConsole

#: Sets the title, clears the screen (both as ESC [ and as the one character of C1), rings, turns the text around.
HOSTILE = "a\x1b]0;title\x07b\x1b[2Jc\x9b2Jd\re\u202ef\u2066g\x08h\x7fi"
OBEYED = "\x1b\x07\x9b\r\u202e\u2066\x08\x7f\u2028\x85"


def bnbench(
    folder: Path, *words: str, shell: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does. shell: what stands behind it, e.g. "| head -1"."""
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -m bnbench "$@" {shell}', "bnbench", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": root, **environment},
        capture_output=True,
        text=True,
        errors="surrogateescape",
    )


def test_controls_are_written_out_and_text_stays() -> None:
    assert visible("\x1b[31m") == "\\x1b[31m"
    assert visible("a\rb\x9b\u202e") == "a\\rb\\x9b\\u202e"
    assert visible("file \udcff") == "file \\xff"
    assert visible("größe 雪 ± \t\n") == "größe 雪 ± \t\n"
    assert one_line("a\nb\tc") == "a\\nb\\tc"
    assert indented("a\nError: b") == "a\n    Error: b"


@given(st.text())
def test_no_control_character_gets_through(text: str) -> None:
    assert not set(visible(text)) & set(OBEYED)
    assert visible(visible(text)) == visible(text)


def test_a_terminal_without_a_sign_gets_another_for_it_and_letters_stay_apart() -> None:
    assert encodable("0.41 ± 0.01, –, √n", "ascii") == "0.41 +/- 0.01, -, sqrt n"
    assert encodable("größe", "ascii") == "gr\\xf6\\xdfe"
    assert encodable("0.41 ± –", "latin-1") == "0.41 ± -"
    assert encodable("größe", "utf-8") == "größe"


def test_a_console_takes_text_as_it_is() -> None:
    console = SafeConsole(file=io.StringIO(), width=200, force_terminal=True)
    console.print("[red]x[/red] [/] :smile: " + HOSTILE)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[red]x[/red] [/] :smile: a\\x1b]0;title\\x07b" in text
    assert not set(text) & set(OBEYED)


# End to end


STUDY = """
dataset: digits
model: {name: mlp, hidden: [16]}
optimizer: {name: adam, lr: 1e-2}
batch_size: 64
epochs: 2
seeds: 2
variants: {none: {norm: none}, batch: {norm: batch}}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        (HOSTILE,),
        ("check", HOSTILE),
        ("train", "quickstart", f"{HOSTILE}=1"),
        ("report", HOSTILE),
        ("verify", f"{HOSTILE}.py:X"),
        ("list", "--plugin", HOSTILE),
        ("list", "--plugin", "bad.py"),
        ("list", "--plugin", "good.py"),
        ("check", "study.yaml"),
        ("check", f"{HOSTILE}/study.yaml"),
    ],
)  # fmt: skip
def test_no_command_obeys_what_it_reads(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "layer.py").write_text("x = 1\n")
    (tmp_path / "bad.py").write_text(f"raise ValueError({HOSTILE!r} + '\\nError: forged')\n")
    (tmp_path / "good.py").write_text(
        "from bnbench.norms import norms\n"
        f"@norms.register({HOSTILE!r})\n"
        f"def f(num_features, dim): {HOSTILE!r}\n"
        f"print({HOSTILE!r})\n"
    )
    (tmp_path / "study.yaml").write_text(f'{STUDY}"\\e]0;title\\a\\x9b\\u202e\\rkey\\nError: forged": 1\n')
    (tmp_path / HOSTILE).mkdir()
    (tmp_path / HOSTILE / "study.yaml").write_text("epochs: x\nmodel: y\n")
    result = bnbench(tmp_path, *words)
    said = result.stdout + result.stderr
    assert not set(said) & set(OBEYED)
    assert "Traceback" not in said
    assert "\\x1b]0;title" in said or "\\x9b" in said, said
    assert not any(line.startswith("Error: forged") for line in said.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("words", [("list",), ("--help",), ("compare", "--help"), ("check", "study.yaml")])
def test_a_reader_that_goes_away_is_no_error(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    result = bnbench(tmp_path, *words, shell="| head -1 > /dev/null; exit ${PIPESTATUS[0]}")
    assert result.returncode == 0
    assert not re.search("Traceback|Error|Broken pipe", result.stderr)


def test_a_full_stdout_is_said_once_and_is_no_success(tmp_path: Path) -> None:
    result = bnbench(tmp_path, "list", shell="> /dev/full")
    assert result.returncode == 1
    assert result.stderr == (
        "Error: standard output: No space left on device. What it shows is not complete.\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["> /dev/full", "> /dev/full 2>&1", ">&- 2>&-", "| head -1 > /dev/null"])
def test_what_is_trained_is_kept_whatever_becomes_of_the_streams(tmp_path: Path, shell: str) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    failing = ("--fail-if", "batch.test_accuracy < 1")
    result = bnbench(tmp_path, "compare", "study.yaml", *failing, shell=f"{shell}; exit ${{PIPESTATUS[0]}}")
    assert result.returncode == 4, result.stderr
    assert "Traceback" not in result.stderr
    kept = {path.name for path in (tmp_path / "results/study").iterdir()}
    assert {"summary.json", "summary.csv", "report.html", "runs"} <= kept


def test_a_misread_command_line_ends_with_2_whatever_becomes_of_stderr(tmp_path: Path) -> None:
    assert bnbench(tmp_path, "compare", "--nothing", shell="2> /dev/full").returncode == 2
    assert bnbench(tmp_path, "compare", "--nothing", shell="2>&-").returncode == 2


@pytest.mark.slow
def test_no_format_obeys_a_hostile_folder(tmp_path: Path) -> None:
    """Notes, cautions, layers and the environment as someone may have sent them."""
    (tmp_path / "study.yaml").write_text(STUDY)
    assert bnbench(tmp_path, "compare", "study.yaml", "--quiet").returncode == 0
    folder = tmp_path / "results/study"
    for path in folder.glob("runs/*/*/run.json"):
        run = json.loads(path.read_text())
        path.write_text(json.dumps({**run, "notes": [HOSTILE], "cautions": [HOSTILE], "layers": [HOSTILE]}))
    (folder / "environment.json").write_text(json.dumps({"platform": HOSTILE, HOSTILE: 1}))
    for form in ("table", "json", "markdown", "latex"):
        result = bnbench(tmp_path, "report", str(folder), "--format", form, "--tables", "all")
        assert result.returncode == 0, result.stderr
        assert not set(result.stdout + result.stderr) & set(OBEYED)
    page = (
        (folder / "report.html").read_text(encoding="utf-8").partition('<script type="application/json"')[0]
    )
    assert "\\x1b]0;title\\x07b" in page
    assert not set(page) & set(OBEYED)
