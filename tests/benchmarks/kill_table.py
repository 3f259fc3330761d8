"""The table of kills in docs/resume.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kill_cases import CASES

BEGIN, END = "<!-- kills: begin -->", "<!-- kills: end -->"
STAGES = ("start", "training", "writing a state", "results")


def write_table(page: Path, outcomes: Sequence[Mapping[str, Any]]) -> None:
    """Put the table in its place on the page. Raises ValueError where the page has no place for it."""
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n{table(outcomes)}\n{END}{after}", encoding="utf-8")


def table(outcomes: Sequence[Mapping[str, Any]]) -> str:
    """A row a study, then the sum; and a sentence on what was lost."""
    head = ["study", "what it keeps", "kills", *STAGES, "of workers", "same bits", "most lost (s)"]
    lines = [_row(head), _row(["---"] * len(head))]
    for case in CASES:
        if own := [outcome for outcome in outcomes if outcome["case"] == case.name]:
            lines.append(_row([case.name, case.covers, *_cells(own)]))
    lines.append(_row(["all", "", *_cells(outcomes)]))
    faults = [fault for outcome in outcomes for fault in outcome["faults"]]
    losses = [kill["lost"] for kill in _kills(outcomes) if kill["lost"] is not None]
    kept = sum(kill["lost"] <= kill["allowed"] for kill in _kills(outcomes) if kill["lost"] is not None)
    sentence = (
        f"{len(list(_kills(outcomes)))} kills in {len(outcomes)} studies, {len(faults)} faults. In {len(losses)} kills "
        f"the lost time could be measured: {kept} lost at most the interval of 1 s, one step and one save."
    )
    return "\n".join([*lines, "", sentence])


def _cells(outcomes: Sequence[Mapping[str, Any]]) -> list[str]:
    kills = list(_kills(outcomes))
    same = sum(not outcome["faults"] for outcome in outcomes)
    losses = [kill["lost"] for kill in kills if kill["lost"] is not None]
    return [
        str(len(kills)),
        *(str(sum(kill["stage"] == stage for kill in kills)) for stage in STAGES),
        str(sum(kill["target"] == "a worker" for kill in kills)),
        f"{same} of {len(outcomes)}",
        f"{max(losses):.2f}" if losses else "",
    ]


def _kills(outcomes: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    return (kill for outcome in outcomes for kill in outcome["kills"])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
