"""`bnbench explain`: the command and the function say the same."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

import bnbench
from bnbench.base.errors import UnknownNameError
from bnbench.cli.app import app


def run(*words: str, columns: int = 80) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["explain", *words], env={"COLUMNS": str(columns)})
    return result.exit_code, result.output


def test_the_formats_are_those_of_the_function() -> None:
    explanation = bnbench.explain("batch")
    assert run() == run("batch") == (0, explanation.to_text())
    assert run("batch", columns=40) == (0, explanation.to_text(40))
    assert run("batch", "--format", "markdown") == (0, explanation.to_markdown())
    assert run("batch", "--format", "latex") == (0, explanation.to_latex())
    assert run("rms", "--lang", "cs") == (0, bnbench.explain("rms", lang="cs").to_text())
    assert explanation.worked.mean == ((4.0, 25.0),)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["bathc"], 1, 'unknown norm "bathc". Did you mean "batch"?'),
        (["dyt"], 1, "norm dyt has no steps to show on a small batch"),
        (["batch", "--lang", "de"], 2, 'unknown language "de"'),
        (["batch", "--format", "pdf"], 2, "pdf"),
        (["batch", "layer"], 2, "layer"),
    ],
)
def test_mistakes(words: list[str], code: int, message: str) -> None:
    exit_code, output = run(*words)
    assert exit_code == code
    assert message in output
    assert "Traceback" not in output


def test_the_function_knows_its_languages() -> None:
    with pytest.raises(UnknownNameError, match='unknown lang "de"'):
        bnbench.explain("batch", lang="de")
