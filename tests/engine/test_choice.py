"""Which engine trains what, what an upgrade leaves as it is, and the engines that are asked for by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bnbench.data import Sizes
from bnbench.engine.choose import EngineChoice
from bnbench.engine.device import all_threads
from bnbench.engine.library import Library
from bnbench.engine.steppers.compiled import Compiled
from bnbench.study import Settings, Vocabulary, load_study
from bnbench.study.events import RunEnded
from bnbench.study.plan import RunSpec
from bnbench.study.records import RunRecord
from tests.training import chosen_for, execute

CPU = torch.device("cpu")
COMMITTED = Path(__file__).parents[2] / "results" / "double_softmax"
#: The fingerprint of MNIST.
MNIST = "1d00772acb959e22c3ac5b1a6664f840"


@pytest.fixture
def settings(vocabulary: Vocabulary, tmp_path: Path) -> Callable[..., Settings]:
    def make(**changes: Any) -> Settings:
        path = tmp_path / "s.yaml"
        path.write_text(
            "dataset: digits\nmodel: {name: mlp, hidden: [8]}\noptimizer: {name: sgd, lr: 0.05}\n"
            "epochs: 1\nmax_train_samples: 128\n"
        )
        overrides = [f"{key.replace('__', '.')}={value}" for key, value in changes.items()]
        (variant,) = load_study(path, overrides, vocabulary).variants.values()
        return variant

    return make


def record_of(settings: Settings, tmp_path: Path) -> RunRecord:
    runs = [RunSpec("v", {}, 0, "cell", settings)]
    events = execute(runs, Library(tmp_path, CPU), CPU, debug=True)
    (record,) = [event.record for event in events if isinstance(event, RunEnded)]
    return record


def test_the_choice_follows_the_settings(settings: Callable[..., Settings]) -> None:
    def chosen(**changes: Any) -> EngineChoice:
        return chosen_for(settings(**changes), Sizes((1, 8, 8), 10))

    assert chosen() == EngineChoice("stacked", 1)
    assert chosen(engine="sequential") == EngineChoice("sequential", 1)
    assert chosen(engine="compiled").engine == "compiled"
    assert chosen(precision="bf16").engine == "sequential"
    assert "bf16" in chosen(precision="bf16").reason
    wide = chosen(model__hidden="[4000, 4000]")
    assert (wide.engine, wide.threads) == ("sequential", all_threads())
    assert "large enough" in wide.reason
    assert chosen(model="{name: cnn, channels: [4]}").engine == "sequential"


def test_identity_knows_precision_and_not_the_engine(settings: Callable[..., Settings]) -> None:
    assert settings().identity() == settings(engine="sequential").identity()
    assert not {"engine", "precision"} & set(settings().identity())
    assert settings(precision="bf16").identity()["precision"] == "bf16"


def test_bf16_is_close_and_is_not_float32(settings: Callable[..., Settings], tmp_path: Path) -> None:
    full = record_of(settings(engine="sequential", norm="batch"), tmp_path)
    half = record_of(settings(precision="bf16", norm="batch"), tmp_path)
    assert half.outcome == full.outcome
    assert half.step_losses != full.step_losses
    assert half.step_losses == pytest.approx(full.step_losses, abs=0.05)


def test_where_the_compiler_fails_the_run_goes_on_and_says_so(
    settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile(model: torch.nn.Module, **_: Any) -> Any:
        def broken(images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no C++ compiler, say\nand much more")

        return broken

    monkeypatch.setattr("bnbench.engine.steppers.compiled.torch.compile", compile)
    plain = record_of(settings(engine="sequential", norm="batch"), tmp_path)
    record = record_of(settings(engine="compiled", norm="batch"), tmp_path)
    assert record.environment["engine"] == "sequential"
    assert "not compiled: RuntimeError: no C++ compiler, say" in record.notes
    assert record.step_losses == plain.step_losses
    assert record.final == plain.final


def test_compiling_leaves_the_model_as_it_was(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bnbench.engine.build import build_model

    monkeypatch.setattr("bnbench.engine.steppers.compiled.torch.compile", lambda model, **_: model)
    chosen = settings(engine="compiled", norm="batch_custom")
    model, other = (build_model(chosen, Sizes((1, 8, 8), 10), 0) for _ in range(2))
    Compiled(model, chosen, CPU).prepare(torch.randn(1, 32, 1, 8, 8), torch.zeros(1, 32, dtype=torch.long))
    for name, value in other.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


def test_a_network_that_can_not_be_copied_trains_alone(settings: Callable[..., Settings]) -> None:
    from bnbench.engine.build import build_model
    from bnbench.engine.choose import why_not_stacked

    chosen = settings(norm="batch")
    model = build_model(chosen, Sizes((1, 8, 8), 10), 0)
    model.get_submodule("blocks.0.norm").lock = (step for step in [])  # type: ignore[var-annotated]
    assert why_not_stacked(model, chosen, Sizes((1, 8, 8), 10), CPU) == "it can't be copied: TypeError"
