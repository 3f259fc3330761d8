"""Runs in Keras against the same runs in torch, and against the program that the textbook shows."""

from __future__ import annotations

import itertools
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bnbench.base.errors import BnbenchError
from bnbench.data import Dataset
from bnbench.data.prepared import Prepared
from bnbench.engine.backends.base import backend_of
from bnbench.engine.backends.keras import optimize
from bnbench.engine.backends.keras.loading import tensorflow
from bnbench.engine.build import build_model
from bnbench.engine.evaluate import evaluate
from bnbench.engine.loop import Training
from bnbench.study import Settings, Vocabulary, load_study
from bnbench.study.events import Evaluated, RunEnded
from bnbench.study.plan import RunSpec
from bnbench.study.records import RunRecord
from tests.prepared import prepare
from tests.training import OneSet, chosen_for, execute

if find_spec("tensorflow") is None:
    pytest.skip("TensorFlow is not installed (pip install '.[keras]')", allow_module_level=True)

pytestmark = pytest.mark.keras

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> Prepared:
    """Noisy colour images of 5 classes, 8x6."""
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(5, 3, 8, 6, generator=draw)

    def samples(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.randint(5, (count,), generator=draw)
        return centres[labels] + 2 * torch.randn(count, 3, 8, 6, generator=draw), labels

    dataset = Dataset(*samples(700), *samples(100), ("a", "b", "c", "d", "e"), "made up")
    return prepare(dataset, val_fraction=0.2, split_seed=0, max_train_samples=None, device=CPU)


@pytest.fixture
def settings(vocabulary: Vocabulary, tmp_path: Path) -> Any:
    def make(*changes: str, **more: Any) -> Settings:
        path = tmp_path / "s.yaml"
        path.write_text(
            "dataset: digits\nmodel: {name: mlp, hidden: [16]}\noptimizer: {name: sgd, lr: 0.05}\n"
            "norm: batch_keras\nbatch_size: 25\nepochs: 5\n"
        )
        overrides = [*changes, *(f"{key.replace('__', '.')}={value}" for key, value in more.items())]
        (variant,) = load_study(path, overrides, vocabulary).variants.values()
        return variant

    return make


def events_of(settings: Settings, data: Prepared, seed: int = 0) -> list[Any]:
    run = RunSpec("v", {}, seed, "cell", settings)
    return list(execute([run], OneSet(data), CPU, debug=True))


def record_of(settings: Settings, data: Prepared, seed: int = 0) -> tuple[RunRecord, dict[str, Any]]:
    (ended,) = (event for event in events_of(settings, data, seed) if isinstance(event, RunEnded))
    assert ended.weights is not None
    return ended.record, dict(ended.weights)


CASES = [
    [
        "norm=none",
        "optimizer={name: sgd, lr: 0.05, momentum: 0.9}",
        "loss={name: cross_entropy, label_smoothing: 0.1}",
    ],
    [
        "optimizer={name: sgd, lr: 0.05, momentum: 0.9, nesterov: true, weight_decay: 0.01}",
        "schedule={name: cosine, warmup_epochs: 0.5}",
    ],
    [
        "optimizer={name: adam, lr: 1e-3, eps: 1e-4, weight_decay: 0.1, decay_norm_and_bias: false}",
        "last_batch=drop",
    ],
    ["train=norm", "optimizer={name: adamw, lr: 1e-2, weight_decay: 0.1}", "epochs=3"],
    ["train=head", "optimizer={name: sgd, lr: 0.05, momentum: 0.9, weight_decay: 0.1}", "clip_norm=0.3"],
    [
        "optimizer={name: adamw, lr: 1e-2, weight_decay: 0.1, decay_norm_and_bias: false}",
        "clip_norm=0.3",
        "schedule={name: step, milestones: [2, 3]}",
    ],
    ["optimizer={name: adam_keras, eps: 1e-3, weight_decay: 0.1}", "init.name=glorot", "loss=double_softmax"],
    [
        "model={name: cnn, channels: [6, 8]}",
        "augment={name: crop_flip, padding: 1}",
        "optimizer={name: adam, lr: 1e-3}",
        "epochs=4",
    ],
]


@pytest.mark.parametrize("changes", CASES, ids=lambda changes: changes[0])
def test_torch_and_keras_agree_step_by_step(changes: list[str], settings: Any, data: Prepared) -> None:
    ours, our_weights = record_of(settings(*changes), data)
    theirs, their_weights = record_of(settings(*changes, "framework=keras"), data)
    assert ours.steps == theirs.steps == ours.planned_steps >= 46
    assert ours.step_losses[-1] < ours.step_losses[0]
    np.testing.assert_allclose(theirs.step_losses, ours.step_losses, rtol=1e-4)
    assert [row.step for row in theirs.history] == [row.step for row in ours.history]
    for mine, other in zip(ours.history, theirs.history, strict=True):
        assert other.metrics == pytest.approx(mine.metrics, rel=1e-3)
    assert theirs.final == pytest.approx(ours.final, rel=1e-3)
    assert theirs.best == pytest.approx(ours.best, rel=1e-3)
    same = (
        "steps_per_epoch",
        "num_parameters",
        "trained_parameters",
        "num_samples",
        "best_step",
        "norm",
        "outcome",
    )
    assert [getattr(theirs, name) for name in same] == [getattr(ours, name) for name in same]
    for name, value in their_weights.items():
        np.testing.assert_allclose(value, our_weights[name], rtol=1e-2, atol=1e-4)


def test_with_torch_numbers_keras_stores_the_biased_variance_and_says_so(
    settings: Any, data: Prepared
) -> None:
    ours, our_weights = record_of(settings(norm="{name: batch, momentum: 1.0}"), data)
    theirs, their_weights = record_of(settings(norm="{name: batch, momentum: 1.0}", framework="keras"), data)
    np.testing.assert_allclose(theirs.step_losses, ours.step_losses, rtol=1e-4)
    # 560 samples in batches of 25: the last one has 10
    np.testing.assert_allclose(
        their_weights["blocks.0.norm.running_var"],
        our_weights["blocks.0.norm.running_var"] * 9 / 10,
        rtol=1e-4,
    )
    assert any("biased variance" in note for note in theirs.notes)


def test_the_same_run_gives_the_same_bits_and_loads_into_torch(settings: Any, data: Prepared) -> None:
    chosen = settings(framework="keras", epochs=2, model="{name: cnn, channels: [6, 8]}")
    first, weights = record_of(chosen, data, seed=3)
    second, _ = record_of(chosen, data, seed=3)
    assert first.step_losses == second.step_losses
    assert (first.final, first.best) == (second.final, second.best)
    twin = build_model(chosen, data.sizes, seed=0)
    twin.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()}, strict=False)
    found = evaluate(twin, data, ("test",))
    for name in ("test_loss", "test_accuracy"):
        assert found[name] == pytest.approx(first.final[name], rel=1e-5)
    assert first.environment["num_threads"] == 1
    assert first.environment["keras"].startswith("3.")
    assert first.train_seconds > 0
    assert any("trained by Keras" in note for note in first.notes)


def test_a_run_that_goes_wrong_stops_where_torch_stops(settings: Any, data: Prepared) -> None:
    changes = ["norm=none", "optimizer.lr=1e30", "evaluate_every=30"]
    ours, _ = record_of(settings(*changes), data)
    theirs, _ = record_of(settings(*changes, "framework=keras"), data)
    assert (theirs.outcome, theirs.steps) == (ours.outcome, ours.steps) == ("not_finite", 30)


def test_evaluation_changes_nothing(settings: Any, data: Prepared) -> None:
    often, _ = record_of(settings(framework="keras", epochs=1, evaluate_every=1), data)
    rarely, _ = record_of(settings(framework="keras", epochs=1), data)
    assert often.step_losses == rarely.step_losses
    events = events_of(settings(framework="keras", epochs=1, evaluate_every=5), data)
    assert [event.row.step for event in events if isinstance(event, Evaluated)] == [0, 5, 10, 15, 20, 23]


def test_the_textbook_program_to_the_letter(settings: Any, data: Prepared) -> None:
    """The program's own lines, given our first weights and our batches: the same losses from step to step."""
    tf = tensorflow()
    chosen = settings(
        framework="keras",
        model="{name: mlp, hidden: [64], bias: always}",
        init__name="glorot",
        optimizer="adam_keras",
    )
    record, _ = record_of(chosen, data)

    model = tf.keras.Sequential(
        [
            tf.keras.Input((144,)),
            tf.keras.layers.Dense(64),
            tf.keras.layers.BatchNormalization(),
            tf.keras.layers.Activation("relu"),
            tf.keras.layers.Dense(5),
            tf.keras.layers.Activation("softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])

    choice = chosen_for(chosen, data.sizes)
    training = Training([RunSpec("v", {}, 0, "cell", chosen)], data, None, CPU, choice)
    (network,) = training.stepper.models
    model.set_weights(network.network.get_weights())
    model.optimizer.build(model.trainable_variables)
    losses = []
    for images, labels in itertools.islice(training.batches(), 50):
        model.reset_metrics()
        loss, _ = model.train_on_batch(images[0].flatten(1).numpy(), labels[0].numpy())
        losses.append(float(loss))
    np.testing.assert_allclose(record.step_losses[:50], losses, rtol=2e-5)


def test_what_is_not_translated_is_refused(
    settings: Any, data: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(framework="keras")
    model, backend = build_model(chosen, data.sizes, 0), backend_of(chosen)
    backend.check(model, chosen, CPU)
    with pytest.raises(BnbenchError, match="trains on the CPU, and this study's device is meta"):
        backend.check(model, chosen, torch.device("meta"))
    monkeypatch.setattr(optimize, "OPTIMIZERS", ("adam",))
    with pytest.raises(
        BnbenchError, match=r"has no optimizer: sgd\.\nFix: optimizer: adam, or framework: torch"
    ):
        backend.check(model, chosen, CPU)
