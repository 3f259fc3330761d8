"""The short answer of a study as texts and tables, ready to be laid out for a terminal of any width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bnbench.analysis.contents import Summary
from bnbench.reports.sentences.headline import headline, title
from bnbench.reports.sentences.inside import inside_line
from bnbench.reports.tables.claims import Entry, entries_of
from bnbench.reports.tables.main import main_table
from bnbench.reports.tables.small_curves import main_curves
from bnbench.reports.tables.table import Table

#: More warnings than this are left to --tables warnings.
MOST_WARNINGS = 3


@dataclass(frozen=True)
class Answer:
    """What `print_answer` shows. of_best: whether each variant stands at its best setting in the curves."""

    title: str
    verdicts: tuple[str, ...]
    table: Table
    curves: Table
    of_best: bool
    inside: str
    claims: tuple[Entry, ...] = ()
    language: str = ""

    def plain(self) -> dict[str, Any]:
        """As values of JSON; `read_answer` reads them. Not for an answer with claims."""
        values = asdict(self)
        del values["claims"]
        return values


def answer_of(summary: Summary, command: str = "") -> Answer:
    """The answer to a summary. command: what was run, for a plan with more seeds."""
    return Answer(
        title=title(summary),
        verdicts=(*headline(summary, command), *_limits(summary)),
        table=main_table(summary),
        curves=main_curves(summary),
        of_best=bool(summary.best_settings),
        inside=inside_line(summary),
        claims=tuple(entries_of({summary.name: summary})) if summary.claims else (),
        language=summary.language,
    )


def read_answer(values: Mapping[str, Any]) -> Answer:
    """The answer that `Answer.plain` wrote. Raises ValidationError where it can't be one."""
    from pydantic import TypeAdapter

    answer: Answer = TypeAdapter(Answer).validate_python({**values, "claims": ()})
    return answer


def _limits(summary: Summary) -> list[str]:
    """Cautions, then warnings: they limit the verdicts, so they stand beside them."""
    warnings = [f"Warning: {text}" for text in summary.warnings]
    more = len(warnings) - MOST_WARNINGS
    rest = [f"Warning: {more} more, with --tables warnings."] if more > 0 else []
    return [*(f"Caution: {text}" for text in summary.cautions), *warnings[:MOST_WARNINGS], *rest]
