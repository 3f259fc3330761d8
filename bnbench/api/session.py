"""A study that is ready to run: planned, rehearsed, its folder chosen; then its runs, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bnbench.analysis.gates import check_lines, gate_columns
from bnbench.analysis.stops import follow
from bnbench.api.finished import sort_runs
from bnbench.api.luggage import Luggage, packed
from bnbench.api.plugins import Names, installed_versions
from bnbench.api.ranks import cells_on, check_options, facts_on, mistakes_on, team_for
from bnbench.base.circumstances import session
from bnbench.base.errors import BnbenchError, ConfigError
from bnbench.base.ranks import World, world_of
from bnbench.base.running import LOCAL, Running
from bnbench.base.stopwatch import Phases
from bnbench.base.user_code import was_interrupted
from bnbench.executors.words import check_executor
from bnbench.results import ResultsFolder
from bnbench.results.beside import FinishedRun
from bnbench.results.states import FolderStates
from bnbench.study import Settings, Study
from bnbench.study.events import Event, RunEnded
from bnbench.study.plan import RunSpec, make_plan
from bnbench.study.probed_claims import claim_faults, way_faults

if TYPE_CHECKING:
    from bnbench.engine.library import Library
    from bnbench.engine.networks import Networks


def _nothing() -> None:
    """There is nothing to close."""


@dataclass(frozen=True)
class Work:
    """A study that is ready to run: its runs, those still to do, and the folder they go to.

    beside: finished runs of other folders, which are copied when the folder is opened. states: of its runs;
    half_done: those that go on from theirs, where they have any. close: ends what was started to train them.
    """

    study: Study
    runs: tuple[RunSpec, ...]
    todo: tuple[RunSpec, ...]
    folder: ResultsFolder
    events: Callable[[Sequence[RunSpec]], Generator[Event]]
    phases: Phases
    today: Callable[[RunSpec], Mapping[str, Any]]
    states: FolderStates
    beside: tuple[FinishedRun, ...] = ()
    half_done: tuple[RunSpec, ...] = ()
    close: Callable[[], None] = _nothing

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
        copied = self.folder.open_for(self.study, self.runs, self.beside)
        self.states.drop_others(self.half_done)
        lost = {finished.run.key for finished in self.beside} - {finished.run.key for finished in copied}
        todo = {run.key for run in self.todo} | lost
        return replace(self, todo=tuple(run for run in self.runs if run.key in todo), beside=copied)

    def has_records(self) -> bool:
        """Whether any run has a result."""
        return any(self.folder.has(run) for run in self.runs)


@dataclass(frozen=True)
class Options:
    """Options for preparing studies. again: the finished runs to train again.

    jobs: worker processes; None for what suits the device. beside: whether finished runs of the folders beside
    the study's own count, too. running: where and for how long.
    """

    device: str
    data_dir: Path
    again: Literal["none", "changed", "all"] = "none"
    debug: bool = False
    jobs: int | None = None
    beside: bool = False
    running: Running = field(default_factory=Running)


def prepare_work(
    study: Study, names: Names, output: Path, options: Options, phases: Phases, gates: Sequence[str] = ()
) -> Work:
    """Load the data and plan the runs. Trains nothing yet, and writes nothing of it.

    gates: the study's --fail-if.
    """
    from bnbench.engine.data_notes import class_mistakes
    from bnbench.engine.device import pick_device
    from bnbench.engine.library import Library
    from bnbench.engine.networks import Networks
    from bnbench.engine.rehearsal.rehearse import rehearse
    from bnbench.engine.schedule import Options as TrainingOptions
    from bnbench.engine.schedule import Scheduler
    from bnbench.engine.state.keeping import Keeping
    from bnbench.engine.today import Today

    world = world_of()
    check_options(world, options)
    luggage = _luggage(names, study, options)
    phases.enter("data")
    check_temporary_folder()
    device = pick_device(options.device)  # type: ignore[arg-type]
    library, networks = Library(options.data_dir, device), Networks()
    folder = ResultsFolder(output)
    folder.recover()
    sources = _Sources(names, library, networks, study.seeds[0], world)
    runs = make_plan(study, sources.of)
    phases.enter("rehearsal")
    columns = [*study.asked_columns, *gate_columns(gates)]
    mistakes = list(class_mistakes(study.variants.values(), library, columns, loads=True))
    rehearsal = rehearse(runs, library, device, networks)
    mistakes += [*rehearsal.mistakes, *claim_faults(study, rehearsal.looked), *mistakes_on(study, world)]
    # a network that is refused has no ways: that mistake comes first
    if mistakes := mistakes or [*way_faults(study, rehearsal.lines)]:
        raise ConfigError(mistakes)
    check_lines(gates, rehearsal.lines)
    cells = cells_on(rehearsal.cells, world)
    today = Today(cells, device, sources.packages, world.size)
    todo, beside = sort_runs(runs, folder, options.again, today.of, beside=options.beside)
    local = any(names.needs_this_process(cell.settings) for cell in study.cells)
    states, running = FolderStates.of(output), options.running
    keeping = Keeping(states, running.save_every, resume=running.resume == "auto")
    training = TrainingOptions(1 if local else options.jobs, names.loader(), options.debug, keeping)
    training = replace(training, team=team_for(training, options, device, world))
    train = Scheduler(cells, library, device, training).train
    close: Callable[[], None] = _nothing
    if luggage is not None:
        from bnbench.api.jobs import Elsewhere, Setup

        packages = {run.label: sources.packages_of(run.settings) for run in runs}
        common = Setup(study.name, rehearsal.cells, packages, luggage, folder, device, str(options.data_dir))
        elsewhere = Elsewhere(
            replace(common, running=running, workers=options.jobs, deadline=keeping.deadline)
        )
        train, close = elsewhere.train, elsewhere.close

    def events(runs: Sequence[RunSpec]) -> Generator[Event]:
        with closing(train(runs)) as events:
            for event in events:
                yield today.noted(event) if isinstance(event, RunEnded) and not event.kept else event

    half_done = _half_done(todo, folder, options)
    return Work(study, tuple(runs), todo, folder, events, phases, today.of, states, beside, half_done, close)


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


class _Sources:
    """What else than the settings identifies a run: the content of its data, and the source of the user's own code.

    packages: installed packages that such code imports, and their versions, by the settings (as JSON) that use it.
    """

    def __init__(self, names: Names, library: Library, networks: Networks, seed: int, world: World) -> None:
        self._names, self._library, self._networks, self._seed = names, library, networks, seed
        self._world = world
        self.packages: dict[str, dict[str, str]] = {}

    def packages_of(self, settings: Settings) -> dict[str, Any]:
        """The installed packages that such code imports, as a part of a run's environment."""
        packages = self.packages.get(settings.model_dump_json())
        return {"packages": packages} if packages else {}

    def of(self, settings: Settings) -> dict[str, Any]:
        """As plain values."""
        data = self._library.prepared(settings)
        plugins: Any = []
        if self._names.uses_plugins(settings):
            built = self._networks.objects(settings, data.sizes, self._seed)
            reached = self._names.reached(settings, built)
            self.packages[settings.model_dump_json()] = installed_versions(reached.installed)
            plugins = reached.content()
        facts = {"data": self._library.dataset(settings).fingerprint, "plugins": plugins}
        further = self._library.fingerprints(settings)
        facts |= {"test_sets": further} if further else {}
        return {**facts, **facts_on(settings, data.sizes, self._world, self._networks, self._seed)}


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


def carry_out(work: Work, runs: Sequence[RunSpec], listener: Callable[[Event], None]) -> None:
    """Train these runs of a study; every run is on disk as soon as it ends."""
    now = session()
    with closing(work.events(runs)) as events:  # whatever comes in between, no worker is left behind
        for event in events:
            if isinstance(event, RunEnded) and not event.kept:
                with work.phases.during("files"):
                    environment = {**event.record.environment, "session": now}
                    event = replace(event, record=replace(event.record, environment=environment))
                    work.folder.save(event.run, event.record, event.weights, event.extras)
            listener(event)
            if was_interrupted():
                raise KeyboardInterrupt
