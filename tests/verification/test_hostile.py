"""Layers that end, hang, crash or disturb their process: one message each, no traceback, stdout left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from bnbench.base.errors import LayerError
from bnbench.verification.findings import Verification
from bnbench.verification.parent import verify
from bnbench.verification.wishes import Wishes

HERE = Path(__file__).parents[1]
LAYERS = HERE / "hostile_layers.py"
pytestmark = pytest.mark.slow
posix = pytest.mark.skipif(os.name != "posix", reason="signals")


def judged(name: str, timeout: float = 60, **wishes: object) -> Verification:
    return verify(f"{LAYERS}:{name}", Wishes(dim="1", **wishes), timeout=timeout)  # type: ignore[arg-type]


ONE_MESSAGE = [
    ("LeavesHard", "ended the process (exit code 0), as os._exit does", "in its first call"),
    ("Exits", "takes none of the inputs", "SystemExit: 3"),
    ("Quits", "takes none of the inputs", "KeyboardInterrupt"),
    ("RaisesStrange", "takes none of the inputs", "Strange"),
    ("Recursion", "takes none of the inputs", "RecursionError"),
    ("Memory", "takes none of the inputs", "allocate"),
    ("Reads", "takes none of the inputs", "EOFError"),
    ("Warns", "takes none of the inputs", "UserWarning: now an error"),
    ("Patches", "the layer could not be judged", "changes torch"),
    ("WantsMask", "takes none of the inputs", "missing 1 required positional argument: 'mask'"),
    ("ReturnsNone", "takes none of the inputs", "forward returned NoneType"),
    ("NoSuper", "the __init__ of NoSuper does not call torch's", ""),
    ("TrainsToNone", "TrainsToNone.train() returns NoneType", ""),
    ("InsideItself", "the layer could not be judged: RecursionError", "contains itself"),
    ("ReplacesAllclose", "replaces torch.allclose, for the whole process", "their results mean nothing"),
    ("ReplacesDumps", "replaces json.dumps", "their results mean nothing"),
    ("BreaksLists", "broke the checking process", "in its first call"),
]


@pytest.mark.parametrize(("name", "what", "why"), ONE_MESSAGE, ids=[name for name, *_ in ONE_MESSAGE])
def test_one_message(name: str, what: str, why: str) -> None:
    with pytest.raises(LayerError) as error:
        judged(name)
    assert what in error.value.what
    assert why in error.value.why


@posix
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("Segfault", "crashed Python itself (SIGSEGV)"),
        ("Aborts", "crashed Python itself (SIGABRT)"),
        ("KillsItself", "was ended by SIGKILL"),
        ("Alarm", "was ended by SIGALRM"),
    ],
)
def test_a_crash_of_the_interpreter(name: str, what: str) -> None:
    with pytest.raises(LayerError) as error:
        judged(name)
    assert what in error.value.what
    if name == "Segfault":
        line = LAYERS.read_text().split("ctypes.string_at(0)")[0].count("\n") + 1
        assert f"hostile_layers.py:{line}." in error.value.why


@pytest.mark.parametrize(
    ("name", "where"),
    [("Loop", "in its first call"), ("LoopWhenMade", "while it was made"), ("Sleeps", "hostile_layers.py:")],
)
def test_an_endless_loop_is_given_up(name: str, where: str) -> None:
    started = time.monotonic()
    with pytest.raises(LayerError, match=r"did not finish within 4 s\.") as error:
        judged(name, timeout=4)
    assert time.monotonic() - started < 60
    assert where in error.value.why


@pytest.mark.parametrize(
    "name", ["Threads", "Forks", "Prints", "Signals", "Chdir", "GetattrRaises", "WantsDynamo"]
)
def test_right_layers_with_bad_habits_are_judged(name: str) -> None:
    if name == "Forks" and not hasattr(os, "fork"):
        pytest.skip("no fork")
    assert judged(name).passed


def test_an_exit_in_eval_fails_the_checks_that_meet_it() -> None:
    found = judged("ExitsInEval")
    assert not found.passed
    failed = {item.message for item in found.having("failed") if item.check == "eval output"}
    assert failed == {"raised SystemExit: 0"}
    assert "forward" in {item.check for item in found.having("passed")}


def test_stdout_holds_the_answer_alone(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "bnbench",
        "verify",
        f"{LAYERS}:Prints",
        "--dim",
        "1",
        "--format",
        "json",
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
    )
    assert json.loads(done.stdout)["passed"] is True
    assert done.stderr == ""
    debug = subprocess.run(
        [*command, "--debug"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
    )
    assert json.loads(debug.stdout)["passed"] is True
    assert {"to stdout", "to file descriptor 1", "from a shell"} <= set(debug.stderr.splitlines())


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="Linux")
@pytest.mark.parametrize("name", ["Forges", "ForgesAnError"])
def test_a_false_answer_is_no_traceback(name: str) -> None:
    with pytest.raises(LayerError, match="broke the checking process: no answer came back"):
        judged(name)


@posix
def test_ctrl_c_ends_the_child_too(tmp_path: Path) -> None:
    started = subprocess.Popen(
        [sys.executable, "-m", "bnbench", "verify", f"{LAYERS}:Sleeps", "--timeout", "300"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HERE.parent), "TMPDIR": str(tmp_path)},
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not any("first call" in file.read_text() for file in tmp_path.glob("*/report.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    children = subprocess.run(
        ["pgrep", "-P", str(started.pid)], capture_output=True, text=True
    ).stdout.split()
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=30)
    assert started.returncode == 130
    assert "Traceback" not in err
    assert children
    assert not any(Path(f"/proc/{child}/cmdline").exists() for child in children)
    assert not list(tmp_path.glob("bnbench-verify-*"))


def test_no_folder_for_the_answer_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**options: object) -> None:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refused)
    with pytest.raises(LayerError, match="no temporary folder can be written"):
        judged("Prints")


def test_the_parent_does_not_load_torch(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['bnbench', 'verify', 'nowhere.py:X']\n"
        "from bnbench.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 1\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "nowhere.py: no such file" in done.stderr


def test_what_travels_back_is_what_was_found() -> None:
    from bnbench.verification.judge import verify as here

    found = here("torch.nn:BatchNorm1d", Wishes(dim="1"))
    assert Verification.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert verify("torch.nn:BatchNorm1d", Wishes(dim="1")) == found
