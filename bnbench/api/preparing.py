"""From a study to work that is ready: its data, its plan, its rehearsal, what is left to do, and what trains it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bnbench.analysis.gates import check_lines, gate_columns
from bnbench.api.finished import sort_runs
from bnbench.api.luggage import Luggage, packed
from bnbench.api.plugins import Names
from bnbench.api.ranks import cells_on, check_options, mistakes_on, team_for
from bnbench.api.session import Options, Trains, Work, nothing
from bnbench.api.sources import Sources
from bnbench.api.turns import Turns
from bnbench.base.errors import BnbenchError, ConfigError
from bnbench.base.ranks import world_of
from bnbench.base.running import LOCAL
from bnbench.base.stopwatch import Phases
from bnbench.executors.words import check_executor
from bnbench.results import ResultsFolder
from bnbench.results.claims import Claims
from bnbench.results.states import FolderStates
from bnbench.results.unchanged import scan
from bnbench.study import Study
from bnbench.study.events import Event, RunEnded
from bnbench.study.plan import RunSpec, make_plan
from bnbench.study.probed_claims import claim_faults, way_faults
from bnbench.study.shards import check_shard, part_of

if TYPE_CHECKING:
    from bnbench.engine.rehearsal.rehearse import Rehearsal
    from bnbench.engine.state.keeping import Keeping
    from bnbench.engine.today import Today


def prepare_work(
    study: Study, names: Names, output: Path, options: Options, phases: Phases, gates: Sequence[str] = ()
) -> Work:
    """Load the data and plan the runs. Trains nothing yet, and writes nothing of it.

    gates: the study's --fail-if.
    """
    if options.running.shard:
        check_shard(study, gates)
    preparation = _Preparation(study, names, output, options)
    phases.enter("data")
    runs = preparation.planned()
    phases.enter("rehearsal")
    rehearsal = preparation.rehearsed(runs, gates)
    return preparation.work(runs, rehearsal, phases)


class _Preparation:
    """What the steps share. Raises BnbenchError where the options can't work here."""

    def __init__(self, study: Study, names: Names, output: Path, options: Options) -> None:
        self.study, self.names, self.options = study, names, options
        self.world, self.folder = world_of(), ResultsFolder(output)
        check_options(self.world, options)
        self.luggage = _luggage(names, study, options)
        check_temporary_folder()

    def planned(self) -> list[RunSpec]:
        """Every run of the study, with what identifies it."""
        from bnbench.engine.device import pick_device
        from bnbench.engine.library import Library
        from bnbench.engine.networks import Networks

        self.device = pick_device(self.options.device)  # type: ignore[arg-type]
        self.library, self.networks = Library(self.options.data_dir, self.device), Networks()
        self.folder.recover()
        self.sources = Sources(self.names, self.library, self.networks, self.study.seeds[0], self.world)
        return make_plan(self.study, self.sources.of)

    def rehearsed(self, runs: Sequence[RunSpec], gates: Sequence[str]) -> Rehearsal:
        """Raises ConfigError with all mistakes that show in the networks and the data, and GateError."""
        from bnbench.engine.data_notes import class_mistakes
        from bnbench.engine.rehearsal.rehearse import rehearse

        study = self.study
        columns = [*study.asked_columns, *gate_columns(gates)]
        mistakes = list(class_mistakes(study.variants.values(), self.library, columns, loads=True))
        rehearsal = rehearse(runs, self.library, self.device, self.networks)
        mistakes += [
            *rehearsal.mistakes,
            *claim_faults(study, rehearsal.looked),
            *mistakes_on(study, self.world),
        ]
        # a network that is refused has no ways: that mistake comes first
        if mistakes := mistakes or [*way_faults(study, rehearsal.lines)]:
            raise ConfigError(mistakes)
        check_lines(gates, rehearsal.lines)
        return rehearsal

    def work(self, runs: Sequence[RunSpec], rehearsal: Rehearsal, phases: Phases) -> Work:
        """The runs that are left, and what trains them."""
        from bnbench.engine.time_left import TimeLeft
        from bnbench.engine.today import Today

        options, output, part = self.options, self.folder.path, self._part(runs, rehearsal)
        today = Today(
            cells_on(rehearsal.cells, self.world), self.device, self.sources.packages, self.world.size
        )
        keeping = _keeping(output, options)
        turns = Turns(
            Claims(output), self.folder, runs, TimeLeft(keeping, options.measured), options.running.on_lock,
            again=options.again == "all", part=part,
        )  # fmt: skip
        scanned = scan(output)
        todo, beside = sort_runs(
            part, self.folder, options.again, today.of, beside=options.beside, scanned=scanned
        )
        train, start, close = self._trains(runs, rehearsal, keeping, turns)
        own = {run.key for run in part}
        others = [run for run in runs if run.key not in own]  # the states of other shards stay
        return Work(
            self.study, tuple(runs), todo, self.folder, _noting(train, today), phases, today.of,
            FolderStates.of(output), turns, beside, _half_done([*todo, *others], self.folder, options), part,
            start, close, options.running.time_limit, scanned,
        )  # fmt: skip

    def _part(self, runs: Sequence[RunSpec], rehearsal: Rehearsal) -> tuple[RunSpec, ...]:
        """The runs of the shard, or all."""
        shard = self.options.running.shard
        if shard is None:
            return tuple(runs)
        return part_of(runs, shard, lambda run: rehearsal.cells[run.label].seconds_alone)

    def _trains(
        self, runs: Sequence[RunSpec], rehearsal: Rehearsal, keeping: Keeping, turns: Turns
    ) -> tuple[Trains, Callable[[], None], Callable[[], None]]:
        """What trains runs, what is called before and after: this machine's processes, or an executor."""
        from bnbench.engine.schedule import Options as TrainingOptions
        from bnbench.engine.schedule import Scheduler

        names, options = self.names, self.options
        if self.luggage is not None:
            from bnbench.api.job_making import Setup
            from bnbench.api.jobs import train_elsewhere

            packages = {run.label: self.sources.packages_of(run.settings) for run in runs}
            common = Setup(
                self.study.name, rehearsal.cells, packages, self.luggage, self.folder, self.device,
                str(options.data_dir),
            )  # fmt: skip
            common = replace(common, running=options.running, workers=options.jobs, deadline=keeping.deadline)
            return train_elsewhere(common, turns.admit)
        jobs = (
            1 if any(names.needs_this_process(cell.settings) for cell in self.study.cells) else options.jobs
        )
        training = TrainingOptions(jobs, names.loader(), options.debug, keeping, admit=turns.admit)
        training = replace(training, team=team_for(training, options, self.device, self.world))
        cells = cells_on(rehearsal.cells, self.world)
        return Scheduler(cells, self.library, self.device, training).train, nothing, nothing


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
