"""Segmentation through the real engine. Oracles: scikit-learn's jaccard_score, accuracy and recall; torch's loss."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, jaccard_score, recall_score
from torch import nn
from typer.testing import CliRunner

from bnbench.base.errors import ConfigError
from bnbench.cli.app import app
from bnbench.engine.evaluate import evaluate
from bnbench.engine.library import Library
from bnbench.optim.objectives import PixelCrossEntropy
from bnbench.study import Vocabulary, load_study
from bnbench.tasks.segmentation import Segmentation

CPU = torch.device("cpu")
TEXT = """
dataset: {name: npz, path: data.npz}
model: {name: unet, width: 4, depth: 1}
optimizer: {name: adam, lr: 0.01}
epochs: 1
seeds: 2
variants: [batch, group]
"""


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def save(**changes: Any) -> None:
    """Gray images 8x10 whose masks follow their gray; some pixels are ignored."""
    draw = np.random.default_rng(0)
    x = draw.integers(0, 256, (60, 8, 10)).astype("uint8")
    y = np.digitize(x, [90, 170])
    y[:, 0, :3] = 255
    np.savez(
        "data.npz", **{"x_train": x[:48], "y_train": y[:48], "x_test": x[48:], "y_test": y[48:], **changes}
    )


def run(text: str, *words: str) -> tuple[int, str]:
    Path("s.yaml").write_text(text)
    result = CliRunner().invoke(app, ["compare", "s.yaml", "--output", "o", *words])
    return result.exit_code, " ".join(result.output.split())


def test_metrics_are_counted_over_all_pixels_of_a_part(vocabulary: Vocabulary) -> None:
    """Against scikit-learn on the pixels that are not ignored, from a network of one convolution."""
    save()
    Path("s.yaml").write_text(TEXT)
    settings = load_study(Path("s.yaml"), [], vocabulary).variants["batch"]
    assert settings.task.name == "segmentation"
    assert settings.loss.name == "pixel_cross_entropy"
    data = Library(Path(), CPU).prepared(settings)
    assert data.sizes.per_position
    torch.manual_seed(1)
    model = nn.Conv2d(1, 3, 3, padding=1)
    with torch.no_grad():
        logits = model(data.test_inputs)
    counts = data.test_targets != 255
    own, taken = data.test_targets[counts], logits.argmax(1)[counts]
    for size in (None, 5):
        found = evaluate(model, data, ("test",), size)
        assert found["test_mean_iou"] == pytest.approx(jaccard_score(own, taken, average="macro"), rel=1e-12)
        assert found["test_pixel_accuracy"] == pytest.approx(accuracy_score(own, taken), rel=1e-12)
        recalls = recall_score(own, taken, average=None)
        assert [found[f"test_recall:{k}"] for k in range(3)] == pytest.approx(recalls, rel=1e-12)
        loss = nn.functional.cross_entropy(logits.double(), data.test_targets, ignore_index=255)
        assert found["test_loss"] == pytest.approx(float(loss), rel=1e-6)
    assert data.class_counts()["test"] == tuple(np.bincount(own, minlength=3))


def test_iou_is_the_mean_over_the_classes_that_a_part_has() -> None:
    """By hand: class 0 has 3 pixels, 2 right, and 1 more taken for it: 2 / 4; class 2 is taken once, and not there."""
    masks = torch.tensor([[[0, 0, 0, 1, 1, 255]]])
    taken = torch.tensor([[[0, 0, 2, 0, 1, 0]]])
    outputs = nn.functional.one_hot(taken, 3).permute(0, 3, 1, 2).float() * 9
    task = Segmentation()
    found = dict(task.measure(task.kept(outputs, masks), masks, ["a", "b", "c"]))
    assert found["mean_iou"] == pytest.approx((2 / 4 + 1 / 2) / 2)
    assert found["pixel_accuracy"] == pytest.approx(3 / 5)
    assert math.isnan(found["recall:c"])


def test_a_pixel_without_a_finite_output_is_right_nowhere() -> None:
    masks = torch.zeros(1, 1, 2, dtype=torch.int64)
    outputs = torch.tensor([[[[5.0, 5.0]], [[0.0, math.nan]]]])
    task = Segmentation()
    assert dict(task.measure(task.kept(outputs, masks), masks, ["a", "b"]))["pixel_accuracy"] == 0.5


def test_the_loss_ignores_255_and_is_0_for_a_batch_without_pixels() -> None:
    draw = torch.Generator().manual_seed(0)
    outputs, masks = torch.randn(2, 3, 4, 4, generator=draw), torch.randint(3, (2, 4, 4), generator=draw)
    masks[0, 1:3] = 255
    loss = PixelCrossEntropy()
    assert torch.allclose(loss(outputs, masks), nn.functional.cross_entropy(outputs, masks, ignore_index=255))
    outputs.requires_grad_()
    nothing = loss(outputs, torch.full_like(masks, 255))
    nothing.backward()
    assert float(nothing.detach()) == 0
    assert float(outputs.grad.abs().sum()) == 0  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_segmentation_from_study_to_verdict() -> None:
    save()
    code, shown = run(
        TEXT + "target: {metric: val_mean_iou, value: 0.3}\nmetrics: [recall]\n", "epochs=8", "batch_size=4"
    )
    assert code == 0, shown
    assert "test mean IoU" in shown
    found = json.loads(Path("o/summary.json").read_text())
    runs = [one for variant in found["variants"] for one in variant["runs"]]
    assert {one["outcome"] for one in runs} == {"finished"}
    assert all(one["final"]["test_mean_iou"] > 0.3 and one["steps_to_target"] for one in runs)
    assert "3.8% of the pixels of the training part are 255: they count nowhere" in shown


IDS = np.zeros((48, 8, 10), int)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_train": IDS}, "y_train has one class only, 0."),
        ({"y_train": IDS + 255}, "y_train has no class: every pixel is 255, which is ignored."),
        ({"y_train": IDS - 1}, "y_train has ids from -1 to -1."),
        ({"y_train": IDS + 0.5}, "y_train holds float64 with values that are no whole numbers."),
        ({"y_test": np.full((12, 8, 10), 7)}, "y_test has ids that y_train lacks: 7."),
        ({"y_test": np.zeros((12, 8, 9), int)}, "y_test has the shape (12, 8, 9), and its images are 12 x 8 x 10."),
        ({"y_train": np.zeros((40, 8, 10), int)}, "x_train has 48 samples and y_train"),
    ],
)  # fmt: skip
def test_masks_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    save(**changes)
    code, shown = run(TEXT + "task: segmentation\n")
    assert code == 1
    assert message in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("augment: crop_flip", "augment: crop_flip is not for the task segmentation. Fix: augment: none, or one"),
        ("batches: {classes: 2}", "the task segmentation has a class at every position of a sample."),
        ("primary: test_accuracy", 'unknown metric "test_accuracy"'),
        ("loss: cross_entropy", "loss: cross_entropy is not for the task segmentation. Fix: loss: pixel_"),
    ],
)  # fmt: skip
def test_what_does_not_fit_masks_is_refused_with_its_line(
    text: str, message: str, vocabulary: Vocabulary
) -> None:
    save()
    Path("s.yaml").write_text(TEXT + text + "\n")
    with pytest.raises(ConfigError) as error:
        load_study(Path("s.yaml"), [], vocabulary)
    assert message in str(error.value)
    assert "s.yaml:8" in str(error.value)


@pytest.mark.slow
def test_check_and_the_drawn_shapes(vocabulary: Vocabulary) -> None:
    Path("s.yaml").write_text(
        TEXT.replace("{name: npz, path: data.npz}", "{name: shapes, samples: 40, size: 12}")
    )
    result = CliRunner().invoke(app, ["check", "s.yaml"])
    assert result.exit_code == 0, result.output
    data = vocabulary["dataset"]["shapes"].factory(Path(), size=12, samples=40)
    again = vocabulary["dataset"]["shapes"].factory(Path(), size=12, samples=40)
    assert data.fingerprint == again.fingerprint
    assert data.class_names == ("background", "disc", "square", "cross")
    assert set(data.train_targets.unique().tolist()) == {0, 1, 2, 3}
    assert data.train_inputs.shape == (40, 1, 12, 12)
