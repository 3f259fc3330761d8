"""What `bnbench convert` did: on a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from bnbench.base import files
from bnbench.base.conversion_record import ConversionRecord
from bnbench.base.network_records import SiteRecord
from bnbench.reports.console import print_lines, print_table, print_text
from bnbench.reports.network.fold import proof_line, proofs_line
from bnbench.reports.network.names import shortened
from bnbench.reports.tables.table import Table

#: Columns of a name before its middle is left out.
_NAME = 24


@dataclass(frozen=True)
class Alike:
    """Norms that became the same kind of layer in the same way: one line of the table."""

    sites: tuple[SiteRecord, ...]

    @property
    def first(self) -> SiteRecord:
        """The first of them in the network."""
        return self.sites[0]

    @property
    def place(self) -> str:
        """For example "bn1", or "bn1 and 19 more"."""
        if len(self.sites) == 1:
            more = len(self.first.names) - 1
            return _name(self.first) + (f" (+ {more} name{'s' if more > 1 else ''})" if more else "")
        return f"{_name(self.first)} and {len(self.sites) - 1} more"


def _name(site: SiteRecord) -> str:
    return shortened(site.name, _NAME) or "the network"


def alike(sites: Sequence[SiteRecord], *, every: bool = False) -> list[Alike]:
    """Norms with the same fate as one, those that are left first; every: each by itself."""
    groups: dict[object, list[SiteRecord]] = {}
    for index, site in enumerate(sites):
        groups.setdefault(index if every else (site.action, site.kind, *_row(site)), []).append(site)
    found = [Alike(tuple(group)) for group in groups.values()]
    return found if every else sorted(found, key=lambda group: group.first.action == "converted")


def answer(record: ConversionRecord) -> str:
    """One line: how many of how many, to what, and whether the proofs hold."""
    done, all_ = len(record.converted), len(record.sites)
    kinds = {site.kind for site in record.sites}
    kind = f"{next(iter(kinds))} norm" if len(kinds) == 1 and "other" not in kinds else "norm"
    words = f"{done} of {all_} {kind}{'' if all_ == 1 else 's'} converted to {record.to}"
    if not done and not any(site.action == "refused" for site in record.sites):
        words = f"none of {all_} {kind}{'' if all_ == 1 else 's'} is a {record.source} norm, so nothing was converted"
    return f"{record.model}: {words}. {proofs_line(record.proofs)}"


def print_conversion(console: Console, record: ConversionRecord, *, every: bool = False) -> None:
    """Print the answer, the table of norms, what was left and lost, each proof, and what was decided."""
    print_text(console, answer(record), style="bold")
    console.print()
    groups = alike(record.sites, every=every)
    converted = [group for group in groups if group.first.action == "converted"]
    if converted:
        print_table(console, sites_table(converted, every=every), headed=False)
    print_lines(console, "Left", left_lines(record.left, every=every))
    print_lines(console, "Lost", detail_lines(record.converted, "lost", every=every))
    print_lines(console, "Moved", detail_lines(record.converted, "moved", every=every))
    print_lines(console, "Proofs", [proof_line(proof) for proof in record.proofs])
    print_lines(console, "Notes", [*detail_lines(record.converted, "notes", every=every), *record.said])
    if not every and any(len(group.sites) > 1 for group in groups):
        print_text(console, "Every norm by itself: --all.")


_COLUMNS = ("norm", "before -> after", "gamma, beta", "statistics", "bias")


def sites_table(groups: Sequence[Alike], *, every: bool = False) -> Table:
    """One row for norms that are alike."""
    rows = tuple((group.place, *_row(group.first, whole=every)) for group in groups)
    return Table("Norms", "", _COLUMNS, rows, "l" * len(_COLUMNS))


def _row(site: SiteRecord, *, whole: bool = False) -> tuple[str, ...]:
    """Without numbers of channels and names of layers, unless the whole is wanted."""
    details = site.details
    if site.action != "converted":
        return (_class(details.get("before", "")), general(site.reason))
    text = _short if whole else _class
    gamma, beta = _word(details["gamma"]), _word(details["beta"])
    return (
        f"{text(details['before'])} -> {text(details['after'])}",
        gamma if gamma == beta else f"{gamma}, {beta}",
        _word(details["statistics"]),
        _word(str(details["bias"])),
    )


def _word(text: str) -> str:
    """Before the reason."""
    return text.partition(":")[0].partition(" (")[0]


def _class(text: str) -> str:
    return text.partition("(")[0]


def _short(text: str) -> str:
    """GroupNorm(32, 64), without the arguments that have names."""
    name, _, arguments = text.partition("(")
    plain = [part for part in arguments.removesuffix(")").split(", ") if "=" not in part]
    return f"{name}({', '.join(plain)})"


def general(reason: str) -> str:
    """A reason without the sizes that differ from place to place."""
    return "".join("#" if character.isdigit() else character for character in reason)


def left_lines(sites: Sequence[SiteRecord], *, every: bool) -> list[str]:
    """Each reason, and the norms that it holds for."""
    return _lines([(site, site.reason, general(site.reason)) for site in sites], every=every)


def detail_lines(sites: Sequence[SiteRecord], key: str, *, every: bool) -> list[str]:
    """What was lost, moved or noted, and in which norms."""
    found: list[tuple[SiteRecord, str, str]] = []
    for site in sites:
        by_reason: dict[str, list[str]] = {}
        for text in _texts(site.details, key):
            what, _, why = text.partition(": ")
            by_reason.setdefault(why, []).append(what)
        found += [(site, line, line) for line in map(_joined, by_reason.items())]
    return _lines(found, every=every)


def _texts(details: Any, key: str) -> list[str]:
    texts: list[str] = list(details.get(key, ()))
    return texts


def _joined(item: tuple[str, list[str]]) -> str:
    why, what = item
    return ", ".join(what) + (f": {why}" if why else "")


def _lines(found: Sequence[tuple[SiteRecord, str, str]], *, every: bool) -> list[str]:
    groups: dict[str, list[tuple[SiteRecord, str]]] = {}
    for site, text, key in found:
        groups.setdefault(f"{site.name} {key}" if every else key, []).append((site, text))
    lines: list[str] = []
    for items in groups.values():
        site, text = items[0]
        more = f" and {len(items) - 1} more" if len(items) > 1 else ""
        lines.append(f"{_name(site)}{more}: {text}")
    return lines


def to_json(record: ConversionRecord) -> str:
    """Strict JSON: every norm by itself."""
    return files.to_json(record.to_json(), ascii=True)


#: Name -> function that writes a record in that format.
FORMATS: dict[str, Callable[[ConversionRecord], str]] = {"json": to_json}
