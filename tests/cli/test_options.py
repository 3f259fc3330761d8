"""Options that commands share are declared once, and every command shows them whole."""

from __future__ import annotations

import dataclasses
import re

import pytest
from typer.testing import CliRunner

from bnbench.cli.app import app
from bnbench.cli.options import Training


def _help(command: str) -> str:
    return CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "300"}).output


@pytest.mark.parametrize("command", ["train", "compare"])
def test_every_shared_option_is_shown(command: str) -> None:
    text = _help(command)
    for field in dataclasses.fields(Training):
        assert f"--{field.name.replace('_', '-')}" in text


@pytest.mark.parametrize("command", ["train", "compare", "report", "check", "list", "verify"])
def test_help_loses_no_default(command: str) -> None:
    """Text in square brackets is taken for markup where it isn't Typer's own."""
    from typer.main import get_command

    commands = get_command(app).commands  # type: ignore[attr-defined]
    for parameter in commands[command].params:
        assert not re.search(r"\[[a-z]", getattr(parameter, "help", "") or ""), parameter.name


def test_an_unknown_option_is_a_usage_error() -> None:
    result = CliRunner().invoke(app, ["compare", "--outptu", "x"])
    assert result.exit_code == 2
    assert "--output" in result.output
