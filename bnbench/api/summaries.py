"""From a results folder to its summary, and the summary's files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bnbench.analysis.circumstances import other_circumstances
from bnbench.analysis.contents import Summary
from bnbench.analysis.gate_outcomes import judge_gates
from bnbench.analysis.gates import read_gates, share_gates
from bnbench.analysis.stored import stored_summary
from bnbench.analysis.summary import summarize
from bnbench.api.session import Work
from bnbench.api.under_way import left_over
from bnbench.base.errors import GateError, ResultsError, unknown_name
from bnbench.base.files import to_json
from bnbench.base.metrics import metric_of
from bnbench.base.task_facts import gap_asked
from bnbench.reports.figures.sheets import shown_sheets
from bnbench.reports.formats.csv import probes_text, runs_text
from bnbench.reports.formats.json import summary_values
from bnbench.results import PROBES, REPORT, SUMMARY_CSV, SUMMARY_JSON, ResultsFolder, StudyResults
from bnbench.results.lines import with_lines
from bnbench.results.sheets import kept_file
from bnbench.study import Study


def gates_of(texts: Sequence[str], studies: Sequence[Study]) -> list[tuple[str, ...]]:
    """The --fail-if of each study. Raises GateError where one fits no study."""
    shared = share_gates(texts, [study.line_names for study in studies])
    for gates, study in zip(shared, studies, strict=True):
        read_gates(
            gates,
            study.line_names,
            len(study.seeds),
            study.margin,
            swept=len(study.cells) > len(study.variants),
            task=study.task,
        )
    return shared


def load_results(folder: ResultsFolder) -> StudyResults:
    """What a results folder holds. Raises ResultsError where no run is there."""
    results = folder.load()
    if not any(cell.records for cell in results.cells):
        raise ResultsError(
            f"{folder.path}: none of its runs is here yet, so there is nothing to show.",
            " ".join(left_over(results, folder.path)),
            fix="`bnbench compare` with the same study trains them.",
        )
    return results


def summarize_results(results: StudyResults, fail_if: Sequence[str] = ()) -> Summary:
    """Their summaries, with the outcomes of the gates. Raises GateError where a gate does not fit."""
    results = with_lines(results)
    seeds = min(len(cell.seeds) for cell in results.cells)
    variants = dict.fromkeys(cell.variant for cell in results.cells)
    gates = read_gates(fail_if, variants, seeds, results.margin, task=results.task)
    known = next((run.class_names for cell in results.cells for run in cell.records if run.class_names), ())
    for gate in gates:
        class_name = metric_of(gate.metric).class_name
        if known and class_name is not None and class_name not in known:
            raise GateError(f"--fail-if '{gate.text}': {unknown_name('class', class_name, known)}")
    asked = (*results.metrics, *(gap_asked(gate.metric) or metric_of(gate.metric).name for gate in gates))
    asked = (*asked, *(metric_of(gate.metric).name for gate in gates if gap_asked(gate.metric)))
    results = replace(results, metrics=asked)
    summary = stored_summary(results) if results.condensed else summarize(results)
    return replace(summary, gates=tuple(judge_gates(gates, summary)))


def summarize_work(work: Work, fail_if: Sequence[str] = ()) -> tuple[StudyResults, Summary]:
    """What a study's folder holds and says, also of runs that were trained under other circumstances than today's.

    Raises ResultsError and GateError.
    """
    try:
        results = load_results(work.folder)
    except ResultsError as error:
        raise ResultsError(
            work.left_over or error.what, "" if work.left_over else error.why, error.fix
        ) from None
    summary = summarize_results(results, fail_if)
    specs = {(run.variant, run.cell, run.seed): run for run in work.runs}
    changed = other_circumstances(
        (run, work.today(specs[run.variant, run.cell, run.seed]))
        for cell in results.cells
        for run in cell.records
    )
    left = [work.left_over] if work.left_over else left_over(results, work.folder.path)
    return results, replace(summary, limits=(*summary.limits, *changed, *left))


def rewrite_summaries(
    folder: ResultsFolder, results: StudyResults, summary: Summary, *, page: bool = True
) -> str:
    """Write the summary files of a folder again; a warning where it can't be written (it may be read-only), else ""."""
    try:
        return write_summaries(folder, results, summary, page=page)
    except ResultsError as error:
        files = f"{SUMMARY_JSON}, {SUMMARY_CSV} and {REPORT}" if page else f"{SUMMARY_JSON} and {SUMMARY_CSV}"
        return f"{files} in {folder.path} are not rewritten: {error.what}"


def write_summaries(
    folder: ResultsFolder, results: StudyResults, summary: Summary, *, page: bool = True
) -> str:
    """Write the summary files into the results folder; a warning where report.html can't be drawn, else "".

    page: also draw report.html, which takes two seconds; without, it is left as it is. Nothing is written where the
    folder keeps its summary alone. Raises ResultsError where the disk won't do.
    """
    if results.condensed:
        return ""
    folder.write(SUMMARY_JSON, to_json(summary_values(summary), ascii=True))
    folder.write(SUMMARY_CSV, runs_text(summary))
    if summary.inside.asked:
        folder.write(PROBES, probes_text(results))
    folder.write_environment(results)
    folder.write_sheets(
        {kept_file(one.variant, one.sheet.seed): one.sheet for one in shown_sheets(summary, results)}
    )
    if not page:
        return ""
    try:
        from bnbench.reports.page.html import to_html

        text = to_html(summary, results)
    except Exception as error:  # whatever a drawing library raises: no result is lost for a picture
        (folder.path / REPORT).unlink(missing_ok=True)  # one of earlier numbers would mislead
        return f"{REPORT} can't be drawn: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
    folder.write(REPORT, text)
    return ""
