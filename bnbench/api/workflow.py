"""What the commands do, room by room: study, plan, engine, results, analysis. The one place that sees them all."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import bnbench
from bnbench.analysis.circumstances import differences, other_circumstances
from bnbench.analysis.contents import Summary
from bnbench.analysis.gates import gate_columns, judge_gates, read_gates, share_gates
from bnbench.analysis.stops import follow
from bnbench.analysis.summary import summarize
from bnbench.api.plugins import Names, built_objects, installed_versions, load_same
from bnbench.base.circumstances import session
from bnbench.base.errors import (
    BnbenchError,
    ConfigError,
    GateError,
    Mistake,
    ResultsError,
    nearest,
    unknown_name,
)
from bnbench.base.metrics import metric_of
from bnbench.base.stopwatch import Phases
from bnbench.base.user_code import guarded, was_interrupted
from bnbench.reports.formats.export import to_csv, to_json
from bnbench.results import REPORT, SUMMARY_CSV, SUMMARY_JSON, ResultsFolder, StudyResults
from bnbench.study import Settings, Study
from bnbench.study.events import Event, RunEnded
from bnbench.study.plan import CellEstimate, RunSpec, make_plan

_HERE = Path(bnbench.__file__).parent
#: Shipped studies: inside an installed package, beside it in a checkout.
STUDIES = next((folder for folder in (_HERE / "configs", _HERE.parent / "configs") if folder.is_dir()), _HERE)


def find_study(name: str) -> Path:
    """A file, or the name of a shipped study. Raises ConfigError with the nearest name."""
    path = Path(os.path.expanduser(name))
    if name == "-" or is_readable(path):
        return path
    shipped = {file.stem: file for file in shipped_studies()}
    stem = path.stem if path.suffix in (".yaml", ".yml") else path.name
    if stem in shipped and path.parent in (Path(), Path("configs")):
        return shipped[stem]
    if path.is_dir():
        raise ConfigError([Mistake(name, "it is a folder. Fix: name the YAML file in it.")])
    guess = nearest(stem, shipped)
    hint = f' Did you mean "{guess}"?' if guess else ""
    raise ConfigError(
        [Mistake(name, f"no such study.{hint} Shipped: {', '.join(shipped)}; or name a YAML file.")]
    )


def is_readable(path: Path) -> bool:
    """Whether a study can be read from there: a file, or a pipe such as /dev/fd/63."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def shipped_studies() -> list[Path]:
    """The studies that come with bnbench, by name."""
    return sorted(STUDIES.glob("*.yaml"))


def start_workers_early(
    studies: Sequence[str], overrides: Sequence[str], device: str, jobs: int | None
) -> None:
    """Workers' imports take as long as this process's: let them go on beside, before it makes its own.

    Not where a GPU seems to be at hand, nor for studies of the embedded digits, which are done before workers would be.
    """
    from bnbench.engine.workers.server import count_cores, start_server

    gpu = sys.platform == "darwin" or Path("/dev/nvidiactl").exists()
    if min(count_cores(), jobs or 2) < 2 or device not in ("auto", "cpu") or (device == "auto" and gpu):
        return
    with suppress(OSError, ConfigError):  # a study that isn't there is told by what reads it
        if not all(_is_of_digits(find_study(study), overrides) for study in studies):
            start_server()


def _is_of_digits(study: Path, overrides: Sequence[str]) -> bool:
    """At a glance, before anything can read it properly; a wrong guess costs a second."""
    for override in reversed(overrides):
        if re.match(r"dataset(\.name)?\s*=", override):
            return "digits" in override
    if not study.is_file():
        return True  # what a pipe holds can be read once
    return bool(re.search(rb"^dataset:\s*(\{\s*name:\s*)?digits\b", study.read_bytes(), re.M))


@dataclass(frozen=True)
class Work:
    """A study that is ready to run: its runs, those still to do, and the folder they go to."""

    study: Study
    runs: tuple[RunSpec, ...]
    todo: tuple[RunSpec, ...]
    folder: ResultsFolder
    events: Callable[[Sequence[RunSpec]], Generator[Event]]
    phases: Phases
    today: Callable[[RunSpec], Mapping[str, Any]]

    def check(self) -> None:
        """Raises ResultsError where the folder is someone else's, or answers another question. Touches nothing."""
        self.folder.check_for(self.study, self.runs)

    def rounds(self) -> Iterator[tuple[RunSpec, ...]]:
        """What is to be trained, in turn: everything, or with `seeds: auto` what the next look needs.

        The next round is asked for when the one before is on disk: what it holds follows from the runs that are there.
        """
        if not self.study.looks:
            yield self.todo
            return
        pending = {(run.label, run.seed): run for run in self.todo}
        while round_ := self._next_look(pending):
            yield round_
            for run in round_:  # whatever became of it: a run that crashed is tried again by the next command
                del pending[run.label, run.seed]

    def _next_look(self, pending: Mapping[tuple[str, int], RunSpec]) -> tuple[RunSpec, ...]:
        """Runs of the first look that is not complete. What is still to be trained counts as not there."""
        results = self.folder.load()
        cells = (
            replace(cell, records=tuple(r for r in cell.records if (r.label, r.seed) not in pending))
            for cell in results.cells
        )
        wanted = follow(replace(results, cells=tuple(cells))).wanted
        place = {seed: index for index, seed in enumerate(self.study.seeds)}
        return tuple(run for run in pending.values() if place[run.seed] < wanted.get(run.label, 0))

    def open(self) -> None:
        """Make the results folder and write down what is planned. Raises ResultsError."""
        self.folder.open_for(self.study, self.runs)

    def has_records(self) -> bool:
        """Whether any run is there to be shown."""
        return any(self.folder.has(run) for run in self.runs)


@dataclass(frozen=True)
class Options:
    """How to prepare studies. again: which of the finished runs to train again.

    jobs: worker processes; None for what suits the device. plugins: loaded again in each of them.
    """

    device: str
    data_dir: Path
    again: Literal["none", "changed", "all"] = "none"
    debug: bool = False
    jobs: int | None = None
    plugins: Sequence[Path] = ()


def prepare_work(
    study: Study, names: Names, output: Path, options: Options, phases: Phases, gates: Sequence[str] = ()
) -> Work:
    """Load the data and plan the runs. Trains nothing yet, and writes nothing of it.

    gates: the study's --fail-if.
    """
    from bnbench.engine.data_notes import class_mistakes
    from bnbench.engine.device import pick_device
    from bnbench.engine.execute import Library, rehearse
    from bnbench.engine.schedule import run_all
    from bnbench.engine.today import Today

    phases.enter("data")
    check_temporary_folder()
    device = pick_device(options.device)  # type: ignore[arg-type]
    library = Library(options.data_dir, device)
    folder = ResultsFolder(output)
    folder.recover()
    packages: dict[str, dict[str, str]] = {}

    def provenance(settings: Settings) -> dict[str, Any]:
        data = library.prepared(settings)
        plugins: Any = []
        if names.uses_plugins(settings):
            found = names.reached(settings, built_objects(settings, data))
            packages[settings.model_dump_json()] = installed_versions(found.installed)
            plugins = found.content()
        return {"data": library.dataset(settings).fingerprint, "plugins": plugins}

    runs = make_plan(study, provenance)
    phases.enter("rehearsal")
    columns = [*study.asked_columns, *gate_columns(gates)]
    mistakes = list(class_mistakes(study.variants.values(), library, columns, loads=True))
    rehearsal = rehearse(runs, library, device)
    if mistakes := [*mistakes, *rehearsal.mistakes]:
        raise ConfigError(mistakes)
    today = Today(library, device, packages)
    todo = [run for run in runs if _is_to_do(run, folder, options.again, today.of)]
    load = partial(load_same, options.plugins, names.content()) if options.plugins else None

    def events(runs: Sequence[RunSpec]) -> Generator[Event]:
        how: dict[str, Any] = {"workers": options.jobs, "debug": options.debug, "prepare": load}
        events = run_all(runs, library, device, cautions=rehearsal.cautions, **how)
        with closing(events):
            for event in events:
                yield today.noted(event) if isinstance(event, RunEnded) else event

    return Work(study, tuple(runs), tuple(todo), folder, events, phases, today.of)


def check_temporary_folder() -> None:
    """Raises BnbenchError where there is none: torch needs one, and says something else in its absence."""
    import tempfile

    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        raise BnbenchError(
            f"no folder for temporary files can be written: {error.strerror}.",
            "The disk may be full, or these folders read-only.",
            "free some space, or name a folder: export TMPDIR=DIR",
        ) from None


def _is_to_do(
    run: RunSpec, folder: ResultsFolder, again: str, today: Callable[[RunSpec], Mapping[str, Any]]
) -> bool:
    record = folder.finished(run) if again != "all" else None
    return record is None or (again == "changed" and bool(differences(record.environment, today(run))))


def estimate(
    study: Study, device: str, data_dir: Path, progress: Callable[[str], None]
) -> list[CellEstimate]:
    """What every cell of the study will cost. progress: is told what is being done."""
    from bnbench.engine.data_notes import class_mistakes, early_notes
    from bnbench.engine.device import pick_device
    from bnbench.engine.estimate import estimate_study
    from bnbench.engine.execute import Library

    check_temporary_folder()
    torch_device = pick_device(device)  # type: ignore[arg-type]
    library = Library(data_dir, torch_device)
    with guarded():
        found = estimate_study(study, torch_device, library, progress)
    variants = study.variants.values()
    if mistakes := list(class_mistakes(variants, library, study.asked_columns, loads=False)):
        raise ConfigError(mistakes)
    return [
        replace(cell, notes=early_notes(of.settings, library))
        for cell, of in zip(found, study.cells, strict=True)
    ]


def carry_out(work: Work, runs: Sequence[RunSpec], listener: Callable[[Event], None]) -> None:
    """Train these runs of a study; every run is on disk as soon as it ends."""
    now = session()
    with closing(work.events(runs)) as events:  # whatever comes in between, no worker is left behind
        for event in events:
            if isinstance(event, RunEnded):
                with work.phases.during("files"):
                    told = {**event.record.environment, "session": now}
                    event = replace(event, record=replace(event.record, environment=told))
                    work.folder.save(event.run, event.record, event.weights, event.samples)
            listener(event)
            if was_interrupted():
                raise KeyboardInterrupt


def gates_of(texts: Sequence[str], studies: Sequence[Study]) -> list[tuple[str, ...]]:
    """The --fail-if of each study. Raises GateError where one fits no study."""
    shared = share_gates(texts, [study.variants for study in studies])
    for gates, study in zip(shared, studies, strict=True):
        read_gates(
            gates,
            study.variants,
            len(study.seeds),
            study.margin,
            swept=len(study.cells) > len(study.variants),
        )
    return shared


def load_results(folder: ResultsFolder) -> StudyResults:
    """What a results folder holds. Raises ResultsError where no run is there."""
    results = folder.load()
    if not any(cell.records for cell in results.cells):
        raise ResultsError(
            f"{folder.path}: none of its runs is here yet, so there is nothing to show.",
            fix="`bnbench compare` with the same study trains them.",
        )
    return results


def summarize_results(results: StudyResults, fail_if: Sequence[str] = ()) -> Summary:
    """What they say, and what the gates say of it. Raises GateError where a gate does not fit."""
    seeds = min(len(cell.seeds) for cell in results.cells)
    gates = read_gates(fail_if, dict.fromkeys(cell.variant for cell in results.cells), seeds, results.margin)
    known = next((run.class_names for cell in results.cells for run in cell.records if run.class_names), ())
    for gate in gates:
        class_name = metric_of(gate.metric).class_name
        if known and class_name is not None and class_name not in known:
            raise GateError(f"--fail-if '{gate.text}': {unknown_name('class', class_name, known)}")
    asked = (*results.metrics, *(metric_of(gate.metric).name for gate in gates))
    summary = summarize(replace(results, metrics=asked))
    return replace(summary, gates=tuple(judge_gates(gates, summary)))


def summarize_work(work: Work, fail_if: Sequence[str] = ()) -> tuple[StudyResults, Summary]:
    """What a study's folder holds and says, also of runs that were trained under other circumstances than today's.

    Raises ResultsError and GateError.
    """
    results = load_results(work.folder)
    summary = summarize_results(results, fail_if)
    specs = {(run.variant, run.cell, run.seed): run for run in work.runs}
    changed = other_circumstances(
        (run, work.today(specs[run.variant, run.cell, run.seed]))
        for cell in results.cells
        for run in cell.records
    )
    return results, replace(summary, limits=(*summary.limits, *changed))


def write_summaries(
    folder: ResultsFolder, results: StudyResults, summary: Summary, *, page: bool = True
) -> str:
    """Write the summary files into the results folder; a warning where report.html can't be drawn, else "".

    page: also draw report.html, which takes two seconds; without, it is left as it is. Raises
    ResultsError where the disk won't do.
    """
    folder.write(SUMMARY_JSON, to_json(summary))
    folder.write(SUMMARY_CSV, to_csv(summary))
    folder.write_environment(results)
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
