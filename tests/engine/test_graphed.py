"""The stacked step as a graph, with a stand-in for the graph: what is captured must read nothing from Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bnbench.base.seeding import generator
from bnbench.data import Sizes
from bnbench.engine.build import build_model
from bnbench.engine.steppers.base import Stepper
from bnbench.engine.steppers.graphed import WARM_UP, Graphed
from bnbench.engine.steppers.stacked import Stacked
from bnbench.study import Settings, Vocabulary, load_study

Make = Callable[..., Settings]
SHAPE = (1, 8, 8)


@pytest.fixture
def settings(vocabulary: Vocabulary, tmp_path: Path) -> Make:
    def make(norm: str = "batch", optimizer: str = "{name: adam, lr: 0.01}", *more: str) -> Settings:
        path = tmp_path / "s.yaml"
        path.write_text("dataset: digits\nmodel: {name: mlp, hidden: [13]}\noptimizer: sgd\nepochs: 1\n")
        overrides = [f"norm={norm}", f"optimizer={optimizer}", *more]
        (variant,) = load_study(path, overrides, vocabulary).variants.values()
        return variant

    return make


class StandIn:
    """Makes the steps of a graph by calling them, while the learning rates that Python sees are not numbers."""

    def __init__(self) -> None:
        self.captured = self.replayed = 0
        self.optimizer: torch.optim.Optimizer

    def capture(self, step: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        self.captured += 1
        for _ in range(WARM_UP):
            losses = step()

        def replay() -> None:
            self.replayed += 1
            rates = [group["lr"] for group in self.optimizer.param_groups]
            for group in self.optimizer.param_groups:
                group["lr"] = float("nan")
            losses.copy_(step())
            for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate

        return replay, losses


def steppers(settings: Settings) -> tuple[Graphed, Stacked, StandIn]:
    def models() -> list[Any]:
        return [build_model(settings, Sizes(SHAPE, 10), seed) for seed in (0, 1, 2)]

    stand_in = StandIn()
    graphed = Graphed(models(), settings, stand_in.capture)
    stand_in.optimizer = graphed.optimizer
    return graphed, Stacked(models(), settings), stand_in


def losses(stepper: Stepper, sizes: list[int], device: str = "cpu") -> list[Tensor]:
    draw = generator(0, "test")
    found = []
    for index, size in enumerate([sizes[0], *sizes]):
        images = torch.randn(3, size, *SHAPE, generator=draw).to(device)
        labels = torch.randint(10, (3, size), generator=draw).to(device)
        if index == 0:
            stepper.prepare(images, labels)
            continue
        for group in stepper.optimizer.param_groups:
            group["lr"] = 0.01 / index
        found.append(stepper.step(images, labels).clone())
    return found


@pytest.mark.parametrize("norm", ["none", "batch", "batch_custom"])
@pytest.mark.parametrize(
    "optimizer", ["{name: adam, lr: 0.01}", "{name: sgd, lr: 0.01, momentum: 0.9}", "{name: adamw, lr: 0.01}"]
)
def test_a_graph_steps_as_the_stack_does(norm: str, optimizer: str, settings: Make) -> None:
    graphed, stacked, stand_in = steppers(settings(norm, optimizer, "clip_norm=0.5"))
    sizes = [32, 32, 17, 32, 32]  # one of another size in between
    for mine, other in zip(losses(graphed, sizes), losses(stacked, sizes), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-6)
    assert (stand_in.captured, stand_in.replayed) == (1, 4)
    assert graphed.notes == []
    for mine, other in zip(graphed.stack.models, stacked.stack.models, strict=True):
        for name, value in other.state_dict().items():
            torch.testing.assert_close(mine.state_dict()[name], value, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("norm", "more", "why"),
    [
        ("layer", (), "LayerNorm has no stacked form"),
        (
            "{name: batch, momentum: null}",
            (),
            "BatchNorm1d with momentum: null weighs every step differently",
        ),
        ("batch", ("loss=double_softmax",), "the loss has no stacked form"),
    ],
)
def test_what_a_graph_can_not_hold_is_stepped_without_and_said(
    norm: str, more: tuple[str, ...], why: str, settings: Make
) -> None:
    graphed, stacked, stand_in = steppers(settings(norm, "{name: adam, lr: 0.01}", *more))
    for mine, other in zip(losses(graphed, [32] * 3), losses(stacked, [32] * 3), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-6)
    assert graphed.notes == [f"no CUDA graph: {why}"]
    assert stand_in.captured == 0


def test_a_capture_that_fails_leaves_the_models_as_they_were(settings: Make) -> None:
    graphed, stacked, _ = steppers(settings())

    def fail(step: Callable[[], Tensor]) -> Any:
        step()
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")

    graphed._capture = fail
    for mine, other in zip(losses(graphed, [32] * 3), losses(stacked, [32] * 3), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-6)
    assert graphed.notes == ["no CUDA graph: CUDA error: operation not permitted when stream is capturing"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("norm", ["none", "batch", "batch_custom"])
def test_a_real_graph_steps_as_the_stack_does(norm: str, settings: Make) -> None:
    chosen = settings(norm, "{name: adam, lr: 0.01}")

    def models() -> list[Any]:
        return [build_model(chosen, Sizes(SHAPE, 10), seed).cuda() for seed in (0, 1, 2)]

    sizes = [32, 32, 17, 32]
    graphed = Graphed(models(), chosen)
    ours = losses(graphed, sizes, "cuda")
    for mine, other in zip(ours, losses(Stacked(models(), chosen), sizes, "cuda"), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-6)
    assert graphed.notes == []
