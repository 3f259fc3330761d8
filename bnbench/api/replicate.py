"""`bnbench.replicate`: published findings run again and judged. Returns objects, prints nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnbench.analysis.findings.finding import Finding
from bnbench.analysis.findings.replication import Replication, replication
from bnbench.analysis.findings.stored import Replicated, read_replicated, with_text_of, write_replicated
from bnbench.analysis.findings.values import check_quantities, measure
from bnbench.api.arguments import (
    DEVICES,
    Overrides,
    PathLike,
    Seeds,
    choice_of,
    data_folder,
    hearing,
    number_of,
    override_words,
    path_of,
    running_of,
    words_of,
)
from bnbench.api.carrying_out import carry_out_all, open_all
from bnbench.api.findings import Asked, find_finding, read_finding, read_findings, shipped_findings
from bnbench.api.plugins import Names, forget_plugins, known_names
from bnbench.api.preparing import prepare_work
from bnbench.api.session import Options, Work
from bnbench.base.errors import BnbenchError, ConfigError, Mistake, ResultsError
from bnbench.base.files import write_whole
from bnbench.base.running import Running
from bnbench.base.stopwatch import Phases
from bnbench.base.user_code import guarded
from bnbench.listeners import Hears
from bnbench.results import REPORT
from bnbench.results.lines import with_lines
from bnbench.results.naming import folder_name
from bnbench.study import ARGUMENT, COMMAND_LINE, Study, load_inner_study

#: Where `replicate` keeps its results.
OUTPUT = Path("results") / "findings"


@dataclass(frozen=True)
class Job:
    """A study that is trained once, and the findings that rest on it. folder: of its runs."""

    study: Study
    asked: tuple[Asked, ...]
    folder: Path
    overrides: tuple[str, ...]

    @property
    def title(self) -> str:
        """The findings that rest on it."""
        return ", ".join(one.finding.name for one in self.asked)

    def prepare(self, names: Names, options: Options) -> Work:
        """The study, ready to run. Raises ConfigError, DataError and ResultsError."""
        with guarded():
            work = prepare_work(self.study, names, self.folder, options, Phases())
        try:
            work.check()
        except ResultsError as error:
            fix = f"remove {self.folder}, or --output with another folder than {self.folder.parent}"
            raise ResultsError(error.what, error.why, fix) from None
        return open_all([work])[0]

    def finish(self, work: Work, cpu_seconds: float | None) -> list[Replicated]:
        """The values of every finding's claims, written beside the study's folder. Raises ResultsError."""
        results = with_lines(work.folder.load())
        runs = [run for cell in results.cells for run in cell.records]
        environment = runs[0].environment if runs else {}
        seconds = sum(run.train_seconds for run in runs)
        done = []
        for one in self.asked:
            finding = one.finding
            measured = tuple(measure(results, claim) for claim in finding.claims)
            replicated = Replicated(
                finding, measured, self.overrides, seconds, cpu_seconds, _kept_of(environment)
            )
            write_replicated(self.folder.parent, replicated)
            done.append(replicated)
        return done


def _kept_of(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Versions and hardware, without what changes from run to run."""
    return {key: value for key, value in environment.items() if key not in ("session", "resumed")}


def plan_jobs(findings: Sequence[str], names: Names, output: Path, origin: str = COMMAND_LINE) -> list[Job]:
    """Read findings, check their studies and the quantities in those. Raises ConfigError with all mistakes."""
    asked, mistakes = read_findings(findings)
    studies: dict[str, Study] = {}
    groups: dict[str, list[Asked]] = {}
    for one in asked:
        name = one.finding.study_name
        groups.setdefault(name, []).append(one)
        if name not in studies and one.study.data:
            try:
                with guarded():
                    studies[name] = load_inner_study(
                        one.study, one.study_path, names.overrides, names.vocabulary, origin
                    )
            except ConfigError as error:
                mistakes += error.mistakes
        mistakes += [
            Mistake(one.places[claim], message)
            for claim, message in check_quantities(one.finding.claims, studies.get(name))
        ]
    if mistakes:
        raise ConfigError(sorted(dict.fromkeys(mistakes), key=_by_line))
    return [
        Job(studies[name], tuple(group), output / folder_name(studies[name]), tuple(names.overrides))
        for name, group in groups.items()
    ]


def _by_line(mistake: Mistake) -> tuple[str, int]:
    file, _, line = mistake.place.rpartition(":")
    return (file, int(line)) if line.isdecimal() else (mistake.place, 0)


def is_done(finding: Finding, overrides: Sequence[str] | None, output: Path) -> Replicated | None:
    """The values of this finding in the folder, where they are complete and of the same study; else None.

    overrides: that they were made with; None for any.
    """
    path = output / f"{finding.name}.json"
    if not path.is_file():
        return None
    try:
        replicated = with_text_of(read_replicated(path), finding)
    except ResultsError:
        return None
    if replicated.outdated or any(part.n < part.planned for part in replicated.measured):
        return None
    return replicated if overrides is None or list(replicated.overrides) == list(overrides) else None


def replicate(
    *names: str,
    overrides: Overrides = (),
    seeds: Seeds | None = None,
    output: PathLike = OUTPUT,
    listeners: Hears | Iterable[Hears] = (),
    device: str = "auto",
    jobs: int | None = None,
    data_dir: PathLike | None = None,
    force: bool = False,
    running: Running | None = None,
) -> Replication:
    """Run published findings again, and judge them. What is done already is not trained again.

    Parameters
    ----------
    names
        Shipped findings (`bnbench.findings()`), or YAML files.
    overrides, seeds, listeners, device, jobs, data_dir, force, running
        As in `compare`; overrides are noted among the deviations.
    output
        The folder of all findings' results.

    Returns
    -------
    Replication
        The verdict of every claim, with Holm's correction over the claims of each paper among these findings.

    Raises
    ------
    BnbenchError
        Everything that is wrong with the findings, their studies or the folder; a `ConfigError` has all mistakes.

    Examples
    --------
    >>> import bnbench
    >>> bnbench.replicate("yang2019_growth").counts
    """
    from bnbench.engine.process import training_process

    words = override_words(overrides, seeds)
    listener, folder = hearing(listeners), path_of(output, "output")
    again = "all" if force else "none"
    workers = number_of("jobs", jobs, 1, whole=True)
    named, data = choice_of("device", device, DEVICES), data_folder(data_dir)
    options = Options(named, data, again, jobs=workers, running=running_of(running))  # type: ignore[arg-type]
    if not names:
        raise BnbenchError(
            "no finding is named.", fix='bnbench.replicate("yang2019_growth"); bnbench.findings()'
        )
    with training_process():
        try:
            known = known_names((), words)
            planned = plan_jobs(words_of("names", names), known, folder, ARGUMENT)
            for job in planned:
                if not _run(job, known, options, folder, listener):
                    break  # the time is over
        finally:
            forget_plugins()
    return load_replication(folder).only(one.finding.name for job in planned for one in job.asked)


def _run(job: Job, names: Names, options: Options, output: Path, listener: Callable[..., None]) -> bool:
    """Whether its study is done, and not stopped by the time limit."""
    if options.again == "none" and kept_values(job, output):
        return True
    clock = CpuClock(options.jobs)
    work = job.prepare(names, options)
    with work.present():
        carry_out_all(work, listener)
        job.finish(work, clock.seconds(work))
    return not work.turns.stopped


def kept_values(job: Job, output: Path) -> list[Replicated]:
    """The values of all findings of a study, where the folder has them all; else nothing."""
    kept = [is_done(one.finding, job.overrides, output) for one in job.asked]
    return [one for one in kept if one] if all(kept) else []


class CpuClock:
    """Processor seconds of this process since it was made, where it trained everything itself."""

    def __init__(self, jobs: int | None) -> None:
        self._start, self._jobs = time.process_time(), jobs

    def seconds(self, work: Work) -> float | None:
        """None where other processes trained, or where runs were there before."""
        if self._jobs != 1 or len(work.todo) < len(work.runs):
            return None
        return time.process_time() - self._start


def findings() -> list[Finding]:
    """The findings that come with bnbench: citation, claims, deviations. Free of torch.

    Examples
    --------
    >>> import bnbench
    >>> [finding.name for finding in bnbench.findings()]
    """
    return [read_finding(path, "") for path in shipped_findings()]


def load_replication(folder: PathLike = OUTPUT) -> Replication:
    """The findings whose values a folder holds, judged together. Nothing is trained; works without torch.

    Raises ResultsError where the folder holds none. A file that can't be read is a warning.
    """
    path = path_of(folder)
    replicated, warnings = [], []
    for file in sorted(path.glob("*.json")) if path.is_dir() else ():
        try:
            replicated.append(_with_present_text(read_replicated(file)))
        except ResultsError as error:
            warnings.append(error.what)
    if not replicated:
        why = "\n".join(warnings)
        raise ResultsError(
            f"{path}: it holds no finding that was run.",
            why,
            "`bnbench replicate run NAME` runs one; `bnbench replicate list` has the names.",
        )
    return replication(replicated, warnings)


def write_page(folder: Path, replication: Replication) -> tuple[Path, str]:
    """Write report.html into the folder; its path, and a warning where that is impossible."""
    from bnbench.reports.findings.page import replication_page

    path = folder / REPORT
    try:
        write_whole(path, replication_page(replication))
    except ResultsError as error:
        return path, error.what
    return path, ""


def _with_present_text(replicated: Replicated) -> Replicated:
    """Under the text of its file, if that is still there and can be read."""
    try:
        path = find_finding(replicated.finding.path or replicated.finding.name)
        return with_text_of(replicated, read_finding(path, replicated.finding.path))
    except ConfigError:
        return replicated
