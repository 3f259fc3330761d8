"""The metrics of generated images, and the network in whose features they are measured.

Oracles: scipy's matrix root; closed forms for diagonal covariances; brute force in plain Python over all pairs.
"""

from __future__ import annotations

import dataclasses
import math
import random
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from bnbench.base.metrics import METRICS, declare
from bnbench.base.task_facts import TaskFacts
from bnbench.data import Dataset, datasets
from bnbench.data.tensors import make_dataset
from bnbench.tasks import feature_network as networks
from bnbench.tasks.feature_network import FeatureNetwork, evenly, feature_network
from bnbench.tasks.image_quality import (
    IMAGE_QUALITY,
    class_coverage,
    frechet_distance,
    image_quality,
    kernel_distance,
    within,
)
from tests.prepared import prepare


def vectors(count: int, features: int, seed: int, shift: float = 0.0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    mix = torch.randn(features, features, generator=draw, dtype=torch.float64)
    return torch.randn(count, features, generator=draw, dtype=torch.float64) @ mix + shift


def scipy_frechet(one: Tensor, other: Tensor) -> float:
    first, second = (np.cov(part.numpy(), rowvar=False) for part in (one, other))
    root = scipy.linalg.sqrtm(first @ second).real
    means = one.numpy().mean(0) - other.numpy().mean(0)
    return float(means @ means + np.trace(first + second - 2 * root))


@pytest.mark.parametrize("sizes", [(40, 30, 5), (200, 100, 12)])
def test_the_frechet_distance_is_the_one_of_the_matrix_root(sizes: tuple[int, int, int]) -> None:
    one, other = vectors(sizes[0], sizes[2], 0), vectors(sizes[1], sizes[2], 1, shift=0.7)
    assert frechet_distance(one, other) == pytest.approx(scipy_frechet(one, other), rel=1e-9)
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one), rel=1e-12)


def test_the_frechet_distance_of_independent_features_is_a_sum_of_squares() -> None:
    """Diagonal covariances: |m1 - m2|² + the sum of (s1 - s2)²."""
    signs = torch.tensor([[a, b] for a in (-1.0, 1.0) for b in (-1.0, 1.0)], dtype=torch.float64)
    scale = math.sqrt(3 / 4)  # n-1: these four points then have a variance of 1
    one = scale * signs * torch.tensor([3.0, 0.5], dtype=torch.float64)
    other = scale * signs * torch.tensor([1.0, 2.0], dtype=torch.float64) + torch.tensor([0.0, 4.0])
    assert frechet_distance(one, other) == pytest.approx(16 + 2**2 + 1.5**2, rel=1e-12)


@pytest.mark.parametrize("kind", ["few", "constant", "one direction", "equal"])
def test_singular_covariances_have_a_finite_distance(kind: str) -> None:
    one, other = vectors(6, 20, 0), vectors(5, 20, 1)
    if kind == "constant":
        one = torch.ones(6, 20, dtype=torch.float64)
        wanted = float((1 - other.mean(0)).square().sum() + np.trace(np.cov(other.numpy(), rowvar=False)))
        assert frechet_distance(one, other) == pytest.approx(wanted, rel=1e-10)
    elif kind == "one direction":  # both vary along the first axis alone, by 1 and by 3
        line = torch.zeros(4, 20, dtype=torch.float64)
        line[:, 0] = torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64) * math.sqrt(3 / 4)
        assert frechet_distance(line, 3 * line) == pytest.approx(4, rel=1e-10)
    elif kind == "equal":
        assert 0 <= frechet_distance(one, one.clone()) < 1e-9
    else:
        assert math.isfinite(frechet_distance(one, other))
        assert frechet_distance(one, other) > 0


def test_the_kernel_distance_is_the_one_over_all_pairs() -> None:
    one, other = vectors(9, 4, 2), vectors(7, 4, 3, shift=0.3)

    def kernel(x: Tensor, y: Tensor) -> float:
        return (float(x @ y) / 4 + 1) ** 3

    def mean(pairs: list[float]) -> float:
        return math.fsum(pairs) / len(pairs)

    inside = [
        mean([kernel(x, y) for i, x in enumerate(part) for j, y in enumerate(part) if i != j])
        for part in (one, other)
    ]
    wanted = sum(inside) - 2 * mean([kernel(x, y) for x in one for y in other])
    assert kernel_distance(one, other) == pytest.approx(wanted, rel=1e-10)


def test_the_kernel_distance_has_no_bias_and_is_negative_at_times() -> None:
    draw = torch.Generator().manual_seed(4)
    found = [
        kernel_distance(*torch.randn(2, 30, 3, generator=draw, dtype=torch.float64).unbind())
        for _ in range(400)
    ]
    error = float(np.std(found) / math.sqrt(len(found)))
    assert abs(float(np.mean(found))) < 4 * error
    assert min(found) < 0


@pytest.mark.parametrize(("count", "radius"), [(12, 3), (3, 2)])
def test_precision_and_recall_are_those_of_brute_force(count: int, radius: int) -> None:
    """count: of the vectors around which the balls are; with three of them the farthest is the second."""
    one, other = vectors(10, 3, 5), vectors(count, 3, 6)[:, :3]
    hits = 0
    for x in one:
        inside = False
        for i, y in enumerate(other):
            own = sorted(math.dist(y, z) for j, z in enumerate(other) if j != i)
            inside = inside or math.dist(x, y) <= own[radius - 1]
        hits += inside
    assert within(one, other) == hits / 10


def test_the_limits_of_precision_and_recall() -> None:
    one = vectors(40, 4, 7)
    assert within(one, one.clone()) == 1
    assert within(one + 1e6, one) == 0
    few = one[:4]  # a generator that makes four good images only: all lie in the real ones' balls
    assert within(few.repeat(10, 1), one) == 1
    assert within(one, few.repeat(10, 1)) == 4 / 40  # and its balls have no size


def test_a_class_is_found_at_a_tenth_of_its_share() -> None:
    real = torch.eye(4)[torch.arange(100) % 3].double()  # no image of the fourth class
    made = torch.eye(4)[torch.tensor([0] * 96 + [1] * 4)].double()
    assert class_coverage(made, real) == pytest.approx(2 / 3)
    made = torch.eye(4)[torch.tensor([0] * 97 + [1] * 3)].double()  # 3 % is less than a tenth of a third
    assert class_coverage(made, real) == pytest.approx(1 / 3)
    assert class_coverage(real, real) == 1


@pytest.fixture(scope="module")
def digits() -> Dataset:
    dataset: Dataset = datasets.get("digits").factory(Path())
    return dataset


@pytest.fixture(scope="module")
def network(digits: Dataset) -> FeatureNetwork:
    return feature_network(digits)


def test_better_images_have_better_numbers(digits: Dataset, network: FeatureNetwork) -> None:
    real, held = network.unit(digits.test_inputs), network.unit(digits.train_inputs[:360])
    draw = torch.Generator().manual_seed(0)
    noisy = [
        (held + level * torch.randn(held.shape, generator=draw)).clamp(0, 1) for level in (0.0, 0.2, 0.8)
    ]
    found = [image_quality(made, real, network) for made in noisy]
    for name in ("frechet", "kernel"):
        assert found[0][name] < found[1][name] < found[2][name]
    assert found[0]["image_precision"] > found[1]["image_precision"] > found[2]["image_precision"] + 0.3
    assert image_quality(torch.zeros_like(real), real, network)["image_precision"] == 0
    one_class = image_quality(held[digits.train_targets[:360] == 3], real, network)
    assert one_class["coverage"] == pytest.approx(0.1)
    assert one_class["image_precision"] > 0.7
    assert one_class["image_recall"] < 0.2
    assert found[0]["coverage"] == 1
    assert list(found[0]) == [metric.name for metric in IMAGE_QUALITY]


def test_images_that_are_not_finite_or_too_few_have_no_numbers(network: FeatureNetwork) -> None:
    images = torch.zeros(5, 1, 8, 8)
    broken = images.clone()
    broken[2, 0, 1, 1] = math.nan
    for made, real in ((broken, images), (images[:1], images), (images, images[:1])):
        assert all(math.isnan(value) for value in image_quality(made, real, network).values())
    assert all(math.isfinite(value) for value in image_quality(images, images, network).values())


def test_the_network_is_the_same_and_leaves_the_process_as_found(
    digits: Dataset, network: FeatureNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "_made", {})
    torch.manual_seed(9)
    before, threads = (repr(np.random.get_state()), random.getstate()), torch.get_num_threads()
    stream = torch.get_rng_state()
    torch.set_num_threads(2)
    with torch.inference_mode():
        again = feature_network(digits)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), stream)
    assert (repr(np.random.get_state()), random.getstate()) == before
    assert again is not network
    assert feature_network(digits) is again
    images = network.unit(digits.test_inputs)
    for one, other in zip(again.look(images), network.look(images), strict=True):
        assert torch.equal(one, other)
    right = float((again.look(images)[1].argmax(1) == digits.test_targets).double().mean())
    assert again.accuracy == pytest.approx(right)
    assert right > 0.97
    assert f"is right on {right:.1%} of 360 test images" in again.note
    assert "no FID" in again.note


def test_shown_pixels_are_those_of_the_data_set(digits: Dataset, network: FeatureNetwork) -> None:
    """The normalisation taken back: 0..16 become 0..1."""
    for normalize in ("standard", "unit", "signed"):
        data = prepare(
            digits, val_fraction=0.1, split_seed=0, device=torch.device("cpu"), normalize=normalize
        )
        back = network.unit(data.train_batch(torch.arange(50)), data)
        assert float((back - data.train_inputs[:50] / 16).abs().max()) < 1e-6
    assert torch.equal(network.unit(digits.test_inputs), digits.test_inputs / 16)


@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 4, 7)])
def test_without_two_classes_the_network_tells_turns_apart(
    shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "STEPS", 60)
    monkeypatch.setattr(networks, "_made", {})
    draw = torch.Generator().manual_seed(1)
    ramp = torch.linspace(0, 1, shape[1])[:, None]
    images = (ramp + 0.1 * torch.rand(120, *shape, generator=draw)).float()
    labels = torch.zeros(120, dtype=torch.int64)
    made = make_dataset("ramps", (images[:80], labels[:80]), (images[80:], labels[80:]), ["ramp"])
    found = feature_network(made)
    assert found.classes == 0
    assert found.accuracy == 1
    assert "by how much an image was turned" in found.note
    quality = image_quality(found.unit(images[:40]), found.unit(images[80:]), found)
    assert math.isnan(quality["coverage"])
    assert math.isfinite(quality["frechet"])


def test_classes_of_pixels_are_no_classes_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "STEPS", 2)
    monkeypatch.setattr(networks, "_made", {})
    found = feature_network(datasets.get("shapes").factory(Path(), size=8, samples=20))
    assert found.classes == 0
    assert found.tested == 4


def test_large_images_and_images_without_contrast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "STEPS", 2)
    monkeypatch.setattr(networks, "_made", {})
    images, labels = torch.full((8, 3, 70, 40), 7, dtype=torch.uint8), torch.arange(8) % 2
    found = feature_network(make_dataset("flat", (images, labels), (images, labels), ["a", "b"]))
    quality = image_quality(found.unit(images), found.unit(images), found)
    assert all(math.isfinite(value) for value in quality.values())


def test_indices_are_spread_over_sorted_samples() -> None:
    assert evenly(10, 20).tolist() == list(range(10))
    assert evenly(10, 5).tolist() == [0, 2, 4, 6, 8]
    assert evenly(60_000, 2000)[-1] == 59_970


def test_a_task_can_list_them() -> None:
    before = dict(METRICS)
    try:
        from bnbench.base.metrics import Metric

        facts = TaskFacts((Metric("loss", "lower"), *IMAGE_QUALITY), losses=("any",), primary="frechet")
        declare(facts.metrics)
        assert facts.metric_of("test_frechet").better == "lower"
        assert facts.metric_of("val_kernel").bounds == "any number"
        assert dataclasses.asdict(facts)["metrics"]
    finally:
        METRICS.clear()
        METRICS.update(before)
