"""What is registered, from a file: names, first lines, options with their types and help. So that no torch is needed.

`names.json` is made by `python -m bnbench.base.listing`, and a test finds it stale.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bnbench.base.files import to_json, value_text, write_whole
from bnbench.base.kinds import KINDS

NAMES_JSON = Path(__file__).with_name("names.json")


class Described(Protocol):
    """A registered name, as lists and schemas need it: an `Entry`, or its facts in the file of names."""

    @property
    def name(self) -> str:
        """As a study chooses it."""

    @property
    def summary(self) -> str:
        """One line."""

    def option_names(self) -> Sequence[str]:
        """In the order of the signature."""

    def metric_names(self) -> Sequence[str]:
        """What a task measures; empty for anything else."""

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of its options."""


@dataclass(frozen=True)
class Listed:
    """A registered name, as the file has it."""

    name: str
    summary: str
    options: str
    metrics: tuple[str, ...] = ()

    def option_names(self) -> Sequence[str]:
        """In the order of the signature."""
        return list(self.schema().get("properties", {}))

    def metric_names(self) -> Sequence[str]:
        """What a task measures; empty for anything else."""
        return self.metrics

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of its options: a fresh one each time."""
        schema: dict[str, Any] = json.loads(self.options)
        return schema


def load_listing() -> dict[str, dict[str, Listed]]:
    """For the key of each kind, its built-in names in alphabetical order."""
    kinds = json.loads(NAMES_JSON.read_text(encoding="utf-8"))
    return {
        key: {
            name: Listed(name, item["summary"], value_text(item["options"]), tuple(item.get("metrics", ())))
            for name, item in names.items()
        }
        for key, names in kinds.items()
    }


def listing_of(vocabulary: Mapping[str, Mapping[str, Described]]) -> dict[str, Any]:
    """The content of the file."""
    return {
        key: {
            name: {
                "summary": entry.summary,
                "options": entry.schema(),
                **({"metrics": list(entry.metric_names())} if entry.metric_names() else {}),
            }
            for name, entry in sorted(entries.items())
        }
        for key, entries in vocabulary.items()
    }


def write_listing(path: Path = NAMES_JSON) -> None:
    """Import everything that is registered, and write it down."""
    vocabulary = {kind.key: {entry.name: entry for entry in kind.registry().entries()} for kind in KINDS}
    write_whole(path, to_json(listing_of(vocabulary)))


if __name__ == "__main__":
    write_listing()
