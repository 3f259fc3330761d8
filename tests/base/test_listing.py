"""The file with the names of what is registered: it is current, and it is enough where torch is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bnbench.base.listing import NAMES_JSON, listing_of, load_listing, write_listing
from bnbench.study import Vocabulary, json_schema

#: Runs a command where these packages are not installed.
WITHOUT = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "sklearn"):
            raise ImportError(f"No module named {name!r}")
sys.meta_path.insert(0, Hidden())
"""


def test_the_file_is_current(tmp_path: Path, vocabulary: Vocabulary) -> None:
    expected = json.dumps(listing_of(vocabulary), indent=1, ensure_ascii=False) + "\n"
    assert NAMES_JSON.read_text(encoding="utf-8") == expected, "run: python -m bnbench.base.listing"
    write_listing(tmp_path / "names.json")
    assert (tmp_path / "names.json").read_text(encoding="utf-8") == expected


def test_it_tells_what_the_registries_tell(vocabulary: Vocabulary) -> None:
    listing = load_listing()
    assert json_schema(listing) == json_schema(vocabulary)
    for key, entries in vocabulary.items():
        assert list(listing[key]) == sorted(entries)
        for name, entry in entries.items():
            assert listing[key][name].summary == entry.summary
            assert listing[key][name].option_names() == entry.option_names()


def without_torch(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + code], capture_output=True, text=True, timeout=120, check=False
    )


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return without_torch(f"from bnbench.cli.app import main; sys.argv = ['bnbench', *{words!r}]; main()")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from typer.testing import CliRunner

    from bnbench.cli.app import app

    folder = tmp_path_factory.mktemp("results") / "out"
    words = ["compare", "seeds=2", "epochs=1", "max_train_samples=64", "-q", "-o", str(folder)]
    assert CliRunner().invoke(app, words).exit_code == 0
    return folder


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--help",), "compare"),
        (("compare", "--help"), "--plugin"),
        (("list",), "batch_custom"),
        (("check", "--json-schema"), '"learning rate, before the schedule\'s factor"'),
    ],
)
def test_commands_that_need_no_torch(words: tuple[str, ...], text: str) -> None:
    done = command(*words)
    assert done.returncode == 0, done.stderr
    assert text in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("words", [(), ("--format", "json"), ("--format", "latex"), ("--format", "csv")])
def test_report_needs_no_torch(results: Path, words: tuple[str, ...]) -> None:
    done = command("report", str(results), *words)
    assert done.returncode == 0, done.stderr
    assert "batch" in done.stdout


def test_load_needs_no_torch(results: Path) -> None:
    code = f"import bnbench; found = bnbench.load({str(results)!r}); print(len(found.runs)); print(repr(found)[:10])"
    done = without_torch(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("6\n")
