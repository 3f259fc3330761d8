"""Padding in whole networks: outputs and what training keeps, with more padding. Oracle: the same batch without it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnbench.data import Sizes
from bnbench.models import models
from bnbench.models.layers import NormLayer
from bnbench.norms import norms

WORDS, LENGTH, CLASSES = 11, 14, 3
OPTIONS: dict[str, dict[str, Any]] = {
    "textcnn": {"width": 8, "channels": 8, "kernels": [3, 4]},
    "transformer": {"width": 8, "heads": 2, "depth": 1},
}


def network(model: str, norm: str) -> nn.Module:
    sizes = Sizes((LENGTH,), CLASSES, vocabulary=WORDS, masked=True)
    torch.manual_seed(0)
    made = models.get(model).factory(sizes, NormLayer(norms.get(norm)), **OPTIONS[model])
    assert isinstance(made, nn.Module)
    return made.double()


def texts() -> Tensor:
    """Of 9, 4, 1 and 6 tokens."""
    tokens = torch.randint(1, WORDS, (4, 9), generator=torch.Generator().manual_seed(0))
    return torch.where(torch.arange(9) < torch.tensor([9, 4, 1, 6])[:, None], tokens, 0)


def change(model: str, norm: str) -> tuple[float, float]:
    """The largest change of an output and of a running statistic where padding is added, after a step of training."""
    plain = network(model, norm)
    more, given = copy.deepcopy(plain), texts()
    with torch.no_grad():
        y = plain(given), plain.eval()(given)
        padded = nn.functional.pad(given, (0, LENGTH - 9))
        padded = torch.cat([padded, torch.zeros(3, LENGTH, dtype=padded.dtype)])
        z = more(padded)[:4], more.eval()(padded)[:4]
    outputs = max(float((a - b).abs().max()) for a, b in zip(y, z, strict=True))
    kept = [float((a - b).abs().max()) for a, b in zip(plain.buffers(), more.buffers(), strict=True)]
    return outputs, max(kept, default=0.0)


@pytest.mark.parametrize("model", OPTIONS)
@pytest.mark.parametrize("norm", ["masked_batch", "power", "layer", "rms", "dyt", "none"])
def test_padding_changes_nothing_where_the_normalizer_leaves_it_out(model: str, norm: str) -> None:
    assert max(change(model, norm)) < 1e-12


@pytest.mark.parametrize("model", OPTIONS)
def test_padding_changes_a_network_with_batch_norm(model: str) -> None:
    outputs, kept = change(model, "batch")
    assert outputs > 1e-3
    assert kept > 1e-3
