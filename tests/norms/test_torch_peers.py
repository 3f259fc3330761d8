"""Our layers beside torch's, where code relies on how torch's behave."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from bnbench.norms import BatchNorm1d, BatchNorm2d, BatchNorm3d
from bnbench.norms.fixup import fixup_weights
from bnbench.norms.place import Place
from bnbench.norms.weight_standardization import standardize, standardized

PAIRS = [
    (BatchNorm1d, nn.BatchNorm1d, (6, 5, 4)),
    (BatchNorm2d, nn.BatchNorm2d, (6, 5, 3, 4)),
    (BatchNorm3d, nn.BatchNorm3d, (6, 5, 2, 3, 4)),
]
#: torch's own formulas for forward mode are compiled by torch.jit.script, which warns.
of_torch = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
pairs = pytest.mark.parametrize(("ours", "theirs", "shape"), PAIRS, ids=["1d", "2d", "3d"])


def drawn(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@of_torch
@pairs
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("reading", ["fast", "plain"])
def test_forward_mode_derivatives(
    ours: type[nn.Module], theirs: type[nn.Module], shape: tuple[int, ...], training: bool, reading: str
) -> None:
    """jvp by forward_ad; the oracle is torch's layer, which has a formula of its own for it."""
    x, tangent = drawn(shape), drawn(shape, 1)
    seen = []
    for layer in (ours(5, reading=reading), theirs(5)):
        layer.train(training)
        with forward_ad.dual_level():
            dual = layer(forward_ad.make_dual(x, tangent))
            seen.append([part.detach().clone() for part in forward_ad.unpack_dual(dual)])
        seen[-1] += [buffer.clone() for buffer in layer.buffers()]
    for mine, peer in zip(*seen, strict=True):
        torch.testing.assert_close(mine, peer, rtol=1e-4, atol=1e-5)


@of_torch
def test_forward_over_reverse() -> None:
    """A Hessian by torch.func, which differentiates the backward pass forward."""
    x = drawn((6, 5, 4)).double()
    hessians = []
    options = {"track_running_stats": False, "dtype": torch.float64}
    for layer in (BatchNorm1d(5, **options), nn.BatchNorm1d(5, **options)):  # type: ignore[arg-type]

        def loss(weight: Tensor, layer: nn.Module = layer) -> Tensor:
            out: Tensor = torch.func.functional_call(layer, {"weight": weight}, (x,))
            return out.pow(3).sum()

        hessians.append(torch.func.hessian(loss)(torch.full((5,), 1.5, dtype=torch.float64)))
    torch.testing.assert_close(*hessians)


@pairs
@pytest.mark.parametrize("training", [True, False])
def test_the_output_lies_in_memory_as_torch_s_does(
    ours: type[nn.Module], theirs: type[nn.Module], shape: tuple[int, ...], training: bool
) -> None:
    x = drawn(shape)
    swapped = x.transpose(0, 1).contiguous().transpose(0, 1)
    spaced = drawn((*shape[:-1], 2 * shape[-1]))[..., ::2]
    layouts = [x, swapped, spaced, x[:1].expand(shape)]
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    if x.dim() in formats:
        layouts.append(x.to(memory_format=formats[x.dim()]))
    for layout in layouts:
        mine, peer = ours(5).train(training)(layout), theirs(5).train(training)(layout)
        assert mine.stride() == peer.stride()
        torch.testing.assert_close(mine, peer, rtol=1e-4, atol=1e-5)


def test_a_view_of_the_output_for_a_transposed_input() -> None:
    """(N, L, C) -> (N, C, L) by transpose, then .view: works with torch's layer."""
    x = drawn((6, 4, 5)).transpose(1, 2)
    assert BatchNorm1d(5)(x).view(6, -1).shape == nn.BatchNorm1d(5)(x).view(6, -1).shape


@pytest.mark.parametrize("reading", ["fast", "plain"])
def test_vmap_over_one_running_mean_is_refused_with_the_fix(reading: str) -> None:
    with pytest.raises(RuntimeError, match="stack_module_state"):
        torch.vmap(BatchNorm1d(5, reading=reading))(drawn((3, 6, 5)))


def test_replace_all_batch_norm_modules_does_what_it_does_to_torch_s() -> None:
    outputs = []
    for layer in (BatchNorm2d(5), nn.BatchNorm2d(5)):
        net = torch.func.replace_all_batch_norm_modules_(nn.Sequential(layer))
        assert net[0].running_mean is None
        assert not net[0].track_running_stats
        outputs.append(torch.vmap(net)(drawn((3, 6, 5, 2, 2))))
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)


CONVOLUTIONS = [
    {"groups": 4},
    {"dilation": 2},
    {"groups": 2, "dilation": (1, 2), "stride": 2, "padding": "valid"},
    {"padding": 1, "padding_mode": "reflect"},
    {"padding": "same", "dilation": 2},
]


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_a_standardized_convolution_keeps_what_the_layer_before_had(options: dict[str, object]) -> None:
    conv = nn.Conv2d(4, 8, 3, **options)  # type: ignore[arg-type]
    layer = standardized(conv, Place())
    layer.load_state_dict(conv.state_dict())
    with torch.no_grad():
        conv.weight.copy_(standardize(conv.weight))
    x = drawn((2, 4, 9, 9))
    torch.testing.assert_close(layer(x), conv(x))


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_a_fixup_convolution_keeps_what_the_layer_before_had(options: dict[str, object]) -> None:
    conv = nn.Conv2d(4, 8, 3, bias=False, **options)  # type: ignore[arg-type]
    layer = fixup_weights(conv, Place())
    layer.load_state_dict({**conv.state_dict(), "input_shift": torch.full((1,), 0.5)})
    x = drawn((2, 4, 9, 9))
    torch.testing.assert_close(layer(x), conv(x + 0.5))
