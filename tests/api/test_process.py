"""A call leaves the process as it found it, however it ends."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bnbench
from bnbench.base.errors import BnbenchError, ConfigError
from bnbench.base.kinds import KINDS
from bnbench.engine import process
from bnbench.study.events import Event, RunEnded
from tests.tiny_study import TINY

PLUGIN = """
import os, random, sys, warnings
import numpy, torch
from bnbench.norms import norms
from bnbench.norms.torch_norms import *
torch.set_num_threads(3)
torch.manual_seed(1)
numpy.random.seed(1)
random.seed(1)
os.environ["MINE"] = "1"
sys.path.append("/nowhere")
warnings.simplefilter("error")
torch.use_deterministic_algorithms(True)
os.chdir("/")

@norms.register("mine")
def mine(num_features, dim):
    return torch.nn.BatchNorm1d(num_features)
"""


def _state() -> dict[str, Any]:
    return {
        "threads": torch.get_num_threads(),
        "torch": torch.get_rng_state().tolist(),
        "numpy": repr(np.random.get_state(legacy=False)),
        "random": random.getstate(),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "cudnn": [
            getattr(torch.backends.cudnn, name) for name in ("benchmark", "deterministic", "allow_tf32")
        ],
        "matmul": (torch.backends.cuda.matmul.allow_tf32, torch.get_float32_matmul_precision()),
        "deterministic": torch.get_deterministic_debug_mode(),
        "dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "environment": {key: os.environ[key] for key in os.environ if not key.startswith("PYTEST_")},
        "warnings": list(warnings.filters),
        "paths": (list(sys.path), list(sys.meta_path), os.getcwd()),
        "streams": (sys.stdout, sys.stderr, os._exit),
        "names": {kind.key: kind.registry().names() for kind in KINDS},
    }


@pytest.fixture
def unchanged() -> Iterator[None]:
    """The process after the test is the process before it."""
    _state()  # imports the registries, which draws random numbers
    before = _state()
    yield
    after = _state()
    assert {key: after[key] for key in after if after[key] != before[key]} == {}


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN)
    return path


def _raise(error: BaseException) -> Callable[[Event], None]:
    def listener(event: Event) -> None:
        if isinstance(event, RunEnded):
            raise error

    return listener


@pytest.mark.usefixtures("unchanged")
def test_a_study_with_a_plugin_that_changes_everything(tmp_path: Path, plugin: Path) -> None:
    study = {**TINY, "variants": ["none", "mine"], "seeds": 1}
    comparison = bnbench.compare(study, output=tmp_path / "r", plugins=plugin)
    assert {run["outcome"] for run in comparison.runs} <= {"finished", "stuck_at_chance"}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt(), SystemExit(3)])
def test_a_listener_that_raises_keeps_the_finished_run(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        bnbench.compare(TINY, output=tmp_path / "r", listeners=_raise(error))
    assert len(list((tmp_path / "r").glob("runs/*/seed-*/run.json"))) == 1
    assert len(bnbench.compare(TINY, output=tmp_path / "r").runs) == 6


@pytest.mark.usefixtures("unchanged")
def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        bnbench.compare({**TINY, "epochs": -1, "nosuch": 1}, output=tmp_path / "r")
    assert len(caught.value.mistakes) == 2
    assert not (tmp_path / "r").exists()


@pytest.mark.usefixtures("unchanged")
def test_a_check_and_a_verification(plugin: Path) -> None:
    assert bnbench.check({**TINY, "variants": ["none", "mine"]}, plugins=[plugin]).num_runs == 6
    assert bnbench.verify(lambda num_features: torch.nn.BatchNorm1d(num_features), dim=1).passed


def test_the_allocator_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(process, "keep_freed_memory", lambda: calls.append("mallopt"))
    bnbench.compare({**TINY, "seeds": 1}, output=tmp_path / "r")
    assert calls == []
    with process.training_process(for_good=True):
        assert calls == ["mallopt"]


def test_settings_of_the_caller_change_no_number(tmp_path: Path) -> None:
    plain = bnbench.compare(TINY, output=tmp_path / "plain")
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            torch.manual_seed(5)
            other = bnbench.compare(TINY, output=tmp_path / "other")
            assert torch.get_default_dtype() == torch.float64
            assert not torch.is_grad_enabled()
            assert torch.is_autocast_enabled("cpu")
    finally:
        torch.set_default_dtype(torch.float32)
    assert _numbers(other) == _numbers(plain)


def test_a_listener_that_draws_random_numbers_changes_none(tmp_path: Path) -> None:
    def draw(event: Event) -> None:
        torch.rand(3), np.random.rand(3), random.random()
        torch.manual_seed(1)

    plain = bnbench.compare(TINY, output=tmp_path / "plain")
    assert _numbers(bnbench.compare(TINY, output=tmp_path / "drawn", listeners=[draw])) == _numbers(plain)


def test_signal_handlers_of_the_caller_stay_in_charge(tmp_path: Path) -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        listener = _once(lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert len(bnbench.compare(TINY, output=tmp_path / "r", listeners=listener).runs) == 6
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]


def test_a_call_from_inside_a_call_is_refused(tmp_path: Path) -> None:
    listener = _once(lambda: bnbench.compare(TINY, output=tmp_path / "inner"))
    with pytest.raises(BnbenchError, match="was called again from inside"):
        bnbench.compare(TINY, output=tmp_path / "r", listeners=listener)
    assert len(bnbench.compare(TINY, output=tmp_path / "r").runs) == 6


def test_a_listener_may_load_what_is_finished(tmp_path: Path) -> None:
    loaded: list[int] = []

    def listener(event: Event) -> None:
        if isinstance(event, RunEnded):
            loaded.append(sum(run["outcome"] != "missing" for run in bnbench.load(tmp_path / "r").runs))

    bnbench.compare(TINY, output=tmp_path / "r", listeners=listener)
    assert loaded == [1, 2, 3, 4, 5, 6]


def test_two_threads_take_turns(tmp_path: Path) -> None:
    results: dict[str, Any] = {}

    def work(name: str) -> None:
        results[name] = _numbers(bnbench.compare(TINY, output=tmp_path / name))

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results["a"] == results["b"]


def test_inside_a_running_event_loop(tmp_path: Path) -> None:
    async def main() -> bnbench.Comparison:
        return bnbench.compare({**TINY, "seeds": 1}, output=tmp_path / "r")

    assert len(asyncio.run(main()).runs) == 2


def _once(action: Callable[[], object]) -> Callable[[Event], None]:
    todo = [action]

    def listener(event: Event) -> None:
        if todo:
            todo.pop()()

    return listener


def _numbers(comparison: bnbench.Comparison) -> list[tuple[Any, ...]]:
    return [(run["variant"], run["seed"], run["final_test_loss"]) for run in comparison.runs]
