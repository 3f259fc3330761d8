"""Showing results folders again, as `report` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bnbench.base.terminal import echo
from bnbench.cli.display import TABLE, Display
from bnbench.cli.exit_code import exit_code
from bnbench.cli.show import console_on, gate_lines, print_study, show_gates, show_others, show_together
from bnbench.cli.show_claims import Collected, show_claims

if TYPE_CHECKING:
    from bnbench.analysis.contents import Summary
    from bnbench.cli.kept import KeptAnswer
    from bnbench.results import ResultsFolder, StudyResults


def show_folders(
    folders: Sequence[Path],
    display: Display,
    *,
    fail_if: Sequence[str],
    figures: Path | None,
    kind: str,
) -> int:
    """Show results folders again and rewrite their summaries; with several, also print a joint summary.

    A folder that can't be read is reported and left out; then the exit code is 1.
    """
    from bnbench.api.under_way import until_settled, words_present
    from bnbench.results.collection import read_collection

    collection = read_collection(folders[0]) if len(folders) == 1 else None
    folders = _study_folders(folders)
    several, page = len(folders) > 1 or collection is not None, display.format == TABLE
    brief = collection and display.tables is None
    shown = replace(display, quiet=True, format=TABLE) if brief else display
    kept = None if several or figures else _kept(folders[0], display, fail_if)
    if kept and (code := kept.show()) is not None:
        if not display.quiet:
            show_others(console_on(stderr=True), kept.folder)
        return code
    before = {folder: words_present(folder) for folder in folders}
    studies, gates, unreadable = _loaded(folders, fail_if)
    summaries: dict[str, Summary] = {}
    for (name, (folder, results)), gate in zip(studies.items(), gates, strict=True):
        write = _write_again(folder, results, gate, display.language, page=page)
        results, summary, warning = until_settled(folder.path, write, before[folder.path])
        summaries[name] = summary
        if shown.visible:
            print_study(name, summary, shown, folder, several=several)
        if not shown.quiet:
            show_others(console_on(stderr=True), folder)
        show_gates(name, summary, several)
        if kept and not warning:
            kept.keep(summary, gate_lines(summary))
        if figures:
            place = figures / name.strip("/").replace("/", "-") if several else figures
            _write_figures(summary, results, place, kind, display.quiet)
    if collection:
        places = {name: folder.path for name, (folder, _) in studies.items()}
        show_claims(Collected(collection.name, collection.path, summaries, places), display, page=page)
    elif several:
        show_together(summaries, display, [folder.path for folder, _ in studies.values()])
    return exit_code(list(summaries.values()), unreadable=unreadable)


def _kept(folder: Path, display: Display, fail_if: Sequence[str]) -> KeptAnswer:
    """What was shown of the folder, where it is large."""
    from bnbench.cli.kept import KeptAnswer
    from bnbench.results import ResultsFolder
    from bnbench.results.unchanged import scan

    return KeptAnswer(ResultsFolder(folder), display, fail_if, scan(folder))


def _loaded(
    folders: Sequence[Path], fail_if: Sequence[str]
) -> tuple[Mapping[str, tuple[ResultsFolder, StudyResults]], list[tuple[str, ...]], bool]:
    """The studies by their names, the gates of each, and whether a folder can't be read, which is reported."""
    from bnbench.analysis.gates import share_gates
    from bnbench.api.one_study import check_apart
    from bnbench.api.several import load_folders

    studies, errors = load_folders(folders)
    for error in errors:
        echo(f"Error: {error}\nLeft out; the others follow.", err=True)
    check_apart({str(folder.path): results for folder, results in studies.values()})
    variants = [[cell.variant for cell in results.cells] for _, results in studies.values()]
    return studies, share_gates(fail_if, variants), bool(errors)


def _study_folders(paths: Sequence[Path]) -> list[Path]:
    """Each once, those of a collection in its place; `report results/*` names our own files beside the folders too."""
    from bnbench.results import REPORT, WORKLOADS_JSON
    from bnbench.results.collection import COLLECTION, read_collection

    own = (WORKLOADS_JSON, COLLECTION, REPORT)
    folders: list[Path] = []
    for path in dict.fromkeys(paths):
        if path.name in own and path.is_file():
            continue
        collection = read_collection(path)
        folders += collection.folders if collection else [path]
    return folders or list(paths)


def _write_again(
    folder: ResultsFolder, results: StudyResults, gates: Sequence[str], language: str, *, page: bool
) -> Callable[[], tuple[StudyResults, Summary, str]]:
    """What writes the files again: first with these results, then with what the folder holds by then.

    It returns what it read, its summary, and a warning where a file is not written.
    """
    from bnbench.api.summaries import load_results, rewrite_summaries, summarize_results
    from bnbench.api.under_way import with_left_over

    read = iter([results])

    def write() -> tuple[StudyResults, Summary, str]:
        now = next(read, None) or load_results(folder)
        summary = with_left_over(summarize_results(now, gates), now, folder.path)
        summary = replace(summary, language=language)
        if warning := rewrite_summaries(folder, now, summary, page=page):
            echo(f"Warning: {warning}", err=True)
        return now, summary, warning

    return write


def _write_figures(summary: Summary, results: StudyResults, folder: Path, kind: str, quiet: bool) -> None:
    from bnbench.reports.figures.files import write_figures
    from bnbench.reports.figures.sheets import write_sheets

    paths = [*write_figures(summary, folder, kind), *write_sheets(summary, results, folder, kind)]
    if not quiet:
        echo(f"Figures: {len(paths)} in {folder}", err=True)
