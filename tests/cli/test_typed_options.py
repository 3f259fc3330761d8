"""A plugin's options reach its factories as the types that it declares; a fact that is unknown is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from bnbench.cli.app import app

PLUGIN = '''
import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel
from torch import nn

from bnbench.models import models
from bnbench.models.layers import classifier, linear_block
from bnbench.norms import norms
from bnbench.optim import losses, optimizers, schedules


class Kind(enum.Enum):
    SOFT = "soft"
    HARD = "hard"


@dataclass(frozen=True)
class Size:
    rows: int
    where: Path


class Part(BaseModel):
    kind: Kind
    pair: tuple[int, float]


def seen(kind, where, pair, size, part, word):
    assert kind is Kind.SOFT, kind
    assert isinstance(where, Path), where
    assert where.is_absolute(), where
    assert pair == (1, 2.0), pair
    assert isinstance(pair, tuple), pair
    assert isinstance(size, Size), size
    assert isinstance(size.where, Path), size
    assert isinstance(part, Part), part
    assert part.kind is Kind.HARD, part
    assert word == "a"


Word = Literal["a", "b"]


@norms.register("typed_TAG", absorbs_bias=True)
def norm(num_features: int, dim: int, *, kind: Kind, where: Path, pair: tuple[int, float], size: Size, part: Part,
         word: Word = "a"):
    """A norm."""
    seen(kind, where, pair, size, part, word)
    return nn.BatchNorm1d(num_features)


@models.register("typed_TAG", init="he")
def model(input_shape, num_classes, norm, *, kind: Kind, where: Path, pair: tuple[int, float], size: Size, part: Part,
          word: Word = "a"):
    """A model."""
    seen(kind, where, pair, size, part, word)
    return nn.Sequential(nn.Flatten(), linear_block(64, 8, norm), classifier(8, num_classes, norm))


@optimizers.register("typed_TAG")
def optimizer(model, *, lr: float, kind: Kind, where: Path, pair: tuple[int, float], size: Size, part: Part,
              word: Word = "a"):
    """An optimizer."""
    seen(kind, where, pair, size, part, word)
    return torch.optim.SGD(model.parameters(), lr=lr)


@losses.register("typed_TAG")
def loss(*, kind: Kind, where: Path, pair: tuple[int, float], size: Size, part: Part, word: Word = "a"):
    """A loss."""
    seen(kind, where, pair, size, part, word)
    return nn.CrossEntropyLoss()


@schedules.register("typed_TAG")
def schedule(total_steps, steps_per_epoch, *, kind: Kind, where: Path, pair: tuple[int, float], size: Size, part: Part,
             word: Word = "a"):
    """A schedule."""
    seen(kind, where, pair, size, part, word)
    return lambda step: 1.0
'''
OPTIONS = (
    "kind: soft, where: a/b, pair: [1, 2], size: {rows: 3, where: ~/x}, part: {kind: hard, pair: [1, 2]}"
)


def test_typed_options_reach_every_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    (tmp_path / "mine.py").write_text(PLUGIN.replace("TAG", "one"))
    sections = "\n".join(
        f"{key}: {{name: typed_one, {'lr: 0.1, ' if key == 'optimizer' else ''}{OPTIONS}}}"
        for key in ("model", "optimizer", "loss", "schedule")
    )
    study = f"dataset: digits\n{sections}\nepochs: 1\nseeds: 2\nmax_train_samples: 64\n"
    study += f"variants:\n  none: {{norm: none}}\n  mine: {{norm: {{name: typed_one, {OPTIONS}}}}}\n"
    (tmp_path / "s.yaml").write_text(study)
    words = ["--plugin", str(tmp_path / "mine.py"), "-q", "-o", str(tmp_path / "out"), "-j", "1"]
    result = CliRunner().invoke(app, ["compare", str(tmp_path / "s.yaml"), *words])
    assert result.exit_code == 0, result.output
    kept = yaml.safe_load((tmp_path / "out" / "study.yaml").read_text())
    assert kept["variants"]["mine"]["norm"] == {
        "name": "typed_one",
        "kind": "soft",
        "where": str(tmp_path / "a/b"),
        "pair": [1, 2.0],
        "size": {"rows": 3, "where": "/somewhere/x"},
        "part": {"kind": "hard", "pair": [1, 2.0]},
        "word": "a",
    }
    again = CliRunner().invoke(app, ["check", str(tmp_path / "out" / "study.yaml"), *words[:2]])
    assert again.exit_code == 0, again.output


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('norms.register("x", absorb_bias=True)', 'unknown fact "absorb_bias". Did you mean "absorbs_bias"?'),
        ('norms.register("x", stacks=False)', 'unknown fact "stacks". Known: '),
        (
            'norms.register("x", residual_only="no")',
            "residual_only='no' is wrong: it should be a valid boolean",
        ),
        ('norms.register("x", needs_batch=True)', 'unknown fact "needs_batch". Known: '),
        ('norms.register("x", weights=3)', "weights=3 is wrong"),
        (
            'models.register("x", init="hee")',
            "init='hee' is wrong: it should be 'torch', 'he', 'glorot', 'normal' or 'own'",
        ),
        ('datasets.register("x", augment=3)', "augment=3 is wrong: it should be a valid string"),
        ('datasets.register("x", num_train=3)', "go together"),
        ('optimizers.register("x", fast=True)', 'unknown fact "fast". Known: none'),
        ('norms.register("")', "is registered as ''"),
        ('norms.register("off")', 'a norm is registered as "off", which means none in a study'),
    ],
)
def test_a_fact_that_is_wrong_is_refused(line: str, said: str, tmp_path: Path) -> None:
    imports = "".join(
        f"from bnbench.{room} import {name}\n"
        for room, name in [
            ("norms", "norms"),
            ("models", "models"),
            ("data", "datasets"),
            ("optim", "optimizers"),
        ]
    )
    (tmp_path / "mine.py").write_text(f"{imports}\n@{line}\ndef f(*args):\n    '''Made.'''\n")
    result = CliRunner().invoke(app, ["list", "--plugin", str(tmp_path / "mine.py")])
    assert result.exit_code == 1
    assert said in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
