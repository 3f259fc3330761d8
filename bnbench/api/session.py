"""A study that is ready to run: planned, rehearsed, its folder chosen; then its runs, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bnbench.analysis.gates import check_lines, gate_columns
from bnbench.analysis.stops import follow
from bnbench.api.finished import sort_runs
from bnbench.api.luggage import Luggage, packed
from bnbench.api.plugins import Names
from bnbench.api.ranks import cells_on, check_options, mistakes_on, team_for
from bnbench.api.sources import Sources
from bnbench.api.turns import Turns
from bnbench.base.errors import BnbenchError, ConfigError
from bnbench.base.ranks import World, world_of
from bnbench.base.running import LOCAL, Running
from bnbench.base.stopwatch import Phases
from bnbench.base.time_limit import command_began, left_for_the_report
from bnbench.executors.words import check_executor
from bnbench.results import ResultsFolder
from bnbench.results.beside import FinishedRun
from bnbench.results.claims import Claims
from bnbench.results.states import FolderStates
from bnbench.results.unchanged import scan
from bnbench.study import Study
from bnbench.study.events import Event, RunEnded
from bnbench.study.plan import RunSpec, make_plan
from bnbench.study.probed_claims import claim_faults, way_faults
from bnbench.study.shards import check_shard, part_of


def _nothing() -> None:
    """There is nothing to close."""


if TYPE_CHECKING:
    import torch

    from bnbench.engine.library import Library
    from bnbench.engine.networks import Networks
    from bnbench.engine.rehearsal.rehearse import Rehearsal
    from bnbench.engine.state.keeping import Keeping
    from bnbench.engine.today import Today


#: Trains these runs, event by event.
Trains = Callable[[Sequence[RunSpec]], Generator[Event]]


@dataclass(frozen=True)
class Work:
    """A study that is ready to run: its runs, those still to do, and the folder they go to.

    part: the runs of the asked shard, or all of them. beside: finished runs of other folders, which are copied when
    the folder is opened. states: of its runs; half_done: those that go on from theirs, where they have any. turns: of
    this process, beside others on the folder. start: starts what trains them; close: ends it. scanned: the fingerprint
    of the folder's runs before they were looked at (see `results/unchanged.py`).
    """

    study: Study
    runs: tuple[RunSpec, ...]
    todo: tuple[RunSpec, ...]
    folder: ResultsFolder
    events: Trains
    phases: Phases
    today: Callable[[RunSpec], Mapping[str, Any]]
    states: FolderStates
    turns: Turns
    beside: tuple[FinishedRun, ...] = ()
    half_done: tuple[RunSpec, ...] = ()
    part: tuple[RunSpec, ...] = ()
    start: Callable[[], None] = _nothing
    close: Callable[[], None] = _nothing
    time_limit: float | None = None
    scanned: str = ""

    @property
    def left_over(self) -> str:
        """A sentence about the runs that the time or a signal left for the next command; "" where there are none."""
        return self.turns.sentence(self.time_limit, at_most=bool(self.study.looks))

    def check(self) -> None:
        """Raises ResultsError where the folder is someone else's, or answers another question. Touches nothing."""
        self.folder.check_for(self.study, self.runs)

    def rounds(self) -> Iterator[tuple[RunSpec, ...]]:
        """The runs to train, in turn: all runs, or with `seeds: auto` the runs that the next look needs.

        The next round is asked for when the one before is on disk: what it holds follows from the runs that are there.
        """
        try:
            yield from self._rounds()
        finally:
            self.close()

    def _rounds(self) -> Iterator[tuple[RunSpec, ...]]:
        if not self.study.looks:
            yield self.todo
            return
        pending = {run.key: run for run in self.todo}
        while round_ := self._next_look(pending):
            yield round_
            for run in round_:  # whatever became of it: a run that crashed is tried again by the next command
                del pending[run.key]

    def _next_look(self, pending: Mapping[tuple[str, int], RunSpec]) -> tuple[RunSpec, ...]:
        """Runs of the first look that is not complete. What is still to be trained counts as not there."""
        results = self.folder.load()
        cells = (
            replace(cell, records=tuple(r for r in cell.records if r.key not in pending))
            for cell in results.cells
        )
        wanted = follow(replace(results, cells=tuple(cells))).wanted
        place = {seed: index for index, seed in enumerate(self.study.seeds)}
        return tuple(run for run in pending.values() if place[run.seed] < wanted.get(run.label, 0))

    def open(self) -> Work:
        """Make the results folder, write its plan, and copy the finished runs of other folders.

        A run that has left its folder by then is to be trained. Raises ResultsError.
        """
        self.turns.check_plan()
        copied = self.folder.open_for(self.study, self.runs, self.beside)
        held = self.turns.claims.of_others(self.runs)
        self.states.drop_others([*self.half_done, *(run for run in self.runs if run.key in held)])
        lost = {finished.run.key for finished in self.beside} - {finished.run.key for finished in copied}
        todo = {run.key for run in self.todo} | lost
        return replace(self, todo=tuple(run for run in self.runs if run.key in todo), beside=copied)

    @contextmanager
    def present(self) -> Iterator[None]:
        """Inside, other processes see that this one trains; what killed ones left behind is removed first."""
        if not self.todo:
            self.turns.claims.sweep()
            yield
            return
        with self.turns.present():
            yield

    def has_records(self) -> bool:
        """Whether any run has a result."""
        return any(self.folder.has(run) for run in self.runs)


@dataclass(frozen=True)
class Options:
    """Options for preparing studies. again: the finished runs to train again.

    jobs: worker processes; None for what suits the device. beside: whether finished runs of the folders beside
    the study's own count, too. running: where and for how long. started: when the command did, by the monotonic clock.
    measured: what its runs took so far, for the studies that follow.
    """

    device: str
    data_dir: Path
    again: Literal["none", "changed", "all"] = "none"
    debug: bool = False
    jobs: int | None = None
    beside: bool = False
    running: Running = field(default_factory=Running)
    started: float = field(default_factory=command_began)
    measured: list[Any] = field(default_factory=list, repr=False, compare=False)

    @property
    def deadline(self) -> float | None:
        """When the training has to end, by the monotonic clock; None where it has all the time."""
        limit = self.running.time_limit
        return None if limit is None else self.started + limit - left_for_the_report(limit)


def prepare_work(
    study: Study, names: Names, output: Path, options: Options, phases: Phases, gates: Sequence[str] = ()
) -> Work:
    """Load the data and plan the runs. Trains nothing yet, and writes nothing of it.

    gates: the study's --fail-if.
    """
    from bnbench.engine.device import pick_device
    from bnbench.engine.library import Library
    from bnbench.engine.networks import Networks
    from bnbench.engine.schedule import Options as TrainingOptions
    from bnbench.engine.schedule import Scheduler
    from bnbench.engine.time_left import TimeLeft
    from bnbench.engine.today import Today

    if options.running.shard:
        check_shard(study, gates)
    world = world_of()
    check_options(world, options)
    luggage = _luggage(names, study, options)
    phases.enter("data")
    check_temporary_folder()
    device = pick_device(options.device)  # type: ignore[arg-type]
    library, networks = Library(options.data_dir, device), Networks()
    folder = ResultsFolder(output)
    folder.recover()
    sources = Sources(names, library, networks, study.seeds[0], world)
    runs = make_plan(study, sources.of)
    phases.enter("rehearsal")
    rehearsal = _rehearsed(study, runs, (library, networks, device, world), gates)
    cells, part = cells_on(rehearsal.cells, world), tuple(runs)
    if options.running.shard:
        part = part_of(runs, options.running.shard, lambda run: rehearsal.cells[run.label].seconds_alone)
    today = Today(cells, device, sources.packages, world.size)
    running, keeping = options.running, _keeping(output, options)
    time_left = TimeLeft(keeping, options.measured)
    turns = Turns(
        Claims(output), folder, runs, time_left, running.on_lock, again=options.again == "all", part=part
    )
    scanned = scan(output)
    todo, beside = sort_runs(part, folder, options.again, today.of, beside=options.beside, scanned=scanned)
    jobs = 1 if any(names.needs_this_process(cell.settings) for cell in study.cells) else options.jobs
    training = TrainingOptions(jobs, names.loader(), options.debug, keeping, admit=turns.admit)
    training = replace(training, team=team_for(training, options, device, world))
    train: Trains = Scheduler(cells, library, device, training).train
    start = close = _nothing
    if luggage is not None:
        from bnbench.api.job_making import Setup
        from bnbench.api.jobs import train_elsewhere

        packages = {run.label: sources.packages_of(run.settings) for run in runs}
        common = Setup(study.name, rehearsal.cells, packages, luggage, folder, device, str(options.data_dir))
        common = replace(common, running=running, workers=options.jobs, deadline=keeping.deadline)
        train, start, close = train_elsewhere(common, turns.admit)
    where = folder, _noting(train, today), phases, today.of, FolderStates.of(output), turns
    own = {run.key for run in part}
    others = [run for run in runs if run.key not in own]  # the states of other shards stay
    half_done = _half_done([*todo, *others], folder, options)
    ends = start, close
    return Work(study, tuple(runs), todo, *where, beside, half_done, part, *ends, running.time_limit, scanned)


def _rehearsed(
    study: Study,
    runs: Sequence[RunSpec],
    place: tuple[Library, Networks, torch.device, World],
    gates: Sequence[str],
) -> Rehearsal:
    """Raises ConfigError with all mistakes that show in the networks and the data, and GateError."""
    from bnbench.engine.data_notes import class_mistakes
    from bnbench.engine.rehearsal.rehearse import rehearse

    library, networks, device, world = place
    columns = [*study.asked_columns, *gate_columns(gates)]
    mistakes = list(class_mistakes(study.variants.values(), library, columns, loads=True))
    rehearsal = rehearse(runs, library, device, networks)
    mistakes += [*rehearsal.mistakes, *claim_faults(study, rehearsal.looked), *mistakes_on(study, world)]
    # a network that is refused has no ways: that mistake comes first
    if mistakes := mistakes or [*way_faults(study, rehearsal.lines)]:
        raise ConfigError(mistakes)
    check_lines(gates, rehearsal.lines)
    return rehearsal


def _keeping(output: Path, options: Options) -> Keeping:
    from bnbench.engine.state.keeping import Keeping

    running = options.running
    return Keeping(FolderStates.of(output), running.save_every, running.resume == "auto", options.deadline)


def _noting(train: Trains, today: Today) -> Trains:
    """The same, with today's circumstances in the records."""

    def events(runs: Sequence[RunSpec]) -> Generator[Event]:
        with closing(train(runs)) as events:
            for event in events:
                yield today.noted(event) if isinstance(event, RunEnded) and not event.kept else event

    return events


def _half_done(todo: Sequence[RunSpec], folder: ResultsFolder, options: Options) -> tuple[RunSpec, ...]:
    """Runs that may go on from their states: not those that are finished, and are trained again."""
    if options.again == "all" or options.running.resume == "never":
        return ()
    return tuple(run for run in todo if options.again == "none" or not folder.has(run))


def _luggage(names: Names, study: Study, options: Options) -> Luggage | None:
    """The user's code for an executor's workers; None without an executor. Raises BnbenchError where it can't work."""
    if options.running.executor == LOCAL or options.debug:
        return None
    check_executor(options.running.executor)
    return packed(names, study)


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
