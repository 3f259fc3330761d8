"""Options of every type that pydantic knows, with annotations as text, for every kind of thing that a study chooses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from bnbench.api.plugins import known_names
from bnbench.base.errors import ConfigError
from bnbench.cli.app import app
from bnbench.study import load_study

PLUGIN = """from __future__ import annotations
import datetime
import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Optional, Union, NamedTuple
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from bnbench.data import datasets, Dataset
from bnbench.data.tensors import make_dataset
from bnbench.norms import norms
from bnbench.data.augmentations import augmentations

class Kind(enum.Enum):
    SOFT = "soft"
    HARD = "hard"
class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2
class Flag(enum.StrEnum):
    UP = "up"
@dataclass(frozen=True)
class Size:
    rows: int = 3
    parts: tuple[Level, ...] = (Level.LOW,)
class Part(BaseModel):
    model_config = ConfigDict(frozen=True)
    kind: Kind = Kind.SOFT
    more: Optional[Size] = None
class Pair(NamedTuple):
    a: int
    b: float = 2.0

@norms.register("rich")
def rich(num_features: int, dim: int, *, kind: Kind = Kind.HARD, level: Level = Level.LOW, flag: Flag = Flag.UP,
         size: Size = Size(), part: Part = Part(), where: Path = Path("a/b"), opt: Optional[Path] = None,
         grid: list[list[int]] = [[1, 2], [3]], pair: Pair = Pair(1), words: frozenset[str] = frozenset({"x"}),
         rate: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto",
         table: dict[str, tuple[int, int]] = {"a": (1, 2)},
         either: Union[int, str] = 3, delay: datetime.timedelta = datetime.timedelta(seconds=3)):
    '''Typed.

    kind: which kind
    '''
    assert isinstance(kind, Kind) and isinstance(level, Level) and isinstance(flag, Flag), (kind, level, flag)
    assert isinstance(size, Size) and isinstance(size.parts, tuple) and isinstance(size.parts[0], Level), size
    assert isinstance(part, Part) and isinstance(part.kind, Kind)
    assert part.more is None or isinstance(part.more, Size)
    assert isinstance(where, Path) and (opt is None or isinstance(opt, Path))
    assert isinstance(grid, list) and isinstance(pair, Pair), pair
    assert isinstance(words, frozenset), words
    assert isinstance(table["a"], tuple), table
    assert isinstance(delay, datetime.timedelta), delay
    return nn.BatchNorm1d(num_features) if dim == 1 else nn.BatchNorm2d(num_features)

@datasets.register("mydata")
def mydata(data_dir, *, kind: Kind, pair: tuple[int, int] = (3, 4), where: Path | None = None) -> Dataset:
    '''Data.

    kind: which
    pair: sizes
    where: place
    '''
    assert isinstance(kind, Kind) and isinstance(pair, tuple) and (where is None or isinstance(where, Path))
    g = torch.Generator().manual_seed(0)
    x = torch.randn(60, 1, *pair, generator=g); y = torch.arange(60) % 3
    return make_dataset("mydata", (x[:40], y[:40]), (x[40:], y[40:]), ["a", "b", "c"])

@augmentations.register("noise")
def noise(inputs, draw, *, kind: Kind = Kind.SOFT, span: tuple[float, float] = (0.0, 0.1)):
    '''Noise.'''
    assert isinstance(kind, Kind) and isinstance(span, tuple)
    return inputs
"""
STUDY = """
dataset: {name: mydata, kind: soft, where: sub/x}
model: {name: mlp, hidden: [4]}
optimizer: {name: sgd, lr: 0.1}
augment: {name: noise, span: [0, 0.5]}
epochs: 1
seeds: 2
variants:
  none: {norm: none}
  mine:
    norm: {name: rich, kind: soft, level: 2, pair: [5, 6], size: {rows: 7, parts: [2, 1]}, words: [u, v]}
    norm.part: {more: {rows: 1}}
    norm.table: {a: [3, 4]}
"""
RICH = {
    "name": "rich",
    "kind": "soft",
    "level": 2,
    "flag": "up",
    "size": {"rows": 7, "parts": [2, 1]},
    "part": {"kind": "soft", "more": {"rows": 1, "parts": [1]}},
    "opt": None,
    "grid": [[1, 2], [3]],
    "pair": [5, 6.0],
    "words": ["u", "v"],
    "rate": "auto",
    "table": {"a": [3, 4]},
    "either": 3,
    "delay": "PT3S",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(PLUGIN)
    (tmp_path / "s.yaml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> str:
    result = CliRunner().invoke(app, [*words, "--plugin", "mine.py"])
    assert result.exit_code == 0, result.output
    return result.stdout + result.stderr


def test_they_reach_the_factories_are_written_down_and_read_again(folder: Path) -> None:
    run("compare", "s.yaml", "-q", "-o", "out", "-j", "1")
    kept = yaml.safe_load(Path("out/study.yaml").read_text())
    assert kept["variants"]["mine"]["norm"] == {**RICH, "where": str(folder / "a/b")}
    assert kept["dataset"] == {
        "name": "mydata",
        "kind": "soft",
        "pair": [3, 4],
        "where": str(folder / "sub/x"),
    }
    assert kept["augment"] == {"name": "noise", "kind": "soft", "span": [0.0, 0.5]}
    assert "4 of 4 runs are finished already" in run("compare", "out/study.yaml", "-o", "out")
    schema = Draft202012Validator(json.loads(run("check", "--json-schema")))
    for study in ("s.yaml", "out/study.yaml"):
        assert [e.message for e in schema.iter_errors(yaml.safe_load(Path(study).read_text()))] == []


def test_they_can_be_swept(folder: Path) -> None:
    sweep = "sweep={norm.kind: [soft, hard], norm.size: [{rows: 1}, {rows: 2}], norm.where: [p, q]}"
    study = load_study(Path("s.yaml"), [sweep], known_names([Path("mine.py")]).vocabulary)
    cells = [cell.settings.norm.options for cell in study.cells if cell.variant == "mine"]
    assert len(cells) == 8
    assert cells[0]["size"] == {"rows": 1, "parts": [2, 1]}  # the level below has the parts
    assert {cell["where"] for cell in cells} == {str(folder / "p"), str(folder / "q")}


def test_all_that_is_wrong_is_said_at_once(folder: Path) -> None:
    wrong = ["norm.kind=sof", "norm.size.rows=x", "norm.level=5", "norm.rate=-1", "norm.pair=[1, 2, 3]"]
    overrides = [f"variants.mine.{text}" for text in wrong] + ["dataset.kind=zz", "augment.kind=q"]
    with pytest.raises(ConfigError) as caught:
        load_study(Path("s.yaml"), overrides, known_names([Path("mine.py")]).vocabulary)
    messages = [mistake.message for mistake in caught.value.mistakes]
    assert len(messages) == 7
    assert {text.partition(": ")[0] for text in messages} >= {
        "dataset.kind",
        "augment.kind",
        "norm.size.rows",
    }
    assert "norm.kind: 'sof' is wrong: it should be 'soft' or 'hard'." in messages
    assert "norm.rate: -1 is wrong: it should be greater than 0, or auto." in messages
