"""Several studies in one command: read together, prepared together, and compared in the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bnbench.api.arguments import StudyLike
from bnbench.api.carrying_out import open_all
from bnbench.api.own_models import check_model
from bnbench.api.plugins import Names
from bnbench.api.preparing import prepare_work
from bnbench.api.session import Options, Work
from bnbench.api.shipped import expanded, find_study
from bnbench.api.summaries import load_results
from bnbench.base.errors import ConfigError, Mistake, ResultsError
from bnbench.base.stopwatch import Phases
from bnbench.base.user_code import guarded
from bnbench.results import ResultsFolder, StudyResults
from bnbench.results.naming import collection_name, folder_name
from bnbench.study import COMMAND_LINE, Study, load_study


def load_studies(given: Sequence[StudyLike], names: Names, origin: str = COMMAND_LINE) -> list[Study]:
    """Read and check every study: files, names of shipped studies, folders of studies, dicts.

    names: with the overrides, which are for all of them. origin: where the overrides stand. Raises ConfigError with
    the mistakes of all, also where two have one name.
    """
    studies: dict[str, Study] = {}
    mistakes: list[Mistake] = []
    for one, collection in _expanded(given):
        text = str(one) if not isinstance(one, Mapping) else "study"
        try:
            with guarded():  # types of a plugin's options may run its code
                source = one if isinstance(one, Mapping) else find_study(text)
                study = load_study(source, names.overrides, names.vocabulary, origin)
                check_model(study, names.overrides)
        except ConfigError as error:
            mistakes += error.mistakes
            continue
        if study.name in studies:
            why = f'a second study named "{study.name}": give it another `name:`, or run it on its own.'
            mistakes.append(Mistake(text, why))
        studies[study.name] = replace(study, collection=collection)
    if mistakes:
        raise ConfigError(list(dict.fromkeys(mistakes)))
    return list(studies.values())


def _expanded(given: Sequence[StudyLike]) -> Iterator[tuple[StudyLike, str]]:
    """Every study with the collection that it comes from."""
    for one in given:
        if isinstance(one, Mapping):
            yield one, ""
        else:
            yield from expanded([str(one)])


def prepare_works(
    studies: Sequence[Study],
    names: Names,
    output: Path | None,
    options: Options,
    gates: Sequence[Sequence[str]] = (),
    of: str = "",
) -> list[Work]:
    """Every study ready to run, in its own folder: `output` for one study, a folder inside it with several.

    Studies of a collection have their folders inside one of its name.

    of: what the folder's name says after the study's (see `naming.py`).

    Raises ConfigError with what does not fit together in any of them, before a folder is made, and ResultsError
    where a folder holds something else or ExecutorError where no workers start, before any folder is touched.
    """

    several, phases = len(studies) > 1, Phases()
    works: list[Work] = []
    mistakes: list[Mistake] = []
    for study, fail_if in zip(studies, gates or [()] * len(studies), strict=True):
        named = several or output is None or bool(study.collection)
        folder = _folder(study, studies, output, of) if named or output is None else output
        try:
            with guarded():
                works.append(
                    prepare_work(study, names, folder, replace(options, beside=named), phases, fail_if)
                )
        except ConfigError as error:
            place = f"study {study.name}, " if several else ""
            mistakes += [Mistake(place + mistake.place, mistake.message) for mistake in error.mistakes]
    if mistakes:
        raise ConfigError(mistakes)
    _check_folders(works)
    return open_all(works)


def _folder(study: Study, studies: Sequence[Study], output: Path | None, of: str) -> Path:
    """The results folder of a study: in the folder of its collection, in `output`, beside its file or in results/."""
    if output is None and study.collection:
        together = [other for other in studies if other.collection == study.collection]
        return Path("results") / collection_name(together) / study.name
    parent = output or (study.home.parent if study.home else Path("results"))
    return parent / folder_name(study, of)


def _check_folders(works: Sequence[Work]) -> None:
    """Check every results folder. Raises ResultsError with all faults."""
    from bnbench.base.files import free_name

    errors: list[ResultsError] = []
    for work in works:
        try:
            work.check()
        except ResultsError as error:
            errors.append(error)
    if len(works) < 2 and errors:
        raise errors[0]
    if errors:
        problems = "\n".join(error.what for error in errors)
        parent = works[0].folder.path.parent
        raise ResultsError(problems, errors[0].why, f"--output {free_name(parent)}")


def load_folders(
    paths: Sequence[Path],
) -> tuple[dict[str, tuple[ResultsFolder, StudyResults]], list[ResultsError]]:
    """The readable folders by the name of their study, and the errors of the others.

    The name is the study's own, or the folder's path where two studies have the same. Raises
    ResultsError where nothing is left to show.
    """
    loaded: list[tuple[ResultsFolder, StudyResults]] = []
    errors: list[ResultsError] = []
    for path in paths:
        try:
            folder = ResultsFolder(path)
            loaded.append((folder, load_results(folder)))
        except ResultsError as error:
            errors.append(error)
    if errors and not loaded:
        raise ResultsError("\n".join(map(str, errors)))
    names = [results.name for _, results in loaded]
    if len(set(names)) < len(names):
        names = [str(folder.path) for folder, _ in loaded]
    return dict(zip(names, loaded, strict=True)), errors
