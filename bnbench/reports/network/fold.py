"""What `bnbench fold` did: on a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console

from bnbench.base import files
from bnbench.base.fold_record import WHOLE, FoldRecord
from bnbench.base.network_records import Proof, SiteRecord
from bnbench.reports.console import print_lines, print_table, print_text
from bnbench.reports.network.names import shortened
from bnbench.reports.tables.table import Table

#: Columns of a name before its middle is left out.
_NAME = 28
_KINDS = {"batch": "batch", "sync": "sync batch", "frozen": "frozen batch", "rms": "RMS"}


@dataclass(frozen=True)
class Alike:
    """Norms of one kind with the same fate: one line of the table."""

    sites: tuple[SiteRecord, ...]

    @property
    def place(self) -> str:
        """For example "bn1", or "bn1 and 19 more"."""
        first = shortened(self.sites[0].name, _NAME) or "the network"
        return first if len(self.sites) == 1 else f"{first} and {len(self.sites) - 1} more"

    @property
    def fate(self) -> str:
        """Where it went, or what blocks it; the names of the places where it is one norm."""
        site = self.sites[0]
        if site.action == "folded":
            return _into(site, named=len(self.sites) == 1)
        return f"{site.action}: {site.reason if len(self.sites) == 1 else general_reason(site)}"


def _into(site: SiteRecord, *, named: bool) -> str:
    layers = site.details.get("into", [])
    part = site.details.get("what", "gamma and beta")
    what = "folded into" if part == "norm" else f"{part} folded into"
    side = f"{site.details.get('side', '')} it"
    if named and len(layers) == 1:
        return f"{what} {shortened(layers[0], _NAME)} {side}"
    return f"{what} the layer {side}" if len(layers) == 1 else f"{what} the {len(layers)} layers {side}"


def general_reason(site: SiteRecord) -> str:
    """What blocks it, without the names of the places: the same words for norms that are alike."""
    parts = [
        f"{side} it: {site.details[key]['reason']}"
        for side in ("before", "after")
        if (key := f"blocked_{side}") in site.details
    ]
    return "; ".join(parts) or site.reason


def alike(sites: Sequence[SiteRecord], *, every: bool = False) -> list[Alike]:
    """Norms that share kind and fate as one, those that are left first; every: each by itself."""
    groups: dict[object, list[SiteRecord]] = {}
    for index, site in enumerate(sites):
        fate = general_reason(site) if site.action != "folded" else _into(site, named=False)
        groups.setdefault(index if every else (site.kind, site.action, fate), []).append(site)
    found = [Alike(tuple(group)) for group in groups.values()]
    return found if every else sorted(found, key=lambda group: group.sites[0].action == "folded")


def answer(record: FoldRecord) -> str:
    """One line: how many of how many, and whether the comparisons hold."""
    if not record.sites:
        return f"{record.model}: no normalization was found, so there is nothing to fold."
    parts = []
    gammas = {site.details.get("what") for site in record.sites if site.kind not in WHOLE} - {None, "norm"}
    gamma = next(iter(gammas)) if len(gammas) == 1 else "gamma and beta"
    for whole, words in ((True, "{} of {} folded"), (False, f"{gamma} of {{}} of {{}} folded")):
        sites = [site for site in record.sites if (site.kind in WHOLE) == whole]
        if sites:
            folded = sum(site.action == "folded" for site in sites)
            parts.append(words.format(folded, _counted(sites)))
    return f"{record.model}: {'; '.join(parts)}. {proofs_line(record.proofs)}{_speed(record)}"


def _speed(record: FoldRecord) -> str:
    if record.speed is None:
        return ""
    times, low, high = (record.speed[key] for key in ("times_faster", "low", "high"))
    return f" {times:.2f} times as fast [{low:.2f}, {high:.2f}]."


def _counted(sites: Sequence[SiteRecord]) -> str:
    kinds = list(dict.fromkeys(site.kind for site in sites))
    name = _KINDS.get(kinds[0], kinds[0]) if len(kinds) == 1 and kinds[0] != "other" else "other"
    if kinds and all(kind in WHOLE for kind in kinds):
        name = "batch" if len(kinds) > 1 else name
    return f"{len(sites)} {name} norm{'' if len(sites) == 1 else 's'}"


def proofs_line(proofs: Sequence[Proof]) -> str:
    """How many comparisons hold; those that do not, by name."""
    broken = [proof.name for proof in proofs if proof.passed is False]
    made = sum(proof.passed is not None for proof in proofs)
    if broken:
        return f"NOT PROVED: {', '.join(broken)}."
    return "1 proof holds." if made == 1 else f"All {made} proofs hold."


def print_fold(console: Console, record: FoldRecord, *, every: bool = False) -> None:
    """Print the answer, the table of norms, each comparison, and what was decided."""
    print_text(console, answer(record), style="bold")
    console.print()
    groups = alike(record.sites, every=every)
    if groups:
        print_table(console, sites_table(groups), headed=False)
    print_lines(console, "Proofs", [proof_line(proof) for proof in record.proofs])
    print_lines(console, "Notes", record.said)
    if any(len(group.sites) > 1 for group in groups):
        print_text(console, "Every norm by itself: --all.")


def sites_table(groups: Sequence[Alike]) -> Table:
    """One row for norms that are alike."""
    rows = tuple((group.place, group.sites[0].kind, group.fate) for group in groups)
    return Table("Norms", "", ("norm", "kind", "what became of it"), rows, "lll")


def proof_line(proof: Proof) -> str:
    """For example "holds: float64: 1.7e-14: largest difference ..."."""
    word = {True: "holds", False: "FAILED", None: "not made"}[proof.passed]
    value = "" if proof.value is None else f" {_number(proof.value)}:" if proof.passed is not None else ""
    return f"{word}: {proof.name}:{value} {proof.explanation}."


def _number(value: float | int | str) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def to_json(record: FoldRecord) -> str:
    """Strict JSON: every norm by itself."""
    return files.to_json(record.to_json(), ascii=True)


#: Name -> function that writes a record in that format.
FORMATS: dict[str, Callable[[FoldRecord], str]] = {"json": to_json}
