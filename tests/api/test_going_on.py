"""Studies that were stopped in the middle of a run go on from its state, or begin again, as they are asked to.

Oracle: the results of the study that nothing disturbed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import bnbench
from bnbench.base.errors import BnbenchError
from bnbench.engine.state import run_state
from bnbench.results import REPORT
from bnbench.study.events import Evaluated, Event, RunStarted
from tests.same_results import assert_same
from tests.tiny_study import TINY

STUDY = {**TINY, "epochs": 6, "seeds": 2, "variants": ["batch"]}
EVERY_STEP = bnbench.Running(save_every=0)


class Stopped(Exception):
    """The caller's program ends in the middle of a run."""


def stop(event: Event) -> None:
    if isinstance(event, Evaluated) and event.row.step == 16:
        raise Stopped


def started(output: Path, **options: Any) -> tuple[list[int], bnbench.Comparison]:
    """The steps at which runs start, and the result."""
    steps: list[int] = []

    def listen(event: Event) -> None:
        if isinstance(event, RunStarted):
            steps.append(event.step)

    study = options.pop("study", STUDY)
    options = {"running": EVERY_STEP, "jobs": 1, **options}
    return steps, bnbench.compare(study, output=output, listeners=[listen], **options)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "results"
    assert started(folder, running=bnbench.Running())[0] == [0, 0]
    return folder


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A results folder with two runs in a stack that are half done."""
    with pytest.raises(Stopped):
        bnbench.compare(STUDY, output=tmp_path / "results", listeners=[stop], jobs=1, running=EVERY_STEP)
    assert len(list((tmp_path / "results/.states").glob("batch-*/seed-*/step-*.safetensors"))) == 4
    return tmp_path / "results"


def test_a_stack_goes_on_from_its_last_state(stopped: Path, undisturbed: Path) -> None:
    steps, comparison = started(stopped)
    assert steps == [15, 15]
    assert not [text for text in comparison.cautions if "resumed" in text]
    assert_same(undisturbed, stopped)


@pytest.mark.parametrize("again", [{"running": bnbench.Running(resume="never")}, {"force": True}])
def test_runs_begin_again_where_that_is_asked_for(
    again: dict[str, Any], stopped: Path, undisturbed: Path
) -> None:
    assert started(stopped, **again)[0] == [0, 0]
    assert_same(undisturbed, stopped)


@pytest.mark.slow
def test_states_of_runs_that_the_study_has_no_more_are_removed(stopped: Path) -> None:
    assert started(stopped, seeds=1)[0] == [15]
    assert not (stopped / ".states").exists()
    assert started(stopped)[0] == [0]


def test_a_run_that_goes_on_elsewhere_says_so(
    stopped: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the verdict, in the report and in the methods; its bits may be the same all the same."""
    circumstances = run_state.circumstances

    def elsewhere(*words: Any) -> dict[str, Any]:
        return {**circumstances(*words), "processor": "Another CPU"}

    monkeypatch.setattr(run_state, "circumstances", elsewhere)
    steps, comparison = started(stopped)
    assert steps == [15, 15]
    (caution,) = [text for text in comparison.cautions if text.startswith("resumed elsewhere")]
    assert "2 runs, batch seeds 0-1 (processor " in caution
    assert " then, Another CPU now): their last bits may differ" in caution
    assert "resumed elsewhere: 2 runs" in (stopped / REPORT).read_text()
    assert "2 runs were interrupted and resumed elsewhere" in (stopped / REPORT).read_text()
    assert_same(undisturbed, stopped)
    assert started(stopped, refresh="changed")[0] == [0, 0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"save_every": -1}, "save_every: -1 is not a number of seconds, 0 or more"),
        ({"save_every": float("nan")}, "save_every: nan is not a number of seconds, 0 or more"),
        ({"save_every": float("inf")}, "save_every: inf is not a number of seconds, 0 or more"),
        ({"save_every": "30"}, "save_every: '30' is not a number of seconds, 0 or more"),
        ({"save_every": True}, "save_every: True is not a number of seconds, 0 or more"),
        ({"resume": "nevr"}, 'resume: unknown choice "nevr". Did you mean "never"?'),
        (
            {"save_every": -1, "resume": 3},
            "save_every: -1 is not a number of seconds, 0 or more (0: a state after every step).\nresume: unknown "
            'choice "3"',
        ),
    ],
)
def test_choices_that_are_none(values: dict[str, Any], message: str) -> None:
    with pytest.raises(BnbenchError) as raised:
        bnbench.Running(**values)
    assert str(raised.value).startswith(message)


def test_what_is_no_choice_at_all() -> None:
    with pytest.raises(
        BnbenchError, match=r"running: 3 is not a bnbench\.Running\.\nFix: bnbench\.Running\("
    ):
        bnbench.compare(STUDY, running=3)  # type: ignore[arg-type]
