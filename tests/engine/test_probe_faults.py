"""Probes that a study's networks or the length of its runs do not allow: mistakes before training, with their lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bnbench
from bnbench.base.probe_quantities import NUMBERS, SERIES, numbers_of
from bnbench.base.registry import Entry
from bnbench.engine.library import Library
from bnbench.engine.rehearsal.rehearse import rehearse
from bnbench.models import ModelFacts, models
from bnbench.models.layers import NormLayer
from bnbench.study import Vocabulary, load_study
from bnbench.study.plan import make_plan
from bnbench.study.probed_claims import claim_faults, way_faults
from tests.engine.test_rehearsal import BASE, CPU, messages, rehearsed

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


def test_layers_and_steps_of_claims_that_are_not_there(vocabulary: Vocabulary, tmp_path: Path) -> None:
    """2 epochs of 128 samples in batches of 32 are 8 steps; the cheap measures look at 0, 4 and the last."""
    claims = {
        "pre_std, 9, last": 'there is no layer "9". Known: blocks.0, blocks.1, head; the numbers 1, 2, 3; last, mean.',
        "pre_std, blocks.7, 0": 'there is no layer "blocks.7". Did you mean "blocks.1"?',
        "pre_std, 1, 3": "the probe does not look at step 3, but at 0, 4, 8. Fix: probe: {at: [3]}",
        "pre_std, last, 9": "a run has 8 steps. Fix: the step 8, or last.",
        "pre_std, head, 4": "",
        "pre_std, mean, last": "",
    }
    lines = "".join(f"  - batch.probe({which}) > 0\n" for which in claims)
    (tmp_path / "s.yaml").write_text(
        f"{BASE}{BOTH}seeds: 3\nepochs: 2\nprobe: {{at: [0, 4], what: [activations]}}\nexpect:\n{lines}".replace(
            "seeds: 2\n", "", 1
        )
    )
    study = load_study(tmp_path / "s.yaml", [], vocabulary)
    rehearsal = rehearse(make_plan(study, lambda settings: ""), Library(tmp_path, CPU), CPU)
    found = [str(mistake).partition("s.yaml:")[2] for mistake in claim_faults(study, rehearsal.looked)]
    wrong = [(line, which, text) for line, (which, text) in enumerate(claims.items(), 10) if text]
    assert len(found) == len(wrong)
    for said, (line, which, text) in zip(found, wrong, strict=True):
        assert said.startswith(f"{line}: expect: 'batch.probe({which}) > 0': batch.probe({which}): {text}")


def test_ways_of_inference_of_claims_that_no_network_has(vocabulary: Vocabulary, tmp_path: Path) -> None:
    """norm none has no running statistics; batch has: its line is there, and known under that name."""
    claims = "  - none@precise.test_accuracy - none.test_accuracy > 0\n  - batch@precise.test_accuracy > 0\n"
    text = f"{BASE}{BOTH}seeds: 3\nevaluate: [running, precise]\nexpect:\n{claims}"
    (tmp_path / "s.yaml").write_text(text.replace("seeds: 2\n", "", 1))
    study = load_study(tmp_path / "s.yaml", [], vocabulary)
    rehearsal = rehearse(make_plan(study, lambda settings: ""), Library(tmp_path, CPU), CPU)
    assert rehearsal.lines == ("batch@precise",)
    (mistake,) = way_faults(study, rehearsal.lines)
    assert "none@precise.test_accuracy: the network of none has no running statistics" in str(mistake)


@pytest.mark.slow
def test_the_names_of_what_measures_give(vocabulary: Vocabulary, tmp_path: Path) -> None:
    """The rows of a run with every measure hold no name that the table of quantities lacks, nor lack one."""
    study = (
        f"{BASE}model: {{name: mlp, hidden: [8, 8]}}\nepochs: 1\n"
        "variants: {none: {}, batch: {norm: batch, model.activation: tanh}}\n"
        f"probe: {{at: [0], what: [{', '.join(NUMBERS)}]}}\n"
    )
    (tmp_path / "s.yaml").write_text(study)
    done = bnbench.compare(tmp_path / "s.yaml", output=tmp_path / "out")
    given = {row["quantity"] for row in done.probes} - {"depth", "hidden"}
    assert given - SERIES == set(numbers_of(NUMBERS))


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
