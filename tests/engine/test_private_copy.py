"""A private copy makes the update that the run makes next, and the run does not notice. Oracle: the run's own step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bnbench.base.errors import BnbenchError
from bnbench.base.seeding import generator
from bnbench.data import Sizes
from bnbench.engine.build import build_model, make_schedule
from bnbench.engine.private_copy import private_copy
from bnbench.engine.steppers.base import Stepper
from bnbench.engine.steppers.compiled import Compiled
from bnbench.engine.steppers.graphed import Graphed
from bnbench.engine.steppers.sequential import Sequential
from bnbench.engine.steppers.stacked import Stacked
from bnbench.study import Settings, Vocabulary, load_study
from tests.engine.test_graphed import StandIn

CPU = torch.device("cpu")
SIZES = Sizes((1, 8, 8), 10)
#: Each with weight decay on a part of the parameters, so that there are two groups.
OPTIMIZERS = [
    "{name: sgd, lr: 0.1, momentum: 0.9, weight_decay: 0.01, decay_norm_and_bias: false}",
    "{name: sgd, lr: 0.1}",
    "{name: adam, lr: 0.01, weight_decay: 0.01, decay_norm_and_bias: false}",
    "{name: adamw, lr: 0.01, decay_norm_and_bias: false}",
    "{name: adam_keras, lr: 0.01}",
]
#: Clipping that takes effect, and a rate that changes with every step.
CLIPPED = ["clip_norm=0.3", "schedule={name: cosine, warmup_epochs: 0.4}"]
#: Adaptive clipping, rates and decay by group, and parameters that do not learn.
MORE = [
    ["clip={name: agc, ratio: 0.01}", "optimizer.groups={gamma: {weight_decay: 0, lr_factor: 3}}"],
    ["train=norm"],
]

Make = Callable[..., Settings]


@pytest.fixture
def settings(vocabulary: Vocabulary, tmp_path: Path) -> Make:
    def make(optimizer: str, *more: str) -> Settings:
        path = tmp_path / "s.yaml"
        path.write_text("dataset: digits\nmodel: {name: mlp, hidden: [13, 7]}\noptimizer: sgd\nepochs: 1\n")
        overrides = ["norm=batch", f"optimizer={optimizer}", *more]
        (variant,) = load_study(path, overrides, vocabulary).variants.values()
        return variant

    return make


def batch(step: int, replicas: int = 1) -> tuple[Tensor, Tensor]:
    draw = generator(step, "batch")
    inputs = torch.randn((replicas, 16, *SIZES.input_shape), generator=draw)
    return inputs, torch.randint(0, 10, (replicas, 16), generator=draw)


def rate(settings: Settings, step: int) -> float:
    return make_schedule(settings, 10, 5)(step)


def stepped(stepper: Stepper, settings: Settings, steps: int) -> Stepper:
    """After some steps, with the rates of the last one still in the optimizer's groups."""
    for step in range(steps):
        stepper.scale_rates(rate(settings, step))
        stepper.step(*batch(step, len(stepper.models)))
    return stepper


def models(settings: Settings, count: int) -> list[nn.Module]:
    return [build_model(settings, SIZES, seed) for seed in range(count)]


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("more", [[], CLIPPED, *MORE])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_copy_of_a_sequential_run_steps_bit_for_bit(
    settings: Make, optimizer: str, more: list[str]
) -> None:
    chosen = settings(optimizer, *more)
    for steps in (0, 4):
        run = Sequential(models(chosen, 1)[0], chosen, CPU)
        stepped(run, chosen, steps)
        twin = private_copy(run, 0, rate(chosen, steps))
        before = state(run.model)
        loss = twin.step(*batch(steps))
        torch.testing.assert_close(state(run.model), before, rtol=0, atol=0)
        run.scale_rates(rate(chosen, steps))
        torch.testing.assert_close(run.step(*batch(steps)), loss, rtol=0, atol=0)
        torch.testing.assert_close(state(twin.model), state(run.model), rtol=0, atol=0)
        assert any(not torch.equal(value, before[name]) for name, value in state(run.model).items())


@pytest.mark.parametrize("engine", [Stacked, Graphed])
@pytest.mark.parametrize("more", [[], CLIPPED, *MORE])
@pytest.mark.parametrize("optimizer", OPTIMIZERS[:4])
def test_a_copy_of_a_replica_steps_to_rounding(
    settings: Make, optimizer: str, more: list[str], engine: type[Stacked]
) -> None:
    """Not bit for bit: the stack's batched matrix products add up in another order than a single model's."""
    chosen = settings(optimizer, *more)
    for steps in (0, 4):
        run = engine(models(chosen, 3), chosen, *([StandIn().capture] if engine is Graphed else []))
        if isinstance(run, Graphed):
            run._capture.__self__.optimizer = run.optimizer  # type: ignore[attr-defined]
            run.prepare(*batch(0, 3))
            assert run._replay is not None
        stepped(run, chosen, steps)
        twins = [private_copy(run, index, rate(chosen, steps)) for index in range(3)]
        inputs, targets = batch(steps, 3)
        losses = [twin.step(inputs[i : i + 1], targets[i : i + 1])[0] for i, twin in enumerate(twins)]
        before = [state(model) for model in run.models]
        run.scale_rates(rate(chosen, steps))
        torch.testing.assert_close(run.step(inputs, targets), torch.stack(losses), rtol=1e-5, atol=1e-6)
        for twin, model, old in zip(twins, run.models, before, strict=True):
            # in float32; a step moves weights by 1e-3 to 1e-1, so that another step would not pass
            torch.testing.assert_close(state(twin.model), state(model), rtol=1e-5, atol=2e-6)
            assert max(float((value - old[name]).abs().max()) for name, value in state(model).items()) > 1e-3


def test_copies_leave_a_stacks_training_as_it_is(settings: Make) -> None:
    chosen = settings(OPTIMIZERS[2], *CLIPPED)
    run, alone = (Stacked(models(chosen, 2), chosen) for _ in range(2))
    for step in range(5):
        twin = private_copy(run, 1, rate(chosen, step))
        twin.step(*batch(99))
        for stepper in (run, alone):
            stepper.scale_rates(rate(chosen, step))
            stepper.step(*batch(step, 2))
    for model, other in zip(run.models, alone.models, strict=True):
        torch.testing.assert_close(state(model), state(other), rtol=0, atol=0)


def test_an_optimizer_without_kernels_of_its_own_in_the_stack_is_copied_too(settings: Make) -> None:
    chosen = settings(OPTIMIZERS[2])
    run = Stacked(models(chosen, 2), chosen)
    run.stack.fused = None
    stepped(run, chosen, 3)
    twin = private_copy(run, 1, 1.0)
    inputs, targets = batch(3, 2)
    twin.step(inputs[1:], targets[1:])
    run.step(inputs, targets)
    torch.testing.assert_close(state(twin.model), state(run.models[1]), rtol=1e-5, atol=2e-6)


@pytest.mark.slow
def test_a_copy_of_a_compiled_run_steps_to_rounding(settings: Make) -> None:
    chosen = settings(OPTIMIZERS[0], *CLIPPED)
    run = stepped(Compiled(models(chosen, 1)[0], chosen, CPU), chosen, 2)
    twin = private_copy(run, 0, rate(chosen, 2))
    twin.step(*batch(2))
    run.scale_rates(rate(chosen, 2))
    run.step(*batch(2))
    torch.testing.assert_close(state(twin.model), state(run.models[0]), rtol=1e-5, atol=2e-6)


class Keeps(nn.Module):
    """A layer that keeps its last output, with the output's history."""

    def forward(self, x: Tensor) -> Tensor:
        self.last: Tensor = x * 2
        return self.last


def test_a_network_that_can_not_be_copied_is_named(settings: Make) -> None:
    chosen = settings(OPTIMIZERS[1])
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), Keeps())
    run = stepped(Sequential(model, chosen, CPU), chosen, 1)
    with pytest.raises(BnbenchError, match="Sequential can't be copied with its optimizer"):
        private_copy(run, 0, 1.0)


def test_an_optimizer_whose_step_is_replaced_is_refused(settings: Make) -> None:
    """A scheduler's wrapper steps the optimizer it was made for, and would move the run's own weights."""
    chosen = settings(OPTIMIZERS[1])
    run = Sequential(models(chosen, 1)[0], chosen, CPU)
    torch.optim.lr_scheduler.ExponentialLR(run.optimizer, 0.9)
    with pytest.raises(BnbenchError, match="step was replaced"):
        private_copy(run, 0, 1.0)


def test_copies_draw_nothing(settings: Make) -> None:
    chosen = settings(OPTIMIZERS[0])
    run = Sequential(models(chosen, 1)[0], chosen, CPU)
    before = copy.deepcopy(torch.get_rng_state())
    private_copy(run, 0, 1.0)
    assert torch.equal(torch.get_rng_state(), before)
