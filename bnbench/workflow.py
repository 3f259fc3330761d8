"""What the commands do, room by room: study, plan, engine, results, analysis. The one place that sees them all."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bnbench.analysis.contents import Summary
from bnbench.analysis.gates import gate_columns, judge_gates, read_gates, share_gates
from bnbench.analysis.stops import follow
from bnbench.analysis.summary import summarize
from bnbench.config import CHOICES, Settings, Study, Vocabulary
from bnbench.errors import ConfigError, Mistake, PluginError, ResultsError, nearest
from bnbench.metrics import metric_of
from bnbench.phases import Phases
from bnbench.plan import CellEstimate, Event, RunEnded, RunSpec, make_plan
from bnbench.python_file import import_file, line_of
from bnbench.report.export import to_csv, to_json
from bnbench.results import REPORT, SUMMARY_CSV, SUMMARY_JSON, ResultsFolder, StudyResults

_HERE = Path(__file__).parent
#: Shipped studies: inside an installed package, beside it in a checkout.
STUDIES = next((folder for folder in (_HERE / "configs", _HERE.parent / "configs") if folder.is_dir()), _HERE)
QUICKSTART = "quickstart"
_PACKAGES = ("bnbench", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "pydantic")


def find_study(name: str) -> Path:
    """A file, or the name of a shipped study. Raises ConfigError with the nearest name."""
    path = Path(os.path.expanduser(name))
    if name == "-" or is_readable(path):
        return path
    shipped = {file.stem: file for file in shipped_studies()}
    stem = path.stem if path.suffix in (".yaml", ".yml") else path.name
    if stem in shipped and path.parent in (Path(), Path("configs")):
        return shipped[stem]
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
    from bnbench.engine.server import count_cores, start_server

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
class Names:
    """What is registered, and which of it came from plugins (module name -> hash of its source)."""

    vocabulary: Vocabulary
    plugins: Mapping[str, str] = field(default_factory=dict)

    def source(self, settings: Settings) -> list[str]:
        """Hashes of the plugins that these settings use."""
        modules = (self.vocabulary[key][getattr(settings, key).name].factory.__module__ for key in CHOICES)
        return sorted({self.plugins[module] for module in modules if module in self.plugins})


def known_names(plugins: Sequence[Path] = ()) -> Names:
    """Load everything that is registered, then the user's plugins. Raises PluginError."""
    from bnbench.data import datasets
    from bnbench.models import models
    from bnbench.norms import norms
    from bnbench.optim import losses, optimizers, schedules

    registries = dict(zip(CHOICES, (datasets, models, norms, optimizers, schedules, losses), strict=True))
    for registry in registries.values():
        registry.names()  # so that a plugin that takes a name is the one to be blamed
    hashes = {_import_plugin(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in plugins}
    vocabulary = {
        key: {entry.name: entry for entry in registry.entries()} for key, registry in registries.items()
    }
    return Names(vocabulary, hashes)


def _import_plugin(path: Path) -> str:
    """Import one Python file of the user's; its module name."""
    try:
        return import_file(path, "bnbench_plugin").__name__
    except PluginError as error:
        raise PluginError(f"--plugin {path}: {error.what}", error.why, error.fix) from None
    except Exception as error:
        raise PluginError(
            f"--plugin {path}:{line_of(error, path)}: {type(error).__name__}: {error}"
        ) from error


@dataclass(frozen=True)
class Work:
    """A study that is ready to run: its runs, those still to do, and the folder they go to."""

    study: Study
    runs: tuple[RunSpec, ...]
    todo: tuple[RunSpec, ...]
    folder: ResultsFolder
    events: Callable[[Sequence[RunSpec]], Generator[Event]]
    phases: Phases

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
        self.folder.open_for(self.study, self.runs, environment())

    def has_records(self) -> bool:
        """Whether any run is there to be shown."""
        return any(self.folder.has(run) for run in self.runs)


def prepare_work(
    study: Study,
    names: Names,
    output: Path,
    *,
    device: str,
    data_dir: Path,
    force: bool,
    debug: bool,
    jobs: int | None = None,
    plugins: Sequence[Path] = (),
    gates: Sequence[str] = (),
    phases: Phases,
) -> Work:
    """Load the data and plan the runs. Writes and trains nothing yet.

    jobs: worker processes; None for what suits the device. plugins: loaded again in each of them.
    gates: the study's --fail-if.
    """
    from bnbench.data.classes import unmeasured
    from bnbench.engine.device import pick_device
    from bnbench.engine.execute import Library, rehearse
    from bnbench.engine.jobs import run_all

    phases.enter("data")
    torch_device = pick_device(device)  # type: ignore[arg-type]
    library = Library(data_dir, torch_device)
    folder = ResultsFolder(output)

    def provenance(settings: Settings) -> dict[str, Any]:
        library.prepared(settings)
        return {"data": library.dataset(settings).fingerprint, "plugins": names.source(settings)}

    runs = make_plan(study, provenance)
    phases.enter("rehearsal")
    columns = [
        *study.columns,
        *gate_columns(gates),
        *(f"test_{name}" for name in study.metrics if ":" in name),
    ]
    prepared = (library.prepared(settings) for settings in study.variants.values())
    asked = {text for data in prepared for text in unmeasured(columns, data)}
    mistakes = [Mistake("metrics of single classes", text) for text in sorted(asked)]
    if mistakes := [*mistakes, *rehearse(runs, library, torch_device)]:
        raise ConfigError(mistakes)
    todo = [run for run in runs if force or not folder.has(run)]
    load = partial(known_names, plugins) if plugins else None

    def events(runs: Sequence[RunSpec]) -> Generator[Event]:
        return run_all(runs, library, torch_device, workers=jobs, debug=debug, prepare=load)

    return Work(study, tuple(runs), tuple(todo), folder, events, phases)


def estimate(study: Study, device: str, data_dir: Path) -> list[CellEstimate]:
    """What every cell of the study will cost."""
    from bnbench.engine.device import pick_device
    from bnbench.engine.estimate import estimate_study
    from bnbench.engine.execute import Library

    torch_device = pick_device(device)  # type: ignore[arg-type]
    return estimate_study(study, torch_device, Library(data_dir, torch_device))


def carry_out(work: Work, runs: Sequence[RunSpec], listener: Callable[[Event], None]) -> None:
    """Train these runs of a study; every run is on disk as soon as it ends."""
    with closing(work.events(runs)) as events:  # whatever comes in between, no worker is left behind
        for event in events:
            if isinstance(event, RunEnded):
                with work.phases.during("files"):
                    work.folder.save(event.run, event.record, event.weights)
            listener(event)


def gates_of(texts: Sequence[str], studies: Sequence[Study]) -> list[tuple[str, ...]]:
    """The --fail-if of each study. Raises GateError where one fits no study."""
    shared = share_gates(texts, [study.variants for study in studies])
    for gates, study in zip(shared, studies, strict=True):
        read_gates(gates, study.variants, len(study.seeds))
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
    gates = read_gates(fail_if, dict.fromkeys(cell.variant for cell in results.cells), seeds)
    asked = (*results.metrics, *(metric_of(gate.metric).name for gate in gates))
    summary = summarize(replace(results, metrics=asked))
    return replace(summary, gates=tuple(judge_gates(gates, summary)))


def summarize_folder(folder: ResultsFolder, fail_if: Sequence[str] = ()) -> tuple[StudyResults, Summary]:
    """What a results folder holds and says. Needs no torch. Raises ResultsError and GateError."""
    results = load_results(folder)
    return results, summarize_results(results, fail_if)


def write_summaries(
    folder: ResultsFolder, results: StudyResults, summary: Summary, *, page: bool = True
) -> str:
    """Write the summary files into the results folder; a warning where report.html can't be drawn, else "".

    page: also draw report.html, which takes two seconds; without, it is left as it is. Raises
    ResultsError where the disk won't do.
    """
    folder.write(SUMMARY_JSON, to_json(summary))
    folder.write(SUMMARY_CSV, to_csv(summary))
    if not page:
        return ""
    try:
        from bnbench.report.html import to_html

        text = to_html(summary, results)
    except Exception as error:  # whatever a drawing library raises: no result is lost for a picture
        (folder.path / REPORT).unlink(missing_ok=True)  # one of earlier numbers would mislead
        return f"{REPORT} can't be drawn: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
    folder.write(REPORT, text)
    return ""


def environment() -> dict[str, Any]:
    """What a reader of the results may want to know of the machine and the versions."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpu_count": os.cpu_count(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "git_revision": _git_revision(),
        "command": ["bnbench", *sys.argv[1:]],
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """Revision of the checkout that bnbench runs from, None where it is installed as a package."""
    if not (_HERE.parent / ".git").exists():
        return None
    command = ["git", "-C", str(_HERE.parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
