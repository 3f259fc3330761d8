"""No text and no override makes a traceback: `check` says what is wrong, or that nothing is."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from bnbench.cli.app import app

MILD = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _fuzz_studies() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "fuzz_studies.py"
    spec = importlib.util.spec_from_file_location("bnbench_fuzz_studies", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FUZZ = _fuzz_studies()


def check(folder: Path, content: bytes, words: list[str]) -> None:
    path = folder / "study.yaml"
    path.write_bytes(content)
    result = CliRunner().invoke(app, ["check", str(path), *words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 1, 2), result.output
    assert "Traceback" not in result.output
    assert result.exit_code == 0 or result.stderr.strip()


@MILD
@given(seed=st.integers(0, 2**32))
def test_mutated_studies(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    check(tmp_path, FUZZ.mutated_study(draw), FUZZ.mutated_words(draw))


@MILD
@given(content=st.binary(max_size=60))
def test_bytes(content: bytes, tmp_path: Path) -> None:
    check(tmp_path, b"dataset: digits\nmodel: mlp\noptimizer: {name: sgd, lr: 0.1}\n" + content, [])


@MILD
@given(key=st.text(max_size=12), value=st.text(max_size=12))
def test_any_override(key: str, value: str, tmp_path: Path) -> None:
    if f"{key}={value}".startswith("-"):
        return  # an option
    check(tmp_path, b"dataset: digits\nmodel: mlp\noptimizer: {name: sgd, lr: 0.1}\n", [f"{key}={value}"])


@pytest.mark.parametrize(
    "word", ["=", "a=b=c", "variants.=", "sweep.a.b.c=[1]", "norm.name.x=1", "x-=1", "\ud800=1"]
)
def test_odd_overrides(word: str, tmp_path: Path) -> None:
    check(
        tmp_path,
        b"dataset: digits\nmodel: mlp\noptimizer: {name: sgd, lr: 0.1}\nvariants: {none, batch}\n",
        [word],
    )
