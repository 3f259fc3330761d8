"""`framework: keras` at the command line, with TensorFlow and without it, and what came with it for torch."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner, Result

from bnbench.api.shipped import find_study
from bnbench.cli.app import app
from bnbench.data import Sizes, datasets
from bnbench.data.batches import epoch_order
from bnbench.data.prepared import Prepared
from bnbench.engine.backends.keras.loading import tensorflow
from bnbench.engine.build import build_model
from bnbench.optim import optimizers
from bnbench.study import Vocabulary, load_study
from bnbench.study.events import RunEnded
from bnbench.study.plan import RunSpec
from tests.prepared import prepare
from tests.training import execute

CPU = torch.device("cpu")
Run = Callable[..., Result]

MIXED = """
dataset: digits
normalize: unit
model: {name: mlp, hidden: [16]}
optimizer: {name: adam, lr: 1e-2}
batch_size: 64
epochs: 2
seeds: 2
variants:
  torch:      {norm: batch_keras}
  keras:      {norm: batch_keras, framework: keras}
  keras_none: {norm: none, framework: keras}
"""


pytestmark = pytest.mark.keras


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command line in a temporary folder that holds mixed.yaml."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "150")
    (tmp_path / "mixed.yaml").write_text(MIXED)
    return lambda *words: CliRunner().invoke(app, words)


@pytest.mark.skipif(
    find_spec("tensorflow") is None, reason="TensorFlow is not installed (pip install '.[keras]')"
)
def test_both_frameworks_stand_in_the_same_tables(run: Run) -> None:
    assert run("check", "mixed.yaml").exit_code == 0
    result = run("compare", "mixed.yaml")
    assert result.exit_code == 0, result.output
    assert "keras: trained by Keras 3." in result.output
    assert "different machines" not in result.output
    summary = json.loads(Path("results/mixed/summary.json").read_text())
    ours, theirs, _ = summary["variants"]
    for mine, other in zip(ours["runs"], theirs["runs"], strict=True):
        assert other["outcome"] == "finished"
        assert other["final"] == pytest.approx(mine["final"], rel=1e-3)
    again = run("compare", "mixed.yaml")
    assert "6 of 6 runs are finished already" in again.output
    assert run("report", "results/mixed", "--tables", "layers").exit_code == 0


@pytest.mark.parametrize("command", ["check", "compare", "train"])
def test_without_tensorflow_nothing_is_trained_and_the_extra_is_named(
    command: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # Python then says that there is no such module
    tensorflow.cache_clear()
    result = run(command, "mixed.yaml", *(["--variant", "keras"] if command == "train" else []))
    tensorflow.cache_clear()
    assert result.exit_code == 1
    assert "variant keras: framework: keras: TensorFlow is not installed." in result.output
    assert "pip install 'bnbench[keras]'" in result.output
    assert "Traceback" not in result.output
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("norm=group", "framework: keras has no norm: group."),
        (
            "model=resnet20",
            "framework: keras can't build this model: its part blocks.stage1_0 is ResidualBlock.",
        ),
        ("norm={name: batch, momentum: null}", "always keeps running statistics"),
    ],
)
def test_what_keras_does_not_have_is_a_mistake_before_training(change: str, message: str, run: Run) -> None:
    text = MIXED.partition("variants")[0]
    Path("one.yaml").write_text(text + "framework: keras\nnorm: none\n")
    for command in ("check", "compare"):
        result = run(command, "one.yaml", change)
        assert result.exit_code == 1
        assert message in result.output
        assert not Path("results").exists()


def test_torch_studies_never_import_tensorflow(run: Run) -> None:
    loaded = "tensorflow" in sys.modules
    assert (
        run("compare", "mixed.yaml", "variants={a: {norm: batch_keras}}", "epochs=1", "seeds=1").exit_code
        == 0
    )
    assert ("tensorflow" in sys.modules) == loaded


def test_old_runs_keep_their_identity(vocabulary: Vocabulary, tmp_path: Path) -> None:
    """What came later is no part of it at its default, and is part of it otherwise."""
    path = tmp_path / "s.yaml"
    path.write_text("dataset: digits\nmodel: mlp\noptimizer: {name: sgd, lr: 0.1}\n")

    def identity(*overrides: str) -> str:
        (settings,) = load_study(path, overrides, vocabulary).variants.values()
        return json.dumps(settings.identity())

    assert '"framework"' not in identity()
    assert '"bias"' not in identity()
    assert identity("framework=torch", "model.bias=auto") == identity()
    assert len({identity(), identity("framework=keras"), identity("model.bias=always")}) == 3


@pytest.mark.parametrize("model", ["{name: mlp, hidden: [6]}", "{name: cnn, channels: [6]}"])
def test_bias_always_is_a_bias_before_the_norm_too(
    model: str, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(f"dataset: digits\nmodel: {model}\nnorm: batch\noptimizer: {{name: sgd, lr: 0.1}}\n")
    counts = []
    for bias in ("auto", "always"):
        (settings,) = load_study(path, [f"model.bias={bias}"], vocabulary).variants.values()
        counts.append(
            sum(p.numel() for p in build_model(settings, Sizes((1, 8, 8), 10), seed=0).parameters())
        )
    assert counts[1] - counts[0] == 6


def test_glorot_is_uniform_with_the_width_of_keras_and_no_bias(
    vocabulary: Vocabulary, tmp_path: Path
) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "dataset: digits\nmodel: {name: cnn, channels: [8, 64]}\noptimizer: {name: sgd, lr: 0.1}\n"
    )
    (settings,) = load_study(path, ["init.name=glorot"], vocabulary).variants.values()
    model = build_model(settings, Sizes((1, 8, 8), 10), seed=0)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            assert module.bias is not None
            assert not module.bias.any()
            pixels = module.weight[0, 0].numel()
            bound = (6 / (pixels * (module.weight.shape[0] + module.weight.shape[1]))) ** 0.5
            assert 0.9 * bound < module.weight.abs().max() <= bound


def test_adam_keras_against_its_formula() -> None:
    """eps before the bias correction; decay decoupled; in float64."""
    model = nn.Linear(3, 2, bias=False).double()
    optimizer = optimizers.get("adam_keras").factory(
        model, lr=0.1, betas=(0.8, 0.9), eps=1e-2, weight_decay=0.5
    )
    w, m, v = model.weight.detach().clone(), torch.zeros(2, 3).double(), torch.zeros(2, 3).double()
    draw = torch.Generator().manual_seed(0)
    for t in range(1, 5):
        g = torch.randn(2, 3, generator=draw).double() * 1e-2
        model.weight.grad = g.clone()
        optimizer.step()
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g**2
        w = w * (1 - 0.1 * 0.5) - 0.1 * (1 - 0.9**t) ** 0.5 / (1 - 0.8**t) * m / (v.sqrt() + 1e-2)
        torch.testing.assert_close(model.weight.detach(), w, rtol=1e-10, atol=1e-12)
    assert optimizers.get("adam_keras").options()().model_dump() == {
        "lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-7, "weight_decay": 0.0, "decay_norm_and_bias": True,
        "groups": None,
    }  # fmt: skip


class Textbook(nn.Module):
    """The program's own model."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, 64)
        self.bn = nn.BatchNorm1d(64)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(64, 10)
        self.softmax = nn.Softmax(dim=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.softmax(self.fc2(self.relu(self.bn(self.fc1(x)))))  # type: ignore[no-any-return]


class Digits:
    """A library of the embedded digits."""

    def prepared(self, settings: object) -> Prepared:
        dataset = datasets.get("digits").factory(Path())
        return prepare(
            dataset, val_fraction=0.1, split_seed=0, max_train_samples=None, device=CPU, normalize="unit"
        )


def test_seed_pytorch_is_the_textbook_program_to_the_letter(
    vocabulary: Vocabulary, same_threads: Callable[[int], None]
) -> None:
    """The program, given our first weights and our batches, has the same losses, bit for bit."""
    overrides = ["dataset=digits", "engine=sequential"]
    settings = load_study(find_study("seed_pytorch"), overrides, vocabulary).variants["as_written"]
    run, data = RunSpec("v", {}, 0, "cell", settings), Digits().prepared(settings)
    (ended,) = (
        event
        for event in execute([run], Digits(), CPU, debug=True)  # type: ignore[arg-type]
        if isinstance(event, RunEnded)
    )
    same_threads(ended.record.environment["num_threads"])
    model = Textbook(64)
    twin = build_model(settings, data.sizes, seed=0)
    values = dict(zip(model.state_dict(), twin.state_dict().values(), strict=True))
    model.load_state_dict(values)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001, fused=True)
    losses = []
    for epoch in range(5):
        for index in epoch_order(len(data.train_targets), 32, 0, epoch):
            optimizer.zero_grad()
            loss = criterion(model(data.train_batch(index).flatten(1)), data.train_targets[index])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert list(ended.record.step_losses) == losses


@pytest.mark.parametrize("name", ["seed_tensorflow", "seed_pytorch", "frameworks"])
def test_the_shipped_studies_are_sound(name: str, vocabulary: Vocabulary) -> None:
    study = load_study(find_study(name), [], vocabulary)
    assert not study.warnings
    keras = {variant for variant, settings in study.variants.items() if settings.framework == "keras"}
    assert keras == {
        "seed_tensorflow": set(study.variants),
        "seed_pytorch": set(),
        "frameworks": {variant for variant in study.variants if variant.startswith("keras")},
    }[name]  # fmt: skip
