"""Wrong arguments are our own errors, before anything trains."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import bnbench
from bnbench.base.errors import BnbenchError, LayerError
from tests.tiny_study import TINY


class Layer:
    """A class of no interest."""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"study": 123}, "study: 123 is neither a file"),
        ({"study": ["smoke"]}, "study: ['smoke'] is neither a file"),
        ({"study": "quikstart"}, 'Did you mean "quickstart"?'),
        ({"jobs": 0}, "jobs: 0 is not a whole number of 1 or more"),
        ({"jobs": "2"}, "jobs: '2' is not a whole number"),
        ({"jobs": True}, "jobs: True is not a whole number"),
        ({"device": "gpu"}, 'unknown device "gpu". Did you mean "cpu"?'),
        ({"refresh": "all"}, 'unknown refresh "all". Known: changed'),
        ({"force": "no"}, "force: 'no' is neither True nor False"),
        ({"seeds": "five"}, "'five' is neither a number of seeds nor a list"),
        ({"seeds": 2, "overrides": {"seeds": 3}}, "seeds is given twice: 3 and 2"),
        ({"overrides": 5}, "overrides: 5 is not a list"),
        ({"overrides": [5]}, '5 is not text. Fix: ["optimizer.lr=0.1"]'),
        ({"overrides": ["abc"]}, '"abc" is not of the form key=value'),
        ({"overrides": {"variants.batch.norm": Layer}}, "the class Layer can't stand in a study"),
        ({"overrides": {"optimzer.lr": 1}}, 'argument overrides: optimzer.lr=1: unknown key "optimzer"'),
        ({"listeners": 5}, "listeners: 5 is not a list"),
        ({"listeners": [5]}, "listeners: 5 can't hear events"),
        ({"listeners": [Layer]}, "can't hear events"),
        ({"fail_if": 3}, "fail_if: 3 is not a list"),
        ({"fail_if": "nosuch.test_loss > 1"}, 'unknown variant "nosuch"'),
        ({"plugins": "x.py"}, "plugins: x.py: there is no such file"),
        ({"plugins": 5}, "plugins: 5 is not a list"),
        ({"output": 5}, "output: 5 is not a path"),
        ({"data_dir": 5}, "data_dir: 5 is not a path"),
    ],
)
def test_a_wrong_argument_of_compare(
    arguments: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BnbenchError, match=re.escape(message)):
        bnbench.compare(**{"study": TINY, **arguments})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bnbench.train(TINY, "nosuch"), 'unknown variant "nosuch". Known: batch, none'),
        (lambda: bnbench.train(TINY, 5), "variant: 5 is not the name of a variant"),  # type: ignore[arg-type]
        (lambda: bnbench.load(5), "folder: 5 is not a path"),  # type: ignore[arg-type]
        (lambda: bnbench.check(TINY, device="tpu"), 'unknown device "tpu"'),
        (lambda: bnbench.verify(torch.nn.BatchNorm1d(3)), "a layer that is made already can't be verified"),  # type: ignore[arg-type]
        (lambda: bnbench.verify("batch", dim=7), "dim: 7 is none of 1, 2, 3 and all"),
        (lambda: bnbench.verify("batch", momentum=7), "momentum: 7 is not a number from 0 to 1"),
        (lambda: bnbench.verify("batch", running_var="x"), 'unknown running_var "x"'),  # type: ignore[arg-type]
        (lambda: bnbench.verify("batch", timeout=0), "timeout: 0 is not a number from 1 to 86400"),
    ],
)
def test_a_wrong_argument_of_another_function(call: Callable[[], object], message: str) -> None:
    with pytest.raises(BnbenchError, match=re.escape(message)):
        call()


def test_one_may_stand_alone_for_a_list(tmp_path: Path) -> None:
    comparison = bnbench.compare(
        {**TINY, "seeds": range(3)},
        overrides="epochs=1",
        listeners=lambda event: None,
        fail_if="batch.test_loss > 0",
        output=str(tmp_path / "r"),
    )
    assert [gate.failed for gate in comparison.gates] == [True]


def test_the_folder_is_the_one_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert bnbench.compare({**TINY, "seeds": 1}).folder == Path("results/tiny")
    again = bnbench.compare({**TINY, "seeds": 1}, overrides={"optimizer.lr": 1e-5})
    assert again.folder == Path("results/tiny+optimizer.lr=1e-05")
    assert bnbench.train({**TINY, "seeds": 1}, "batch").folder == Path("results/tiny-batch")


def test_classes_and_functions_are_layers() -> None:
    class Mine(torch.nn.BatchNorm1d):
        """As torch's, defined where nothing can import it."""

    assert bnbench.verify(Mine, dim=1).passed
    assert bnbench.verify(torch.nn.BatchNorm1d, dim=1).layer == "torch.nn.modules.batchnorm:BatchNorm1d"
    with pytest.raises(LayerError, match="takes no number of channels"):
        bnbench.verify(lambda: torch.nn.ReLU())
