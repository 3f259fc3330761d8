"""docs/trust.md: every test that it names is there. Oracle: the tests' own source."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from bnbench.study import vary

ROOT = Path(__file__).parents[2]
TRUST = (ROOT / "docs" / "trust.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", TRUST)


def test_every_row_names_a_test_or_a_command() -> None:
    rows = [line for line in TRUST.splitlines() if line.startswith("| ") and "---" not in line]
    rows = [row for row in rows if not row.startswith("| situation")]
    assert len(rows) >= 60
    for row in rows:
        assert re.search(r"`(tests/[\w/]+\.py::test_\w+)` \|$", row), row
        assert row.replace(r"\|", "").count("|") == 4, row


def test_every_test_that_is_named_is_there() -> None:
    assert len(NAMED) == TRUST.count("::test_")
    for file, name in NAMED:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert any(isinstance(node, ast.FunctionDef) and node.name == name for node in tree.body), (
            f"{file}::{name}"
        )


def test_what_was_fixed_is_said() -> None:
    assert vary.fixed_sentence(("init",)).startswith(
        "from seed to seed only the initial weights changed; fixed: the order of the batches"
    )
    assert not vary.fixed_sentence(("init", "order", "augmentation", "noise", "split"))
