"""The page of each rule: one source for the documentation and for --explain."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bnbench.network.doctor.pages import page_of, renewed
from bnbench.network.doctor.rules import rules

PAGE = Path(__file__).parents[2] / "docs" / "doctor.md"
OWN = [entry for entry in rules.entries() if not entry.plugin]


def test_the_documentation_is_not_stale():
    text = PAGE.read_text(encoding="utf-8")
    assert renewed(text) == text, "python -m bnbench.network.doctor.pages --write"


def test_there_are_26_rules():
    assert [entry.name for entry in OWN] == [f"D{number:02}" for number in range(1, 27)]


@pytest.mark.parametrize("entry", OWN, ids=lambda entry: entry.name)
def test_every_page_is_whole(entry):
    page = page_of(entry)
    heads = ["Severity", "Evidence", "Cost", "Where it is meant", "Fix", "Public threads"]
    assert re.findall(r"^\*\*(.+?)\.\*\*", page, re.MULTILINE) == heads
    assert entry.facts.title == entry.facts.title.strip(".")
    assert entry.facts.cost.endswith(".")
    for paragraph in page.split("\n\n")[1:]:
        assert paragraph.rstrip().endswith((".", ")", "`", "(Li et al. 2019)")) or "threads" in paragraph, (
            paragraph
        )


def test_threads_are_links():
    page = page_of(rules.get("D06"))
    assert "[allenai/allennlp#4990](https://github.com/allenai/allennlp/issues/4990)" in page
