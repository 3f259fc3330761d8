"""The answer of a large folder that nothing has changed: it is shown as it was, and nothing is computed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bnbench.base.files import hash_of
from bnbench.base.terminal import echo
from bnbench.cli.display import TABLE, Display
from bnbench.cli.exit_code import exit_code
from bnbench.results import REPORT, ResultsFolder
from bnbench.results.unchanged import Kept, keep, kept_answer, scan, state_of

if TYPE_CHECKING:
    from bnbench.analysis.contents import Summary
    from bnbench.api.session import Work
    from bnbench.reports.console import Places


def places_of(folder: ResultsFolder, display: Display, *, several: bool = False) -> Places:
    """Where the rest of an answer is."""
    from bnbench.reports.console import Places

    page = folder.path / REPORT
    return Places(
        report=str(page) if page.is_file() else "",
        more="" if several else f"bnbench report {shlex.quote(str(folder.path))} --tables all",
        command=display.command,
    )


class KeptAnswer:
    """The answer of one folder to one command. today: what it depends on beside the folder and the options."""

    def __init__(
        self, folder: ResultsFolder, display: Display, fail_if: Sequence[str], scanned: str, today: Any = None
    ) -> None:
        plain = display.format == TABLE and display.tables is None and display.inside is None
        self.folder, self._display = folder, display
        self._scanned = scanned if plain else ""
        options = [str(folder.path), display.command, display.language, list(fail_if), today]
        self._asked = hash_of(options, 32)

    @classmethod
    def of_work(cls, work: Work, display: Display, fail_if: Sequence[str]) -> KeptAnswer:
        """Of a study that was trained. Where runs were trained just now, the folder is looked at again."""
        today = {}
        for run in work.runs:
            if run.label not in today:
                today[run.label] = work.today(run)
        whole = len(work.part) == len(work.runs) and not work.study.looks and not work.turns.stopped
        scanned = scan(work.folder.path) if work.todo or work.beside else work.scanned
        return cls(work.folder, display, fail_if, scanned if whole else "", today)

    def show(self) -> int | None:
        """Print the answer. Returns the exit code; None where there is none, or something has changed."""
        if not self._scanned:
            return None
        kept = kept_answer(self.folder.path, self._state(), self._asked)
        if kept is None:
            return None
        from pydantic import ValidationError

        from bnbench.cli.show import console_on
        from bnbench.reports.answer import read_answer
        from bnbench.reports.console import lay_out

        try:
            answer = read_answer(kept.content["answer"])
            lines, code = [str(line) for line in kept.content["gates"]], int(kept.content["code"])
        except (ValidationError, LookupError, TypeError, ValueError):
            return None
        if self._display.visible:
            lay_out(console_on(stderr=False), answer, places_of(self.folder, self._display))
        for line in lines:
            echo(line, err=True)
        return code

    def keep(self, summary: Summary, gate_lines: Sequence[str], *, finished: bool = False) -> None:
        """Keep the answer, where all planned runs are there and none has changed since they were read."""
        whole = all(not variant.outcomes["missing"] for variant in summary.variants)
        usual = whole and not (summary.claims or summary.looks) and (self.folder.path / REPORT).is_file()
        if not (self._scanned and usual and self._scanned == scan(self.folder.path)):
            return
        from bnbench.reports.answer import answer_of

        answer = answer_of(summary, self._display.command).plain()
        content = {"answer": answer, "gates": list(gate_lines), "code": exit_code([summary])}
        keep(self.folder.path, self._state(), self._asked, Kept(finished, content))

    def _state(self) -> str:
        return state_of(self.folder.path, self._scanned)
