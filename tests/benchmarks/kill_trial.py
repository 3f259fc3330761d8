"""One trial of the campaign: a command is killed, and killed again as it goes on, then runs to its end.

Oracle: the same study that nothing disturbed.
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from kill_cases import Case
from kill_process import Command, Notes, members, orphans, shared_memory, temporary_files, wait, workers

from tests.faulty_disk import Fault, calls
from tests.same_results import assert_same

#: Seconds between two states in the campaign.
EVERY = 1.0
#: A save that takes longer than this makes the interval longer in proportion (see `bnbench.engine.state.saving`).
LONG_SAVE = 0.3
#: So long a command may take at most, in seconds.
PATIENCE = 400.0
#: At most so many kills in a row before the command runs to its end.
MOST_KILLS = 8


@dataclass
class Kill:
    """One kill. stage: where the command was. target: what was killed. lost: seconds of training, None if unknown."""

    stage: str
    target: str
    jobs: int
    lost: float | None = None
    allowed: float | None = None


@dataclass
class Outcome:
    """What became of a trial. faults: empty where everything was as it should be."""

    number: int
    case: str
    kills: list[Kill] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


@dataclass(frozen=True)
class Place:
    """Where a trial works. pythons: by whether a case needs Keras. most: kills in a row before the end is reached."""

    folder: Path
    pythons: Mapping[bool, str]
    most: int = MOST_KILLS


def reference(case: Case, place: Place) -> tuple[Path, float]:
    """The results of the undisturbed study, made where they are not there yet, and the seconds that it took."""
    folder = place.folder / "undisturbed" / case.name
    timing = place.folder / "undisturbed" / f"{case.name}.seconds"
    with _alone(folder.with_suffix(".lock")):
        if timing.exists():
            return folder, float(timing.read_text())
        shutil.rmtree(folder, ignore_errors=True)
        scratch = place.folder / "undisturbed" / f"{case.name}.scratch"
        command = Command(
            _words(case, place, folder, 1), scratch, place.pythons[case.keras], forked=not case.keras
        )
        began = time.monotonic()
        code = wait(command.start(), PATIENCE)
        if code != 0:
            raise RuntimeError(f"{case.name}: exit {code}\n{command.output.read_text()}")
        timing.write_text(f"{time.monotonic() - began:.2f}")
        return folder, float(timing.read_text())


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Inside, no other part of the campaign is here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _words(case: Case, place: Place, results: Path, jobs: int) -> list[str]:
    study = place.folder / f"{case.name}.yaml"
    if not study.exists():
        study.write_text(yaml.safe_dump({"name": case.name, **case.study}, sort_keys=False))
    words = ["compare", str(study), "--output", str(results), "--save-every", str(EVERY)]
    return [*words, "--jobs", str(jobs), *case.words]


class Trial:
    """A number chooses everything that is random in it."""

    def __init__(self, number: int, seed: int, case: Case, place: Place) -> None:
        self.draw = random.Random(f"{seed} {number} {case.name}")
        self.case, self.place, self.outcome = case, place, Outcome(number, case.name)
        self.scratch = place.folder / f"trial-{number}"
        self.results = self.scratch / "results"
        self.sessions: list[int] = []

    def run(self) -> Outcome:
        """Kill, go on, and compare in the end. The folder stays where something is wrong."""
        began = time.monotonic()
        undisturbed, seconds = reference(self.case, self.place)
        shutil.rmtree(self.scratch, ignore_errors=True)
        ended = False
        for index in range(self.draw.randint(min(4, self.place.most), self.place.most)):
            if ended := not self._killed(index, seconds):
                break
        while not ended:  # runs whose worker was killed are crashed ones: the same command tries them again
            ended = self._completed()
        self._compare(undisturbed)
        self.outcome.seconds = round(time.monotonic() - began, 2)
        if not self.outcome.faults:
            shutil.rmtree(self.scratch, ignore_errors=True)
        return self.outcome

    def _command(self, index: int, fault: Fault | None = None) -> tuple[Command, int]:
        jobs = self.draw.choice([1, 2, 2]) if self.case.workers else 1
        forked = not self.case.keras and jobs == 1 and self.draw.random() < 0.93
        words = _words(self.case, self.place, self.results, jobs)
        command = Command(
            words,
            self.scratch / f"command-{index}",
            self.place.pythons[self.case.keras],
            forked,
            fault,
            workers=jobs > 1,
        )
        return command, jobs

    def _killed(self, index: int, seconds: float) -> bool:
        """Whether a command was killed before its end."""
        fault = self._fault(index) if self.draw.random() < 0.45 else None
        command, jobs = self._command(index, fault)
        # what is kept is not trained again, so later commands end sooner
        share = self.draw.uniform(0.0, 0.8) if index == 0 else self.draw.uniform(0.0, 0.5)
        instant = share * seconds + (0.0 if command.forked else self.draw.uniform(0.0, 6.0))
        process = command.start()
        self.sessions.append(process)
        if fault:
            code, target = wait(process, PATIENCE), "itself"
            if len(calls(fault)) >= fault.at and code in (0, 3):
                target = "a worker"  # which met the fault; the command went on without it
        else:
            target = self._target(jobs)
            if target in ("a worker", "all processes"):
                code, instant = self._workers_there(process), self.draw.uniform(0.0, 3.0)
            else:
                code = None
            code = wait(process, instant) if code is None else code
            if code is None:
                target = self._kill(process, target)
                code = wait(process, PATIENCE if target == "a worker" else 10.0)
            else:
                target = ""
        killed = time.monotonic()
        self._check_rest(process, command)
        if not target or (target == "itself" and code != -signal.SIGKILL):
            return code != 0 and not self._is_known(code, command)
        if target == "a worker" and code not in (0, 3):
            self.outcome.faults.append(f"a worker was killed, and the exit code is {code}: {_tail(command)}")
        self.outcome.kills.append(self._recorded(command, fault, killed, target, jobs))
        return True

    def _fault(self, index: int) -> Fault:
        """A kill in place of a call that changes the results folder: mostly inside the write of a state."""
        only = (
            ".states"
            if self.draw.random() < 0.7
            else self.draw.choice(["runs/", "summary", "report.html", "plan", ""])
        )
        at = self.draw.randint(1, 24 if only in (".states", "runs/", "") else 5)
        log = self.scratch / f"calls-{index}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        return Fault("kill", at, str(self.results), str(log), only)

    def _target(self, jobs: int) -> str:
        """What is to be killed: the command, a worker of it, or all of its processes at once."""
        others = ["all processes", "a worker", "a worker", "a worker"] if jobs > 1 else []
        return self.draw.choice(["the command", *others])

    def _workers_there(self, process: int) -> int | None:
        """Wait until workers train, or all is done; the exit code then."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and not workers(process, process):
            if (code := wait(process, 0.05)) is not None:
                return code
        return None

    def _kill(self, process: int, target: str) -> str:
        training = workers(process, process) if target == "a worker" else []
        if training:
            _end(self.draw.choice(training))
            return target
        os.kill(process, signal.SIGKILL)
        if target == "all processes":
            for member in members(process):
                if member != process:
                    _end(member)
            return target
        return "the command"

    def _recorded(self, command: Command, fault: Fault | None, killed: float, target: str, jobs: int) -> Kill:
        if not command.forked:
            inside = f"{calls(fault)[-1]}" if fault and calls(fault) else ""
            stage = (
                "writing a state"
                if ".states" in inside
                else "results"
                if inside
                else _stage(self.results, target)
            )
            return Kill(stage, target, jobs)
        notes = Notes.of(command.notes)
        stage = notes.stage(self.results)
        if fault and (found := calls(fault)):
            stage = "writing a state" if ".states" in found[-1] and "step-" in found[-1] else "results"
        kill = Kill(stage, target, jobs)
        found_loss = notes.lost(killed, kept_steps(self.results), self.results)
        if found_loss and stage in ("training", "writing a state"):
            longest = max(notes.costs(), default=0.0)
            kill.lost = round(found_loss[0], 3)
            kill.allowed = round(EVERY * max(1.0, longest / LONG_SAVE) + found_loss[1], 3)
            if kill.lost > kill.allowed:
                self.outcome.faults.append(f"{kill.lost} s were lost, and {kill.allowed} s are allowed")
        return kill

    def _is_known(self, code: int | None, command: Command) -> bool:
        """Whether a command that was not killed ended as it may: done, or with runs whose worker was killed before."""
        if code == 0:
            return True
        self.outcome.faults.append(f"a command that was not killed ended with {code}: {_tail(command)}")
        return True

    def _completed(self) -> bool:
        """Run to the end; whether it is reached."""
        for attempt in range(3):
            command, _ = self._command(90 + attempt)
            process = command.start()
            self.sessions.append(process)
            code = wait(process, PATIENCE)
            self._check_rest(process, command)
            if code == 0:
                return True
        self.outcome.faults.append(f"the study does not end: exit code {code}: {_tail(command)}")
        return True

    def _check_rest(self, process: int, command: Command) -> None:
        for line in orphans(process).values():
            self.outcome.faults.append(f"a process is left: {line[:200]}")
        for name in temporary_files(command.temporary):
            self.outcome.faults.append(f"a temporary file is left: {name}")

    def _compare(self, undisturbed: Path) -> None:
        for name in shared_memory(self.sessions):
            self.outcome.faults.append(f"shared memory is left: {name}")
        try:
            assert_same(undisturbed, self.results)
        except AssertionError as error:
            self.outcome.faults.append(str(error)[:1500])


def kept_steps(results: Path) -> dict[str, int]:
    """By run ("batch 0"), the step of its last state, by the names of the files."""
    kept: dict[str, int] = {}
    for path in results.glob(".states/*/seed-*/step-*.safetensors"):
        variant, seed = path.parent.parent.name.rpartition("-")[0], path.parent.name.partition("-")[2]
        step = int(path.name.split(".")[0].partition("-")[2])
        kept[f"{variant} {seed}"] = max(step, kept.get(f"{variant} {seed}", 0))
    return kept


def _stage(results: Path, target: str) -> str:
    """Of a command that wrote nothing down, by what lies in its folder."""
    if not (results / "plan.json").exists():
        return "start"
    if any(results.glob(".states/*/seed-*/.*")):
        return "writing a state"
    if any(results.glob(".states/*/seed-*")) or target == "a worker":
        return "training"
    return "results" if any(results.glob("runs/*/seed-*/run.json")) else "start"


def _end(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _tail(command: Command) -> str:
    return command.output.read_text(errors="replace")[-600:] if command.output.exists() else ""


def trials(cases: Sequence[Case], seed: int) -> Iterator[tuple[int, Case]]:
    """Without end: the number of each trial, and its case, by the weights."""
    number = 0
    while True:
        draw = random.Random(f"{seed} {number}")
        yield number, draw.choices(cases, [case.weight for case in cases])[0]
        number += 1
