"""What the README shows works: its studies are studies, its plugin trains, its commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bnbench.cli.app import app
from bnbench.study import Vocabulary, load_study

README = Path(__file__).parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_every_study_is_right(tmp_path: Path, vocabulary: Vocabulary) -> None:
    assert len(blocks("yaml")) == 2
    for text in blocks("yaml"):
        path = tmp_path / "my_study.yaml"
        path.write_text(text)
        assert load_study(path, [], vocabulary).variants


def test_the_plugin_trains(tmp_path: Path) -> None:
    (plugin,) = blocks("python")
    (tmp_path / "my_layers.py").write_text(plugin)
    (line,) = (line for line in "\n".join(blocks("console")).splitlines() if "--plugin" in line)
    command = line.removeprefix("$ bnbench ").split()
    result = subprocess.run(
        [sys.executable, "-m", "bnbench", *command, "seeds=1", "epochs=2"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "max" in result.stdout


def test_every_command_line_is_understood() -> None:
    lines = [line for line in "\n".join(blocks("console")).splitlines() if line.startswith("$ bnbench ")]
    assert len(lines) >= 8
    for line in lines:
        command = line.split()[2]
        options = re.findall(r"(--[a-z-]+)", line)
        told = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
        for option in options:
            assert option in told, line


def test_it_shows_every_exit_code() -> None:
    from bnbench.base import errors

    table = README.read_text(encoding="utf-8").partition("| exit code |")[2]
    for name in dir(errors):
        if name.startswith("EXIT_"):
            assert f"| {getattr(errors, name)} |" in table


@pytest.mark.parametrize(
    "link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8"))))
)
def test_every_link_leads_somewhere(link: str) -> None:
    assert (README.parent / link).exists()
