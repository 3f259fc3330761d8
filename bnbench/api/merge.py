"""`bnbench.merge`: results folders of one study, from several machines, become one. Free of torch."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bnbench.analysis.circumstances import differences
from bnbench.api.arguments import PathLike, path_of, words_of
from bnbench.api.comparison import Comparison
from bnbench.api.load import report
from bnbench.base.errors import BnbenchError, ResultsError
from bnbench.results import ResultsFolder
from bnbench.results.collection import COLLECTION, read_collection, write_collection
from bnbench.results.files import PLAN, STUDY, SUMMARY_JSON
from bnbench.results.merged_study import merged_study
from bnbench.results.merging import (
    Conflict,
    FoundRun,
    Source,
    design_differences,
    find_runs,
    merged_plan,
    question_differences,
    read_source,
)

#: So many conflicts are named; the others are counted.
_NAMED = 20


@dataclass(frozen=True)
class Merge:
    """Folders that can become one: nothing of it is written yet. remarks: what the user should know of it."""

    output: Path
    sources: tuple[Source, ...]
    plan: Mapping[str, Any]
    runs: tuple[FoundRun, ...]
    remarks: tuple[str, ...]

    @property
    def missing(self) -> int:
        """How many planned runs are in none of the folders."""
        return sum(len(cell["seeds"]) for cell in self.plan["cells"]) - len(self.runs)

    def write(self) -> None:
        """Write the folder: first its plan, then run after run. A repeated one goes on. Raises ResultsError."""
        folder, paths = ResultsFolder(self.output), [source.path for source in self.sources]
        folder.recover()
        folder.clean()
        folder.write_plan(self.plan, paths)
        if text := merged_study(paths, self.plan, self.output):
            folder.write(STUDY, text)
        gone = [
            run.folder
            for run in self.runs
            if not run.folder.is_relative_to(self.output)
            and not folder.take(run.folder, run.state, run.record)
        ]
        if gone:
            names = ", ".join(map(str, gone[:_NAMED]))
            raise ResultsError(
                f"{self.output}: {len(gone)} runs were written again while they were copied: {names}.",
                "Another process is at work on that folder.",
                "run the same command again: it goes on where it stopped.",
            )


def merge(
    folders: PathLike | Iterable[PathLike], output: PathLike, *, fail_if: str | Iterable[str] = ()
) -> Comparison:
    """Put results folders of one study together, as `bnbench merge` does, and report the result.

    A run that lies in two of them with equal numbers is there once; a finished run wins over one that crashed. The
    folders are only read. The same call again goes on where a kill stopped it.

    Parameters
    ----------
    folders
        Results folders of one study: parts of its runs, from other machines or from `--shard`.
    output
        The merged folder: a new one, or the one that an earlier merge wrote.
    fail_if
        Conditions such as "batch.test_accuracy < 0.95"; see `Comparison.gates`.

    Returns
    -------
    Comparison
        The result of all runs, with a warning for each remark, such as planned runs that none of the folders has.

    Raises
    ------
    ResultsError
        Where a folder holds no results, the folders answer different questions, or one run has two results that
        differ. Nothing is written then.
    """
    gates = words_of("fail_if", fail_if)
    if isinstance(folders, str | os.PathLike):
        folders = [folders]
    if not isinstance(folders, Iterable):
        raise BnbenchError(f"folders: {folders!r} is no list of paths.")
    prepared = prepare_merge([path_of(folder, "folders") for folder in folders], path_of(output, "output"))
    prepared.write()
    comparison = report(prepared.output, fail_if=gates)
    warnings = (*comparison.summary.warnings, *prepared.remarks)
    comparison.summary = replace(comparison.summary, warnings=warnings)
    return comparison


def prepare_merges(paths: Sequence[Path], output: Path) -> list[Merge]:
    """One merge; for parent folders, one merge for each study in them. Nothing is written yet.

    Raises ResultsError with all that is wrong.
    """
    parents = [path for path in paths if _studies(path)]
    if not parents:
        return [prepare_merge(paths, output)]
    if plain := [path for path in paths if path not in parents]:
        raise ResultsError(
            f"{plain[0]} is a results folder, but {parents[0]} holds results folders.",
            fix="name folders of one kind.",
        )
    _check_output(paths, output)
    by_name: dict[str, list[Path]] = {}
    for path in dict.fromkeys(parents):
        for name in _studies(path):
            by_name.setdefault(name, []).append(path / name)
    merges: list[Merge] = []
    errors: list[ResultsError] = []
    for name, folders in by_name.items():
        try:
            merges.append(prepare_merge(folders, output / name))
        except ResultsError as error:
            errors.append(error)
    _raise(errors)
    return merges


def write_merges(merges: Sequence[Merge], paths: Sequence[Path], output: Path) -> None:
    """Write them; of a collection, its list of studies too. Raises ResultsError."""
    for one in merges:
        one.write()
    lists = [path for path in paths if os.path.lexists(path / COLLECTION)]
    if lists and merges[0].output != output:
        collections = [found for path in lists if (found := read_collection(path))]
        names = dict.fromkeys(folder.name for one in collections for folder in one.folders)
        write_collection(output, collections[0].name, [output / name for name in names])


def _studies(path: Path) -> list[str]:
    """The names of the results folders inside one that is none itself."""
    if not path.is_dir() or os.path.lexists(path / PLAN) or (path / SUMMARY_JSON).exists():
        return []
    try:
        return sorted(entry.parent.name for entry in path.glob(f"*/{PLAN}"))
    except OSError:
        return []


def prepare_merge(paths: Sequence[Path], output: Path) -> Merge:
    """What the folder of all runs will hold. Raises ResultsError with all that is wrong; nothing is written."""
    if not paths:
        raise ResultsError("no folder to merge.", fix="bnbench merge FOLDER FOLDER --output FOLDER")
    _check_output(paths, output)
    sources, remarks = _read(paths)
    if os.path.lexists(output / PLAN):  # of an earlier merge: its runs count
        sources = [*sources, read_source(output)]
    else:
        ResultsFolder(output).check_unplanned()
    _check_questions(sources)
    plan, warnings = merged_plan(sources), list[str]()
    runs: list[FoundRun] = []
    conflicts: list[Conflict] = []
    for found, differing in find_runs(sources, plan, warnings):
        runs += found
        conflicts += differing
    if conflicts:
        raise _conflicts(conflicts)
    if not runs:
        raise ResultsError(
            "\n".join([f"none of the runs is in {shlex.join(map(str, paths))}.", *warnings]),
            fix="merge the folders after `bnbench compare` has trained in them.",
        )
    merged = Merge(output, tuple(sources), plan, tuple(runs), ())
    remarks += [*design_differences(sources), *warnings]
    if merged.missing and not plan["looks"]:
        total = merged.missing + len(runs)
        remarks.append(f"{merged.missing} of {total} planned runs are in none of the folders.")
    return replace(merged, remarks=tuple(remarks))


def _check_output(paths: Sequence[Path], output: Path) -> None:
    """Raises ResultsError where it is, or lies in, or holds one of the folders: they are only read."""
    place = output.resolve()
    for path in paths:
        source = path.resolve()
        if place == source:
            word = "is one of the folders to merge"
        elif place.is_relative_to(source):
            word = f"lies in {path}, one of the folders to merge"
        elif source.is_relative_to(place) and os.path.lexists(output / PLAN):
            word = f"holds {path}, one of the folders to merge"
        else:
            continue
        raise ResultsError(
            f"--output {output} {word}.", "Those are only read.", "--output with a folder of its own."
        )


def _read(paths: Sequence[Path]) -> tuple[list[Source], list[str]]:
    """The folders, each once, and a remark for one that is there twice. Raises ResultsError with all faults."""
    sources: dict[Path, Source] = {}
    errors: list[ResultsError] = []
    remarks = []
    for path in paths:
        if path.resolve() in sources:
            remarks.append(f"{path} is there twice: it counts once.")
            continue
        try:
            sources[path.resolve()] = read_source(path)
        except ResultsError as error:
            errors.append(error)
    _raise(errors)
    return list(sources.values()), remarks


def _raise(errors: Sequence[ResultsError]) -> None:
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ResultsError("\n".join(str(error) for error in errors))


def _check_questions(sources: Sequence[Source]) -> None:
    """Raises ResultsError where two folders answer different questions."""
    texts = [
        "\n".join(
            [
                f"{one.path} and {other.path} hold different studies. What differs:",
                *(f"  {line}" for line in lines),
            ]
        )
        for one, other, lines in question_differences(sources)
    ]
    if texts:
        raise ResultsError(
            "\n".join(texts),
            "A results folder holds one answer. Nothing was written.",
            "merge folders of one study; `bnbench report FOLDER FOLDER` shows different ones side by side.",
        )


def _conflicts(conflicts: Sequence[Conflict]) -> ResultsError:
    lines = [
        f"  {one.label}, seed {one.seed}: {'; '.join(one.lines)}: in {one.one.folder} and {one.other.folder}"
        for one in conflicts[:_NAMED]
    ]
    if more := len(conflicts) - _NAMED:
        lines += [f"  and {more} more runs"] if more > 0 else []
    texts = dict.fromkeys(
        text
        for one in conflicts
        for text in differences(one.one.record.environment, one.other.record.environment)
    )
    circumstances = (
        f"They were trained under other circumstances ({'; '.join(list(texts)[:4])}). " if texts else ""
    )
    head = (
        "1 run has two results that differ"
        if len(conflicts) == 1
        else (f"{len(conflicts)} runs have two results that differ")
    )
    return ResultsError(
        "\n".join([f"{head}:", *lines]),
        f"{circumstances}Which of the two counts is yours to say. Nothing was written.",
        f"move the wrong one of each pair away, such as rm -r {shlex.quote(str(conflicts[0].other.folder))}, and merge "
        "again.",
    )
