"""The training loop against a plain PyTorch loop, its promises of reproducibility and pairing, its outcomes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bnbench.base.metrics import CLASSIFICATION, columns_of
from bnbench.base.registry import Entry
from bnbench.data import Dataset, Sizes
from bnbench.data.augmentations import augmentation_of
from bnbench.data.batches import epoch_order
from bnbench.data.prepared import Prepared
from bnbench.engine.build import build_model
from bnbench.engine.choose import EngineChoice
from bnbench.engine.evaluate import evaluate
from bnbench.engine.execute import Trainer
from bnbench.engine.library import Library
from bnbench.engine.loop import Training, train_replicas
from bnbench.models import ModelFacts, models
from bnbench.models.layers import NormLayer, linear_block
from bnbench.study import Choice as Named
from bnbench.study import Settings, Vocabulary, load_study
from bnbench.study.events import Evaluated, Event, RunEnded, RunStarted
from bnbench.study.plan import RunSpec, make_plan
from bnbench.study.records import RunRecord
from tests.prepared import prepare
from tests.training import chosen_for

CPU = torch.device("cpu")
CROP_FLIP = augmentation_of(Named(name="crop_flip"))
#: Of the data below, by its five classes.
ALL_METRICS = set(columns_of([*(m.name for m in CLASSIFICATION), *(f"recall:{name}" for name in "abcde")]))


@pytest.fixture(scope="module")
def data() -> Prepared:
    """300 noisy images of 5 classes, 8x8: small enough to train on in a moment, and not trivial."""
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(5, 1, 8, 8, generator=draw)

    def samples(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.randint(5, (count,), generator=draw)
        return centres[labels] + torch.randn(count, 1, 8, 8, generator=draw), labels

    dataset = Dataset(*samples(300), *samples(100), ("a", "b", "c", "d", "e"), "made up")
    return prepare(dataset, val_fraction=0.2, split_seed=0, max_train_samples=None, device=CPU)


@pytest.fixture
def settings(vocabulary: Vocabulary, tmp_path: Path) -> Any:
    def make(**changes: Any) -> Settings:
        path = tmp_path / "s.yaml"
        path.write_text(
            "dataset: digits\nmodel: {name: mlp, hidden: [12]}\noptimizer: {name: sgd, lr: 0.05, momentum: 0.9}\n"
            "batch_size: 32\nepochs: 2\n"
        )
        overrides = [f"{key.replace('__', '.')}={value}" for key, value in changes.items()]
        (variant,) = load_study(path, overrides, vocabulary).variants.values()
        return variant

    return make


def run_of(settings: Settings, seed: int = 0) -> RunSpec:
    return RunSpec("v", {}, seed, "cell", settings)


def train(run: RunSpec, data: Prepared) -> Iterator[Event]:
    choice = chosen_for(run.settings, data.sizes)
    return train_replicas([run], data, None, CPU, choice)


def record_of(settings: Settings, data: Prepared, seed: int = 0) -> tuple[RunRecord, dict[str, Any]]:
    for event in train(run_of(settings, seed), data):
        if isinstance(event, RunEnded):
            assert event.weights is not None
            return event.record, dict(event.weights)
    raise AssertionError("no RunEnded")


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_against_a_plain_pytorch_loop(
    norm: str, settings: Any, data: Prepared, same_threads: Callable[[int], None]
) -> None:
    """Same weights and batches, written as the tutorials write it: the same losses, bit for bit."""
    chosen = settings(
        norm=norm, clip_norm=0.5, schedule="{name: cosine, warmup_epochs: 0.5}", engine="sequential"
    )
    record, weights = record_of(chosen, data)

    same_threads(record.environment["num_threads"])
    model = build_model(chosen, data.sizes, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, fused=True)
    losses: list[float] = []
    for epoch in range(2):
        for index in epoch_order(240, 32, 0, epoch, "merge"):
            step = len(losses)
            warm = min(1.0, (step + 1) / 4)
            optimizer.param_groups[0]["lr"] = (
                0.05 * warm * (1 + math.cos(math.pi * min(max((step - 4) / 12, 0), 1))) / 2
            )
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(data.train_batch(index)), data.train_targets[index])
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            losses.append(loss.item())
    assert list(record.step_losses) == losses
    for name, value in model.state_dict().items():
        assert torch.equal(torch.as_tensor(weights[name]), value)


def test_the_same_run_gives_the_same_bits_whatever_the_global_state(settings: Any, data: Prepared) -> None:
    first, _ = record_of(settings(norm="batch_custom"), data, seed=3)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    second, _ = record_of(settings(norm="batch_custom"), data, seed=3)
    assert first.step_losses == second.step_losses
    assert [row.metrics for row in first.history] == [row.metrics for row in second.history]
    assert torch.equal(state, torch.get_rng_state())
    other, _ = record_of(settings(norm="batch_custom"), data, seed=4)
    assert other.step_losses != first.step_losses


def test_evaluation_changes_nothing(settings: Any, data: Prepared) -> None:
    """Evaluated after every step or once an epoch: bit-identical weights, running statistics included."""
    for norm in ("batch", "batch_custom"):
        seldom, weights_seldom = record_of(settings(norm=norm), data)
        often, weights_often = record_of(settings(norm=norm, evaluate_every=1), data)
        assert len(often.history) == 17
        assert len(seldom.history) == 3
        assert seldom.step_losses == often.step_losses
        for name, value in weights_seldom.items():
            assert value.tobytes() == weights_often[name].tobytes()
        assert seldom.final == often.final


def test_pairing_shared_layers_start_equal_across_variants(settings: Any, data: Prepared) -> None:
    for seed in range(3):
        with_norm = build_model(settings(norm="batch"), Sizes((1, 8, 8), 5), seed)
        without = build_model(settings(), Sizes((1, 8, 8), 5), seed)
        wider = build_model(settings(model__hidden="[12, 7]"), Sizes((1, 8, 8), 5), seed)
        key = "blocks.0.linear.weight"
        assert torch.equal(with_norm.state_dict()[key], without.state_dict()[key])
        assert torch.equal(without.state_dict()[key], wider.state_dict()[key])
        assert torch.equal(with_norm.state_dict()["head.bias"], without.state_dict()["head.bias"])
    assert not torch.equal(
        build_model(settings(), Sizes((1, 8, 8), 5), 0).state_dict()[key],
        build_model(settings(), Sizes((1, 8, 8), 5), 1).state_dict()[key],
    )


def test_initial_weights_have_the_promised_distribution(settings: Any) -> None:
    torch_like = build_model(settings(model__hidden="[4000]"), Sizes((1, 8, 8), 5), 0).state_dict()[
        "blocks.0.linear.weight"
    ]
    assert torch_like.abs().max() <= 1 / 8
    assert torch_like.std().item() == pytest.approx(1 / 8 / math.sqrt(3), rel=0.01)
    he = settings(model__hidden="[4000]", init="{name: he, scale: 0.5}")
    he_like = build_model(he, Sizes((1, 8, 8), 5), 0).state_dict()
    assert he_like["blocks.0.linear.weight"].std().item() == pytest.approx(0.5 * math.sqrt(2 / 64), rel=0.01)
    assert not he_like["blocks.0.linear.bias"].any()


def test_a_last_batch_of_one_is_merged_and_said(settings: Any, data: Prepared) -> None:
    """240 samples in batches of 239 leave one: never an error from inside the layer."""
    for norm in ("batch", "batch_custom"):
        record, _ = record_of(settings(norm=norm, batch_size=239), data)
        assert record.outcome != "crashed"
        assert (record.steps, record.steps_per_epoch) == (2, 1)
        assert any("merged" in note for note in record.notes)


def test_a_loss_that_is_not_finite_is_an_outcome(settings: Any, data: Prepared) -> None:
    record, _ = record_of(settings(optimizer__lr=1e30, epochs=20), data)
    assert record.outcome == "not_finite"
    assert record.error is None
    assert record.steps < record.planned_steps == 160
    assert math.isnan(record.final["val_loss"]) or math.isinf(record.final["val_loss"])


def test_a_network_that_learns_nothing_is_stuck_at_chance(settings: Any, data: Prepared) -> None:
    record, _ = record_of(settings(optimizer__lr=1e-12), data)
    assert record.outcome == "stuck_at_chance"
    learnt, _ = record_of(settings(), data)
    assert learnt.outcome == "finished"


def test_metrics_against_a_loop_over_samples(settings: Any, data: Prepared) -> None:
    model = build_model(settings(norm="batch"), data.sizes, 0)
    got = evaluate(model, data, ("train", "val", "test"))
    model.eval()
    with torch.no_grad():
        for split, images, labels in (
            ("train", data.train_batch(torch.arange(len(data.train_targets))), data.train_targets),
            ("val", data.val_inputs, data.val_targets),
            ("test", data.test_inputs, data.test_targets),
        ):
            losses = [
                -model(image[None]).double().log_softmax(-1)[0, label].item()
                for image, label in zip(images, labels, strict=True)
            ]
            assert got[f"{split}_loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-6)


def test_history_best_and_final(settings: Any, data: Prepared) -> None:
    record, _ = record_of(settings(epochs=6, optimizer__lr=0.5), data)
    rows = record.history
    assert [row.step for row in rows] == [8 * epoch for epoch in range(7)]
    assert [row.epoch for row in rows] == list(range(7))
    assert rows[0].batch_loss is None
    assert rows[2].batch_loss == pytest.approx(sum(record.step_losses[8:16]) / 8, rel=1e-5)
    assert "test_loss" not in rows[-1].metrics
    best = min(rows[1:], key=lambda row: row.metrics["val_loss"])
    assert record.best_step == best.step
    assert record.best["val_loss"] == pytest.approx(best.metrics["val_loss"], rel=1e-9)
    assert record.final["val_loss"] == rows[-1].metrics["val_loss"]
    assert all(earlier.train_seconds <= later.train_seconds for earlier, later in pairwise(rows))


def test_events_come_in_order(settings: Any, data: Prepared) -> None:
    events = list(train(run_of(settings()), data))
    assert isinstance(events[0], RunStarted)
    assert events[0].planned_steps == 16
    assert [event.row.step for event in events if isinstance(event, Evaluated)] == [0, 8, 16]
    assert isinstance(events[-1], RunEnded)


STACKED = EngineChoice("stacked", 1)


class _FakeLibrary(Library):
    def __init__(self, data: Prepared, broken: Sequence[int] = ()) -> None:
        self.data, self.broken, self.asked = data, broken, 0

    def prepared(self, settings: Settings) -> Prepared:
        self.asked += 1
        if self.asked - 1 in self.broken:
            raise RuntimeError("a broken disk, say")
        return self.data


def test_a_run_that_crashes_is_recorded_and_the_rest_go_on(settings: Any, data: Prepared) -> None:
    runs = [run_of(settings(), seed) for seed in range(3)]
    records = [
        event.record
        for event in Trainer(_FakeLibrary(data, broken=[0, 2]), CPU).train(
            runs, STACKED
        )  # together, then alone
        if isinstance(event, RunEnded)
    ]
    assert [record.outcome for record in records] == ["finished", "crashed", "finished"]
    assert records[1].error is not None
    assert records[1].error.splitlines()[0] == "RuntimeError: a broken disk, say"
    assert "test_engine.py" in records[1].error
    with pytest.raises(RuntimeError, match="a broken disk"):
        list(Trainer(_FakeLibrary(data, broken=[0]), CPU, debug=True).train(runs, STACKED))


def test_a_plan_interleaves_variants_and_knows_runs_by_what_changes_their_numbers(
    vocabulary: Vocabulary, tmp_path: Path
) -> None:
    path = tmp_path / "s.yaml"
    text = (
        "dataset: digits\nmodel: mlp\noptimizer: {name: sgd, lr: %s}\nseeds: 2\n"
        "variants: {a: {}, b: {norm: batch}}\n"
    )

    def plan(lr: str, provenance: object = "data") -> list[RunSpec]:
        path.write_text(text % lr)
        return make_plan(load_study(path, [], vocabulary), lambda settings: provenance)

    runs = plan("0.1")
    assert [(run.variant, run.seed) for run in runs] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert runs[0].cell == runs[2].cell != runs[1].cell
    assert plan("1e-1")[0].cell == runs[0].cell
    assert plan("0.2")[0].cell != runs[0].cell
    assert plan("0.1", "other data")[0].cell != runs[0].cell


def test_pairing_every_variant_sees_the_same_augmented_batches(settings: Any, data: Prepared) -> None:
    def batches(norm: str, seed: int) -> list[torch.Tensor]:
        run = run_of(settings(norm=norm), seed)
        training = Training([run], data, CROP_FLIP, CPU, EngineChoice("sequential", 1))
        return [images.clone() for images, _ in training.batches()]

    for ours, theirs in zip(batches("batch", 3), batches("none", 3), strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(batches("none", 3)[0], batches("none", 4)[0])


def test_the_weights_that_are_kept_are_the_last_and_not_the_best(settings: Any, data: Prepared) -> None:
    chosen = settings(epochs=8, optimizer__lr=0.5, norm="batch")
    record, weights = record_of(chosen, data)
    assert record.best_step != record.steps  # otherwise this can't tell
    model = build_model(chosen, data.sizes, 0)
    model.load_state_dict({name: torch.as_tensor(value) for name, value in weights.items()})
    assert evaluate(model, data, ("val", "test")) == {
        name: value for name, value in record.final.items() if not name.startswith("train_")
    }


class _Draws(nn.Module):
    """A user's layer that draws from the global stream, in training and in evaluation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.01 * torch.randn_like(x)


def _drawing(input_shape: tuple[int, int, int], num_classes: int, norm: NormLayer) -> nn.Module:
    """A user's model: a Conv1d after a block whose bias depends on the norm, dropout, and draws."""
    size = input_shape[0] * input_shape[1] * input_shape[2]
    model = nn.Sequential(nn.Flatten(), linear_block(size, 12, norm), nn.Unflatten(1, (1, 12)))
    return model.extend(
        [nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Dropout(0.2), _Draws(), nn.Linear(20, num_classes)]
    )


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    models.names()
    monkeypatch.setitem(models._entries, "mlp", Entry("mlp", _drawing, ModelFacts()))


@pytest.mark.usefixtures("drawing")
def test_a_users_layer_that_draws_is_reproducible_and_evaluation_does_not_disturb_it(
    settings: Any, data: Prepared
) -> None:
    def losses(**changes: Any) -> tuple[float, ...]:
        torch.manual_seed(len(changes) + 7)
        chosen = settings(**changes)
        chosen = chosen.model_copy(update={"model": chosen.model.model_copy(update={"options": {}})})
        return record_of(chosen, data)[0].step_losses

    assert losses() == losses(evaluate_every=3)


@pytest.mark.usefixtures("drawing")
def test_pairing_holds_for_every_layer_that_can_reset_itself(settings: Any) -> None:
    def weights(norm: str, seed: int) -> torch.Tensor:
        chosen = settings(norm=norm)
        chosen = chosen.model_copy(update={"model": chosen.model.model_copy(update={"options": {}})})
        return build_model(chosen, Sizes((1, 8, 8), 5), seed).state_dict()["3.weight"]

    assert torch.equal(weights("none", 0), weights("batch", 0))
    assert not torch.equal(weights("none", 0), weights("none", 1))


def test_evaluation_is_not_training_time(
    settings: Any, data: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock that only evaluation moves, training takes no time at all."""
    now = [0.0]

    def slow(*args: Any) -> dict[str, float]:
        now[0] += 1000.0
        return evaluate(*args)

    monkeypatch.setattr("bnbench.engine.inference.evaluate", slow)
    monkeypatch.setattr("bnbench.engine.loop.time.thread_time", lambda: now[0])
    record, _ = record_of(settings(), data)
    assert now[0] >= 3000
    assert record.train_seconds == 0.0


def test_what_the_history_knows_is_not_evaluated_again(
    settings: Any, data: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []

    def noted(model: nn.Module, data: Prepared, splits: tuple[Any, ...], size: Any) -> dict[str, float]:
        asked.append(splits)
        return evaluate(model, data, splits, size)

    monkeypatch.setattr("bnbench.engine.inference.evaluate", noted)
    record, _ = record_of(settings(epochs=2), data)
    assert asked[:3] == [("train", "val")] * 3
    assert set(asked[3:]) == {("test",)}
    assert set(record.final) == set(record.best) == ALL_METRICS
    last = record.history[-1].metrics
    assert last == {name: record.final[name] for name in last}


def test_a_run_that_ends_between_evaluations_is_evaluated_as_it_is(settings: Any, data: Prepared) -> None:
    record, _ = record_of(settings(optimizer="{name: sgd, lr: 1.0e+30}", epochs=40, evaluate_every=60), data)
    assert record.outcome == "not_finite"
    assert record.steps == 50  # where the losses are looked at
    assert set(record.final) == ALL_METRICS
