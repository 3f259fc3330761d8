"""The command line in the tests' own process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bnbench.cli.app import app
from bnbench.reports.page import html


def runner_of(study: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs commands in a folder that holds the study as s.yaml. No page is drawn: it takes two seconds."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(html, "to_html", lambda *arguments: "")
    (folder / "s.yaml").write_text(study)
    return lambda *words: CliRunner().invoke(app, words)
