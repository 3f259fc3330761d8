"""The arguments of the public functions: many ways to say one thing, brought into one form. Free of torch."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from bnbench.base.errors import BnbenchError, ConfigError, Mistake, UnknownNameError
from bnbench.base.running import Running
from bnbench.listeners import Hears
from bnbench.study import override_texts
from bnbench.study.events import Event

DEVICES = ("auto", "cpu", "cuda", "mps")
#: A YAML file, the name of a shipped study, or a study as a dict.
StudyLike = str | os.PathLike[str] | Mapping[str, Any]
#: {"optimizer.lr": 0.1}, or words as on the command line: ["optimizer.lr=0.1"].
Overrides = Mapping[str, Any] | Sequence[str]
Seeds = int | Sequence[int] | Literal["auto"]
PathLike = str | os.PathLike[str]
#: A MODEL word, or what makes a network.
ModelLike = str | os.PathLike[str] | Callable[..., Any]


def study_of(given: StudyLike) -> StudyLike:
    """The argument itself. Raises BnbenchError where it is neither a path, a name nor a dict."""
    if not isinstance(given, str | os.PathLike | Mapping) or isinstance(given, bytes):
        problem = "neither a file, the name of a shipped study, nor a dict"
        raise BnbenchError(
            f"study: {given!r} is {problem}.", fix='"quickstart", "my_study.yaml", or {"dataset": ...}'
        )
    return given


def choice_of(name: str, given: object, known: Sequence[str]) -> str:
    """The text, if it is one of these. Raises UnknownNameError."""
    if str(given) not in known:
        raise UnknownNameError(name, str(given), known)
    return str(given)


def number_of(name: str, given: Any, low: float, high: float = math.inf, *, whole: bool = False) -> Any:
    """The number, if it is one in that range; None stays None. Raises BnbenchError."""
    kinds = numbers.Integral if whole else numbers.Real
    if given is None:
        return None
    if isinstance(given, kinds) and not isinstance(given, bool) and low <= float(given) <= high:
        return given
    kind = "a whole number" if whole else "a number"
    limits = f"from {low:g} to {high:g}" if math.isfinite(high) else f"of {low:g} or more"
    raise BnbenchError(f"{name}: {given!r} is not {kind} {limits}.")


def running_of(given: object) -> Running:
    """How runs are trained; None stands for the usual way. Raises BnbenchError."""
    if given is None:
        return Running()
    if not isinstance(given, Running):
        raise BnbenchError(
            f"running: {given!r} is not a bnbench.Running.", fix="bnbench.Running(save_every=30)"
        )
    return given


def override_words(overrides: Overrides, seeds: Seeds | None = None) -> list[str]:
    """The words of a command line. Raises ConfigError."""
    if isinstance(overrides, str):
        words = [overrides]
    elif isinstance(overrides, Mapping):
        words = override_texts(overrides)
    else:
        words = _listed("overrides", overrides)
        if wrong := [word for word in words if not isinstance(word, str)]:
            problem = f'{wrong[0]!r} is not text. Fix: ["optimizer.lr=0.1"], or {{"optimizer.lr": 0.1}}.'
            raise ConfigError([Mistake("argument overrides", problem)])
    return words if seeds is None else [*words, *override_texts({"seeds": seeds})]


def path_of(given: PathLike, name: str = "folder") -> Path:
    """The path; `~` is the user's home. Raises BnbenchError."""
    if not isinstance(given, str | os.PathLike) or isinstance(given, bytes):
        raise BnbenchError(f"{name}: {given!r} is not a path.")
    return Path(os.path.expanduser(given))


def paths_of(given: PathLike | Iterable[PathLike]) -> list[Path]:
    """Paths of files that are there; one may stand alone. Raises BnbenchError."""
    listed = [given] if isinstance(given, str | os.PathLike) else _listed("plugins", given)
    paths = [path_of(path, "plugins") for path in listed]
    if missing := [str(path) for path in paths if not path.is_file()]:
        raise BnbenchError(f"plugins: {', '.join(missing)}: there is no such file.")
    return paths


def words_of(name: str, given: str | Iterable[str]) -> list[str]:
    """Texts; one may stand alone. Raises BnbenchError."""
    words = [given] if isinstance(given, str) else _listed(name, given)
    if wrong := [word for word in words if not isinstance(word, str)]:
        raise BnbenchError(f"{name}: {wrong[0]!r} is not text.")
    return words


def _listed(name: str, given: Any) -> list[Any]:
    try:
        return list(given)
    except TypeError:
        raise BnbenchError(f"{name}: {given!r} is not a list.") from None


def hearing(listeners: Hears | Iterable[Hears]) -> Callable[[Event], None]:
    """One function that tells all of them. Raises BnbenchError where one can't hear anything."""
    alone = callable(listeners) or hasattr(listeners, "on")
    functions = []
    for listener in [listeners] if alone else _listed("listeners", listeners):
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
    return path_of(chosen, "data_dir") if chosen else user_cache_path("bnbench")
