"""The arguments of the public functions: many ways to say one thing, brought into one form. Free of torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from bnbench.base.errors import BnbenchError, ConfigError, Mistake
from bnbench.listeners import Hears
from bnbench.study import override_texts
from bnbench.study.events import Event

#: A YAML file, the name of a shipped study, or a study as a dict.
StudyLike = str | os.PathLike[str] | Mapping[str, Any]
#: {"optimizer.lr": 0.1}, or words as on the command line: ["optimizer.lr=0.1"].
Overrides = Mapping[str, Any] | Sequence[str]
Seeds = int | Sequence[int] | Literal["auto"]
PathLike = str | os.PathLike[str]


def override_words(overrides: Overrides, seeds: Seeds | None = None) -> list[str]:
    """The words of a command line. Raises ConfigError."""
    if isinstance(overrides, str):
        words = [overrides]
    elif isinstance(overrides, Mapping):
        words = override_texts(overrides)
    else:
        words = list(overrides)
        if wrong := [word for word in words if not isinstance(word, str)]:
            what = f'{wrong[0]!r} is not text. Fix: ["optimizer.lr=0.1"], or {{"optimizer.lr": 0.1}}.'
            raise ConfigError([Mistake("argument overrides", what)])
    return words if seeds is None else [*words, *override_texts({"seeds": seeds})]


def path_of(given: PathLike) -> Path:
    """The path; `~` is the user's home."""
    return Path(os.path.expanduser(given))


def paths_of(given: PathLike | Iterable[PathLike]) -> list[Path]:
    """Paths of files that are there; one may stand alone. Raises BnbenchError."""
    paths = [path_of(path) for path in ([given] if isinstance(given, str | os.PathLike) else given)]
    if missing := [str(path) for path in paths if not path.is_file()]:
        raise BnbenchError(f"plugins: {', '.join(missing)}: there is no such file.")
    return paths


def words_of(given: str | Iterable[str]) -> list[str]:
    """Texts; one may stand alone."""
    return [given] if isinstance(given, str) else list(given)


def hearing(listeners: Hears | Iterable[Hears]) -> Callable[[Event], None]:
    """One function that tells all of them. Raises BnbenchError where one can't hear anything."""
    alone = callable(listeners) or hasattr(listeners, "on")
    given: Iterable[Any] = [listeners] if alone else listeners  # type: ignore[assignment]
    functions = []
    for listener in given:
        function = getattr(listener, "on", listener)
        if not callable(function) or isinstance(listener, type):
            raise BnbenchError(
                f"listeners: {listener!r} can't hear events.",
                fix="a function of one event, or an object with a method `on(event)`.",
            )
        functions.append(function)

    def on(event: Event) -> None:
        for function in functions:
            function(event)

    return on


def data_folder(given: PathLike | None) -> Path:
    """Where data sets are kept: as given, else $BNBENCH_DATA_DIR, else the platform's cache."""
    from platformdirs import user_cache_path

    chosen = given or os.environ.get("BNBENCH_DATA_DIR")
    return path_of(chosen) if chosen else user_cache_path("bnbench")
