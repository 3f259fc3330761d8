"""DCGAN with every normalizer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bnbench.base.errors import BnbenchError
from bnbench.models import models
from bnbench.models.layers import NormLayer
from bnbench.norms import norms

#: What it refuses, by a word of the reason.
REFUSED = {
    "fixup": "transposed convolutions",
    "qk": "queries and keys",
    "scaled_weight_standardization": "transposed convolutions",
    "skipinit": "residual",
    "weight_standardization": "transposed convolutions",
}


def build(name: str) -> nn.Module:
    entry = models.get("dcgan")
    built: nn.Module = entry.factory((1, 8, 8), 5, NormLayer(norms.get(name)), **entry.typed({"width": 4}))
    return built


@pytest.mark.parametrize("name", [name for name in norms.names() if name not in REFUSED])
def test_both_networks_train_with_every_normalizer(name: str) -> None:
    torch.manual_seed(0)
    model = build(name)
    outputs = model.train()(torch.randn(6, 64 + 5))
    assert outputs.shape == (6, 3 + 64)
    (outputs[:, :2].sum() + outputs[:, 2].square().sum()).backward()
    gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
    assert not [key for key, grad in gradients.items() if grad is None or not grad.isfinite().all()]


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_can_not_have_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(BnbenchError, match=REFUSED[name]):
        build(name)
