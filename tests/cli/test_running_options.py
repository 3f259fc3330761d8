"""Bad input for the options of how runs are trained: one message each, before anything is read or written."""

from __future__ import annotations

import re
import socket
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bnbench.base.time_limit import read_time
from bnbench.cli.app import app
from bnbench.executors import words
from bnbench.executors.base import ExecutorError


def command(*arguments: str, width: int = 80) -> Result:
    return CliRunner().invoke(app, ["compare", "quickstart", *arguments], env={"COLUMNS": str(width)})


def plain(result: Result) -> str:
    """The message in one line, without the box around it."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", result.output).split())


#: Arguments, and a part of the message.
WRONG = [
    (["--time-limit", "0"], '"0" leaves no time to train: write more than 0, such as 10m.'),
    (["--time-limit", "-5"], '"-5" leaves no time to train'),
    (["--time-limit", "soon"], '"soon" is not a duration: write 90s, 10m, 1h30m or 2:30:00'),
    (["--time-limit", "inf"], '"inf" is not a duration'),
    (["--time-limit", "nan"], '"nan" is not a duration'),
    (["--shard", "9/8"], "9/8: the parts are numbered from 1/8 to 8/8."),
    (["--shard", "0/8"], "0/8: the parts are numbered from 1/8 to 8/8."),
    (["--shard", "1/0"], "1/0: a study has 1 to 10,000 parts"),
    (["--shard", "a/b"], "'a/b' is not a part of so many, such as 2/8"),
    (["--shard", "2"], "'2' is not a part of so many"),
    (["--save-every", "-1"], "-1.0 is not a number of seconds, 0 or more"),
    (["--save-every", "nan"], "nan is not a number of seconds"),
    (["--save-every", "often"], "'often' is not a number of seconds, such as 30."),
    (["--retries", "-1"], "-1 is not a number of times, 0 or more."),
    (["--retries", "twice"], "--retries"),
    (["--resume", "maybe"], "'maybe' is not one of 'auto', 'never'"),
    (["--on-lock", "steal"], "'steal' is not one of 'join', 'wait'"),
    (["--jobs", "0"], "greater than or equal to 1"),
    (["--executor", "loky2"], "loky2: no executor of that name. Did you mean loky?"),
    (["--executor", "dask://here"], "it is not an address of the form dask://HOST:PORT."),
    (["--executor", "ray://"], "it is not an address of the form ray://HOST:PORT."),
    (["--executor", "slurm:no.yaml"], "no.yaml: there is no such file."),
    (["--executor", "no.py:pool"], "no.py: there is no such file."),
    (["--executor", "loky", "--jobs", "0"], "greater than or equal to 1"),
    (["--executor", "loky", "--debug"], "--debug trains in this process, and --executor loky does not"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=lambda value: " ".join(value) if value else "")
def test_one_message_and_exit_code_2(arguments: list[str], message: str) -> None:
    for width in (80, 40):
        result = command(*arguments, width=width)
        assert result.exit_code == 2
        assert message in plain(result)
        assert "Traceback" not in result.output
        assert all(len(line) <= width for line in result.output.splitlines() if line.startswith("│"))


def test_all_that_is_wrong_is_in_one_message() -> None:
    text = plain(command("--shard", "9/8", "--save-every", "-1", "--retries", "-2"))
    assert "--save-every: -1.0" in text
    assert "--shard: 9/8" in text
    assert "--retries: -2" in text


def test_texts_that_are_not_durations() -> None:
    for text in ("", "h", "10x", "1e999", "-inf", "0", "0s", "-1m", "1:2:3:4"):
        with pytest.raises(ValueError, match=r"is not a duration|leaves no time to train"):
            read_time(text)
    assert [read_time(text) for text in ("90s", "10m", "1h30m", "2:30:00", "45", "0.5")] == [
        90,
        600,
        5400,
        9000,
        45,
        0.5,
    ]


@pytest.mark.skipif(find_spec("distributed") is not None, reason="distributed is installed")
def test_an_executor_that_is_not_installed_names_the_extra(tmp_path: Path) -> None:
    result = command("--executor", "dask", "-o", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert "distributed is not installed. Fix: pip install 'bnbench[dask]'" in plain(result)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def listener(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port at which something listens that says these bytes; where there are none, it says nothing."""
    said: bytes = request.param
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def serve() -> None:
            try:
                while True:
                    line, _ = server.accept()
                    held.append(line)
                    if said:
                        line.sendall(said)
            except OSError:
                return

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        for line in held:
            line.close()
        server.shutdown(socket.SHUT_RDWR) if sys.platform == "linux" else None


@pytest.mark.parametrize(
    ("listener", "message"),
    [
        (b"", "no answer within 0 s"),
        (b"HTTP/1.1 400 Bad Request\r\n", "what listens there is no scheduler of Dask"),
    ],
    indirect=["listener"],
)
def test_an_address_where_no_scheduler_answers(
    listener: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask's own client would wait for ever, or ask for as many bytes as the text is as a number."""
    monkeypatch.setattr(words, "TIMEOUT", 0.2)
    monkeypatch.setattr(words, "find_spec", lambda package: object())
    with pytest.raises(ExecutorError, match=message):
        words.check_executor(f"dask://127.0.0.1:{listener}")
