"""Shared by all tests: a vocabulary, and studies written to a temporary folder."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from bnbench.config import Vocabulary
from bnbench.workflow import known_names


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    return known_names().vocabulary


@pytest.fixture
def write_study(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a study's text to a file, and gives its path."""

    def write(text: str, name: str = "study.yaml") -> Path:
        path = tmp_path / name
        path.write_text(textwrap.dedent(text))
        return path

    return write
