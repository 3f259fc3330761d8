"""`bnbench.doctor` in Python: the model and the process are as they were, whatever the network does."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

import bnbench
from bnbench.base.errors import BnbenchError, UnknownNameError
from bnbench.network.snapshot import digest


class Restless(nn.Module):
    """Changes itself, draws random numbers, and raises where it is told to."""

    def __init__(self, raises=None):
        super().__init__()
        self.conv, self.norm, self.again = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(4, 2)
        self.raises, self.calls, self.log = raises, 0, []
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        self.log.append(float(x.sum()))
        self.seen.add_(1)
        random.random()
        np.random.rand()
        torch.rand(1)
        y = self.again(self.norm(self.conv(x))).relu()
        if self.raises is not None and self.calls >= self.raises:
            raise RuntimeError("of the network")
        return self.head(self.drop(y.mean((2, 3))))


@pytest.mark.parametrize("raises", [None, 1, 2, 3, 4])
def test_the_model_comes_out_as_it_went_in(raises):
    torch.manual_seed(0)
    model = Restless(raises)
    model.norm.eval()
    model.conv.weight.requires_grad_(False)
    model.head(torch.randn(3, 4)).sum().backward()
    handle = model.norm.register_forward_hook(lambda *_: None)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    before = (
        digest(model),
        list(model.log),
        torch.get_rng_state(),
        random.getstate(),
        str(np.random.get_state()),
    )
    diagnosis = bnbench.doctor(model, inputs="3x8x8", optimizer=optimizer)
    after = (
        digest(model),
        list(model.log),
        torch.get_rng_state(),
        random.getstate(),
        str(np.random.get_state()),
    )
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])
    assert before[3:] == after[3:]
    assert diagnosis.proofs[0].passed
    assert handle.id in model.norm._forward_hooks
    assert not optimizer.state
    assert {one.rule for one in diagnosis.findings} >= {"D04", "D13"}
    if raises is None:
        assert "D07" in {one.rule for one in diagnosis.findings}


def test_what_the_model_can_not_do_is_said():
    diagnosis = bnbench.doctor(Restless(raises=1), inputs="3x8x8")
    assert any("of the network" in text for text in diagnosis.said)
    without = bnbench.doctor(Restless())
    assert {"D06", "D07", "D19", "D20"} <= {one.rule for one in without.idle}


def test_a_network_without_norms_has_no_findings():
    diagnosis = bnbench.doctor(nn.Linear(4, 2), inputs="4")
    assert (diagnosis.sites, diagnosis.findings, diagnosis.passed) == ((), (), True)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"model": 3}, BnbenchError),
        ({"rules": "D99"}, UnknownNameError),
        ({"rules": ["D01", "E01"]}, UnknownNameError),
        ({"inputs": "3 by 8"}, BnbenchError),
        ({"optimizer": 3}, BnbenchError),
        ({"optimizer": []}, BnbenchError),
        ({"plugins": "none.py"}, BnbenchError),
        ({"checkpoint": "none.pt"}, BnbenchError),
        ({"data": 3}, BnbenchError),
    ],
)
def test_bad_arguments(given, error):
    with pytest.raises(error):
        bnbench.doctor(**{"model": Restless(), **given})


def test_the_same_twice():
    torch.manual_seed(1)
    model = Restless()
    one, other = (bnbench.doctor(model, inputs="3x8x8").to_json() for _ in range(2))
    assert one == other
