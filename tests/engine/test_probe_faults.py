"""Probes that a study's networks or the length of its runs do not allow: mistakes before training, with their lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnbench.base.registry import Entry
from bnbench.models import ModelFacts, models
from bnbench.models.layers import NormLayer
from bnbench.study import Vocabulary
from tests.engine.test_rehearsal import messages, rehearsed

BOTH = "model: {name: mlp, hidden: [8, 8]}\nvariants: [none, batch]\n"


def test_steps_samples_and_layers_that_are_not_there(vocabulary: Vocabulary, tmp_path: Path) -> None:
    found = messages(
        rehearsed(
            f"{BOTH}epochs: 2\nprobe:\n  at: [0, 8, 9]\n  samples: 129\n  layers: [1, blocks.7]\n",
            vocabulary,
            tmp_path,
        )
    )
    assert [message.partition("s.yaml:")[2] for message in found] == [
        "9: probe.at: 9: a run of none, batch has 8 steps. Fix: at: [0, 8], where 8 is the end, or longer runs.",
        "10: probe.samples: 129: the training part of none, batch has 128 samples. Fix: samples: 128, or fewer.",
        "11: probe.layers: 'blocks.7' is no layer of the network. Known: blocks.0, blocks.1, head; last, head, and "
        "the numbers 1 to 3, as in none, batch. Fix: probe.layers: [last].",
    ]


@pytest.mark.parametrize(
    "probe",
    [
        "true",
        "{at: [0, 8]}",
        "{layers: [1, last, head]}",
        "{layers: blocks.1}",
        "{samples: 128}",
        "{every: 1000}",
    ],
)
def test_what_is_there_is_no_mistake(probe: str, vocabulary: Vocabulary, tmp_path: Path) -> None:
    assert not messages(rehearsed(f"{BOTH}epochs: 2\nprobe: {probe}\n", vocabulary, tmp_path))


def test_variants_of_two_models_have_a_layer_in_common(vocabulary: Vocabulary, tmp_path: Path) -> None:
    text = "model: mlp\nprobe: true\nvariants: {a: {}, b: {model.hidden: [8, 8]}, c: {model: resnet20}}\n"
    assert not messages(rehearsed(text, vocabulary, tmp_path))


class Shifting(nn.Sequential):
    """Names that count the layers, so that a norm moves them."""

    def __init__(self, norm: NormLayer, classes: int) -> None:
        between = [] if norm.entry.name == "none" else [norm(8, 1)]
        super().__init__(nn.Flatten(), nn.Linear(64, 8), *between, nn.ReLU(), nn.Linear(8, classes))


class NoLayers(nn.Module):
    """Weights that no layer has."""

    def __init__(self, norm: NormLayer, classes: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(64, classes))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.w


class NoCopy(nn.Module):
    """A tensor with a history as an attribute: deepcopy refuses it."""

    def __init__(self, norm: NormLayer, classes: int) -> None:
        super().__init__()
        self.out = nn.Linear(64, classes)
        self.kept = self.out.weight * 2

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.out(x.flatten(1))
        return result


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (
            Shifting,
            "8: probe: the network own has no layers that correspond: none has 1, 3, and batch has 1, 4. Fix: names of "
            "layers that do not depend on the norm, such as self.fc1 = nn.Linear(...), or probe: false.",
        ),
        (
            NoLayers,
            "8: probe: the network own of none, batch has no layers that correspond: it has no linear",
        ),
        (
            NoCopy,
            "8: probe: the network own of none, batch can't be copied: RuntimeError: Only Tensors created",
        ),
    ],
)
def test_networks_without_corresponding_layers(
    network: Any, said: str, vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def own(input_shape: Any, num_classes: int, norm: NormLayer) -> nn.Module:
        made: nn.Module = network(norm, num_classes)
        return made

    models.names()
    entry = Entry("own", own, ModelFacts())
    monkeypatch.setitem(models._entries, "own", entry)
    known = {**vocabulary, "model": {**vocabulary["model"], "own": entry}}
    found = messages(
        rehearsed("model: own\nvariants: [none, batch]\nepochs: 1\nprobe: true\n", known, tmp_path)
    )
    (message,) = [message.partition("s.yaml:")[2] for message in found]
    assert message.startswith(said)
    assert not messages(rehearsed("model: own\nvariants: [none, batch]\nepochs: 1\n", known, tmp_path))
