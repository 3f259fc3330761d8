"""Every registered model, with every registered normalizer: a new one is tested by existing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bnbench.base.errors import BnbenchError
from bnbench.data import Sizes
from bnbench.models import models
from bnbench.models.layers import NormLayer
from bnbench.norms import norms

#: Models of sequences are made for these: 9 letters of an alphabet of 12, and a class of each text.
TEXT = Sizes((9,), 10, vocabulary=12)

SHAPES = {"mlp": [(1, 8, 8), (3, 32, 32)], "cnn1d": [(40, 1, 1), (1, 1, 40), (2, 40, 1), (3, 8, 8)]}
SHAPES_OF_IMAGES = [(1, 8, 8), (1, 28, 28), (3, 32, 32)]

#: Names of one setting of `resnet` and `vgg`, which are tried with every normalizer themselves.
NAMES_OF_SETTINGS = {"resnet20", "resnet56", "vgg11"}
#: Models that give an output a class; those of other tasks are tested beside their task.
CLASSIFIERS = [
    entry.name
    for entry in models.entries()
    if not entry.facts.whole
    and (not entry.facts.tasks or any(task.endswith("classification") for task in entry.facts.tasks))
]


def classifies(task: str) -> list[str]:
    """The models that give a class of a sample of this task."""
    own = (entry for entry in models.entries() if not entry.facts.whole)
    return [entry.name for entry in own if not entry.facts.tasks or task in entry.facts.tasks]


OF_IMAGES, OF_TEXTS = classifies("image_classification"), classifies("text_classification")
OF_TEXTS = [name for name in OF_TEXTS if name not in OF_IMAGES]
MODELS = [
    pytest.param(name, marks=pytest.mark.slow) if name in NAMES_OF_SETTINGS else name
    for name in (*OF_IMAGES, *OF_TEXTS)
]


def build(model: str, shape: tuple[int, int, int], norm: str, **options: Any) -> nn.Module:
    factory = models.get(model).factory
    arguments = (shape, 10) if model in OF_IMAGES else (TEXT,)
    try:
        built = factory(*arguments, NormLayer(norms.get(norm)), **options)
    except BnbenchError as error:
        pytest.skip(f"{norm} refuses {model}: {error.what}")
    assert isinstance(built, nn.Module)
    return built


@pytest.mark.parametrize("norm", norms.names())
@pytest.mark.parametrize("name", MODELS)
def test_training_changes_every_parameter_and_the_logits_have_their_shape(name: str, norm: str) -> None:
    """In one step, or in two where a residual branch starts at zero and lets no gradient through."""
    torch.manual_seed(0)
    shape = (1, 32, 32) if name in ("vgg", "vgg11") else (1, 8, 8)  # instance norm refuses maps of one pixel
    model = build(name, shape, norm)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(2 if norm == "skipinit" else 1):
        inputs = torch.randn(6, *shape) if name in OF_IMAGES else torch.randint(12, (6, 9))
        logits = model(inputs)
        assert logits.shape == (6, 10)
        # four classes several times, so that the softmax gradient is nowhere zero by symmetry
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 3, 3, 0])).backward()
        for parameter in model.parameters():
            assert parameter.grad is not None
            assert parameter.grad.isfinite().all()
        optimizer.step()
    changed = [not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)]
    assert all(changed), [
        name for (name, _), moved in zip(model.named_parameters(), changed, strict=True) if not moved
    ]


@pytest.mark.parametrize("name", OF_IMAGES)
def test_it_takes_the_image_sizes_that_it_promises(name: str) -> None:
    for shape in SHAPES.get(name, SHAPES_OF_IMAGES):
        model = build(name, shape, "batch")
        assert model(torch.zeros(2, *shape)).shape == (2, 10)


@pytest.mark.parametrize("name", [name for name in OF_IMAGES if name != "vit"])
def test_fairness_no_bias_where_the_norm_absorbs_it_and_a_bias_where_there_is_none(name: str) -> None:
    """Batch norm trades every bias before it for its beta, and adds a gamma: one vector more a layer, no less."""
    none, batch = build(name, (1, 8, 8), "none"), build(name, (1, 8, 8), "batch")
    weights = [module for module in none.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    assert all(module.bias is not None for module in weights)
    normalised = [module for module in batch.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    biased = [
        module
        for module in batch.modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None
    ]
    assert [type(module) for module in biased] == [nn.Linear]  # the head alone
    assert len(normalised) == len(weights) - 1
    gammas = sum(module.num_features for module in normalised)
    assert count(batch) == count(none) + gammas


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "options", "shape", "parameters"),
    [
        # 784*64 weights, 2*64 of batch norm, 64*10+10
        ("mlp", {}, (1, 28, 28), 784 * 64 + 2 * 64 + 64 * 10 + 10),
        ("mlp", {"hidden": 32, "depth": 3}, (1, 8, 8), 64 * 32 + 2 * 32 * 32 + 3 * 2 * 32 + 32 * 10 + 10),
        # He et al. 2015, table 6: 0.27 and 0.85 million
        ("resnet20", {}, (3, 32, 32), 269_722),
        ("resnet56", {}, (3, 32, 32), 853_018),
        # and 1.7 million
        ("resnet", {"depth": 110}, (3, 32, 32), 1_727_962),
        # one block a stage of 4, 8 and 16 channels; 3x3 weights, gamma and beta
        ("resnet", {"depth": 8, "width": 4}, (1, 8, 8), 44 + 304 + 896 + 3_520 + 170),
        # the sum over Simonyan & Zisserman's configuration A, with batch norm and one Linear(512, 10)
        ("vgg11", {}, (3, 32, 32), 9_225_610 + 5_504 - 2_752),
        # Greydanus & Kobak's network has 5,210 parameters; three gammas of 25 come to it
        ("cnn1d", {}, (1, 1, 40), 5_210 + 3 * 25),
    ],
)
def test_parameter_counts_of_the_papers(
    name: str, options: dict[str, Any], shape: tuple[int, int, int], parameters: int
) -> None:
    assert count(build(name, shape, "batch", **options)) == parameters


@pytest.mark.parametrize(
    ("short", "name", "options"),
    [
        ("resnet20", "resnet", {"depth": 20}),
        ("resnet56", "resnet", {"depth": 56, "width": 16}),
        ("vgg11", "vgg", {"width": 64}),
    ],
)
def test_a_name_is_the_same_network_as_its_numbers(short: str, name: str, options: dict[str, Any]) -> None:
    one, other = build(short, (1, 8, 8), "batch"), build(name, (1, 8, 8), "batch", **options)
    assert list(one.state_dict()) == list(other.state_dict())
    assert str(one) == str(other)


def test_cnn1d_is_torchs_convolutions_along_the_sequence() -> None:
    """Oracle: the network of Greydanus & Kobak written with torch.nn.Conv1d, in float64."""
    torch.manual_seed(0)
    ours = build("cnn1d", (40, 1, 1), "none").double()
    weights = list(ours.parameters())
    x = torch.randn(5, 40, dtype=torch.float64)
    y = x[:, None]
    for weight, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        y = nn.functional.conv1d(y, weight[..., 0], bias, stride=2, padding=1).relu()
    expected = y.flatten(1) @ weights[-2].T + weights[-1]
    for shape in ((5, 40, 1, 1), (5, 1, 1, 40), (5, 1, 40, 1), (5, 1, 8, 5)):
        torch.testing.assert_close(ours(x.reshape(shape)), expected)


def test_cnn1d_needs_a_sequence() -> None:
    with pytest.raises(BnbenchError, match="at least 3 values, and these have 2"):
        models.get("cnn1d").factory((2, 1, 1), 10, NormLayer(norms.get("none")))
