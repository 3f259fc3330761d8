"""Further test sets: corruptions against NumPy and SciPy, data sets of one's own, what is refused before training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from bnbench.base.errors import ConfigError, DataError
from bnbench.data import datasets
from bnbench.data.corruptions import corrupted, corruptions
from bnbench.data.split import Sampling, choose
from bnbench.engine.library import Library
from bnbench.study import Choice, Settings, Vocabulary, load_study

Write = Callable[..., Path]
CPU = torch.device("cpu")
STUDY = """dataset: {dataset}
model: {{name: mlp, hidden: [4]}}
optimizer: {{name: sgd, lr: 0.1}}
test_sets: {sets}
"""


def choice(name: str, **options: Any) -> Choice:
    defaults = corruptions.get(name).options()().model_dump()
    return Choice(name=name, options={**defaults, **options})


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (5, 3, 9, 7), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize("low", [0.0, 16.0])
def test_corruptions_by_hand_on_a_scale_of_0_to_255(images: Tensor, low: float) -> None:
    """low: what stands for 0, where 255 is 255 steps of 1/2 above it; the result is cut to these two ends."""
    inputs, x = images / 2 + low, images.double().numpy()
    mean = x.mean((1, 2, 3), keepdims=True)
    sigma = (0, 0, 1.5, 1.5)
    expected = {
        "brightness": (choice("brightness", factor=0.5, shift=-20), 0.5 * x - 20),
        "contrast": (choice("contrast", factor=1.5), (x - mean) * 1.5 + mean),
        "blur": (choice("blur", sigma=1.5), ndimage.gaussian_filter(x, sigma, mode="nearest", truncate=4)),
    }
    for chosen, result in expected.values():
        found = corrupted(inputs, chosen, low, low + 127.5)
        assert found.dtype == torch.float32
        assert np.allclose(found.numpy(), result.clip(0, 255) / 2 + low, atol=1e-4)


def test_noise_is_private_normal_and_the_same_each_time(images: Tensor) -> None:
    gray = torch.full((200, 1, 20, 20), 128.0)
    stream = torch.get_rng_state()
    noise = corrupted(gray, choice("gaussian_noise", std=10), 0, 255) - 128
    assert torch.equal(stream, torch.get_rng_state())
    assert torch.equal(noise, corrupted(gray, choice("gaussian_noise", std=10), 0, 255) - 128)
    assert abs(float(noise.std()) - 10) < 0.2
    assert abs(float(noise.mean())) < 0.2
    assert float(corrupted(gray, choice("gaussian_noise", std=900), 0, 255).max()) == 255


def test_a_corruption_that_breaks_a_promise_is_refused(images: Tensor) -> None:
    for name, said in (("brightness", "change nothing"), ("blur", "no images")):
        with pytest.raises(DataError, match=said):
            corrupted(torch.rand(4, 6, 1, 1), choice(name), 0, 1)


@pytest.fixture
def settings(write_study: Write, vocabulary: Vocabulary, tmp_path: Path) -> Callable[..., Settings]:
    def make(sets: str, dataset: str = "digits", more: str = "") -> Settings:
        study = load_study(write_study(STUDY.format(sets=sets, dataset=dataset) + more), [], vocabulary)
        return study.variants["none"]

    return make


def test_the_test_part_is_corrupted_in_its_own_order_and_normalised_as_it_is(
    settings: Callable[..., Settings], tmp_path: Path
) -> None:
    """Digits go to 16: a shift of 51 on the scale of 255 is 3.2 of theirs."""
    data = Library(tmp_path, CPU).prepared(settings("{dark: {name: brightness, shift: 51}}"))
    digits = datasets.get("digits").factory(tmp_path)
    order = choose(digits, Sampling("auto", 0.1, 0)).test
    raw = (digits.test_inputs[order].double() + 3.2).clamp(0, 16)
    inputs, targets = data.test_sets["dark"]
    assert data.center is not None
    assert data.scale is not None
    assert torch.allclose(inputs, ((raw - data.center) / data.scale).float(), atol=1e-5)
    assert torch.equal(targets, data.test_targets)
    assert data.class_counts()["dark"] == data.class_counts()["test"]


def own_files(folder: Path) -> None:
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 17, (60, 8, 8)).astype("uint8"), np.tile(np.arange(10), 6)

    def save(name: str, x: Any = x, y: Any = y) -> None:
        np.savez(folder / f"{name}.npz", x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:])

    save("own")
    save("nine", y=y % 9)
    save("shape", x=x[:, :4])
    save("float", x=x / 16)


def test_a_data_set_of_ones_own_is_known_by_its_content(
    settings: Callable[..., Settings], tmp_path: Path
) -> None:
    own_files(tmp_path)
    chosen = settings("{own: {dataset: {name: npz, path: own.npz}}}")
    library = Library(tmp_path, CPU)
    data = library.prepared(chosen)
    assert len(data.test_sets["own"][1]) == 30
    assert (
        library.fingerprints(chosen)["own"]
        == library.dataset(chosen.model_copy(update={"dataset": chosen.test_sets[0].dataset})).fingerprint
    )
    assert "path" not in chosen.identity()["test_sets"][0]["dataset"]["options"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nine", "number of classes: 9 there, 10"),
        ("shape", r"shape of a sample: \(1, 4, 8\)"),
        ("float", "type of numbers: torch.float32"),
        ("missing", "does not exist"),
    ],
)
def test_a_data_set_that_does_not_fit_is_refused_with_its_line(
    settings: Callable[..., Settings], tmp_path: Path, name: str, said: str
) -> None:
    own_files(tmp_path)
    with pytest.raises(DataError, match=f"study.yaml:4: test_sets.own: .*{said}"):
        Library(tmp_path, CPU).prepared(settings(f"{{own: {{dataset: {{name: npz, path: {name}.npz}}}}}}"))


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ("{}", "it is empty"),
        ("[dark]", "a mapping of names to test sets"),
        ("{val: blur}", "val is the name of a part already. Fix: another name, such as val2"),
        ("{Gap: blur}", "is the name of a part already"),
        ("{very_dark: blur}", "letters and digits, at most 30.*Fix: verydark"),
        ("{macro: blur}", "macro_f1 is a metric"),
        ("{dark: blur, Dark: blur}", "differs in case alone"),
        ("{dark: blurr}", 'unknown corruption "blurr". Did you mean "blur"'),
        ("{dark: {name: blur, sigma: 0}}", "dark.sigma: 0 is wrong"),
        ("{dark: {name: blur, std: 3}}", 'unknown key "std" in corruption blur'),
        ("{dark: {}}", "names no test set"),
        ("{dark: {dataset: npz}}", "dataset.path is missing"),
        ("{dark: {dataset: digits, name: blur}}", "dataset and name do not go together"),
    ],
)  # fmt: skip
def test_mistakes_have_their_lines(settings: Callable[..., Settings], sets: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"study.yaml:4: test_sets.*{said}"):
        settings(sets)


def test_no_variant_changes_them_and_without_the_key_a_run_is_the_same(
    settings: Callable[..., Settings],
) -> None:
    with pytest.raises(ConfigError, match="test_sets belongs to the study"):
        settings("{dark: blur}", more="variants: {a: {test_sets: {dark: contrast}}}")
    assert "test_sets" not in settings("null").identity()


@pytest.mark.slow
def test_batch_statistics_at_inference_stand_a_shift_of_brightness_that_running_ones_do_not(
    tmp_path: Path,
) -> None:
    """Schneider et al. 2020 (arXiv 2006.16971) in small; x 0.5 + 6 of 16 is factor 0.5, shift 6 * 255 / 16."""
    import bnbench

    study = {
        "dataset": "digits",
        "model": {"name": "mlp", "hidden": [64, 64]},
        "optimizer": {"name": "sgd", "lr": 0.1},
        "epochs": 8,
        "seeds": 5,
        "primary": "dark_accuracy",
        "evaluate": ["running", "batch"],
        "test_sets": {"dark": {"name": "brightness", "factor": 0.5, "shift": 95.625}},
        "variants": {"batch": {"norm": "batch"}, "none": {"norm": "none"}},
    }
    found = bnbench.compare(study, output=tmp_path / "shift")
    spreads = {v.variant: v.spreads for v in found.summary.variants}
    mean = {name: spread["final", "dark_accuracy"].mean for name, spread in spreads.items()}
    assert mean["batch@batch"] > 0.96
    assert mean["batch"] < 0.8 < mean["none"]
    assert spreads["batch"]["final", "test_accuracy"].mean > 0.96
    difference = next(c for c in found.summary.comparisons if c.variant == "batch@batch" and c.verdict)
    assert difference.verdict == "better"
