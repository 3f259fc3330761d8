"""The page of each rule, made from its docstring: for the documentation, and for `bnbench doctor --explain`.

`python -m bnbench.network.doctor.pages --write` renews docs/doctor.md; a test finds it stale.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from bnbench.base.files import write_whole
from bnbench.base.registry import Entry
from bnbench.network.doctor.rules import rules

#: The documentation's page of all rules.
PAGE = "docs/doctor.md"
_START, _END = "<!-- python -m bnbench.network.doctor.pages --write -->", "<!-- end of the rules -->"
_LABELS = ("Evidence", "Meant", "Fix", "Threads")
_THREAD = re.compile(r"(?<![\w/])([\w.-]+/[\w.-]+)#(\d+)")


def link_of(entry: Entry) -> str:
    """Its place in the documentation, "" for a rule of a plugin."""
    return "" if entry.plugin else f"{PAGE}#{entry.name.lower()}"


def page_of(entry: Entry) -> str:
    """Its section as Markdown: what it means, evidence, cost, what is meant to be so, the fix, public threads."""
    facts = entry.facts
    meaning, labelled = _paragraphs(inspect.getdoc(entry.factory) or "")
    parts = [f"### {entry.name}: {facts.title}", *meaning]
    needs = f" It needs {_listed(facts.needs)}." if facts.needs else ""
    parts.append(f"**Severity.** {facts.severity.capitalize()}, where nothing else is said.{needs}")
    for label in _LABELS:
        if label == "Meant":
            parts.append(f"**Cost.** {facts.cost}")
        if label in labelled:
            parts.append(f"**{_HEADS.get(label, label)}.** {_linked(labelled[label])}")
    return "\n\n".join(parts) + "\n"


_HEADS = {"Meant": "Where it is meant", "Threads": "Public threads"}


_NEEDS = {
    "forward": "a forward pass",
    "data": "data",
    "optimizer": "the optimizer",
    "checkpoint": "a checkpoint",
}


def _listed(needs: Sequence[str]) -> str:
    return " and ".join(_NEEDS[need] for need in needs)


def _paragraphs(text: str) -> tuple[list[str], dict[str, str]]:
    """The paragraphs without a label, and those with one by it."""
    meaning, labelled = [], {}
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        line = " ".join(paragraph.split())
        label, colon, rest = line.partition(": ")
        if colon and label in _LABELS:
            labelled[label] = rest if label == "Threads" else _capitalized(rest)
        elif line:
            meaning.append(line)
    return meaning, labelled


def _capitalized(text: str) -> str:
    """With a capital, unless it begins with code."""
    first = text.split(" ", 1)[0]
    return text if re.search(r"[=.(_`]", first.rstrip(".,;:")) else text[:1].upper() + text[1:]


def _linked(text: str) -> str:
    return _THREAD.sub(r"[\1#\2](https://github.com/\1/issues/\2)", text)


def all_pages() -> str:
    """The sections of all rules that come with bnbench."""
    own = [entry for entry in rules.entries() if not entry.plugin]
    return "\n".join(f'<a id="{entry.name.lower()}"></a>\n\n{page_of(entry)}' for entry in own)


def renewed(text: str) -> str:
    """The documentation's page with the sections as they are now. Raises ValueError where it has no place for them."""
    before, start, rest = text.partition(_START)
    _, end, after = rest.partition(_END)
    if not start or not end:
        raise ValueError(f"no {_START!r} … {_END!r}")
    return f"{before}{start}\n\n{all_pages()}\n{end}{after}"


def main() -> None:
    """Renew the page with --write; else print the sections."""
    if "--write" not in sys.argv:
        print(all_pages())
        return
    path = Path(PAGE)
    write_whole(path, renewed(path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
