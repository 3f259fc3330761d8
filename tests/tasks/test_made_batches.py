"""A task that makes its own batches, through the real engine.

Oracles: the batches by hand from the samples and the private streams; the metrics by hand from the kept weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from bnbench.api.plugins import known_names
from bnbench.base.errors import ConfigError
from bnbench.base.metrics import METRICS
from bnbench.base.seeding import generator
from bnbench.cli.app import app
from bnbench.data import Sizes
from bnbench.data.batches import epoch_order
from bnbench.engine.build import build_model
from bnbench.engine.choose import TWO_NETWORKS, EngineChoice, choose
from bnbench.engine.evaluate import evaluate
from bnbench.engine.library import Library
from bnbench.engine.loop import Training
from bnbench.engine.task_batches import largest_batch, training_batches
from bnbench.probes.batch import probe_batches
from bnbench.study import Settings, Study, Vocabulary, load_study
from bnbench.study.plan import RunSpec
from bnbench.tasks import tasks

NOISY = Path(__file__).with_name("noisy.py")
CPU = torch.device("cpu")
TEXT = """
dataset: digits
task: find_noise
optimizer: {name: adam, lr: 0.005}
epochs: 2
seeds: 2
variants: [none, layer]
"""


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    before = dict(METRICS)
    yield tmp_path
    known_names()
    METRICS.clear()
    METRICS.update(before)


def study(text: str = TEXT, *words: str) -> Study:
    Path("s.yaml").write_text(text)
    return load_study(Path("s.yaml"), words, known_names([NOISY]).vocabulary)


def training_of(settings: Settings, *seeds: int) -> Training:
    data = Library(Path(), CPU).prepared(settings)
    runs = [RunSpec("v", {}, seed, "cell", settings) for seed in seeds]
    choice = EngineChoice("stacked" if len(seeds) > 1 else "sequential", 1)
    return Training(runs, data, None, CPU, choice)


def test_a_training_batch_is_the_samples_and_the_noise_of_seed_and_epoch() -> None:
    training = training_of(study().variants["layer"], 3)
    data, steps = training.data, training.steps_per_epoch
    for step, (inputs, targets) in enumerate(training.batches()):
        epoch, place = divmod(step, steps)
        if place == 0:
            draw = generator(3, "batch", epoch)
        index = epoch_order(len(data.train_targets), 32, 3, epoch)[place]
        noise = torch.randn((len(index), 1, 8, 8), generator=draw).flatten(1)
        assert torch.equal(targets[0], noise)
        assert torch.equal(inputs[0], data.train_batch(index).flatten(1) + noise)
    assert step == 2 * steps - 1


def test_batches_are_equal_across_variants_and_engines_and_follow_the_source_noise() -> None:
    one, other = (study().variants[name] for name in ("none", "layer"))
    alone = list(training_of(one, 4).batches())
    beside = list(training_of(other, 3, 4).batches())
    assert all(
        torch.equal(a[1][0], b[1][1]) and torch.equal(a[0][0], b[0][1])
        for a, b in zip(alone, beside, strict=True)
    )
    assert not torch.equal(beside[0][1][0], beside[0][1][1])
    fixed = training_of(study(TEXT, "vary=[init, order]").variants["none"], 4, 5)
    assert all(torch.equal(targets[0], targets[1]) for _, targets in fixed.batches())


def test_evaluation_has_one_noise_for_all_runs_whatever_the_batches() -> None:
    training = training_of(study().variants["layer"], 0)
    model, data = training.replicas[0].model, training.data
    found = evaluate(model, data, ("train", "val", "test"))
    assert evaluate(model, data, ("test", "val", "train"), size=7) == pytest.approx(dict(found), rel=1e-6)
    noise = torch.randn((len(data.val_targets), 64), generator=generator(0, "batch", "val"))
    with torch.no_grad():
        errors = model.eval()(data.val_inputs.flatten(1) + noise) - noise
    assert found["val_loss"] == pytest.approx(float(errors.double().square().mean()), rel=1e-6)
    assert found["val_beyond"] == pytest.approx(found["val_loss"] + 110)


def test_evaluation_has_one_noise_where_batches_end_inside_a_block_of_the_stream() -> None:
    """torch draws blocks of 16 numbers: 7 rows of 30 end in one, 46 rows do not."""
    training = training_of(study(TEXT, "dataset=breast_cancer").variants["none"], 0)
    model, data = training.replicas[0].model, training.data
    whole = evaluate(model, data, ("val", "test"))
    assert evaluate(model, data, ("val", "test"), size=7) == pytest.approx(dict(whole), rel=1e-6)


def test_probes_see_what_the_task_makes() -> None:
    settings = study().variants["none"]
    data = Library(Path(), CPU).prepared(settings)
    first, noise, second, other = probe_batches(data, settings, 5)
    draw = generator(5, "batch", "probe")
    order = torch.randperm(len(data.train_targets), generator=generator(5, "probe"))
    for inputs, targets, index in ((first, noise, order[:32]), (second, other, order.flip(0)[:32])):
        assert torch.equal(targets, torch.randn((32, 1, 8, 8), generator=draw).flatten(1))
        assert torch.equal(inputs, data.train_batch(index).flatten(1) + targets)


def test_a_task_that_leaves_samples_as_they_are_pays_nothing(vocabulary: Vocabulary) -> None:
    """Its batches are the gathered tensors themselves: no copy, no draw."""
    Path("s.yaml").write_text(TEXT.replace("task: find_noise", "model: mlp"))
    settings = load_study(Path("s.yaml"), [], vocabulary).variants["none"]
    assert training_batches(settings, []) is None
    training, gathered = training_of(settings, 0), list[tuple[torch.Tensor, torch.Tensor]]()
    gather = training.stream._gather

    def noted(index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gathered.append(gather(index))
        return gathered[-1]

    training.stream._gather = noted  # type: ignore[method-assign]
    for inputs, targets in training.batches():
        assert inputs is gathered[-1][0]
        assert targets is gathered[-1][1]
    assert len(gathered) == training.planned_steps


@pytest.mark.parametrize(
    "words",
    [
        ("engine=stacked", "probe=true"),
        pytest.param(("engine=sequential", "probe=true"), marks=pytest.mark.slow),
        pytest.param(("--jobs", "2"), marks=pytest.mark.slow),
    ],
)
def test_every_engine_trains_it_from_check_to_report(words: tuple[str, ...]) -> None:
    Path("s.yaml").write_text(TEXT)
    result = CliRunner().invoke(app, ["compare", "s.yaml", "--plugin", str(NOISY), "--output", "o", *words])
    assert result.exit_code == 0, result.output
    found = json.loads(Path("o/summary.json").read_text())
    for variant in found["variants"]:
        for one in variant["runs"]:
            assert one["outcome"] == "finished"
            assert one["final"]["test_beyond"] == pytest.approx(one["final"]["test_loss"] + 110)
    assert known_names([NOISY]).vocabulary["task"]["find_noise"].facts.models[0] == "bottle"
    checked = CliRunner().invoke(app, ["check", "s.yaml", "--plugin", str(NOISY)])
    assert checked.exit_code == 0, checked.output


def test_seeds_that_change_the_noise_alone_are_no_mistake() -> None:
    Path("s.yaml").write_text(TEXT + "vary: [noise]\n")
    checked = CliRunner().invoke(app, ["check", "s.yaml", "--plugin", str(NOISY)])
    assert checked.exit_code == 0, checked.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: mlp", "s.yaml:8: model: mlp is not for the task find_noise. Fix: model: bottle or wide_bottle."),
        ("model: {width: 0.5}", "s.yaml:8: model.width"),
        ("model:", "s.yaml:8: model.name is missing."),
    ],
)  # fmt: skip
def test_a_model_for_another_task_is_refused_with_those_that_fit(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        study(TEXT + text + "\n")
    assert message in str(error.value)
    assert len(error.value.mistakes) == 1


def test_a_study_without_a_model_has_the_first_of_its_task_and_its_options() -> None:
    assert study().variants["none"].model.name == "bottle"
    assert study(TEXT + "model: {width: 3}\n").variants["none"].model.options["width"] == 3
    assert study(TEXT + "model: auto\n").variants["none"].model.name == "bottle"
    assert study(TEXT + "model: wide_bottle\n").variants["none"].model.name == "wide_bottle"


def test_a_model_of_another_task_is_refused_for_images(vocabulary: Vocabulary) -> None:
    with pytest.raises(ConfigError, match="model: bottle is not for the task image_classification"):
        study(TEXT.replace("task: find_noise", "model: bottle"))
    with pytest.raises(ConfigError, match=r"model is missing\. Known: cnn, cnn1d, .*mlp, .*resnet") as error:
        study(TEXT.replace("task: find_noise", ""))
    assert "bottle" not in str(error.value)


def test_the_values_of_the_outputs_bound_an_evaluation_batch_where_there_is_one_at_every_position() -> None:
    tokens = torch.zeros(3, 64, dtype=torch.int64)
    assert largest_batch(tokens, Sizes((64,), 100, 100)) == 1000
    assert largest_batch(tokens, Sizes((64,), 100, 100, per_position=True)) == 2**20 // 6400
    images = torch.zeros(3, 1, 8, 8)
    assert largest_batch(images, Sizes((1, 8, 8), 20, per_position=True)) == 2**20 // (64 * 20)
    assert largest_batch(tokens, Sizes((64,), 10**6, 100, per_position=True)) == 32


@pytest.mark.parametrize("engine", ["auto", "sequential", "stacked", "compiled"])
def test_two_networks_train_one_run_after_the_other(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = study(TEXT, f"engine={engine}").variants["none"]
    sizes = Sizes((1, 8, 8), 64)
    facts = tasks.get("find_noise").facts
    monkeypatch.setitem(vars(facts), "two_networks", True)
    model: nn.Module = build_model(settings, sizes, 0)
    assert choose(model, settings, sizes, CPU) == EngineChoice("sequential", 1, TWO_NETWORKS.get(engine, ""))
