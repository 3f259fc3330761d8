"""What `compare`, `train`, `report` and `load` return: a study's result, for people, notebooks and pandas."""

from __future__ import annotations

import html
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnbench.analysis.contents import GateOutcome, Summary
from bnbench.analysis.inside.export import index_records, probe_records
from bnbench.analysis.rows import comparison_rows, history_rows, rows
from bnbench.analysis.serial import as_json
from bnbench.api.arguments import PathLike, path_of
from bnbench.api.under_way import paused_runs
from bnbench.base.errors import BnbenchError, UnknownNameError
from bnbench.base.terminal import one_line
from bnbench.reports.sentences.headline import headline
from bnbench.reports.sentences.speed import speed_sentences
from bnbench.reports.sentences.verdicts import judged_differences, verdict_sentence, verdict_sentences
from bnbench.reports.tables.all import tables
from bnbench.reports.tables.claims import claim_rows, entries_of
from bnbench.reports.tables.main import main_table
from bnbench.reports.tables.table import Table
from bnbench.results import REPORT, StudyResults

if TYPE_CHECKING:
    import altair
    import pandas

Record = dict[str, Any]


class Comparison:
    """A study's result, with its limits.

    Its records are lists of flat dicts of plain Python values (None where there is no finite number), ready for
    ``pandas.DataFrame(...)``. In a notebook it shows its answer and its main table. `bnbench.load` reads it again
    from its folder.

    Attributes
    ----------
    folder
        The results folder, with report.html, summary.json, and every run.
    summary
        Everything that was computed: what all tables, figures and sentences are made of.
    """

    #: The names that `to_pandas` knows.
    RECORDS = ("runs", "history", "comparisons", "verdicts", "inside", "probes")
    __hash__ = None  # type: ignore[assignment]  # two are equal where their content is

    def __init__(self, folder: Path, summary: Summary, results: StudyResults) -> None:
        self.folder, self.summary, self._results = folder, summary, results

    @property
    def name(self) -> str:
        """The study's name."""
        return self.summary.name

    @property
    def sentences(self) -> list[str]:
        """The answer in words: the verdicts, then the speed-ups."""
        return [*verdict_sentences(self.summary), *speed_sentences(self.summary)]

    @property
    def cautions(self) -> list[str]:
        """What limits the answer."""
        return list(self.summary.cautions)

    @property
    def warnings(self) -> list[str]:
        """What went wrong on the way, such as a run that can't be read."""
        return list(self.summary.warnings)

    @property
    def gates(self) -> list[GateOutcome]:
        """What became of each condition in `fail_if`; its `failed` is True where the condition holds."""
        return list(self.summary.gates)

    @property
    def verdicts(self) -> list[Record]:
        """One record a verdict: its word ("better", "worse", "same", ...), its numbers, and its sentence.

        In a sweep, those at the best settings come first; those at the same setting have no sentence (None).
        """
        judged = judged_differences(self.summary)
        others = [
            difference
            for difference in self.summary.comparisons
            if difference.verdict is not None and not any(difference is one for one in judged)
        ]
        sentences = [verdict_sentence(self.summary, difference) for difference in judged]
        rows = comparison_rows([*judged, *others])
        return [{**row, "sentence": sentence} for row, sentence in zip_longest(rows, sentences)]

    @property
    def claims(self) -> list[Record]:
        """One record for each part of each claim in `expect`: its numbers, its interval and the verdicts."""
        return claim_rows(entries_of({self.summary.name: self.summary}), self.summary.language)

    @property
    def comparisons(self) -> list[Record]:
        """One record for each variant and metric: its difference from the baseline, with the interval."""
        return comparison_rows(self.summary.comparisons)

    @property
    def runs(self) -> list[Record]:
        """One record a planned run: outcome, final and best metrics, seconds. The rows of summary.csv."""
        return rows(self.summary)

    @property
    def unfinished(self) -> list[Record]:
        """One record a planned run that is not done: variant, setting, seed, and the step of its kept state or None.

        Such as after `bnbench.Running(time_limit=600)`; the same call goes on from there. Empty where all are done.
        """
        steps = paused_runs(self._results, self.folder)
        records = []
        for cell in self._results.cells:
            ended = {record.seed for record in cell.records}
            for seed in cell.seeds:
                if seed not in ended:
                    at = steps.get((cell.variant, cell.cell, seed))
                    records.append(
                        {"variant": cell.variant, "setting": dict(cell.setting), "seed": seed, "step": at}
                    )
        return records

    @property
    def history(self) -> list[Record]:
        """One record for each evaluation of each run, with its variant, setting and seed."""
        return history_rows(self.summary)

    @property
    def inside(self) -> list[Record]:
        """One record for each index of each variant: its interval, its noise floor, and how it compares.

        Empty without probes; see `bnbench.look`.
        """
        return index_records(self.summary.inside)

    @property
    def probes(self) -> list[Record]:
        """One record for each number that the probes measured: variant, seed, step, layer, quantity, unit, value."""
        return list(probe_records(self._results))

    @property
    def tables(self) -> list[Table]:
        """Every table of the report, as text cells."""
        return tables(self.summary)

    @property
    def figures(self) -> list[str]:
        """The names of the figures that this study has."""
        from bnbench.reports.figures.all import figures

        return [figure.name for figure in figures(self.summary)]

    def to_pandas(self, name: str = "runs") -> pandas.DataFrame:
        """The records of one of the names in RECORDS, such as "runs" or "comparisons", as a pandas table.

        Raises BnbenchError where pandas is not installed.
        """
        if name not in self.RECORDS:
            raise UnknownNameError("records", name, self.RECORDS)
        try:
            from pandas import DataFrame
        except ImportError:
            raise BnbenchError(
                "pandas is not installed.",
                f"The records are there without it, as a list of dicts: .{name}.",
                "pip install pandas",
            ) from None
        return DataFrame.from_records(getattr(self, name))

    def figure(self, name: str) -> altair.TopLevelMixin:
        """One figure as an Altair chart. `figures` has the names. Raises UnknownNameError."""
        import altair

        from bnbench.reports.figures.all import find_figure
        from bnbench.reports.figures.layout import complete_specification, style

        figure = find_figure(self.summary, name)
        return altair.Chart.from_dict(
            complete_specification(figure, self.summary, style(480, 12, titled=True))
        )

    def save_figures(self, folder: PathLike, format: str = "svg") -> list[Path]:
        """Write every figure and every sheet of samples there. format: "svg", "png" or "pdf". Raises BnbenchError."""
        from bnbench.reports.figures.files import FORMATS, write_figures
        from bnbench.reports.figures.sheets import write_sheets

        if format not in FORMATS:
            raise UnknownNameError("format", format, FORMATS)
        place = path_of(folder)
        return [
            *write_figures(self.summary, place, format),
            *write_sheets(self.summary, self._results, place, format),
        ]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Comparison):
            return NotImplemented
        return self._content() == other._content()

    def _content(self) -> tuple[object, ...]:
        """The result of the runs alone, without remarks of one moment: changed versions, or gates."""
        values = as_json(self.summary)
        for key in ("cautions", "warnings", "gates"):
            del values[key]
        return self.folder.absolute(), values, self.history, self._results.study

    def __repr__(self) -> str:
        return "\n".join([*self._answer(), f"{self._size()}: {self.folder}"])

    def _repr_html_(self) -> str:
        """For a notebook: the answer, the main table, the limits of the answer, and where the rest is."""
        answer = "".join(f"<p>{_escaped(line)}</p>" for line in self._answer())
        cautions = "".join(f"<p>Caution: {_escaped(text)}</p>" for text in self.cautions)
        table = _html_table(main_table(self.summary))
        rest = f"<p>{_escaped(f'{self._size()}: {self.folder / REPORT}')}</p>"
        return f"<div><h4>{_escaped(self.name)}</h4>{answer}{cautions}{table}{rest}</div>"

    def _answer(self) -> Sequence[str]:
        return headline(self.summary)

    def _size(self) -> str:
        """For example "3 variants, 15 of 15 runs"."""
        trained = self.summary.trained
        variants = dict.fromkeys(variant.variant for variant in trained)
        planned, there = (
            sum(map(len, each)) for each in ([v.seeds for v in trained], [v.runs for v in trained])
        )
        return f"{len(variants)} variant{'s' * (len(variants) != 1)}, {there} of {planned} runs"


def _html_table(table: Table) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        sides = {"l": "left", "r": "right"}
        return "".join(
            f'<{tag} style="text-align: {sides[side]}">{_escaped(cell)}</{tag}>'
            for cell, side in zip(cells, table.align, strict=True)
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in table.rows)
    head = f"<thead><tr>{line(table.columns, 'th')}</tr></thead>"
    caption = f"<p>{_escaped(table.caption)}</p>" if table.caption else ""
    return f"<table><caption>{_escaped(table.title)}</caption>{head}<tbody>{body}</tbody></table>{caption}"


def _escaped(text: str) -> str:
    return html.escape(one_line(text))
