"""The autoencoder, and what the three tasks of images without labels share: whole runs, the sheet, other kinds of data.

Oracles: sums by hand in pixel values; the best constant image; a second run.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bnbench.api.plugins import known_names
from bnbench.cli.app import app
from bnbench.data.pixels import to_unit
from bnbench.engine.library import Library
from bnbench.study import load_study
from bnbench.tasks import task_of

STUDY = """
dataset: digits
task: TASK
model: {name: MODEL}
optimizer: {name: adam, lr: 0.01}
epochs: 1
max_train_samples: 150
max_eval_samples: 60
seeds: 2
variants: [none, batch]
"""
SMALL = {
    "autoencoder": "autoencoder, channels: [4, 4], latent: 3",
    "vae": "vae, channels: [4, 4], latent: 3",
    "denoising": "unet, width: 4, depth: 1",
}


def run(folder: Path, task: str, *words: str, data: str = "digits") -> tuple[int, str]:
    folder.mkdir(exist_ok=True)
    text = STUDY.replace("TASK", task).replace("MODEL", SMALL[task]).replace("digits", data)
    (folder / "s.yaml").write_text(text)
    command = ["compare", str(folder / "s.yaml"), "--output", str(folder / "out"), *words]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "200"})
    return result.exit_code, " ".join(result.output.split())


def final(folder: Path, variant: str = "none", seed: int = 0) -> dict[str, Any]:
    (path,) = (folder / "out" / "runs").glob(f"{variant}-*/seed-{seed}/run.json")
    found: dict[str, Any] = json.loads(path.read_text())["final"]
    return found


def test_its_errors_in_pixel_values_by_hand(tmp_path: Path) -> None:
    """mse: of values divided by 16, the largest pixel of the digits; R² against the mean image of the part."""
    (tmp_path / "s.yaml").write_text(
        STUDY.replace("TASK", "autoencoder").replace("MODEL", SMALL["autoencoder"])
    )
    study = load_study(tmp_path / "s.yaml", [], known_names().vocabulary)
    data = Library(tmp_path, torch.device("cpu")).prepared(study.cells[0].settings)
    task = task_of(data.task)
    x = data.test_inputs
    guess = (x + 0.3).double()
    found = dict(task.measured(guess, x, data))
    assert data.scale is not None
    assert data.center is not None
    pixels = (x * data.scale + data.center).double()
    assert set(pixels.unique().round().int().tolist()) <= set(range(17))
    mse = float((0.3 * data.scale / 16).double().square().mean())
    assert found["loss"] == pytest.approx(0.09, rel=1e-5)
    assert found["mse"] == pytest.approx(mse, rel=1e-5)
    assert found["psnr"] == pytest.approx(-10 * math.log10(mse), rel=1e-5)
    spread = float((pixels - pixels.mean(0)).square().mean()) / 256
    assert found["r2"] == pytest.approx(1 - mse / spread, rel=1e-5)
    mean = x.double().mean(0, keepdim=True).expand_as(x)
    assert dict(task.measured(mean, x, data))["r2"] == pytest.approx(0, abs=1e-6)
    assert not task.has_learnt({}, {"val_r2": 0.01}, x)
    assert task.has_learnt({}, {"val_r2": 0.2}, x)
    torch.testing.assert_close(to_unit(x, data).double(), pixels / 16, atol=1e-6, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("task", list(SMALL))
def test_a_study_trains_and_comes_again_bit_for_bit(task: str, tmp_path: Path) -> None:
    code, text = run(tmp_path / "one", task, "--jobs", "1")
    assert code == 0, text
    assert run(tmp_path / "two", task, "--jobs", "1")[0] == 0
    for variant in ("none", "batch"):
        assert final(tmp_path / "one", variant) == final(tmp_path / "two", variant)
    one, other = final(tmp_path / "one"), final(tmp_path / "one", seed=1)
    assert one["test_loss"] != other["test_loss"]
    if task != "autoencoder":
        assert 0 < one["test_frechet"] < math.inf
        assert one["val_frechet"] is None


@pytest.mark.slow
@pytest.mark.parametrize("task", list(SMALL))
def test_probes_and_further_ways_of_inference_take_it(task: str, tmp_path: Path) -> None:
    more = [
        "probe={every: 3, what: [activations, gradients, landscape]}",
        "evaluate=[running, precise]",
        "seeds=1",
    ]
    code, text = run(tmp_path, task, *more)
    assert code == 0, text
    assert "not measured" not in text
    (path,) = (tmp_path / "out" / "runs").glob("batch-*/seed-0/run.json")
    precise = json.loads(path.read_text())["inference"]["precise"]
    assert math.isfinite(precise["test_loss"])


@pytest.mark.slow
def test_colour_odd_sizes_features_and_a_batch_of_one(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    kinds = {"colour": (60, 7, 5, 3), "features": (60, 9)}
    for name, shape in kinds.items():
        x, y = draw.random(shape, dtype=np.float32), np.arange(60) % 2
        np.savez(tmp_path / f"{name}.npz", x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    for task in SMALL:
        data = f"{{name: npz, path: {tmp_path / 'colour.npz'}}}"
        code, text = run(tmp_path / task, task, "seeds=1", "batch_size=1", data=data)
        assert code == 1 or math.isfinite(final(tmp_path / task)["test_loss"]), text
        assert "Traceback" not in text
    data = f"{{name: npz, path: {tmp_path / 'features.npz'}}}"
    code, text = run(
        tmp_path / "features",
        "vae",
        "seeds=1",
        "model={name: vae, network: mlp, hidden: [8], latent: 2}",
        data=data,
    )
    assert code == 0, text
    assert math.isfinite(final(tmp_path / "features")["test_loss"])
    assert final(tmp_path / "features")["test_frechet"] is None
    code, text = run(tmp_path / "refused", "denoising", data=data)
    assert code == 1
    assert "9 features a sample and no images" in text
    code, text = run(tmp_path / "refused", "autoencoder", data=data)
    assert code == 1
    assert "model.network: mlp" in text
