"""The initializations that a study can ask for by number: normal with a standard deviation, and orthogonal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from bnbench.base.errors import ConfigError
from bnbench.base.seeding import generator
from bnbench.engine.build import initialise
from bnbench.study import Vocabulary, load_study

Write = Callable[..., Path]
MINIMAL = "dataset: digits\nmodel: mlp\noptimizer: {name: sgd, lr: 0.1}\n"


def two_layers() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Linear(300, 40))


def test_normal_has_the_absolute_std_in_every_layer_and_no_bias() -> None:
    model = two_layers()
    initialise(model, 5, "normal", scale=2.0, std=0.05)
    for name, layer in (("0", model[0]), ("2", model[2])):
        unit = torch.empty_like(layer.weight).normal_(generator=generator(5, "init", name, "weight"))
        torch.testing.assert_close(layer.weight, 2.0 * (0.05 * unit))
        assert not layer.bias.any()


@pytest.mark.parametrize("shape", [(40, 300), (300, 40), (8, 3, 3, 3), (64, 2, 3, 3)])
def test_orthogonal_rows_or_columns_have_the_length_of_the_scale(shape: tuple[int, ...]) -> None:
    """Oracle: W Wᵀ = scale² I, or Wᵀ W where there are more rows than columns."""
    layer = nn.Conv2d(shape[1], shape[0], 3) if len(shape) == 4 else nn.Linear(shape[1], shape[0])
    assert layer.weight.shape == shape
    initialise(nn.Sequential(layer), 0, "orthogonal", scale=1.5)
    matrix = layer.weight.detach().double().flatten(1)
    gram = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
    torch.testing.assert_close(gram, 1.5**2 * torch.eye(len(gram), dtype=torch.float64), atol=1e-5, rtol=0)
    assert not layer.bias.any()


def test_orthogonal_is_uniform_on_the_rotations_and_reflections() -> None:
    """Of 2x2 matrices, half are reflections; the first entry is cos θ with θ uniform: mean 0, variance 1/2."""
    drawn = []
    for seed in range(400):
        layer = nn.Linear(2, 2)
        initialise(nn.Sequential(layer), seed, "orthogonal")
        drawn.append(layer.weight.detach())
    matrices = torch.stack(drawn).double()
    first = matrices[:, 0, 0]
    assert abs(first.mean()) < 4 * (0.5 / 400) ** 0.5
    assert first.var().item() == pytest.approx(0.5, abs=0.08)
    assert abs((torch.linalg.det(matrices) > 0).double().mean() - 0.5) < 4 * (0.25 / 400) ** 0.5


def test_threads_change_no_bit_and_stay_as_they_were() -> None:
    before, drawn = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            model = two_layers()
            initialise(model, 3, "orthogonal")
            assert torch.get_num_threads() == threads
            drawn.append(model[2].weight)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*drawn)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("init: normal", "study.yaml:4: init: normal has no standard deviation. Fix: init: {name: normal, std: 0.05}"),
        ("init: {name: he, std: 0.1}", "init.std: 0.1 with init.name: he"),
        ("init.std: 0.1", "init.std: 0.1 with init.name: auto"),
        ("init: {name: normal, std: 0}", "init.std: 0 is wrong: it should be greater than 0"),
        ("init: {name: normal, std: true}", "init.std: True is wrong: a number is wanted"),
    ],
)  # fmt: skip
def test_refused(text: str, message: str, write_study: Write, vocabulary: Vocabulary) -> None:
    with pytest.raises(ConfigError) as caught:
        load_study(write_study(MINIMAL + text), [], vocabulary)
    assert len(caught.value.mistakes) == 1
    assert message in str(caught.value)


def test_another_distribution_takes_the_std_away(write_study: Write, vocabulary: Vocabulary) -> None:
    path = write_study(
        MINIMAL + "init: {name: normal, std: 0.1, scale: 2}\nvariants: {a: {}, b: {init: he}}\n"
    )
    variants = load_study(path, [], vocabulary).variants
    assert [(v.init.name, v.init.std, v.init.scale) for v in variants.values()] == [
        ("normal", 0.1, 2.0),
        ("he", None, 2.0),
    ]


def test_the_std_can_be_swept(write_study: Write, vocabulary: Vocabulary) -> None:
    path = write_study(MINIMAL + "init: normal\nsweep: {init.std: [0.01, 1]}\n")
    assert [cell.settings.init.std for cell in load_study(path, [], vocabulary).cells] == [0.01, 1.0]


def test_settings_without_a_std_have_the_identity_of_before(
    write_study: Write, vocabulary: Vocabulary
) -> None:
    (settings,) = load_study(write_study(MINIMAL), [], vocabulary).variants.values()
    assert settings.identity()["init"] == {"name": "auto", "scale": 1.0}
