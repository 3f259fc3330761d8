"""A worker's side of --executor: bytes of a job in, bytes of its result out.

What a job needs (the user's code, the data) is kept for the next one of the same study.
"""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnbench.api.worker_child import do_in_child, needs_child
from bnbench.base.circumstances import bnbench_version, machine, session
from bnbench.base.errors import BnbenchError, DataError
from bnbench.base.files import key_text
from bnbench.base.stopping import ask_to_stop, go_on, stop_asked
from bnbench.base.user_code import first_line, guarded
from bnbench.executors.driver import DriverMark
from bnbench.executors.job import Job, JobResult, Paused, RunId
from bnbench.results import ResultsFolder
from bnbench.results.run_files import run_files
from bnbench.results.run_reader import run_place
from bnbench.results.states import FolderStates
from bnbench.study import Settings
from bnbench.study.events import Event, RunEnded, RunPaused
from bnbench.study.plan import RunSpec, cell_identity

if TYPE_CHECKING:
    from bnbench.engine.execute import Trainer
    from bnbench.engine.library import Library
    from bnbench.engine.state.keeping import Keeping


class RefusedError(BnbenchError):
    """This worker can't take the job: another version, other data, no such device."""


def do_job(payload: bytes) -> bytes:
    """Train a job's runs in this process; the bytes of its `JobResult`.

    A run that raises is recorded as crashed. Where the job can't be taken at all, the result says why. Where this is no
    main thread, a child process trains. Raises ChildLostError where that is lost.
    """
    key = ""
    try:
        job = Job.from_bytes(payload)
        key = job.key
        _refuse_threads(job)
    except BnbenchError as error:
        return JobResult(key, refused=_with_place(str(error))).to_bytes()
    except BaseException as error:
        return JobResult(key, refused=_with_place(f"the job can't be read: {first_line(error)}.")).to_bytes()
    if needs_child(max((cell["choice"]["threads"] for cell in job.cells.values()), default=1)):
        return do_in_child(payload)
    try:
        result = _done(job)
    except BnbenchError as error:
        result = JobResult(key, refused=_with_place(str(error)))
    except BaseException as error:  # whatever comes, the driver gets an answer
        result = JobResult(key, refused=_with_place(f"the job could not be done: {first_line(error)}."))
    return result.to_bytes()


def versions() -> dict[str, str]:
    """What must be the same where a job is made and where it is done."""
    import torch

    return {"bnbench": bnbench_version(), "torch": str(torch.__version__)}


def _with_place(text: str) -> str:
    return f"the worker on {machine()} refused a job: {text}"


def _refuse_threads(job: Job) -> None:
    """Raises RefusedError for a thread of the driver itself."""
    if DriverMark.of(job.options["driver"]).is_this_process:
        raise RefusedError(
            "the executor's workers are threads of the process that sends the jobs.",
            "Threads share torch's random streams and its number of threads, so runs would mix.",
            "an executor of processes, or --executor loky.",
        )


def _done(job: Job) -> JobResult:
    mark = DriverMark.of(job.options["driver"])
    _check_versions(job.versions)
    mark.end_with_it()
    from bnbench.engine.process import training_process

    with ExitStack() as stack:
        stack.enter_context(guarded())
        # a process of our own is set up once; somebody else's is left as found
        stack.enter_context(training_process(for_good=mark.owned))
        go_on()
        stack.callback(go_on)
        stack.enter_context(_signals())
        shared = mark.shares()
        stack.enter_context(mark.watched(shared))
        return _trained(job, shared, stack)


def _check_versions(theirs: Mapping[str, str]) -> None:
    ours = versions()
    parts = [
        f"{name} {ours[name]} on the worker, {theirs[name]} on the machine that sent the job"
        for name in ours
        if ours[name] != theirs[name]
    ]
    if parts:
        raise RefusedError(
            f"it has other versions: {'; '.join(parts)}.",
            "Their numbers might differ.",
            "install the same versions on both.",
        )


@contextmanager
def _signals() -> Iterator[None]:
    """Inside, Ctrl-C is left to the driver, and SIGTERM saves the states of the runs and pauses them."""
    chosen = {signal.SIGINT: signal.SIG_IGN, signal.SIGTERM: lambda *_: ask_to_stop("SIGTERM")}
    before = {number: signal.signal(number, handler) for number, handler in chosen.items()}  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class _Study:
    """What this process keeps of the study that it was last at. key: stands for code, data folder and device."""

    key: str
    data_dir: Path
    library: Library
    trainer: Trainer
    checked: set[str] = field(default_factory=set)


_kept: list[_Study] = []


def _study_of(job: Job, stack: ExitStack) -> _Study:
    from bnbench.api.luggage import Luggage
    from bnbench.api.plugins import forget_plugins
    from bnbench.engine.device import pick_device
    from bnbench.engine.execute import Trainer
    from bnbench.engine.library import Library

    luggage = Luggage.of(job.options["luggage"], job.plugins)
    load = stack.enter_context(luggage.unpacked())
    data_dir, device = _data_folder(job.options["data_dir"]), pick_device(job.options["device"])
    key = key_text([luggage.values, str(data_dir), str(device), os.getcwd()])
    if not _kept or _kept[0].key != key:
        _kept.clear()
        forget_plugins()
        if load:
            load()
        library = Library(data_dir, device)
        _kept.append(_Study(key, data_dir, library, Trainer(library, device)))
    return _kept[0]


def _data_folder(theirs: str) -> Path:
    """The driver's, where it is here or can be made; else this machine's own."""
    from bnbench.api.arguments import data_folder

    path = Path(theirs)
    with suppress(OSError):
        path.mkdir(parents=True, exist_ok=True)
        return path
    return data_folder(None)


def _trained(job: Job, shared: bool, stack: ExitStack) -> JobResult:
    from bnbench.engine.choose import EngineChoice
    from bnbench.engine.schedule import replicas

    study = _study_of(job, stack)
    runs = [_run_of(run, job.cells[run.label]) for run in job.runs]
    for run in runs:
        _check_identity(run, study)
    study.trainer.keeping = _keeping(job, shared)
    collected = _Collected(job, shared)
    for group in replicas(runs):
        if stop_asked():
            collected.paused += [Paused(_id(run), 0, stop_asked()) for run in group]
            continue
        choice = EngineChoice(**job.cells[group[0].label]["choice"])
        for event in study.trainer.train(group, choice):
            collected.on(event)
    return collected.result()


def _run_of(run: RunId, cell: Mapping[str, Any]) -> RunSpec:
    settings = Settings.model_validate(cell["settings"])
    return RunSpec(cell["variant"], cell["setting"], run.seed, run.cell, settings, cell["provenance"])


def _id(run: RunSpec) -> RunId:
    return RunId(run.label, run.seed, run.cell)


def _check_identity(run: RunSpec, study: _Study) -> None:
    """Raises RefusedError where this machine would train another run than it was asked for."""
    from bnbench.data.once import prepared_once

    if run.cell in study.checked:
        return
    try:
        with prepared_once(study.data_dir):
            dataset = study.library.dataset(run.settings)
            further = study.library.fingerprints(run.settings)
    except DataError as error:
        raise RefusedError(f"{run.label}: {error.what}", error.why, error.fix) from None
    facts = {"data": dataset.fingerprint, **({"test_sets": further} if further else {})}
    if differ := [key for key, value in facts.items() if run.provenance.get(key) != value]:
        names = {"data": run.settings.dataset.name, "test_sets": "the test sets"}
        raise RefusedError(
            f"{run.label}: its data differ from the driver's: {', '.join(names[key] for key in differ)}.",
            "A run is known by the content of its data.",
            "the same files on both machines, or --data-dir with a folder that they share.",
        )
    if cell_identity(run.settings, run.provenance) != run.cell:
        raise RefusedError(f"{run.label}: its settings did not arrive as they were sent.")
    study.checked.add(run.cell)


def _keeping(job: Job, shared: bool) -> Keeping:
    from bnbench.engine.state.keeping import Keeping

    states = FolderStates.of(Path(job.folder)) if shared else None
    options = job.options
    return Keeping(states, options["save_every"], options["resume"], _deadline(options.get("until")))


def _deadline(until: Mapping[str, Any] | None) -> float | None:
    """The driver's time limit by this process's clock.

    Processes of one boot share the monotonic clock. On other machines the clock of the wall tells how long the job has
    waited, and never that there is more time than when it was sent.
    """
    if until is None:
        return None
    from bnbench.base.owner import this_process

    if until["boot"] and until["boot"] == this_process().boot:
        return float(until["monotonic"])
    return time.monotonic() + min(float(until["left"]), max(0.0, float(until["wall"]) - time.time()))


_session = functools.cache(session)


class _Collected:
    """The results of a job as they come: on the shared folder at once, else in memory."""

    def __init__(self, job: Job, shared: bool) -> None:
        self._job, self._folder = job, ResultsFolder(Path(job.folder)) if shared else None
        self._session = {**_session(), "command": job.options["command"]}
        self._done: list[RunId] = []
        self._files: dict[str, bytes] = {}
        self.paused: list[Paused] = []

    def on(self, event: Event) -> None:
        """Keep what the event says. Raises ResultsError where the shared folder can't be written."""
        if isinstance(event, RunPaused):
            self.paused.append(Paused(_id(event.run), event.step, event.reason))
        if not isinstance(event, RunEnded):
            return
        event = self._noted(event)
        if self._folder is not None:
            self._folder.save(event.run, event.record, event.weights, event.extras)
            self._done.append(_id(event.run))
            return
        place = run_place(event.run.variant, event.run.cell, event.run.seed)
        for name, content in run_files(event.record, event.weights, event.extras).items():
            self._files[f"{place}/{name}"] = content

    def _noted(self, event: RunEnded) -> RunEnded:
        """With what the driver knows of its cell, and the circumstances of this process."""
        cell, record = self._job.cells[event.run.label], event.record
        environment = {**record.environment, **cell["packages"], "session": self._session}
        cautions = () if record.outcome == "crashed" else tuple(cell["cautions"])
        record = replace(record, environment=environment, cautions=(*record.cautions, *cautions))
        return replace(event, record=record)

    def result(self) -> JobResult:
        """What goes back."""
        return JobResult(
            self._job.key, tuple(self._done), self._files, tuple(self.paused), machine={"name": machine()}
        )
