"""A probe changes no bit of a run, in any engine; and it sees each replica as that replica is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bnbench.base.process_state import ProcessState
from bnbench.base.registry import Entry
from bnbench.data import Dataset
from bnbench.data.augmentations import augmentation_of
from bnbench.data.prepared import Prepared
from bnbench.engine.build import build_model, make_schedule
from bnbench.engine.choose import EngineChoice
from bnbench.engine.library import Library
from bnbench.engine.loop import Training
from bnbench.engine.steppers.graphed import Graphed
from bnbench.engine.steppers.stacked import Stacked
from bnbench.models import ModelFacts, models
from bnbench.models.layers import NormLayer, linear_block
from bnbench.probes import ProbeFacts, probes
from bnbench.probes.inside import Inside, Row
from bnbench.study import Settings, Vocabulary, load_study
from bnbench.study.events import RunEnded
from bnbench.study.plan import RunSpec, make_plan
from tests.engine.test_graphed import StandIn
from tests.prepared import prepare
from tests.training import chosen_for, scheduled

CPU = torch.device("cpu")
Make = Callable[..., Settings]
PROBE = "probe={at: [0, 1, 3, 7], every: 5}"


class _Draws(nn.Module):
    """A user's layer that draws from the global streams, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.seen: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        self.seen.append(self.calls)
        return x + 0.1 * torch.randn_like(x) + 0.01 * float(np.random.randn()) + 1e-3 * self.calls


def _drawing(input_shape: Any, num_classes: int, norm: NormLayer) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), linear_block(64, 12, norm), nn.Dropout(0.3), _Draws(), nn.Linear(12, num_classes)
    )


@pytest.fixture(scope="module")
def data() -> Prepared:
    draw = torch.Generator().manual_seed(0)
    images, labels = torch.randn(150, 1, 8, 8, generator=draw), torch.arange(150) % 4
    dataset = Dataset(images, labels, images[:40], labels[:40], ("a", "b", "c", "d"), "made up")
    return prepare(dataset, val_fraction=0.2, split_seed=0, device=CPU)


@pytest.fixture
def settings(vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    models.names()
    monkeypatch.setitem(models._entries, "drawing", Entry("drawing", _drawing, ModelFacts()))

    def make(*changes: str) -> Settings:
        path = tmp_path / "s.yaml"
        path.write_text(
            "dataset: digits\nmodel: {name: mlp, hidden: [9, 5]}\noptimizer: {name: adam, lr: 0.02}\n"
            "batch_size: 16\nlast_batch: keep\nepochs: 2\nevaluate_every: 4\nschedule: cosine\n"
        )
        drawing = "model=drawing" in changes
        given = [change for change in changes if change != "model=drawing"]
        (variant,) = load_study(path, given, vocabulary).variants.values()
        if drawing:
            model = variant.model.model_copy(update={"name": "drawing", "options": {}})
            return variant.model_copy(update={"model": model})
        return variant

    return make


def training_of(
    settings: Settings, data: Prepared, seeds: int, choice: EngineChoice | None = None
) -> Training:
    runs = [RunSpec("v", {}, seed, "cell", settings) for seed in range(seeds)]
    choice = choice or chosen_for(settings, data.sizes)
    return Training(runs, data, augmentation_of(settings.augment), CPU, choice)


def ends_of(training: Training) -> list[RunEnded]:
    torch.manual_seed(5), np.random.seed(5)
    return [event for event in training.events() if isinstance(event, RunEnded)]


def assert_same(one: RunEnded, other: RunEnded) -> None:
    """Every bit but those of the clock. As texts, which have every digit, and one NaN is another there."""
    assert str(one.record.step_losses) == str(other.record.step_losses)
    assert str([row.metrics for row in one.record.history]) == str(
        [row.metrics for row in other.record.history]
    )
    assert one.weights is not None
    assert other.weights is not None
    assert list(one.weights) == list(other.weights)
    for name, value in one.weights.items():
        np.testing.assert_array_equal(value, other.weights[name], name)
    assert str(one.record.final) == str(other.record.final)
    assert str(one.record.best) == str(other.record.best)


#: Changes of the settings, and the engine that trains them.
RUNS = [
    (["norm=batch"], "stacked"),
    (["norm=batch_noisy"], "stacked"),
    (["norm=none", "clip_norm=0.5"], "stacked"),
    (["norm=renorm", "engine=sequential"], "sequential"),
    (["norm={name: ghost, ghost_size: 4}", "engine=sequential", "last_batch=drop"], "sequential"),
    (["norm=batch", "engine=sequential", "augment=crop_flip"], "sequential"),
    (["model=drawing", "norm=batch"], "sequential"),
    (["model=drawing", "norm=batch_noisy"], "sequential"),
    (["model={name: cnn, channels: [3, 4]}", "norm=batch"], "sequential"),
    (["norm=batch", "engine=compiled"], "compiled"),
    (["norm=batch", "engine=sequential", "precision=bf16"], "sequential"),
]


@pytest.mark.parametrize(("changes", "engine"), RUNS)
def test_a_probe_changes_no_bit(
    changes: list[str], engine: str, settings: Make, data: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnbench.engine.steppers.compiled.torch.compile", lambda model, **_: model)
    plain, probed = settings(*changes), settings(*changes, PROBE)
    seeds = 3 if engine == "stacked" else 1
    without, with_probes = (ends_of(training_of(each, data, seeds)) for each in (plain, probed))
    for one, other in zip(without, with_probes, strict=True):
        assert one.record.environment["engine"] == other.record.environment["engine"] == engine
        assert not one.probes
        assert not one.record.probe_seconds
        assert other.probes
        assert other.record.probe_seconds > 0
        last = other.record.planned_steps
        assert {row.step for row in other.probes} == {0, 1, 3, 5, 7, 10, *range(15, last), last}
        assert not [note for note in other.record.notes if "probe" in note]
        assert_same(one, other)


def test_a_graphed_step_is_probed_and_stays_as_it_is(settings: Make, data: Prepared) -> None:
    def ends(settings: Settings) -> list[RunEnded]:
        training, stand_in = training_of(settings, data, 2), StandIn()
        graphed = Graphed(training.stepper.models, settings, stand_in.capture)
        stand_in.optimizer = graphed.optimizer
        training.stepper = training.probing.stepper = graphed
        ended = ends_of(training)
        assert stand_in.replayed == 14  # of 16 steps, two are the short batches
        return ended

    for one, other in zip(ends(settings("norm=batch")), ends(settings("norm=batch", PROBE)), strict=True):
        assert_same(one, other)
        assert len(other.probes) > 100


def test_one_replica_that_is_not_finite_leaves_the_others_alone(settings: Make, data: Prepared) -> None:
    def ends(settings: Settings) -> dict[int, RunEnded]:
        training = training_of(settings, data, 3)
        with torch.no_grad():
            training.stepper.models[1].get_parameter("head.weight").fill_(float("nan"))
        return {ended.run.seed: ended for ended in ends_of(training)}

    without, with_probes = ends(settings("norm=batch")), ends(settings("norm=batch", PROBE))
    assert with_probes[1].record.outcome == "not_finite"
    for seed in (0, 1, 2):
        assert_same(without[seed], with_probes[seed])
    nan = {(row.layer, row.quantity): row.value for row in with_probes[1].probes if row.step == 0}
    assert np.isnan(nan["head", "pre_p50"])
    assert np.isnan(nan["head", "gradient_norm"])
    assert np.isfinite(nan["blocks.0", "pre_p50"])
    counted = [r for r in with_probes[1].probes if r.quantity == "pre_histogram" and r.layer == "head"]
    assert {row.unit for row in counted} == {"nan"}


def test_a_look_leaves_streams_threads_and_the_stack_as_they_are(settings: Make, data: Prepared) -> None:
    training = training_of(settings("norm=batch_noisy", PROBE), data, 3)
    stepper = training.stepper
    assert isinstance(stepper, Stacked)
    before = ProcessState.now(CPU)
    places = [tensor.data_ptr() for model in stepper.models for tensor in model.state_dict().values()]
    state = [tensor.clone() for tensor in stepper.stack.state()]
    grads = [flat.grad.clone() for flat in stepper.stack.parameters.flats]
    training.probing.keep_weights(training.replicas)
    training.probing.look(training.replicas, 0)
    assert not ProcessState.now(CPU).has_drawn_since(before)
    assert torch.get_num_threads() == before.threads
    assert places == [tensor.data_ptr() for model in stepper.models for tensor in model.state_dict().values()]
    for one, other in zip(state, stepper.stack.state(), strict=True):
        assert torch.equal(one, other)
    for one, flat in zip(grads, stepper.stack.parameters.flats, strict=True):
        assert torch.equal(one, flat.grad)


def test_each_replica_of_a_stack_has_the_numbers_of_its_run_alone(settings: Make, data: Prepared) -> None:
    stacked = ends_of(training_of(settings("norm=batch", PROBE), data, 3))
    for seed in range(3):
        alone = settings("norm=batch", PROBE, "engine=sequential")
        run = RunSpec("v", {}, seed, "cell", alone)
        (ended,) = ends_of(Training([run], data, None, CPU, chosen_for(alone, data.sizes)))
        quantities = ("pre_p50", "pre_std", "gradient_norm", "weight_norm", "update_ratio", "effective_lr")
        for one, other in zip(stacked[seed].probes, ended.probes, strict=False):
            if one.quantity in quantities and one.step <= 5:
                assert one[:4] == other[:4]
                assert one.value == pytest.approx(other.value, rel=2e-3, abs=1e-5)
    first = [row.value for row in stacked[0].probes if row.quantity == "weight_norm"]
    second = [row.value for row in stacked[1].probes if row.quantity == "weight_norm"]
    assert all(one != other for one, other in zip(first, second, strict=True))


ALIKE = [
    ["norm=batch"],
    ["norm={name: batch_custom, reading: fast}", "model.activation=gelu", "loss.label_smoothing=0.1"],
    ["norm=none", "model.activation=tanh", "loss=mse"],
    ["norm=batch", "model.norm_position=after", "model.activation=sigmoid"],
    ["norm=none", "model.dropout={p: 0.3}"],
    ["norm=batch", "train=norm"],
    ["norm=batch", "train=head"],
]


@pytest.mark.parametrize("changes", ALIKE)
def test_replicas_measured_together_have_the_numbers_of_autograd(
    changes: list[str], settings: Make, data: Prepared
) -> None:
    """The oracle: each network as it starts, alone, through its own forward and PyTorch's autograd."""
    probe = "probe={at: [0], every: 1000}"
    training = training_of(settings(*changes, probe), data, 3)
    assert isinstance(training.stepper, Stacked)
    assert training.probing._together is not None
    stacked = ends_of(training)
    for seed in range(3):
        alone = settings(*changes, probe, "engine=sequential")
        run = RunSpec("v", {}, seed, "cell", alone)
        (ended,) = ends_of(Training([run], data, None, CPU, chosen_for(alone, data.sizes)))
        ours, theirs = (
            {row[1:4]: row.value for row in end.probes if row.step == 0 and "histogram" not in row.quantity}
            for end in (stacked[seed], ended)
        )
        assert ours.keys() == theirs.keys()
        assert len(ours) > 60
        for key, value in theirs.items():
            assert ours[key] == pytest.approx(value, rel=1e-4, abs=1e-5), key
        counts = [sum(r.value for r in e.probes if "histogram" in r.quantity) for e in (stacked[seed], ended)]
        assert counts[0] == counts[1] > 0


def test_the_numbers_do_not_depend_on_what_else_is_asked(settings: Make, data: Prepared) -> None:
    """With a layer that draws: the streams of the look are its own, and those of each costly measure too."""
    every = settings("model=drawing", "norm=batch_noisy", PROBE)
    some = settings("model=drawing", "norm=batch_noisy", "probe={at: [0, 3], every: 5, what: [gradients]}")
    (all_of_it,), (part,) = (ends_of(training_of(each, data, 1)) for each in (every, some))
    values = {row[:4]: row.value for row in all_of_it.probes}
    measured = [row for row in part.probes if row.quantity == "gradient_norm"]
    assert {row.step for row in measured} == {0, 3, 5, 10, 15, 16}
    for row in measured:
        assert values[row[:4]] == row.value


def test_a_measure_that_raises_costs_its_numbers_and_no_run(
    settings: Make, data: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(inside: Inside) -> Any:
        yield Row("blocks.0", "half", 1.0)
        raise ValueError("no such thing")

    probes.names()
    monkeypatch.setitem(probes._entries, "broken", Entry("broken", broken, ProbeFacts()))
    plain = settings("norm=batch")
    probe = settings("probe={at: [0, 1]}").probe
    assert probe is not None
    chosen = plain.model_copy(update={"probe": probe.model_copy(update={"what": ("broken", "weights")})})
    (without,), (ended,) = (ends_of(training_of(each, data, 1)) for each in (plain, chosen))
    assert_same(without, ended)
    assert {row.quantity for row in ended.probes} >= {"weight_norm", "update_ratio"}
    assert "half" not in {row.quantity for row in ended.probes}
    (note,) = [note for note in ended.record.notes if "broken" in note]
    assert note == "probe broken: not measured at step 0: ValueError: no such thing"


def test_workers_bring_the_same_rows(vocabulary: Vocabulary, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "dataset: digits\nmodel: {name: mlp, hidden: [8]}\noptimizer: {name: sgd, lr: 0.1}\nepochs: 1\nseeds: 2\n"
        "max_train_samples: 200\nprobe: {at: [0, 3], every: 4}\nvariants: [none, batch]\n"
    )
    study = load_study(path, [], vocabulary)
    runs = make_plan(study, lambda settings: None)
    library = Library(tmp_path, CPU)
    here, there = (
        {
            event.run.key: event
            for event in scheduled(runs, library, workers=jobs)
            if isinstance(event, RunEnded)
        }
        for jobs in (1, 2)
    )
    assert len(here) == 4
    for key, ended in here.items():
        assert ended.probes == there[key].probes
        assert len(ended.probes) > 100
        assert_same(ended, there[key])


def test_a_network_that_keeps_a_list_is_copied_as_it_is(settings: Make, data: Prepared) -> None:
    """The layer's list grows by its own calls alone: the copy's calls are in the copy's list."""
    training = training_of(settings("model=drawing", "norm=none", PROBE), data, 1)
    ends_of(training)
    layer = training.stepper.models[0][3]
    assert layer.calls == 16
    assert len(copy.deepcopy(layer).seen) == len(layer.seen)
    assert layer.seen.count(0) == len([call for call in layer.seen if call == 0])
    assert max(layer.seen) == 16


@pytest.mark.parametrize("engine", ["stacked", "sequential"])
def test_the_update_is_the_studys_own(engine: str, settings: Make, data: Prepared) -> None:
    """Adam with clipping: w and w' are the checkpoint and the initial weights of a run of one step."""
    chosen = settings(
        "norm=batch", "batch_size=120", "epochs=1", "clip_norm=0.1", f"engine={engine}", "probe=true"
    )
    (ended,) = ends_of(training_of(chosen, data, 1))
    initial = build_model(chosen, data.sizes, 0)
    ratios = {row.layer: row.value for row in ended.probes if row.quantity == "update_ratio"}
    assert {row.step for row in ended.probes if row.quantity == "update_ratio"} == {1}
    for layer, name in (("blocks.0", "blocks.0.linear.weight"), ("head", "head.weight")):
        before = initial.get_parameter(name).detach().double().numpy()
        after = ended.weights[name].astype("float64")
        expected = np.sqrt(((after - before) ** 2).sum()) / np.sqrt((before**2).sum())
        assert ratios[layer] == pytest.approx(expected, rel=1e-4)


def test_the_rate_follows_the_schedule_and_the_groups(settings: Make, data: Prepared) -> None:
    """Cosine over 16 steps: lr (1 + cos(π s / 16)) / 2 times the factor of the weights, over ‖w‖²."""
    chosen = settings("norm=batch", "optimizer.groups={weights: {lr_factor: 3}}", PROBE)
    (ended,) = ends_of(training_of(chosen, data, 1))
    factor = make_schedule(chosen, 16, 8)
    norms = {(row.step, row.layer): row.value for row in ended.probes if row.quantity == "weight_norm"}
    rates = {(row.step, row.layer): row.value for row in ended.probes if row.quantity == "effective_lr"}
    assert {layer for _, layer in rates} == {"blocks.0", "blocks.1"}
    assert {step for step, _ in rates} == {0, 1, 3, 5, 7, 10, 15, 16}
    for (step, layer), rate in rates.items():
        expected = 0.02 * 3 * factor(min(step, 15)) / norms[step, layer] ** 2
        assert rate == pytest.approx(expected, rel=1e-6)
