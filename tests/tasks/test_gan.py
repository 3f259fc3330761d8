"""The task `gan` through the real engine: its metrics, its pairing, its ways of inference, and what it refuses.

Oracles: the metrics from the outputs by their formulas; statistics over latent vectors in float64 NumPy.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from bnbench.base.seeding import generator
from bnbench.cli.app import app
from bnbench.data import Sizes
from bnbench.engine.build import build_model
from bnbench.engine.inference import Evaluation
from bnbench.engine.library import Library
from bnbench.models.adversaries import Adversaries
from bnbench.network.ways import inferring
from bnbench.study import Vocabulary, load_study
from bnbench.tasks import task_of
from bnbench.tasks.image_quality import image_quality

CPU = torch.device("cpu")
STUDY = """
dataset: digits
task: gan
model: {width: 4}
optimizer: {name: adam, lr: 1.0e-3, betas: [0.5, 0.999]}
max_train_samples: 96
max_eval_samples: 40
batch_size: 32
epochs: 2
seeds: 1
variants: [none, batch]
"""


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def run(text: str, *words: str) -> tuple[int, str]:
    Path("s.yaml").write_text(text)
    result = CliRunner().invoke(app, ["compare", "s.yaml", *words])
    return result.exit_code, " ".join(result.output.split())


def summary(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(folder, "summary.json").read_text())
    return found


def finals(folder: str) -> dict[str, list[dict[str, float]]]:
    return {one["name"]: [run["final"] for run in one["runs"]] for one in summary(folder)["variants"]}


@pytest.mark.slow
def test_the_metrics_are_their_formulas(vocabulary: Vocabulary) -> None:
    """Of logits and images by hand; the loss is the Fréchet distance, by which the best weights are chosen."""
    Path("s.yaml").write_text(STUDY)
    settings = load_study(Path("s.yaml"), [], vocabulary).variants["batch"]
    data = Library(Path("data"), CPU).prepared(settings)
    task = task_of(settings.task)
    draw = torch.Generator().manual_seed(0)
    logits, made = torch.randn(40, 3, generator=draw), torch.rand(40, 64, generator=draw) * 2 - 1
    real = data.val_inputs[:40]
    values = dict(task.measured(torch.cat([logits, made], 1), real, data))
    of_real, of_made = (1 / (1 + np.exp(-logits[:, at].double().numpy())) for at in (0, 1))
    assert values["generator_loss"] == pytest.approx(-np.log(of_made).mean(), rel=1e-12)
    by_hand = -np.log(of_real).mean() - np.log(1 - of_made).mean()
    assert values["discriminator_loss"] == pytest.approx(by_hand, rel=1e-12)
    right = (of_real > 0.5).sum() + (of_made < 0.5).sum()
    assert values["discriminator_accuracy"] == right / 80
    assert data.aid is not None
    quality = image_quality(((made + 1) / 2).reshape(-1, 1, 8, 8), (real + 1) / 2, data.aid)  # type: ignore[arg-type]
    assert values["frechet"] == pytest.approx(quality["frechet"], rel=1e-5)
    assert values["loss"] == values["frechet"]
    assert set(values) == set(task.facts.names)
    assert (data.train_batch(torch.arange(96)).min(), data.train_batch(torch.arange(96)).max()) == (-1, 1)


def test_latents_follow_the_seed_and_stand_behind_the_images(vocabulary: Vocabulary) -> None:
    Path("s.yaml").write_text(STUDY)
    task = task_of(load_study(Path("s.yaml"), [], vocabulary).variants["batch"].task)
    images = torch.randn(5, 1, 8, 8)
    inputs, targets = task.batch(images, torch.arange(5), torch.Generator().manual_seed(7))
    assert torch.equal(inputs[:, :64], images.flatten(1))
    assert torch.equal(inputs[:, 64:], torch.randn(5, 64, generator=torch.Generator().manual_seed(7)))
    assert targets is images


@pytest.mark.slow
def test_it_repeats_to_the_bit_and_variants_share_weights_latents_and_order() -> None:
    """Batch norm in neither network is the study without a norm: equal numbers show that all else is paired."""
    text = STUDY.replace(
        "[none, batch]", "{none: {norm: none}, no_place: {norm: batch, model: {norm_in: none}}}"
    )
    for output in ("one", "two"):
        code, shown = run(text, "--output", output)
        assert code == 0, shown
    assert finals("one") == finals("two")
    assert finals("one")["none"] == finals("one")["no_place"]


@pytest.mark.slow
def test_a_run_is_judged_by_its_frechet_distance_and_shows_its_samples() -> None:
    """None after six steps has learnt: the distance on the validation part is above half of its start."""
    code, shown = run(STUDY, "--output", "o")
    assert code == 0, shown
    found = summary("o")
    assert found["primary"] == "test_frechet"
    for variant in found["variants"]:
        (one,) = variant["runs"]
        (history,) = Path("o/runs").glob(f"{variant['name']}-*/seed-0/history.csv")
        rows = list(csv.DictReader(history.read_text().splitlines()))
        first, last = {key: float(value) for key, value in rows[0].items() if value}, one["final"]
        assert last["val_frechet"] > 0.5 * first["val_frechet"]
        worse = last["val_loss"] > 1.05 * first["val_loss"]
        assert one["outcome"] == ("worse_than_at_start" if worse else "stuck_at_chance")
        assert one["best_step"] == int(min(rows[1:], key=lambda row: float(row["val_frechet"]))["step"])
    tables = " ".join(CliRunner().invoke(app, ["report", "o", "--tables", "all"]).output.split())
    assert "the Fréchet distance on the validation part is not below 0.5 of that at the start" in tables
    assert "The loss of this task is the same number." in tables
    assert "50% where it can't tell them apart" in tables
    assert "They are no FID" in shown
    assert len(list(Path("o/runs").glob("*/seed-0/samples.png"))) == 2


def wide(model: Adversaries) -> Adversaries:
    """With gamma, beta and weights that are not those of the start."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data.add_(0.3 * torch.randn(parameter.shape))
    return model


def test_precise_statistics_are_those_of_latent_vectors_and_of_the_images_made_of_them(
    vocabulary: Vocabulary,
) -> None:
    """By hand: the generator's layers over latents alone; the discriminator's over real and made images, in float64."""
    Path("s.yaml").write_text(STUDY + "evaluate: [running, {name: precise, samples: 64, size: 16}]\n")
    settings = load_study(Path("s.yaml"), [], vocabulary).variants["batch"]
    data = Library(Path("data"), CPU).prepared(settings)
    model = wide(build_model(settings, data.sizes, 0))  # type: ignore[arg-type]
    evaluation = Evaluation(settings, data, CPU, model)
    assert len(evaluation.layers) == 3
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with inferring(model, evaluation.ways[0], evaluation.layers, evaluation._precise):
        found = {name: value.double() for name, value in model.named_buffers() if "running" in name}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    draw = generator(0, "batch", "precise statistics")
    order = torch.randperm(96, generator=generator(0, "precise statistics"))[:64]
    seen: dict[str, list[Tensor]] = {name: [] for name in ("project", "up1", "down2")}
    twin = build_model(settings, data.sizes, 0)
    twin.load_state_dict(before)
    twin.double().train()
    for index in order.tensor_split(4):
        latents = torch.randn(16, 64, generator=draw).double()
        made = latents
        for name, layer in twin.generator.named_children():  # type: ignore[union-attr]
            if name in seen:
                made = layer.conv(made)  # type: ignore[operator, union-attr]
                seen[name].append(made.detach())
                made = layer.activation(layer.norm(made))  # type: ignore[operator, union-attr]
            else:
                made = layer(made)
        for images in (data.train_batch(index).double(), made):
            first = twin.discriminator.down1(images)  # type: ignore[operator, union-attr]
            seen["down2"].append(twin.discriminator.down2.conv(first).detach())  # type: ignore[operator, union-attr]
    for name, values in seen.items():
        whole = torch.cat(values).transpose(0, 1).flatten(1).numpy()
        network = "discriminator" if name == "down2" else "generator"
        for slot, expected in (("mean", whole.mean(1)), ("var", whole.var(1))):
            ours = found[f"{network}.{name}.norm.running_{slot}"]
            np.testing.assert_allclose(ours.numpy(), expected, rtol=2e-4, atol=2e-5)


def test_sampling_by_the_batch_normalizes_each_batch_of_latent_vectors_by_its_own_statistics(
    vocabulary: Vocabulary,
) -> None:
    """Oracle: the network in train mode, whose batch norms do that; in eval mode the images are others."""
    Path("s.yaml").write_text(STUDY + "evaluate: [running, {name: batch, size: 20}]\n")
    settings = load_study(Path("s.yaml"), [], vocabulary).variants["batch"]
    data = Library(Path("data"), CPU).prepared(settings)
    model = wide(build_model(settings, data.sizes, 0))  # type: ignore[arg-type]
    inputs, _ = task_of(settings.task).batch(data.val_inputs, data.val_targets, generator(0, "batch", "val"))
    twin = build_model(settings, data.sizes, 0)
    twin.load_state_dict(model.state_dict())
    by_batch = torch.cat([twin.train()(part) for part in inputs.tensor_split(2)]).detach()
    evaluation = Evaluation(settings, data, CPU, model)
    with inferring(model, evaluation.ways[0], evaluation.layers, evaluation._precise), torch.no_grad():
        ours = torch.cat([model(part) for part in inputs.tensor_split(2)])
    torch.testing.assert_close(ours, by_batch, rtol=1e-3, atol=1e-4)
    assert (model.eval()(inputs) - by_batch).abs().max() > 0.1
    values = evaluation.by_way(model)["batch"]
    made = by_batch[:, 3:].reshape(-1, 1, 8, 8)
    quality = image_quality((made + 1) / 2, (data.val_inputs + 1) / 2, data.aid)  # type: ignore[arg-type]
    assert values["val_frechet"] == pytest.approx(quality["frechet"], rel=1e-3)


@pytest.mark.slow
def test_a_discriminator_that_wins_at_once_is_reported_beside_the_verdict() -> None:
    """A generator that hardly moves, and a fast discriminator: real and made images are easy to tell apart."""
    text = STUDY.replace("lr: 1.0e-3", "lr: 1.0e-7").replace("epochs: 2", "epochs: 40")
    code, shown = run(text, "task.discriminator_lr=0.01", "evaluate_every=200", "--output", "o")
    assert code == 0, shown
    assert (
        "Caution: none, batch: the discriminator wins: in at least 50% of the steps of a run its loss is below 0.1"
        in shown
    )
    record = json.loads(next(Path("o/runs").glob("none-*/seed-0/run.json")).read_text())
    assert any("the discriminator wins" in caution for caution in record["cautions"])
    code, shown = run(STUDY, "--output", "even")
    assert "the discriminator wins" not in shown


@pytest.mark.slow
def test_runs_train_alone_whatever_engine_is_asked_for_and_say_why() -> None:
    numbers = []
    for engine in ("auto", "stacked", "compiled"):
        code, shown = run(STUDY, f"engine={engine}", "--output", engine)
        assert code == 0, shown
        numbers.append(finals(engine))
        record = json.loads(next(Path(engine, "runs").glob("batch-*/seed-0/run.json")).read_text())
        assert record["environment"]["engine"] == "sequential"
        reason = record["environment"].get("engine_reason", "")
        assert ("two networks" in reason) == (engine != "auto")
    assert numbers[0] == numbers[1] == numbers[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("normalize=standard",), "normalize: standard is not for the task gan. Fix: normalize: signed"),
        (("augment=crop_flip",), "augment: crop_flip is not for the task gan"),
        (("loss=cross_entropy",), "loss: cross_entropy is not for the task gan. Fix: loss: non_saturating."),
        (("task.latent=0",), "task.latent"),
        (("task.discriminator_lr=-1",), "task.discriminator_lr"),
        (("task.discriminator_steps=0",), "task.discriminator_steps"),
        (("model.norm_in=all",), "model.norm_in"),
        (("train=head",), "the generator has no parameter that learns"),
        (("train=norm", "model.norm_in=generator"), "the discriminator has no parameter that learns"),
        (("dataset=gaussian",), "task: gan: inputs of torch.float32 and shape"),
        (("max_eval_samples=1",), "task: gan: the validation part has 1 image."),
        (("framework=keras",), "framework: keras"),
        (("variants=[none, weight_standardization]",), "these are transposed convolutions"),
        (("metrics=[accuracy]",), 'unknown metric "accuracy"'),
        (("batches.classes=2",), "batches.classes: 2, and the task gan has no classes"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_training(words: tuple[str, ...], message: str) -> None:
    code, shown = run(STUDY, *words)
    assert code == 1, shown
    assert message in shown
    assert "Traceback" not in shown
    assert not list(Path().glob("results/*/runs/*/*"))


def test_a_network_of_one_is_refused_with_those_that_fit() -> None:
    code, shown = run(STUDY.replace("model: {width: 4}", "model: mlp"))
    assert code == 1
    assert "s.yaml:4: model: mlp is not for the task gan. Fix: model: dcgan." in shown


@pytest.mark.slow
def test_images_that_can_not_be_halved_twice_are_refused() -> None:
    images = np.random.default_rng(0).random((60, 9, 9)).astype("float32")
    np.savez(
        "odd.npz", x_train=images, y_train=np.arange(60) % 2, x_test=images[:20], y_test=np.arange(20) % 2
    )
    code, shown = run(STUDY.replace("digits", "{name: npz, path: odd.npz}"))
    assert code == 1
    assert "images of 9x9, which can't be halved twice" in shown


@pytest.mark.slow
def test_a_batch_of_one_a_run_that_diverges_and_few_steps_of_the_discriminator() -> None:
    code, shown = run(STUDY, "batch_size=1", "max_train_samples=12", "epochs=1", "--output", "one")
    assert code == 0, shown
    assert all(np.isfinite(run["test_frechet"]) for runs in finals("one").values() for run in runs)
    code, shown = run(STUDY, "optimizer={name: sgd, lr: 1e30}", "--output", "far")
    assert code == 0, shown
    outcomes = {one["outcome"] for variant in summary("far")["variants"] for one in variant["runs"]}
    assert outcomes <= {"not_finite", "worse_than_at_start", "stuck_at_chance"}
    assert "not_finite" in outcomes
    code, shown = run(STUDY, "task.discriminator_steps=3", "--output", "three")
    assert code == 0, shown


def test_the_sizes_of_the_paper_and_of_the_data_sets_and_the_layers_without_a_norm() -> None:
    """Radford et al. 2016, section 3: none at the generator's end and at the discriminator's start."""
    from bnbench.models import models
    from bnbench.models.layers import NormLayer
    from bnbench.norms import norms

    norm = NormLayer(norms.get("batch"))
    for shape, maps in (
        ((1, 8, 8), (2, 2)),
        ((1, 28, 28), (7, 7)),
        ((3, 32, 32), (4, 4)),
        ((3, 64, 64), (4, 4)),
    ):
        model = models.get("dcgan").factory(shape, 10, norm, width=4)
        blocks = dict(model.generator.named_children())
        assert blocks["project"](blocks["latent"](torch.randn(2, 10))).shape[2:] == maps
        assert model(torch.randn(5, int(np.prod(shape)) + 10)).shape == (5, 3 + np.prod(shape))
        weights = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
        normed = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        assert len(weights) == len(normed) + 3  # the image, the first layer of the discriminator, its logit
        assert sum(m.bias is not None for m in weights) == 3
    paper = models.get("dcgan").factory((3, 64, 64), 100, norm, width=64)
    widths = [m.out_channels for m in paper.generator.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert widths == [512, 256, 128, 64, 3]
    alone = models.get("dcgan").factory((1, 8, 8), 10, norm, width=4, norm_in="generator")
    assert not [m for m in alone.discriminator.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(m.bias is not None for m in alone.discriminator.modules() if isinstance(m, nn.Conv2d))


def test_its_weights_start_from_the_paper_and_transposed_convolutions_from_streams_of_their_names(
    vocabulary: Vocabulary,
) -> None:
    Path("s.yaml").write_text(STUDY.replace("width: 4", "width: 64"))
    study = load_study(Path("s.yaml"), [], vocabulary)
    sizes = Sizes((1, 8, 8), 64)
    one, other = (build_model(study.variants[name], sizes, 3) for name in ("none", "batch"))
    for name, module in one.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            assert torch.equal(module.weight, other.get_submodule(name).weight)  # type: ignore[arg-type]
            if module.weight.numel() > 10_000:
                assert float(module.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    he = study.variants["none"].model_copy(
        update={"init": study.variants["none"].init.model_copy(update={"name": "he"})}
    )
    up = build_model(he, sizes, 3).generator.up1.conv  # type: ignore[union-attr]
    assert float(up.weight.detach().std()) == pytest.approx((2 / (64 * 16)) ** 0.5, rel=0.05)  # type: ignore[arg-type, union-attr]


@pytest.mark.slow
def test_probes_see_both_networks_and_each_has_its_own_rate() -> None:
    """lr / |w|² of the update after step 3, each with its network's rate; costly measures are refused."""
    probe = "probe={at: [0, 3, 6], what: [weights, effective_lr, gradients, activations]}"
    code, shown = run(STUDY, "variants=[batch]", "task.discriminator_lr=5e-4", probe, "--output", "o")
    assert code == 0, shown
    (path,) = Path("o/runs").glob("batch-*/seed-0/probes.csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    found = {
        (row["step"], row["layer"], row["quantity"]): float(row["value"]) for row in rows if not row["unit"]
    }
    layers = {row["layer"] for row in rows}
    assert {"generator.project", "generator.image", "discriminator.down2", "discriminator.head"} <= layers
    quantities = {quantity for _, _, quantity in found}
    norm = next(name for name in quantities if "weight" in name and "norm" in name)
    rate = next(name for name in quantities if name.startswith("effective_lr"))
    for layer, lr in (("generator.project", 1e-3), ("discriminator.down2", 5e-4)):
        assert found["3", layer, rate] == pytest.approx(lr / found["3", layer, norm] ** 2, rel=1e-5)
    code, shown = run(STUDY, "probe={at: [0], what: [hessian]}")
    assert code == 1
    assert "probe.what: hessian: such measures follow one loss and one optimizer" in shown
