"""Output of a collection: its claims, on the terminal, as a document, and as a page of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bnbench.base.errors import ResultsError
from bnbench.base.terminal import echo
from bnbench.cli.display import TABLE, Display

if TYPE_CHECKING:
    from bnbench.analysis.contents import Summary
    from bnbench.study import Study


@dataclass(frozen=True)
class Collected:
    """A collection: its name, its folder, its studies with results by name, and those that have none yet.

    folders: of the studies, also of those without results.
    """

    name: str
    path: Path
    studies: Mapping[str, Summary]
    folders: Mapping[str, Path]
    pending: Sequence[Study] = ()


def show_claims(collected: Collected, display: Display, *, page: bool = True) -> None:
    """Print the claims, with those of studies that have no results yet; write claims.json and report.html."""
    from bnbench.analysis.claims import pending_claims
    from bnbench.reports.tables.claims import Entry, entries_of

    entries = entries_of(collected.studies)
    entries += [Entry(study.name, claim) for study in collected.pending for claim in pending_claims(study)]
    written = _write(collected, display.language, page=page)
    if not display.quiet:
        _show_limits(collected)
    if display.format != TABLE:
        from bnbench.reports.formats import FORMATS, Document

        document = Document(
            collected.studies,
            names=display.tables,
            collection=collected.name,
            claims=entries,
            language=display.language,
        )
        echo(FORMATS[display.format](document), newline=False)
    elif display.visible and display.tables is None:
        from bnbench.cli.show import console_on
        from bnbench.reports.console import print_claims

        print_claims(console_on(stderr=False), collected.name, entries, display.language, written)


def _show_limits(collected: Collected) -> None:
    """Cautions and warnings of all studies, each once with the names of its studies, on stderr."""
    for word in ("Caution", "Warning"):
        named: dict[str, list[str]] = {}
        for name, summary in collected.studies.items():
            for text in summary.cautions if word == "Caution" else summary.warnings:
                named.setdefault(text, []).append(name)
        for text, names in named.items():
            where = "" if len(names) == len(collected.studies) else f"{', '.join(names)}: "
            echo(f"{word}: {where}{text}", err=True)


def _write(collected: Collected, language: str, *, page: bool) -> str:
    """The path of the page; "" where it is not written. A folder that can't be written is a warning."""
    from bnbench.base.files import write_whole
    from bnbench.reports.page.claims import claims_page
    from bnbench.results import REPORT
    from bnbench.results.collection import write_collection

    report = collected.path / REPORT
    try:
        write_collection(collected.path, collected.name, list(collected.folders.values()))
        if page:
            text = claims_page(collected.name, collected.studies, collected.folders, language)
            write_whole(report, text)
    except ResultsError as error:
        echo(f"Warning: {error.what}", err=True)
        return ""
    return str(report) if page else ""
