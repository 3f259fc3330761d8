"""The tables of docs/census.md, from the census's JSON."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: Where the tables stand in the page.
START, END = "<!-- python tests/benchmarks/census.py --write -->", "<!-- end of the census -->"
ZOOS = {"torchvision": "torchvision", "timm": "timm", "hf": "transformers"}
OUTCOMES = ("converted", "refused", "without norm", "silent", "failed")
#: Proofs 1 and 4, which structure is enough for.
COUNTING = ("all norms counted", "parameters explained")
#: Numbers and names in a reason, so that like reasons count as one.
_NAMES = (
    (re.compile(r"\((\d+, )*\d+,?\)"), "(…)"),
    (re.compile(r"\b\d[\d.,]*%?"), "n"),
    (re.compile(r"[\w.]+(?= is read elsewhere)|(?<=, and )[\w.]+(?= follows)"), "NAME"),
    (re.compile(r"\bNormAct|[\w.]*\.[\w.]+"), "NAME"),
)

Found = Sequence[Mapping[str, Any]]


def summary(found: Found) -> dict[str, int]:
    """The numbers that the page states."""
    counts: Counter[str] = Counter(one["outcome"] for one in found)
    numbers = {"architectures": len(found), **{name: counts[name] for name in OUTCOMES}}
    for zoo in ZOOS:
        numbers[zoo] = sum(one["zoo"] == zoo for one in found)
    numbers["norms"] = sum(one["sites"] for one in found)
    numbers["norms converted"] = sum(one["actions"].get("converted", 0) for one in found)
    numbers["all five"] = sum(bool(one["full"]) for one in found)
    return numbers


def general(reason: str) -> str:
    """A reason without its names and numbers."""
    for pattern, word in _NAMES:
        reason = pattern.sub(word, reason)
    return reason


def tables(content: Mapping[str, Any]) -> str:
    """Everything between the marks."""
    found: Found = content["found"]
    versions = ", ".join(f"{name} {version}" for name, version in content.get("versions", {}).items())
    parts = [_answer(found, content["to"]), _by_zoo(found), _proofs(found), _reasons(found), _kinds(found)]
    return "\n\n".join([*parts, f"Measured with {versions}."])


def _answer(found: Found, to: str) -> str:
    numbers = summary(found)
    good = numbers["architectures"] - numbers["silent"] - numbers["failed"]
    share = good / max(1, numbers["architectures"])
    return (
        f"**{good} of {numbers['architectures']} architectures ({share:.1%}) convert to `{to}`, or are refused with a "
        f"reason; {numbers['silent']} silently; {numbers['failed']} with a proof or a step that failed.** "
        f"{numbers['norms converted']:,} of {numbers['norms']:,} normalizations are converted."
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def _by_zoo(found: Found) -> str:
    rows = []
    for zoo, name in ZOOS.items():
        mine = [one for one in found if one["zoo"] == zoo]
        counts = Counter(one["outcome"] for one in mine)
        families = len({one["family"] for one in mine})
        sites = sum(one["sites"] for one in mine)
        rows.append([name, len(mine), families, sites, *(counts[outcome] for outcome in OUTCOMES)])
    header = ["zoo", "architectures", "families", "norms", "all converted", "some refused", *OUTCOMES[2:]]
    return _table(header, rows)


def _proofs(found: Found) -> str:
    rows = []
    names = list(dict.fromkeys(name for one in found for name in one["proofs"]))
    for name in names:
        values = [one["proofs"][name] for one in found if name in one["proofs"]]
        rows.append([name, values.count(True), values.count(False), values.count(None)])
    return _table(["proof", "holds", "fails", "can't be made"], rows)


def _reasons(found: Found) -> str:
    norms: Counter[str] = Counter()
    networks: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for one in found:
        for reason, count in one["reasons"].items():
            norms[general(reason)] += count
            examples.setdefault(general(reason), one["name"])
        networks.update({general(reason) for reason in one["reasons"]})
    rows = [
        [count, networks[reason], reason.replace("|", "\\|"), f"`{examples[reason]}`"]
        for reason, count in norms.most_common()
    ]
    return (
        _table(["norms", "architectures", "reason", "for example"], rows) if rows else "Nothing is refused."
    )


def _kinds(found: Found) -> str:
    kinds: Counter[str] = Counter()
    for one in found:
        kinds.update(one["kinds"])
    calls = sum(one["counted_functions"] for one in found)
    weights = sum(one["counted_weights"] for one in found)
    text = (
        f"The count beside has {sum(one['counted'] for one in found):,} modules by class and name, {calls:,} "
        f"functional calls on activations outside of them, and {weights:,} on weights. "
    )
    return _table(["kind", "norms"], kinds.most_common()) + "\n\n" + text.strip()


def write_page(content: Mapping[str, Any], page: Path) -> None:
    """Put the tables between the marks."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{START}\n{tables(content)}\n{END}{after}", encoding="utf-8")
