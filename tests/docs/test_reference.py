"""The generated pages of the reference have every command, option, key and name. Oracles: --help and the registries."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from bnbench.base.kinds import KINDS
from bnbench.cli.app import app
from bnbench.study.schema import Settings

PAGES = Path(__file__).parents[2] / "docs" / "reference_pages.py"


@pytest.fixture(scope="module")
def pages() -> Iterator[ModuleType]:
    spec = spec_from_file_location("docs_reference_pages", PAGES)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def help_of(*command: str) -> str:
    return CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "300"}).output


def test_every_option_of_every_command_is_there(pages: ModuleType) -> None:
    sections = re.split(r"(?m)^## bnbench ", pages.commands())[1:]
    commands = {section.split("\n")[0]: section for section in sections}
    listed = set(re.findall(r"(?m)^│ ([a-z]+)  ", help_of()))
    assert listed == {command.split()[0] for command in commands}
    for command, section in commands.items():
        options = set(re.findall(r"(--[a-z][a-z-]*)\b", help_of(*command.split()))) - {"--help"}
        documented = set(re.findall(r"`(--[a-z-]+)`", section))
        assert documented <= options, command
        in_table = {option for option in options if f"`{option}`" in section}
        assert in_table == documented, command
        assert len(documented) >= 1, command


def test_every_key_of_a_study_is_there_with_a_meaning(pages: ModuleType) -> None:
    text = pages.study_keys()
    rows = {row[0]: row[-1] for row in re.findall(r"(?m)^\| `(\w+)` \| (.*?) \| (.*?) \| (.*) \|$", text)}
    assert set(Settings.model_fields) - {"norm"} <= set(rows)
    assert {"seeds", "variants", "baseline", "target", "primary", "margin", "sweep"} <= set(rows)
    assert [key for key, meaning in rows.items() if not meaning] == []


def test_every_registered_name_is_there(pages: ModuleType) -> None:
    text = pages.names()
    for kind in KINDS:
        section = text.split(f"\n## {kind.key}\n")[1].split("\n## ")[0]
        missing = [name for name in kind.registry().names() if f"### {name}\n" not in section]
        assert missing in ([], ["none"]), kind.key


def test_no_cell_breaks_its_table(pages: ModuleType) -> None:
    for text in (pages.commands(), pages.study_keys(), pages.names()):
        for block in re.findall(r"(?m)(?:^\|.*\|\n)+", text):
            rows = block.strip().split("\n")
            columns = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
            assert len(columns) == 1, rows[0]
