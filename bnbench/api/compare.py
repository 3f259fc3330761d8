"""`bnbench.compare` and `bnbench.train`: the commands of these names as functions that return objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bnbench.api.arguments import (
    DEVICES,
    ModelLike,
    Overrides,
    PathLike,
    Seeds,
    StudyLike,
    choice_of,
    data_folder,
    hearing,
    number_of,
    override_words,
    path_of,
    paths_of,
    running_of,
    study_of,
    words_of,
)
from bnbench.api.carrying_out import carry_out_all
from bnbench.api.comparison import Comparison
from bnbench.api.own_models import with_model
from bnbench.api.plugins import Names, forget_plugins, known_names
from bnbench.api.session import Options, Work
from bnbench.api.several import load_studies, prepare_works
from bnbench.api.shipped import find_study
from bnbench.api.summaries import gates_of, summarize_work, write_summaries
from bnbench.api.under_way import until_settled
from bnbench.base.errors import BnbenchError
from bnbench.base.running import Running
from bnbench.listeners import Hears
from bnbench.study import ARGUMENT, Study, load_variant

if TYPE_CHECKING:
    from bnbench.study.events import Event

#: What `compare` compares without a study.
QUICKSTART = "quickstart"


# Each option is an argument of its own, as a command's are: that is how editors and `help` show them.
def compare(
    study: StudyLike = QUICKSTART,
    *,
    overrides: Overrides = (),
    seeds: Seeds | None = None,
    output: PathLike | None = None,
    listeners: Hears | Iterable[Hears] = (),
    device: str = "auto",
    jobs: int | None = None,
    plugins: PathLike | Iterable[PathLike] = (),
    model: ModelLike | None = None,
    data_dir: PathLike | None = None,
    force: bool = False,
    refresh: Literal["changed"] | None = None,
    running: Running | None = None,
    fail_if: str | Iterable[str] = (),
) -> Comparison:
    """Train every variant of a study on every seed, and compare them.

    Runs that are finished already are not trained again. The process is left as it was found: random
    streams, threads, flags of torch, environment variables.

    Parameters
    ----------
    study
        A YAML file, the name of a shipped study (`bnbench list`), or a dict with the same keys.
    overrides
        Settings that replace the study's: ``{"optimizer.lr": 0.1}`` or ``["optimizer.lr=0.1"]``.
    seeds
        How many seeds, a list of them, or "auto"; short for an override.
    output
        The results folder. By default the one that the command would use, in `results/`.
    listeners
        Functions of one event, or objects with a method `on(event)`; see `bnbench.listeners`.
    device
        "auto", "cpu", "cuda" or "mps".
    jobs
        Processes that train at the same time; does not affect results.
    plugins
        Python files that register your own names.
    model
        Your own network in place of the study's: "my_model.py:Net", "torchvision:resnet18", a class, or a function
        that returns a network. Each variant's normalizer takes the place of its batch norms.
    data_dir
        Where data sets are kept.
    force
        Train finished runs again.
    refresh
        "changed" trains again what was finished with other versions, or on another device or processor.
    running
        How runs save their states, where and how long they train: ``bnbench.Running(save_every=10)``. No result
        depends on it.
    fail_if
        Conditions such as "batch.test_accuracy < 0.95"; see `Comparison.gates`.

    Returns
    -------
    Comparison
        The result, which `bnbench.load` reads again from its folder.

    Raises
    ------
    BnbenchError
        Everything that is wrong with the arguments, the study or the folder; a `ConfigError` has all mistakes.

    Examples
    --------
    >>> import bnbench
    >>> comparison = bnbench.compare("quickstart", seeds=3)
    >>> print(comparison)
    """
    words, networks = with_model(override_words(overrides, seeds), model)
    request = _Request(
        words, paths_of(plugins), path_of(output, "output") if output is not None else None, networks
    )
    options = _options(device, data_dir, force, refresh, jobs, running_of(running))

    given = study_of(study)

    def load(names: Names) -> Study:
        one = given if isinstance(given, Mapping) else find_study(str(given))  # a collection is an error
        return load_studies([one], names, ARGUMENT)[0]

    return _trained(load, request, options, hearing(listeners), words_of("fail_if", fail_if))


def train(
    study: StudyLike,
    variant: str | None = None,
    *,
    overrides: Overrides = (),
    seeds: Seeds | None = None,
    output: PathLike | None = None,
    listeners: Hears | Iterable[Hears] = (),
    device: str = "auto",
    jobs: int | None = None,
    plugins: PathLike | Iterable[PathLike] = (),
    model: ModelLike | None = None,
    data_dir: PathLike | None = None,
    force: bool = False,
    refresh: Literal["changed"] | None = None,
    running: Running | None = None,
) -> Comparison:
    """Train one variant of a study (by default its first), on one or more seeds.

    The parameters are those of `compare`. The result has runs and histories, and nothing to compare them with.

    Examples
    --------
    >>> import bnbench
    >>> run = bnbench.train("quickstart", "batch", seeds=1, overrides={"epochs": 3})
    >>> run.runs[0]["final_test_accuracy"]
    """
    words, networks = with_model(override_words(overrides, seeds), model)
    request = _Request(
        words, paths_of(plugins), path_of(output, "output") if output is not None else None, networks
    )
    options = _options(device, data_dir, force, refresh, jobs, running_of(running))
    given = study_of(study)
    if variant is not None and not isinstance(variant, str):
        raise BnbenchError(f"variant: {variant!r} is not the name of a variant.")

    def load(names: Names) -> Study:
        source = given if isinstance(given, Mapping) else find_study(str(given))
        return load_variant(source, variant, names.overrides, names.vocabulary, ARGUMENT)

    return _trained(load, replace(request, alone=True), options, hearing(listeners), ())


@dataclass(frozen=True)
class _Request:
    """What a call asks for beside its study. output: None for the folder that the command would use.

    networks: factories of the calling program, by name. alone: whether one variant is trained alone.
    """

    overrides: Sequence[str]
    plugins: Sequence[Path]
    output: Path | None
    networks: Mapping[str, Any]
    alone: bool = False


def _options(
    device: str,
    data_dir: PathLike | None,
    force: bool,
    refresh: str | None,
    jobs: int | None,
    running: Running,
) -> Options:
    if not isinstance(force, bool):
        raise BnbenchError(f"force: {force!r} is neither True nor False.")
    if refresh is not None:
        choice_of("refresh", refresh, ("changed",))
    again: Literal["none", "changed", "all"] = "all" if force else "changed" if refresh else "none"
    jobs = number_of("jobs", jobs, 1, whole=True)
    named = choice_of("device", device, DEVICES)
    return Options(named, data_folder(data_dir), again, False, jobs, running=running)


def _trained(
    load: Callable[[Names], Study],
    request: _Request,
    options: Options,
    listener: Callable[[Event], None],
    fail_if: Sequence[str],
) -> Comparison:
    """Read, prepare, train, write and summarize, in a process that is given back as it was."""
    from bnbench.engine.process import training_process

    with training_process():
        try:
            names = known_names(request.plugins, request.overrides, request.networks)
            study = load(names)
            of = f"-{study.baseline}" if request.alone else ""
            gates = gates_of(fail_if, [study])
            (work,) = prepare_works([study], names, request.output, options, gates, of)
            with work.present():
                carry_out_all(work, listener)
                return _result(work, gates[0])
        finally:
            forget_plugins()


def _result(work: Work, fail_if: Sequence[str]) -> Comparison:
    def write() -> Comparison:
        results, summary = summarize_work(work, fail_if)
        if warning := write_summaries(work.folder, results, summary):
            summary = replace(summary, warnings=(*summary.warnings, warning))
        return Comparison(work.folder.path, summary, results)

    return until_settled(work.folder.path, write)
