"""What a command prints, as its options say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bnbench.base.words import ENGLISH

#: The format for a terminal, instead of a document.
TABLE = "table"


@dataclass(frozen=True)
class InsideFigures:
    """The figures that `look` writes. folder: None for one in the results folder. format: of the files."""

    folder: Path | None = None
    format: str = "svg"


@dataclass(frozen=True)
class Display:
    """The output of a command. tables: the names of --tables, None for the short answer (of a document, everything).

    command: as it was typed, to be named where more seeds are advised. language: of captions and claims. inside: of
    `look`, which shows the inside of the networks in place of the answer, and writes these figures.
    """

    format: str = TABLE
    tables: tuple[str, ...] | None = None
    quiet: bool = False
    verbose: bool = False
    command: str = ""
    language: str = ENGLISH
    inside: InsideFigures | None = None

    @property
    def visible(self) -> bool:
        """Whether a result is printed: --quiet leaves documents alone."""
        return not self.quiet or self.format != TABLE
