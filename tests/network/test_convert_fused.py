"""Layers of torch with a fused kernel. Oracle: the same network with gradients on, where torch calls every module."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import bnbench

NETWORK = """
from torch import nn

def encoder():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return nn.TransformerEncoder(layer, 1)
"""


def encoder() -> nn.Module:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("to", ["none", "batch", "rms", "layer"])
def test_inference_without_gradients_calls_the_new_norms(to: str) -> None:
    model = bnbench.convert(encoder(), to, source="all", inputs=(4, 8)).model.eval()
    x, padding = torch.randn(3, 4, 8), torch.arange(4).expand(3, 4) >= 3
    for arguments in ({}, {"src_key_padding_mask": padding}):
        with torch.no_grad():
            fused = model(x, **arguments)[:, :3]
        torch.testing.assert_close(fused, model(x, **arguments)[:, :3], rtol=0, atol=1e-5)


def test_a_rebuilt_network_calls_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NETWORK)
    conversion = bnbench.convert("net.py:encoder", "batch", source="all", inputs=(4, 8))
    conversion.save("saved")
    model, x = bnbench.rebuild("net.py:encoder", "saved").eval(), torch.randn(3, 4, 8)
    with torch.no_grad():
        fused = model(x)
    torch.testing.assert_close(fused, model(x), rtol=0, atol=1e-5)


def test_attention_is_no_activation_that_a_norm_takes_the_place_of() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
    changed = bnbench.convert(layer, "evonorm_s0", source="all", inputs=(4, 8)).model
    assert isinstance(changed.self_attn, nn.MultiheadAttention)
    assert changed(torch.randn(2, 4, 8)).shape == (2, 4, 8)


@pytest.mark.parametrize("follower", [nn.Softmax(1), nn.LogSoftmax(1)])
def test_what_is_not_value_by_value_is_not_taken_out(follower: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), follower)
    conversion = bnbench.convert(model, "evonorm_s0", inputs=(4,))
    assert type(conversion.model[2]) is type(follower)
