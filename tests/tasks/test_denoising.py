"""The small diffusion model: its process, its loss, its sampling, its network.

Oracles: products and sums by hand; the numbers of Ho et al. 2020; the optimal denoiser of Gaussian data in closed form;
the U-Net written once more with torch.nn.functional.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnbench.base.errors import BnbenchError, DataError
from bnbench.base.time_channel import Timed, split_time, with_time
from bnbench.data import Dataset
from bnbench.data.prepared import Preparation, Prepared
from bnbench.data.split import Sampling
from bnbench.data.tensors import fingerprint
from bnbench.engine.evaluate import evaluate
from bnbench.models import models
from bnbench.models.layers import NormLayer
from bnbench.norms import norms
from bnbench.optim import losses
from bnbench.study import Choice
from bnbench.tasks import task_of
from bnbench.tasks.denoising import Denoising, kept_signal


@pytest.fixture(autouse=True)
def without_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole runs, which are slow tests, train the network of features."""
    monkeypatch.setattr(Denoising, "aid", lambda *_: None)


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unet(shape: tuple[int, ...], outputs: int = 1, norm: str = "none", **options: Any) -> nn.Module:
    entry = models.get("unet")
    made: nn.Module = entry.factory(shape, outputs, NormLayer(norms.get(norm)), **entry.typed(options))
    return made


def images(count: int = 40, shape: tuple[int, ...] = (1, 4, 4)) -> Dataset:
    pixels = torch.randint(0, 17, (count, *shape), generator=stream()).to(torch.uint8)
    labels = torch.arange(count) % 2
    parts = pixels[: count // 2], labels[: count // 2], pixels[count // 2 :], labels[count // 2 :]
    return Dataset(*parts, class_names=("a", "b"), fingerprint=fingerprint(*parts))


def prepared(dataset: Dataset, **options: Any) -> Prepared:
    choice = Choice(name="denoising", options=options)
    sampling = Sampling("auto", 0.5, 0)
    return task_of(choice).prepare(dataset, Preparation(sampling, choice), torch.device("cpu"))


def test_the_signal_that_is_kept_is_that_of_the_papers() -> None:
    """Ho et al. 2020: 1000 steps from 1e-4 to 0.02; Nichol & Dhariwal 2021: the squared cosine, β at most 0.999."""
    product, by_hand = 1.0, []
    for step in range(1000):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * step / 999)
        by_hand.append(product)
    expected = torch.tensor(by_hand, dtype=torch.float64)
    torch.testing.assert_close(kept_signal(1000, "linear"), expected, rtol=1e-10, atol=0)
    assert by_hand[-1] == pytest.approx(4.04e-5, rel=1e-2)

    def cosine(place: float) -> float:
        return math.cos((place + 0.008) / 1.008 * math.pi / 2) ** 2

    kept = kept_signal(50, "cosine")
    for step in range(49):
        assert float(kept[step]) == pytest.approx(cosine((step + 1) / 50) / cosine(0), rel=1e-9)
    assert float(kept[49] / kept[48]) == pytest.approx(0.001, rel=1e-9)
    assert (kept_signal(20, "linear").diff() < 0).all()


def test_noisy_images_have_the_mean_and_the_variance_of_the_process() -> None:
    """q(x_t | x) = N(√ᾱ x, 1 - ᾱ), by step, within 5 standard errors; the targets are that noise and its step."""
    task = Denoising(steps=4)
    x = torch.full((80_000, 1, 1, 1), 2.0)
    noisy, steps = split_time(task.batch(x, x, stream())[0])
    noise, same = split_time(task.batch(x, x, stream())[1])
    assert torch.equal(steps, same)
    for step, signal in enumerate(task.kept_signal.tolist()):
        values = noisy[steps == step].double()
        count = len(values)
        assert 19_000 < count < 21_000
        assert float(values.mean()) == pytest.approx(
            2 * math.sqrt(signal), abs=5 * math.sqrt((1 - signal) / count)
        )
        assert float(values.var()) == pytest.approx(1 - signal, rel=5 * math.sqrt(2 / count))
        back = math.sqrt(signal) * 2 + math.sqrt(1 - signal) * noise[steps == step]
        torch.testing.assert_close(noisy[steps == step], back)


def test_the_loss_and_its_thirds_by_hand_on_three_samples() -> None:
    noise = torch.tensor([[1.0, 2.0], [0.0, 1.0], [-1.0, 0.0]]).reshape(3, 1, 1, 2)
    answers = torch.tensor([[1.0, 0.0], [0.5, 1.0], [1.0, 1.0]]).reshape(3, 1, 1, 2)
    targets = with_time(noise, torch.tensor([0, 4, 8]))
    task = Denoising(steps=9)
    errors = [(0 + 4) / 2, (0.25 + 0) / 2, (4 + 1) / 2]
    assert losses.get("noise_prediction").factory()(answers, targets).item() == pytest.approx(sum(errors) / 3)
    found = dict(task.measured(task.kept(answers, targets), targets, prepared(images(), steps=9)))
    assert found["loss"] == pytest.approx(sum(errors) / 3)
    thirds = [found[name] for name in ("loss_little_noise", "loss_middle", "loss_much_noise")]
    assert thirds == pytest.approx(errors)


class Optimal(nn.Module):
    """E[ε | x_t] for x ~ N(mean, covariance), in float64."""

    def __init__(self, task: Denoising, mean: Tensor, covariance: Tensor) -> None:
        super().__init__()
        self.task, self.mean, self.covariance = task, mean, covariance

    def forward(self, x: Tensor) -> Tensor:
        noisy, steps = split_time(x)
        out = torch.empty_like(noisy)
        for step in steps.unique().long().tolist():
            signal = self.task.kept_signal[step]
            spread = signal * self.covariance + (1 - signal) * torch.eye(len(self.covariance)).double()
            apart = noisy[steps == step].double().flatten(1) - signal.sqrt() * self.mean
            guess = (1 - signal).sqrt() * torch.linalg.solve(spread, apart.T).T
            out[steps == step] = guess.reshape(-1, *noisy.shape[1:]).to(out.dtype)
        return out


COVARIANCE = torch.tensor([[1.0, 0.6], [0.6, 0.5]], dtype=torch.float64)
MEAN = torch.tensor([0.5, -1.0], dtype=torch.float64)


def test_the_optimal_denoiser_of_gaussian_data_has_the_loss_of_the_closed_form() -> None:
    """E|ε - E[ε|x_t]|² / D = tr(ᾱ S (ᾱ S + (1 - ᾱ) I)⁻¹) / D, the mean over the steps; within 2 % of 60,000 samples."""
    task = Denoising(steps=10)
    factor = torch.linalg.cholesky(COVARIANCE)
    x = (MEAN + torch.randn(60_000, 2, generator=stream(), dtype=torch.float64) @ factor.T).float()
    inputs, targets = task.batch(x.reshape(-1, 1, 1, 2), x, stream(1))
    outputs = Optimal(task, MEAN, COVARIANCE)(inputs)
    eye = torch.eye(2, dtype=torch.float64)
    expected = [
        float((a * COVARIANCE @ torch.linalg.inv(a * COVARIANCE + (1 - a) * eye)).trace()) / 2
        for a in task.kept_signal
    ]
    loss = losses.get("noise_prediction").factory()(outputs, targets).item()
    assert loss == pytest.approx(sum(expected) / 10, rel=0.02)
    other = losses.get("noise_prediction").factory()(outputs * 1.1, targets).item()
    assert other > loss


@pytest.mark.slow
def test_sampling_with_the_optimal_denoiser_gives_the_gaussian_back() -> None:
    """DDIM is exact in the limit of many steps: mean and covariance of the samples are those of the data."""
    task = Denoising(steps=200, sampling_steps=200)
    noise = torch.randn(10_000, 1, 1, 2, generator=stream(), dtype=torch.float64)
    limits = torch.tensor(-100.0), torch.tensor(100.0)
    made = task.denoised(Optimal(task, MEAN, COVARIANCE), noise, limits).flatten(1)
    torch.testing.assert_close(made.mean(0), MEAN, atol=0.04, rtol=0)
    torch.testing.assert_close(made.T.cov(), COVARIANCE, atol=0.04, rtol=0)


def test_evaluation_draws_the_same_noise_for_all_and_changes_nothing() -> None:
    data = prepared(images(), steps=10)
    model = unet(Timed((1, 4, 4)), width=2, depth=1, norm="batch")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    first, second = (evaluate(model, data, ("val", "test")) for _ in range(2))
    assert {k: v for k, v in first.items() if v == v} == {k: v for k, v in second.items() if v == v}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    other = evaluate(unet(Timed((1, 4, 4)), width=2, depth=1), data, ("val",))
    assert other["val_loss"] != first["val_loss"]


def test_samples_are_pixels_from_the_same_noise_for_all() -> None:
    data = prepared(images(), steps=10, sampling_steps=4)
    task = task_of(data.task)
    model = unet(Timed((1, 4, 4)), width=2, depth=1).eval()
    with torch.inference_mode():
        first, second = (task.samples(model, data, stream(3)) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.shape == (64, 1, 4, 4)
    assert torch.equal(first, second)
    assert 0 <= float(first.min()) <= float(first.max()) <= 1


def test_features_are_no_images() -> None:
    with pytest.raises(DataError, match="8 features a sample and no images"):
        prepared(images(shape=(8, 1, 1)))


# the network


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 7, 5), (1, 5, 9)])
@pytest.mark.parametrize("timed", [True, False])
def test_unet_gives_an_output_at_every_pixel_of_any_size(shape: tuple[int, ...], timed: bool) -> None:
    model = unet(Timed(shape) if timed else shape, 4, norm="batch", width=2)
    x = torch.randn(3, *shape)
    inputs = with_time(x, torch.tensor([0, 5, 9])) if timed else x
    assert model(inputs).shape == (3, 4, *shape[1:])


def test_unet_is_the_one_that_is_written_out() -> None:
    """Oracle: torch.nn.functional over its weights, in float64, with an odd side and a depth of one."""
    torch.manual_seed(0)
    model = unet(Timed((1, 5, 4)), 1, width=2, depth=1).double()
    w = model.state_dict()
    F = nn.functional
    x, steps = (
        torch.randn(3, 1, 5, 4, dtype=torch.float64),
        torch.tensor([0.0, 3.0, 7.0], dtype=torch.float64),
    )
    angles = steps[:, None] * torch.tensor([10_000 ** (-i / 4) for i in range(4)], dtype=torch.float64)
    time = torch.cat([angles.sin(), angles.cos()], 1)
    for name in ("time.first", "time.second"):
        time = F.silu(F.linear(time, w[f"{name}.weight"], w[f"{name}.bias"]))

    def level(name: str, values: Tensor) -> Tensor:
        def conv(part: str, values: Tensor) -> Tensor:
            return F.conv2d(
                values, w[f"{name}.{part}.conv.weight"], w[f"{name}.{part}.conv.bias"], padding=1
            ).relu()

        values = (
            conv("first", values)
            + F.linear(time, w[f"{name}.time.weight"], w[f"{name}.time.bias"])[:, :, None, None]
        )
        return conv("second", values)

    top = level("down.0", x)
    half = torch.stack(
        [
            torch.stack([top[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((2, 3)) for j in range(2)], -1)
            for i in range(3)
        ],
        -2,
    )
    bottom = level("bottom", half)
    rows, columns = torch.arange(5) * 3 // 5, torch.arange(4) * 2 // 4
    up = level("up.0", torch.cat([bottom[:, :, rows][:, :, :, columns], top], 1))
    expected = F.conv2d(up, w["head.weight"], w["head.bias"])
    torch.testing.assert_close(model(with_time(x, steps)), expected, rtol=1e-5, atol=1e-6)


def test_the_step_changes_the_answer() -> None:
    model = unet(Timed((1, 8, 8)), width=2)
    x = torch.randn(1, 1, 8, 8).repeat(2, 1, 1, 1)
    one, other = model(with_time(x, torch.tensor([1, 50])))
    assert not torch.allclose(one, other)


def test_too_small_an_image_is_refused_with_the_depth_that_fits() -> None:
    with pytest.raises(
        BnbenchError, match=r"model.depth: 2, and an image is 2 high and 2 wide.\nIt can be halved 1 time"
    ):
        unet((1, 2, 2), depth=2)


@pytest.mark.parametrize("norm", norms.names())
@pytest.mark.parametrize("name", ["autoencoder", "vae", "unet"])
def test_every_normalizer_trains_or_is_refused(name: str, norm: str) -> None:
    torch.manual_seed(0)
    shape = Timed((1, 8, 8)) if name == "unet" else (1, 8, 8)
    options = {"width": 4, "depth": 1} if name == "unet" else {"channels": [4, 8], "latent": 2}
    entry = models.get(name)
    try:
        model = entry.factory(shape, 1, NormLayer(norms.get(norm)), **entry.typed(options))
    except BnbenchError as error:
        pytest.skip(f"{norm} refuses {name}: {error.what}")
    x = torch.randn(6, 1, 8, 8)
    inputs, targets = Denoising(steps=9).batch(x, x, stream()) if name == "unet" else (x, x)
    objective = {"unet": "noise_prediction", "vae": "elbo", "autoencoder": "pixel_mse"}[name]
    losses.get(objective).factory()(model(inputs), targets).backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("autoencoder", {"encoder.code", "decoder.blocks.0.maps.linear", "decoder.head"}),
        ("vae", {"encoder.code", "decoder.blocks.0.maps.linear", "decoder.head"}),
        ("unet", {"time.first", "time.second", "down.0.time", "bottom.time", "up.0.time", "head"}),
    ],
)
def test_batch_norm_takes_the_bias_before_it_and_no_other(name: str, kept: set[str]) -> None:
    shape = Timed((1, 8, 8)) if name == "unet" else (1, 8, 8)
    options = {"depth": 1} if name == "unet" else {}
    entry = models.get(name)
    made = [
        entry.factory(shape, 1, NormLayer(norms.get(norm)), **entry.typed(options))
        for norm in ("none", "batch")
    ]
    biased = [
        {
            key
            for key, module in model.named_modules()
            if getattr(module, "bias", None) is not None and "norm" not in key
        }
        for model in made
    ]
    weights = {key for key, module in made[0].named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    assert biased[0] == weights
    assert biased[1] == kept
