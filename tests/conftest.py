"""Shared by all tests: a vocabulary, and studies written to a temporary folder."""

from __future__ import annotations

import signal
import textwrap
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bnbench.api.plugins import known_names
from bnbench.study import Vocabulary

# a shell that starts pytest in the background has Ctrl-C ignored, and so would every command that is tested
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", metavar="K/N", help="only the K-th of N parts of the tests, by their names")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the tests of other parts. Every test is in one part, the same one everywhere."""
    if not (text := config.getoption("--part")):
        return
    part, parts = map(int, text.split("/"))
    chosen = [item for item in items if zlib.crc32(item.nodeid.encode()) % parts == part - 1]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
    items[:] = chosen


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


@pytest.fixture
def same_threads() -> Iterator[Callable[[int], None]]:
    """Sets torch's threads until the end of the test: with another number the last bits are others."""
    import torch

    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
