"""The words of --executor, and what each opens. Nothing of an executor is imported before it is opened."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from bnbench.base.errors import nearest
from bnbench.base.running import LOCAL
from bnbench.executors.base import TIMEOUT, ExecutorError, Executors

#: The cluster of Ray that this machine belongs to.
RAY_AUTO = "ray:auto"
#: How a word for each may look, for messages and help.
FORMS = (
    LOCAL,
    "loky",
    "dask",
    "dask://HOST:PORT",
    "ray",
    "ray://HOST:PORT",
    RAY_AUTO,
    "slurm:FILE.yaml",
    "FILE.py:FACTORY",
)
#: By the first part of a word: the package that it needs.
_NEEDS = {"loky": "loky", "dask": "distributed", "ray": "ray", "slurm": "submitit"}


@dataclass(frozen=True)
class Word:
    """A word of --executor. kind: local, loky, dask, ray, slurm or file. place: an address, a file, or FILE.py:NAME."""

    text: str
    kind: str
    place: str = ""


def read_word(text: str) -> Word:
    """The word. Raises ExecutorError, with the nearest one, where it is none."""
    kind, _, rest = text.partition(":")
    if text in (LOCAL, "loky", "dask", "ray"):
        return Word(text, text)
    if text == RAY_AUTO:
        return Word(text, kind, rest)
    if kind in ("dask", "ray") and rest.startswith("//"):
        return Word(text, kind, _address(text, kind))
    if kind == "slurm" and rest:
        return Word(text, kind, _file(text, rest))
    file, _, name = text.rpartition(":")
    if file.endswith(".py") and name.isidentifier():
        return Word(text, "file", f"{_file(text, file)}:{name}")
    guess = next((form for form in FORMS if form.partition(":")[0] == kind), None) or nearest(text, FORMS)
    if text.endswith(".py"):
        guess = f"{text}:FACTORY, where FACTORY() returns a concurrent.futures.Executor"
    elif text.endswith((".yaml", ".yml")):
        guess = f"slurm:{text}"
    raise ExecutorError(
        f"--executor {text or chr(34) * 2}: no executor of that name.{f' Did you mean {guess}?' if guess else ''}",
        fix=f"one of {', '.join(FORMS)}.",
    )


def _address(text: str, kind: str) -> str:
    try:
        parts = urlsplit(text)
        complete = bool(parts.hostname and parts.port) and not parts.path.strip("/")
    except ValueError:  # of the port
        complete = False
    if not complete:
        raise ExecutorError(
            f"--executor {text}: it is not an address of the form {kind}://HOST:PORT.",
            fix=f"--executor {kind}://127.0.0.1:{8786 if kind == 'dask' else 10001}, for example.",
        )
    return parts.netloc


def _file(text: str, file: str) -> str:
    path = Path(file).expanduser()
    if not path.is_file():
        raise ExecutorError(f"--executor {text}: {file}: there is no such file.", fix="the path of the file.")
    return str(path.absolute())


#: A scheduler of Dask speaks first: bytes of the length of its greeting, which has some hundred.
_LENGTH, _LONGEST_GREETING = 8, 2**20


def check_executor(text: str) -> Word:
    """The word, if what it names is installed and answers. Raises ExecutorError. Starts nothing."""
    word = read_word(text)
    package = _NEEDS.get(word.kind)
    if package and find_spec(package) is None:
        raise ExecutorError(
            f"--executor {text}: {package} is not installed.", fix=f"pip install 'bnbench[{word.kind}]'"
        )
    if word.kind in ("dask", "ray") and word.place and text != RAY_AUTO:
        _knock(word)
    if word.kind == "slurm":
        from bnbench.executors.slurm import check_file  # type: ignore[import-not-found, unused-ignore]

        check_file(word.place)
    return word


def _knock(word: Word) -> None:
    """Raises ExecutorError where nothing listens at the address, or something that is no scheduler of Dask."""
    parts = urlsplit(f"//{word.place}")
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=TIMEOUT) as line:
            greeting = _first_bytes(line) if word.kind == "dask" else b""
    except OSError as error:
        raise no_answer(word, error) from None
    if greeting and int.from_bytes(greeting, "little") > _LONGEST_GREETING:
        raise ExecutorError(
            f"--executor {word.text}: what listens there is no scheduler of Dask.",
            f"It begins with {greeting!r}.",
            "the address that `dask scheduler` prints as tcp://HOST:PORT.",
        )


def _first_bytes(line: socket.socket) -> bytes:
    """The length of a scheduler's greeting: its client would wait for one forever. Raises OSError."""
    greeting = b""
    while len(greeting) < _LENGTH:
        part = line.recv(_LENGTH - len(greeting))
        if not part:
            raise ConnectionError("it listens, and hangs up before it says anything")
        greeting += part
    return greeting


def no_answer(word: Word, error: BaseException) -> ExecutorError:
    """What to say where an address does not answer. error: what came in place of the answer."""
    slow = isinstance(error, TimeoutError)
    reason = f"no answer within {TIMEOUT:.0f} s" if slow else str(error).strip() or type(error).__name__
    start = {"dask": "dask scheduler", "ray": "ray start --head --ray-client-server-port=10001"}
    return ExecutorError(
        f"--executor {word.text}: {reason}.",
        f"Nothing that can take jobs was reached at {word.place}.",
        f"start it ({start.get(word.kind, word.kind)}), or see whether the address and the firewall are right.",
    )


def open_executor(text: str, jobs: int | None) -> Executors:
    """The workers that a word names, ready for jobs. Raises ExecutorError.

    jobs: how many workers, where they are started here; of workers that are there, how many of them at most.
    """
    word = check_executor(text)
    return _OPEN[word.kind](word, jobs)


def _open_loky(word: Word, jobs: int | None) -> Executors:
    from bnbench.executors.pools import open_loky

    return open_loky(jobs)


def _open_file(word: Word, jobs: int | None) -> Executors:
    from bnbench.executors.pools import open_file

    return open_file(word.place, jobs)


def _open_dask(word: Word, jobs: int | None) -> Executors:
    from bnbench.executors.dask import open_dask

    return open_dask(word, jobs)


def _open_ray(word: Word, jobs: int | None) -> Executors:
    from bnbench.executors.ray import open_ray  # type: ignore[import-not-found, unused-ignore]

    opened: Executors = open_ray(word, jobs)
    return opened


def _open_slurm(word: Word, jobs: int | None) -> Executors:
    from bnbench.executors.slurm import open_slurm

    opened: Executors = open_slurm(word, jobs)
    return opened


_OPEN: dict[str, Callable[[Word, int | None], Executors]] = {
    "loky": _open_loky,
    "dask": _open_dask,
    "ray": _open_ray,
    "slurm": _open_slurm,
    "file": _open_file,
}
