"""`--train-the-difference`: each cure changes what it says and nothing else; a trained study pairs the two variants."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import bnbench
from bnbench.base.errors import BnbenchError
from bnbench.base.network_records import Finding
from bnbench.network.doctor.cures import NO_STUDY, Cure, cure_of
from bnbench.network.doctor.rules import rules
from bnbench.network.sites.find import find_norm_sites
from bnbench.network.snapshot import digest


def finding(rule: str, place: str, **other: Any) -> Finding:
    values = {
        "evidence": 2.0,
        "measure": "",
        "message": "",
        "cost": "",
        "fix": "",
        "severity": "warning",
        **other,
    }
    return Finding(rule=rule, place=place, **values)


def inputs(samples: int) -> Tensor:
    return torch.randn(samples, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def net(*middle: nn.Module, norm: nn.Module | None = None) -> nn.Sequential:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3),
            norm or nn.BatchNorm2d(8),
            nn.ReLU(),
            *middle,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 4),
        )


def cured(model: nn.Module, rule: str, place: str, **other: Any) -> tuple[Cure, nn.Module]:
    sites = find_norm_sites(model, inputs)
    cure = cure_of(finding(rule, place, **other), sites, model)
    assert isinstance(cure, Cure), cure
    assert cure.mend is not None
    return cure, cure.mend(model)


def test_d06_takes_the_bias_out_and_nothing_else() -> None:
    """Oracle: in training a bias before batch norm cancels, so that the outputs are equal."""
    model = net().double()
    before, whole = model(inputs(16).double()), sum(p.numel() for p in model.parameters())
    cure, mended = cured(model, "D06", "1")
    assert sum(p.numel() for p in mended.parameters()) == whole - 8
    assert torch.allclose(mended(inputs(16).double()), before, atol=1e-12)
    assert cure.text == "0 without its bias"


def test_d07_takes_the_second_norm_out() -> None:
    _, mended = cured(net(nn.GroupNorm(2, 8)), "D07", "3")
    assert isinstance(mended[3], nn.Identity)


@pytest.mark.parametrize(
    ("rule", "options", "name", "value"),
    [
        ("D10", {"momentum": 0.9}, "momentum", 0.1),
        ("D11", {"momentum": None}, "momentum", 0.1),
        ("D12", {"eps": 0.1}, "eps", 1e-5),
    ],
)
def test_d10_to_d12_set_the_usual_value(rule: str, options: dict[str, Any], name: str, value: float) -> None:
    _, mended = cured(net(norm=nn.BatchNorm2d(8, **options)), rule, "1")
    assert getattr(mended[1], name) == value
    model = net()
    text = cure_of(finding(rule, "1"), find_norm_sites(model, inputs), model)
    assert text == f"{name} is {value:g} already"


def test_d15_logits_in_place_of_probabilities() -> None:
    """Oracle: the cross-entropy of the logits themselves."""
    plain, model = net(), nn.Sequential(*net(), nn.Softmax(1))
    _, mended = cured(model, "D15", "")
    labels = torch.arange(16) % 4
    losses = [functional.cross_entropy(network(inputs(16)), labels).item() for network in (plain, mended)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    _, mended = cured(nn.Sequential(*net(), nn.Sigmoid()), "D15", "", message="ends in a sigmoid")
    assert torch.allclose(mended(inputs(4)), plain(inputs(4)), atol=1e-4)


def test_d16_moves_the_dropout_behind_the_norms() -> None:
    model = net(nn.Dropout(0.3), nn.BatchNorm2d(8))
    cure, mended = cured(model, "D16", "4", fix="move Dropout 3 behind the last normalization")
    assert isinstance(mended[3], nn.Identity)
    assert mended[7].dropout.p == 0.3
    assert "dropout of 0.3 before 7" in cure.text
    mended.eval()
    assert torch.equal(mended(inputs(4)), net(nn.Dropout(0.3), nn.BatchNorm2d(8)).eval()(inputs(4)))


def test_d17_and_d19_give_groups_enough_values() -> None:
    _, mended = cured(net(), "D17", "1")
    assert isinstance(mended[1], nn.GroupNorm)
    assert 8 // mended[1].num_groups * 36 >= 16
    deep = nn.Sequential(nn.Linear(6, 32), nn.GroupNorm(32, 32), nn.Linear(32, 2))
    vectors = find_norm_sites(deep, lambda samples: torch.ones(samples, 6))
    cure = cure_of(finding("D19", "1"), vectors, deep)
    assert isinstance(cure, Cure)
    assert cure.text == "nn.GroupNorm(2, 32) in place of 1"  # 16 values a group


def test_d05_and_d26() -> None:
    shared = nn.BatchNorm2d(8)
    model = net(nn.Conv2d(8, 8, 1), shared, norm=shared)
    _, mended = cured(model, "D05", "1")
    assert mended[1] is not mended[4]
    _, mended = cured(net(), "D26", "1", evidence=2)
    assert mended[1].momentum == pytest.approx(1 - math.sqrt(0.9))


def test_every_rule_has_a_study_or_a_reason() -> None:
    model = net()
    sites = find_norm_sites(model, inputs)
    for entry in rules.entries():
        if entry.plugin:
            continue
        outcome = cure_of(finding(entry.name, "1"), sites, model)
        assert outcome != "no study is known for this rule", entry.name
        if entry.name in NO_STUDY:
            assert outcome == NO_STUDY[entry.name]


def test_there_is_a_study_to_train_on() -> None:
    model = net(nn.Dropout(0.5), nn.BatchNorm2d(8))
    with pytest.raises(BnbenchError, match="no study to train on"):
        bnbench.doctor(model, inputs="3x8x8", train_the_difference=True)


FILE = """
from torch import nn


class Net(nn.Module):
    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.norm = nn.BatchNorm1d(64, momentum=0.9)
        self.head = nn.Linear(64, num_classes)

    def forward(self, x):
        return self.head(self.norm(x.flatten(1)))
"""


@pytest.mark.slow
def test_a_trained_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(FILE)
    diagnosis = bnbench.doctor(
        "net.py:Net",
        data="quickstart",
        rules="D10",
        overrides=["seeds=2", "steps=20", "max_train_samples=200"],
        train_the_difference="D10",
    )
    assert [found.rule for found in diagnosis.findings] == ["D10"]
    difference = diagnosis.details["difference"]
    assert (difference["rule"], difference["place"], difference["fix"]) == (
        "D10",
        "norm",
        "momentum 0.1 in norm",
    )
    (verdict,) = difference["verdicts"]
    assert verdict["sentence"].startswith("fixed against as_found")
    comparison = bnbench.load(difference["folder"])
    runs = {(run["variant"], run["seed"]): run for run in comparison.runs}
    assert len(runs) == 4
    # paired: before the first step both are the same network
    start = {
        key: row["val_loss"]
        for row in comparison.history
        for key in [(row["variant"], row["seed"])]
        if row["step"] == 0
    }
    for seed in (0, 1):
        assert start["as_found", seed] == start["fixed", seed]
    assert start["fixed", 0] != start["fixed", 1]
    with pytest.raises(BnbenchError, match="D16: this rule found nothing"):
        bnbench.doctor("net.py:Net", data="quickstart", rules="D10", train_the_difference="D16")
    assert json.loads(json.dumps(difference)) == difference


@pytest.mark.slow
def test_a_module_is_trained_from_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64, momentum=0.9), nn.Linear(64, 10))
    before = digest(model)
    options: dict[str, Any] = {"data": "quickstart", "rules": "D10", "train_the_difference": True}
    few = ["seeds=2", "steps=5", "max_train_samples=200"]
    folders = [
        bnbench.doctor(model, **options, overrides=few).details["difference"]["folder"] for _ in range(2)
    ]
    assert digest(model) == before
    assert folders[0] == folders[1]  # the same runs, which are there already
    history = [row for row in bnbench.load(folders[0]).history if row["step"] == 0]
    assert len({row["val_loss"] for row in history}) == 1
