"""The formats by name, and what each of them is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnbench.base.words import ENGLISH

if TYPE_CHECKING:
    from bnbench.analysis.contents import Summary
    from bnbench.analysis.workloads import Workloads
    from bnbench.reports.sections import Lines
    from bnbench.reports.tables.claims import Entry
    from bnbench.reports.tables.table import Table


@dataclass(frozen=True)
class Document:
    """One study, or several with their joint result.

    studies: by display name. workloads: None for one study. names: those of --tables that
    narrow the document; None for everything. collection: the name of a collection with claims, whose document is the
    claims; claims: of all its studies, also of those that have no results yet. language: of the claims.
    """

    studies: Mapping[str, Summary]
    workloads: Workloads | None = None
    names: tuple[str, ...] | None = None
    collection: str = ""
    claims: Sequence[Entry] = ()
    language: str = ENGLISH

    @property
    def is_of_claims(self) -> bool:
        """Whether it is the claims of a collection and nothing else."""
        return bool(self.collection) and self.names is None

    def parts(self) -> Iterator[tuple[str, list[Lines | Table]]]:
        """A title and the sections under it, for each study and for all together; everything where nothing is named."""
        from bnbench.reports.sections import joint_sections, section_names, sections

        if self.is_of_claims:
            from bnbench.reports.tables.claims import joint_claims_table

            yield self.collection, [joint_claims_table(self.claims, self.language)]
            return
        names = self.names or section_names()
        for name, summary in self.studies.items():
            yield name, list(sections(summary, names))
        if self.workloads:
            yield f"Workloads: {', '.join(self.workloads.names)}", list(joint_sections(self.workloads, names))


Writer = Callable[[Document], str]
#: Name -> function that writes a document in that format; every text ends with a newline.
FORMATS: dict[str, Writer] = {}


def output_format(name: str) -> Callable[[Writer], Writer]:
    """Register a format. Its first docstring line is its help.

    >>> @output_format("names")
    ... def write(document):
    ...     return "\\n".join(document.studies) + "\\n"
    """

    def add(writer: Writer) -> Writer:
        FORMATS[name] = writer
        return writer

    return add
