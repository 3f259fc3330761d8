"""Replicas: the same numbers as models trained alone, whatever a seed is grouped with, and no word between them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnbench.base.registry import Entry
from bnbench.data import Sizes
from bnbench.data.catalogue import digits
from bnbench.data.prepared import Prepared
from bnbench.engine.build import build_model, make_objective, make_optimizer
from bnbench.engine.choose import EngineChoice
from bnbench.engine.stacked.chain import chain, has_stacked_form
from bnbench.engine.stacked.stack import Stack
from bnbench.models import ModelFacts, models
from bnbench.models.layers import NormLayer
from bnbench.norms import norms
from bnbench.study import Settings, Vocabulary, load_study
from bnbench.study.events import RunEnded
from bnbench.study.plan import RunSpec
from tests.prepared import prepare
from tests.training import chosen_for, execute

CPU = torch.device("cpu")
Make = Callable[..., Settings]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """641 digits to train on: 20 batches of 32, the last one merged with a batch of one."""
    dataset = digits(tmp_path_factory.mktemp("data"))
    # zeros stay zero: a constant pixel that isn't has no gradient but rounding, and Adam makes full steps of it
    return prepare(
        dataset, val_fraction=0.2, split_seed=0, max_train_samples=641, device=CPU, normalize="unit"
    )


@pytest.fixture
def settings(vocabulary: Vocabulary, tmp_path: Path) -> Make:
    def make(**changes: Any) -> Settings:
        path = tmp_path / "s.yaml"
        path.write_text(
            "dataset: digits\nmodel: {name: mlp, hidden: [13]}\noptimizer: {name: sgd, lr: 0.05}\nepochs: 2\n"
        )
        overrides = [f"{key.replace('__', '.')}={value}" for key, value in changes.items()]
        (variant,) = load_study(path, overrides, vocabulary).variants.values()
        return variant

    return make


class Alone:
    """A library with one data set."""

    def __init__(self, data: Prepared) -> None:
        self.data = data

    def prepared(self, settings: Settings) -> Prepared:
        return self.data


def trained(settings: Settings, data: Prepared, seeds: list[int]) -> dict[int, RunEnded]:
    runs = [RunSpec("v", {}, seed, "cell", settings) for seed in seeds]
    events = list(execute(runs, Alone(data), CPU, debug=True))
    return {event.run.seed: event for event in events if isinstance(event, RunEnded)}


def largest_gap(settings: Settings, other: Settings, data: Prepared, steps: int = 200) -> float:
    """Between the losses of the first steps of three seeds, by both engines."""
    ours, theirs = trained(settings, data, [0, 1, 2]), trained(other, data, [0, 1, 2])
    assert {ended.record.environment["engine"] for ended in theirs.values()} == {"sequential"}
    return max(
        abs(a - b)
        for seed in ours
        for a, b in zip(
            ours[seed].record.step_losses[:steps], theirs[seed].record.step_losses[:steps], strict=True
        )
    )


STACKS = [e.name for e in norms.entries() if e.name not in ("instance", "qk") and not e.facts.residual_only]
#: With its learnt eps, which passes through 0 as |e|, any two trainings that differ by 1e-7 part at about 40 steps.
SMOOTH = {"filter_response": "{name: filter_response, learn_eps: false, eps: 0.1}"}


@pytest.mark.slow
@pytest.mark.parametrize("norm", STACKS)
def test_every_normalizer_stacks_as_it_trains_alone(norm: str, settings: Make, data: Prepared) -> None:
    how = {
        "norm": SMOOTH.get(norm, norm),
        "epochs": 10,
        "clip_norm": 0.8,
        "schedule": "{name: cosine, warmup_epochs: 0.5}",
    }
    chosen = chosen_for(settings(**how), Sizes((1, 8, 8), 10))
    if chosen.engine == "sequential":
        pytest.skip(f"{norm} falls back: {chosen.reason}")
    assert largest_gap(settings(**how), settings(**how, engine="sequential"), data) < 1e-6


@pytest.mark.parametrize(
    "optimizer",
    [
        "{name: sgd, lr: 0.05, momentum: 0.9, nesterov: true, weight_decay: 0.01}",
        "{name: adam, lr: 0.003, weight_decay: 0.01}",
        "{name: adamw, lr: 0.003, weight_decay: 0.1, decay_norm_and_bias: false}",
    ],
)
@pytest.mark.parametrize("loss", ["{name: cross_entropy, label_smoothing: 0.1}", "double_softmax", "mse"])
def test_optimizers_decay_groups_and_losses(
    optimizer: str, loss: str, settings: Make, data: Prepared
) -> None:
    how = {
        "norm": "batch_custom",
        "optimizer": optimizer,
        "loss": loss,
        "model__activation": "gelu",
        "epochs": 4,
    }
    assert largest_gap(settings(**how), settings(**how, engine="sequential"), data) < 1e-6


@pytest.mark.parametrize("place", ["before_norm", "after_norm", "last"])
def test_dropout_has_the_masks_that_a_run_alone_has(place: str, settings: Make, data: Prepared) -> None:
    how = {"norm": "batch_custom", "model__dropout": f"{{p: 0.4, place: {place}}}", "epochs": 4}
    assert largest_gap(settings(**how), settings(**how, engine="sequential"), data) < 1e-6


@pytest.mark.slow
def test_the_check_would_see_a_wrong_epsilon(settings: Make, data: Prepared) -> None:
    how = {"epochs": 10, "optimizer": "{name: adam, lr: 0.003}"}
    right, wrong = (settings(**how, norm=f"{{name: batch_custom, eps: {eps}}}") for eps in ("1e-5", "1.1e-5"))
    alone = settings(**how, norm="batch_custom", engine="sequential")
    assert largest_gap(right, alone, data) < 1e-6 < 5e-6 < largest_gap(wrong, alone, data)


@pytest.mark.parametrize("norm", ["none", "batch", "batch_custom", "layer", "rms", "group"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_numbers_do_not_depend_on_the_group(
    norm: str, activation: str, settings: Make, data: Prepared
) -> None:
    """Not a bit: sizes that no vector register divides, a seed alone, in front, in the middle and at the end."""
    how = settings(
        norm=norm, model__activation=activation, optimizer="adam", optimizer__lr=0.01, batch_size=31
    )
    want = trained(how, data, [5])[5]
    for seeds in ([5, 1], [1, 5], [0, 1, 5, 3], [4, 3, 2, 1, 5]):
        got = trained(how, data, seeds)[5]
        assert got.record.environment["engine"] == "stacked"
        assert got.record.step_losses == want.record.step_losses
        assert got.record.final == want.record.final
        assert [row.metrics for row in got.record.history] == [row.metrics for row in want.record.history]
        assert got.weights is not None
        assert want.weights is not None
        for name, value in want.weights.items():
            assert got.weights[name].tobytes() == value.tobytes(), name


@pytest.mark.parametrize("norm", ["none", "batch", "batch_custom", "layer"])
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "gelu"])
@pytest.mark.parametrize("position", ["before", "after"])
def test_gradients_are_those_of_single_models(
    norm: str, activation: str, position: str, settings: Make
) -> None:
    chosen = settings(
        norm=norm, model__activation=activation, model__norm_position=position, model__hidden="[7, 5]"
    )
    alone = [build_model(chosen, Sizes((1, 8, 8), 10), seed).double() for seed in range(3)]
    for index, model in enumerate(alone):  # weights and biases of norms that are not all one and zero
        for parameter in model.parameters():
            draw = torch.Generator().manual_seed(index)
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
    together = [build_model(chosen, Sizes((1, 8, 8), 10), seed).double() for seed in range(3)]
    for mine, other in zip(together, alone, strict=True):
        mine.load_state_dict(other.state_dict())
    objective = make_objective(chosen)
    stack = Stack(together, make_optimizer(chosen), objective)
    draw = torch.Generator().manual_seed(9)
    images = torch.randn(3, 6, 1, 8, 8, generator=draw, dtype=torch.float64)
    labels = torch.randint(10, (3, 6), generator=draw)
    losses = stack.gradients(images, labels)
    for index, model in enumerate(alone):
        loss = objective(model(images[index]), labels[index])
        loss.backward()
        assert losses[index].item() == pytest.approx(loss.item(), abs=1e-12)
        names = [name for name, _ in model.named_parameters()]
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            mine = stack.parameters.grad(dict(together[0].named_parameters())[name])[index]
            torch.testing.assert_close(mine, parameter.grad, rtol=0, atol=1e-12, msg=f"{name} of {names}")
        for mine, other in zip(together[index].buffers(), model.buffers(), strict=True):
            torch.testing.assert_close(mine, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["none", "batch", "batch_custom", "layer"])
def test_a_replica_that_goes_wrong_does_not_touch_its_neighbours(
    norm: str, settings: Make, data: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = settings(norm=norm, epochs=6)
    want = trained(how, data, [0, 1, 2])
    monkeypatch.setattr("bnbench.engine.loop.build_model", _poisoned)
    got = trained(how, data, [0, 1, 2])
    assert got[1].record.outcome == "not_finite"
    assert got[1].record.steps == 20  # seen at the first look
    assert got[1].record.steps == trained(how, data, [1])[1].record.steps
    for seed in (0, 2):
        assert got[seed].record.step_losses == want[seed].record.step_losses
        assert got[seed].record.final == want[seed].record.final


def _poisoned(settings: Settings, sizes: Sizes, seed: int) -> nn.Module:
    """Seed 1 starts with a NaN."""
    model = build_model(settings, sizes, seed)
    if seed == 1:
        next(model.parameters()).data[0, 0] = float("nan")
    return model


class Counts(nn.Module):
    """A user's layer: a learned scalar, state of its own, and no kernel that the stack knows."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("mean", torch.zeros(()))
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.calls += 1
            self.mean += 0.1 * (x.detach().mean() - self.mean)
        return self.scale * torch.tanh(x - self.mean / self.calls)


def _build_with(*layers: Callable[[], nn.Module]) -> Callable[..., nn.Module]:
    def factory(input_shape: tuple[int, int, int], num_classes: int, norm: NormLayer) -> nn.Module:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 9), *[layer() for layer in layers], nn.Linear(9, num_classes)
        )

    return factory


def _use(monkeypatch: pytest.MonkeyPatch, settings: Settings, factory: Callable[..., nn.Module]) -> Settings:
    models.names()
    monkeypatch.setitem(models._entries, "mlp", Entry("mlp", factory, ModelFacts()))
    return settings.model_copy(update={"model": settings.model.model_copy(update={"options": {}})})


def test_a_users_layer_with_state_stacks_as_itself(
    settings: Make, data: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory = _build_with(Counts)
    stacked = _use(monkeypatch, settings(), factory)
    sequential = stacked.model_copy(update={"engine": "sequential"})
    assert chosen_for(stacked, Sizes((1, 8, 8), 10)) == EngineChoice("stacked", 1)
    assert largest_gap(stacked, sequential, data) < 1e-6


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(64, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        return self.head(x + self.inner(x))


def _shares(*_: Any) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10))
    model[2].weight = model[1].weight
    return model


def _hooked(*_: Any) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    model.register_forward_hook(lambda module, args, out: out * 2)
    return model


@pytest.mark.parametrize(
    ("factory", "why"),
    [
        (_build_with(lambda: nn.Dropout(0.5)), "draws random numbers"),
        (lambda *_: _Residual(), "_Residual is not a plain Sequential"),
        (_shares, "share parameters"),
        (_hooked, "not a plain Sequential"),
        (lambda *_: nn.Sequential(nn.Flatten(), nn.LazyLinear(10)), ""),
        (lambda *_: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 10)), "convolutions"),
    ],
)
def test_what_can_not_stack_trains_one_by_one_and_says_why(
    factory: Any, why: str, settings: Make, data: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = _use(monkeypatch, settings(epochs=1), factory)
    if not why:
        pytest.skip("lazy layers have no parameters to initialise")
    records = [ended.record for ended in trained(chosen, data, [0, 1]).values()]
    assert [record.outcome for record in records] == ["finished", "finished"]
    assert {record.environment["engine"] for record in records} == {"sequential"}
    assert why in records[0].environment["engine_reason"]


@pytest.mark.parametrize("norm", ["none", "batch", "batch_custom"])
def test_every_layer_of_the_usual_network_has_a_stacked_form(norm: str) -> None:
    """Nothing of it is called replica by replica: that is right too, but slow."""
    model = models.get("mlp").factory((1, 8, 8), 10, NormLayer(norms.get(norm)), hidden=[16, 16])
    assert all(has_stacked_form(layer) for layer in chain(model))
    assert sum(isinstance(layer, nn.Linear) for layer in chain(model)) == 3


class _InPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x -= x.mean(0)
        return x


@pytest.mark.parametrize(
    "objective",
    [
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(label_smoothing=0.1),
        nn.CrossEntropyLoss(reduction="sum"),
        nn.CrossEntropyLoss(ignore_index=1),
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)),
    ],
    ids=["plain", "smoothed", "sum", "ignoring", "weighted"],
)
def test_users_layers_and_losses_have_the_gradients_that_they_have_alone(objective: nn.Module) -> None:
    torch.manual_seed(0)
    models = [
        nn.Sequential(nn.Flatten(), nn.Linear(4, 6), _InPlace(), nn.ReLU(), nn.Linear(6, 3)).double()
        for _ in range(2)
    ]
    images, labels = torch.randn(2, 8, 4, dtype=torch.float64), torch.arange(16).view(2, 8) % 3
    alone = []
    for model, x, y in zip(models, images, labels, strict=True):
        loss = objective(model(x), y)
        alone.append((loss.detach(), torch.autograd.grad(loss, list(model.parameters()))))
    stack = Stack(models, lambda model: torch.optim.SGD(model.parameters(), lr=0.1), objective)
    losses = stack.gradients(images, labels)
    for index, (loss, grads) in enumerate(alone):
        torch.testing.assert_close(losses[index], loss, rtol=1e-12, atol=1e-12)
        for stacked, grad in zip(stack.parameters.blocks(), grads, strict=True):
            torch.testing.assert_close(stacked[index], grad, rtol=1e-12, atol=1e-12)
