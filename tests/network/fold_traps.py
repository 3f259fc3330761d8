"""Networks on which folding goes wrong, or is missed: what `fold` should do with each norm, and why.

Each trap is drawn from a public report or from the edge list of a rival: reused convolutions (pytorch#197539),
BatchNorm1d over (N, C, L) with C = L (executorch#17736), transposed convolutions with groups (pytorch#180995), the axis
of their weights (ultralytics#25364), tied and parametrized weights, hooks, padding before and after.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, spectral_norm
from torchvision.ops import FrozenBatchNorm2d

from bnbench import BatchNorm2d
from tests.network.fold_layers import (
    Attention,
    BatchNormAct,
    Doubling,
    Net,
    OwnRMSNorm,
    PaddingConv,
    StandardizedConv,
    randomised,
    shuffled,
)

#: (N, C, H, W) without N, where a trap says nothing else.
IMAGE = (4, 6, 6)


@dataclass(frozen=True)
class Expected:
    """action: folded, left or refused. side: of the layers. into: their names. reason: words that stand in it."""

    action: str
    side: str = ""
    into: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Trap:
    """build: a network with random statistics, in the mode in which it is folded. pair: the two modules, before and
    after, that somebody who folds by hand would name."""

    name: str
    build: Callable[[], nn.Module]
    expected: Mapping[str, Expected]
    shape: tuple[int, ...] = IMAGE
    pair: tuple[str, str] = ("conv", "norm")


TRAPS: dict[str, Trap] = {}


def trap(
    *, shape: tuple[int, ...] = IMAGE, pair: tuple[str, str] = ("conv", "norm"), **expected: Expected
) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Register a network under the name of its function, with what is expected of each norm ("_" for a dot)."""

    def register(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        def build() -> nn.Module:
            torch.manual_seed(0)
            return make()

        name = make.__name__
        named = {key.replace("__", "."): value for key, value in expected.items()}
        TRAPS[name] = Trap(name, build, named, shape, pair)
        return make

    return register


def before(*layers: str) -> Expected:
    return Expected("folded", "before", layers or ("conv",))


def after(*layers: str) -> Expected:
    return Expected("folded", "after", layers or ("conv",))


def left(reason: str) -> Expected:
    return Expected("left", reason=reason)


def refused(reason: str) -> Expected:
    return Expected("refused", reason=reason)


def two(
    first: nn.Module, second: nn.Module, *, norm_first: bool = False, inference: bool = True
) -> nn.Module:
    """A chain of a layer and a norm."""
    names = ("norm", "conv") if norm_first else ("conv", "norm")
    a, b = names
    net = Net(lambda net, x: getattr(net, b)(getattr(net, a)(x)), **{a: first, b: second})
    return randomised(net).eval() if inference else randomised(net)


# --- before: the norm reads the layer's output


@trap(norm=before())
def convolution() -> nn.Module:
    return two(nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6))


@trap(norm=before())
def convolution_with_bias() -> nn.Module:
    return two(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6))


@trap(norm=before(), shape=(4, 9))
def one_dimension() -> nn.Module:
    return two(nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6))


@trap(norm=before(), shape=(2, 4, 5, 6))
def three_dimensions() -> nn.Module:
    return two(nn.Conv3d(2, 4, 3, padding=1), nn.BatchNorm3d(4))


@trap(norm=before())
def groups() -> nn.Module:
    return two(nn.Conv2d(4, 8, 3, groups=2, bias=False), nn.BatchNorm2d(8))


@trap(norm=before())
def depthwise_dilated_strided() -> nn.Module:
    return two(nn.Conv2d(4, 8, 2, stride=2, dilation=2, groups=4, padding=1), nn.BatchNorm2d(8))


@trap(norm=before())
def transposed() -> nn.Module:
    return two(nn.ConvTranspose2d(4, 6, 3, stride=2, bias=False), nn.BatchNorm2d(6))


@trap(norm=before())
def transposed_square() -> nn.Module:
    """As many channels in as out: the wrong axis of the weight raises nothing."""
    return two(nn.ConvTranspose2d(4, 4, 3, stride=2, output_padding=1), nn.BatchNorm2d(4))


@trap(norm=before())
def transposed_groups() -> nn.Module:
    return two(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6))


@trap(norm=before(), shape=(2, 4, 4, 4))
def transposed_three_dimensions() -> nn.Module:
    return two(nn.ConvTranspose3d(2, 4, 2, stride=2), nn.BatchNorm3d(4))


@trap(norm=before(), shape=(5,))
def linear() -> nn.Module:
    return two(nn.Linear(5, 7, bias=False), nn.BatchNorm1d(7))


@trap(norm=before())
def no_gamma() -> nn.Module:
    return two(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, affine=False))


@trap(norm=before())
def gamma_zero() -> nn.Module:
    net = two(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6))
    net.norm.weight.data[:3] = 0
    return net


@trap(norm=before())
def variance_of_almost_zero() -> nn.Module:
    """As MobileNetV2's ImageNet weights have it."""
    net = two(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6))
    net.norm.running_var[:2] = 5.6e-45
    return net


@trap(norm=before())
def far_mean() -> nn.Module:
    net = two(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6))
    net.norm.running_mean.mul_(1e4)
    return net


@trap(norm=before())
def large_eps() -> nn.Module:
    return two(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, eps=0.1))


@trap(norm=before())
def frozen() -> nn.Module:
    return two(nn.Conv2d(4, 6, 3), FrozenBatchNorm2d(6))


@trap(norm=before())
def bnbenchs_own() -> nn.Module:
    return two(nn.Conv2d(4, 6, 3), BatchNorm2d(6))


@trap(norm=before())
def fused_activation() -> nn.Module:
    """The activation stays."""
    return two(nn.Conv2d(4, 6, 3), BatchNormAct(6))


@trap(norm=before())
def lazy() -> nn.Module:
    """Its layers have no sizes yet: all contenders but bnbench get it after one call."""
    return Net(
        lambda net, x: net.norm(net.conv(x)), conv=nn.LazyConv2d(6, 3), norm=nn.LazyBatchNorm2d()
    ).eval()


@trap(norm=before(), other=before())
def two_norms_in_a_row() -> nn.Module:
    net = Net(
        lambda net, x: net.other(net.norm(net.conv(x))),
        conv=nn.Conv2d(4, 6, 3),
        norm=nn.BatchNorm2d(6),
        other=nn.BatchNorm2d(6),
    )
    return randomised(net).eval()


@trap(norm=before())
def dropout_between() -> nn.Module:
    net = Net(
        lambda net, x: net.norm(net.same(net.drop(net.conv(x)))),
        conv=nn.Conv2d(4, 6, 3),
        norm=nn.BatchNorm2d(6),
        drop=nn.Dropout2d(0.5),
        same=nn.Identity(),
    )
    return randomised(net).eval()


@trap(norm=before())
def average_pool_between() -> nn.Module:
    net = Net(
        lambda net, x: net.norm(net.pool(net.conv(x))),
        conv=nn.Conv2d(4, 6, 3),
        norm=nn.BatchNorm2d(6),
        pool=nn.AvgPool2d(2),
    )
    return randomised(net).eval()


@trap(norm=left("an average over padding"))
def padded_average_pool_between() -> nn.Module:
    net = Net(
        lambda net, x: net.norm(net.pool(net.conv(x))),
        conv=nn.Conv2d(4, 6, 3),
        norm=nn.BatchNorm2d(6),
        pool=nn.AvgPool2d(3, 2, padding=1),
    )
    return randomised(net).eval()


@trap(norm=before())
def maximum_between() -> nn.Module:
    """A maximum keeps the order that positive scales keep."""
    net = Net(
        lambda net, x: net.norm(F.max_pool2d(net.conv(x), 2)), conv=nn.Conv2d(4, 6, 3), norm=nn.BatchNorm2d(6)
    )
    randomised(net).eval().norm.weight.data.abs_()
    return net


@trap(norm=left("the scale of some channels is negative"))
def maximum_between_negative_gamma() -> nn.Module:
    net = Net(
        lambda net, x: net.norm(F.max_pool2d(net.conv(x), 2)), conv=nn.Conv2d(4, 6, 3), norm=nn.BatchNorm2d(6)
    )
    return randomised(net).eval()


@trap(norm=before("conv", "other"))
def concatenation() -> nn.Module:
    net = Net(
        lambda net, x: net.norm(torch.cat([net.conv(x), net.other(x)], 1)),
        conv=nn.Conv2d(4, 2, 3),
        other=nn.Conv2d(4, 3, 3, bias=False),
        norm=nn.BatchNorm2d(5),
    )
    return randomised(net).eval()


@trap(norm=left("it reads the network's input"))
def concatenation_with_the_input() -> nn.Module:
    net = Net(
        lambda net, x: net.norm(torch.cat([net.conv(x), x], 1)),
        conv=nn.Conv2d(4, 2, 3, padding=1),
        norm=nn.BatchNorm2d(6),
    )
    return randomised(net).eval()


@trap(norm=before())
def channel_shuffle_between() -> nn.Module:
    net = Net(
        lambda net, x: net.norm(shuffled(net.conv(x), 3)), conv=nn.Conv2d(4, 6, 3), norm=nn.BatchNorm2d(6)
    )
    return randomised(net).eval()


@trap(norm=before())
def pixel_shuffle_between() -> nn.Module:
    net = Net(
        lambda net, x: net.norm(net.up(net.conv(x))),
        conv=nn.Conv2d(4, 8, 3),
        up=nn.PixelShuffle(2),
        norm=nn.BatchNorm2d(2),
    )
    return randomised(net).eval()


@trap(norm=before(), shape=(5, 3))
def features_transposed() -> nn.Module:
    """BatchNorm1d over the features of tokens."""
    net = Net(
        lambda net, x: net.norm(net.conv(x).transpose(1, 2)).transpose(1, 2),
        conv=nn.Linear(3, 6),
        norm=nn.BatchNorm1d(6),
    )
    return randomised(net).eval()


@trap(norm=left("along another axis"), shape=(6, 3))
def features_on_another_axis() -> nn.Module:
    """A linear layer gives 6 features of each of 6 tokens; BatchNorm1d takes the tokens for channels."""
    return two(nn.Linear(3, 6), nn.BatchNorm1d(6))


@trap(norm=left("along another axis"), shape=(3, 6))
def flattened_positions() -> nn.Module:
    """A batch norm over all values of a flattened image: each channel has several scales."""
    net = Net(
        lambda net, x: net.norm(net.conv(x).flatten(1)), conv=nn.Conv1d(3, 2, 3), norm=nn.BatchNorm1d(8)
    )
    return randomised(net).eval()


@trap(block__norm=before("block.conv"), pair=("block.conv", "block.norm"))
def block_used_twice() -> nn.Module:
    """Convolution and norm are shared together: one fold serves both calls."""
    block = Net(
        lambda net, x: net.norm(net.conv(x)), conv=nn.Conv2d(4, 4, 3, padding=1), norm=nn.BatchNorm2d(4)
    )
    return randomised(Net(lambda net, x: net.block(torch.relu(net.block(x))), block=block)).eval()


@trap(norm=before("conv", "other"))
def norm_after_two_convolutions() -> nn.Module:
    """One norm, called after each of two convolutions."""
    net = Net(
        lambda net, x: net.norm(net.conv(x)) + net.norm(net.other(x)),
        conv=nn.Conv2d(4, 6, 3),
        other=nn.Conv2d(4, 6, 3),
        norm=nn.BatchNorm2d(6),
    )
    return randomised(net).eval()


# --- after: the layer reads the norm's output


@trap(norm=after(), pair=("norm", "conv"))
def norm_first() -> nn.Module:
    return two(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, groups=2), norm_first=True)


@trap(norm=after(), pair=("norm", "conv"))
def norm_first_padded() -> nn.Module:
    """The convolution pads with zeros, which the norm would have moved: it pads with the norm's zero point instead."""
    return two(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, padding=1, groups=2), norm_first=True)


@trap(norm=after(), pair=("norm", "conv"))
def norm_first_padded_same() -> nn.Module:
    """More padding at the end than at the start."""
    return two(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 4, padding="same"), norm_first=True)


@trap(norm=after(), pair=("norm", "conv"))
def norm_first_reflected() -> nn.Module:
    return two(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), norm_first=True)


@trap(norm=refused("gamma is 0"), pair=("norm", "conv"))
def norm_first_padded_gamma_zero() -> nn.Module:
    net = two(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, padding=1), norm_first=True)
    net.norm.weight.data[1] = 0
    return net


@trap(norm=left("a shift can't go into a transposed convolution"), pair=("norm", "conv"))
def norm_before_transposed() -> nn.Module:
    return two(nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 6, 3, stride=2), norm_first=True)


@trap(norm=after(), pair=("norm", "conv"))
def norm_before_transposed_without_shift() -> nn.Module:
    net = two(nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), norm_first=True)
    net.norm.running_mean.zero_()
    net.norm.bias.data.zero_()
    return net


@trap(norm=after(), pair=("norm", "conv"), shape=(4, 3, 3))
def norm_flatten_linear() -> nn.Module:
    """Each channel spans 9 inputs of the linear layer."""
    net = Net(lambda net, x: net.conv(net.norm(x).flatten(1)), norm=nn.BatchNorm2d(4), conv=nn.Linear(36, 5))
    return randomised(net).eval()


@trap(norm=after(), pair=("norm", "conv"))
def norm_pool_linear() -> nn.Module:
    net = Net(
        lambda net, x: net.conv(torch.flatten(F.adaptive_avg_pool2d(net.norm(x), 1), 1)),
        norm=nn.BatchNorm2d(4),
        conv=nn.Linear(4, 5),
    )
    return randomised(net).eval()


@trap(norm=after("conv", "other"), pair=("norm", "conv"))
def norm_before_two() -> nn.Module:
    net = Net(
        lambda net, x: net.conv(net.norm(x)) + net.other(net.norm(x)[:, :, 1:-1, 1:-1]),
        norm=nn.BatchNorm2d(4),
        conv=nn.Conv2d(4, 6, 3),
        other=nn.Conv2d(4, 6, 1),
    )
    return randomised(net).eval()


# --- what can't be folded


@trap(norm=left("goes to ReLU"), pair=("norm", "conv"))
def activation_between() -> nn.Module:
    net = Net(
        lambda net, x: net.conv(net.act(net.norm(x))),
        norm=nn.BatchNorm2d(4),
        act=nn.ReLU(),
        conv=nn.Conv2d(4, 6, 3),
    )
    return randomised(net).eval()


@trap(norm=left("follows ReLU"))
def norm_after_activation() -> nn.Module:
    net = Net(
        lambda net, x: net.norm(net.act(net.conv(x))),
        norm=nn.BatchNorm2d(6),
        act=nn.ReLU(),
        conv=nn.Conv2d(4, 6, 3),
    )
    return randomised(net).eval()


@trap(norm=left("follows an addition"))
def norm_after_addition() -> nn.Module:
    net = Net(
        lambda net, x: net.norm(net.conv(x) + x), conv=nn.Conv2d(4, 4, 3, padding=1), norm=nn.BatchNorm2d(4)
    )
    return randomised(net).eval()


@trap(norm=refused("not always for this norm"))
def convolution_used_twice() -> nn.Module:
    net = Net(
        lambda net, x: net.conv(torch.relu(net.norm(net.conv(x)))),
        conv=nn.Conv2d(4, 4, 3, padding=1),
        norm=nn.BatchNorm2d(4),
    )
    return randomised(net).eval()


@trap(norm=refused("not always for this norm"), other=refused("not always for this norm"))
def convolution_shared_by_two_norms() -> nn.Module:
    """As detection heads share convolutions over the levels of a pyramid, each level with its own norm."""
    net = Net(
        lambda net, x: net.norm(net.conv(x)) + net.other(net.conv(2 * x)),
        conv=nn.Conv2d(4, 6, 3),
        norm=nn.BatchNorm2d(6),
        other=nn.BatchNorm2d(6),
    )
    return randomised(net).eval()


@trap(norm=refused("the output of Conv2d is read by"))
def output_read_twice() -> nn.Module:
    def steps(net: Net, x: Tensor) -> Tensor:
        y = net.conv(x)
        return net.norm(y) * torch.sigmoid(y)

    return randomised(Net(steps, conv=nn.Conv2d(4, 6, 3), norm=nn.BatchNorm2d(6))).eval()


@trap(norm=refused("is tied to another layer's"))
def tied_weight() -> nn.Module:
    net = Net(
        lambda net, x: net.norm(net.conv(x)) + net.other(x),
        conv=nn.Conv2d(4, 6, 3),
        other=nn.Conv2d(4, 6, 3),
        norm=nn.BatchNorm2d(6),
    )
    net.other.weight = net.conv.weight
    return randomised(net).eval()


@trap(norm=refused("changed the output"))
def weight_read_elsewhere() -> nn.Module:
    """Nothing in the flow of data shows that the weight has another reader."""
    net = Net(
        lambda net, x: net.norm(net.conv(x)) * net.conv.weight.abs().sum(),
        conv=nn.Conv2d(4, 6, 3),
        norm=nn.BatchNorm2d(6),
    )
    return randomised(net).eval()


@trap(norm=refused("parametrized"))
def weight_normalized() -> nn.Module:
    return two(parametrizations.weight_norm(nn.Conv2d(4, 6, 3)), nn.BatchNorm2d(6))


@trap(norm=refused("hooks"))
def spectral_norm_of_old() -> nn.Module:
    return two(spectral_norm(nn.Conv2d(4, 6, 3)), nn.BatchNorm2d(6))


@trap(norm=refused("may compute more"))
def standardized_weight() -> nn.Module:
    return two(StandardizedConv(4, 6, 3), nn.BatchNorm2d(6))


@trap(norm=refused("may compute more"))
def convolution_of_its_own() -> nn.Module:
    return two(Doubling(4, 6, 3), nn.BatchNorm2d(6))


@trap(norm=before())
def convolution_that_pads_by_itself() -> nn.Module:
    """Its class has a forward of its own: a trial shows that it is a convolution all the same."""
    return two(PaddingConv(4, 6, 3, stride=2, bias=False), nn.BatchNorm2d(6))


@trap(norm=refused("hooks"))
def hook_on_the_convolution() -> nn.Module:
    net = two(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6))
    net.conv.register_forward_hook(lambda module, args, output: output.clamp(min=-0.1))
    return net


@trap(norm=refused("hooks"))
def hook_on_the_norm() -> nn.Module:
    net = two(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6))
    net.norm.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    return net


@trap(norm=refused("training mode"))
def norm_in_training_mode() -> nn.Module:
    net = two(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6))
    net.norm.train()
    return net


@trap(norm=refused("statistics of its own batch"))
def no_running_statistics() -> nn.Module:
    return two(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, track_running_stats=False))


@trap(norm=left("a dropout that works in inference"))
def dropout_that_stays_on() -> nn.Module:
    net = Net(
        lambda net, x: net.norm(F.dropout(net.conv(x), 0.5)),
        conv=nn.Conv2d(4, 6, 3),
        norm=nn.BatchNorm2d(6),
    )
    return randomised(net).eval()


@trap(norm=refused("takes another way"))
def way_by_values() -> nn.Module:
    """The norm works on some inputs alone."""

    def steps(net: Net, x: Tensor) -> Tensor:
        y = net.conv(x)
        return net.norm(y) if x.mean() < 10 else y

    return randomised(Net(steps, conv=nn.Conv2d(4, 6, 3), norm=nn.BatchNorm2d(6))).eval()


@trap(norm=refused("overflow float16"))
def half_overflow() -> nn.Module:
    """The outputs fit float16, the folded weights do not."""
    net = Net(
        lambda net, x: net.norm(net.conv(x * 1e-4)),
        conv=nn.Conv2d(4, 6, 3, bias=False),
        norm=nn.BatchNorm2d(6),
    )
    randomised(net).eval()
    net.norm.running_mean.zero_()
    net.norm.running_var.fill_(1e-4)
    net.norm.weight.data.fill_(2e4)
    return net.half()


@trap(norm=left("follows conv2d"), pair=("other", "norm"))
def convolution_as_a_function() -> nn.Module:
    net = Net(
        lambda net, x: net.norm(F.conv2d(x, net.other.weight)),
        other=nn.Conv2d(4, 6, 3),
        norm=nn.BatchNorm2d(6),
    )
    return randomised(net).eval()


@trap(batch_norm=refused("called as a function"), pair=("conv", "conv"))
def norm_as_a_function() -> nn.Module:
    net = Net(
        lambda net, x: F.batch_norm(net.conv(x), net.mean.running_mean, net.mean.running_var),
        conv=nn.Conv2d(4, 6, 3),
    )
    net.mean = nn.Module()
    net.mean.register_buffer("running_mean", torch.randn(6))
    net.mean.register_buffer("running_var", torch.rand(6) + 0.5)
    return net.eval()


# --- gamma and beta of other norms


@trap(norm=after(), pair=("norm", "conv"), shape=(5, 6))
def layer_norm() -> nn.Module:
    return two(nn.LayerNorm(6), nn.Linear(6, 4), norm_first=True)


@trap(norm=after("q", "k", "v"), pair=("norm", "q"), shape=(5, 6))
def rms_norm_before_three() -> nn.Module:
    def steps(net: Net, x: Tensor) -> Tensor:
        y = net.norm(x)
        return net.q(y) * torch.tanh(net.k(y)) + net.v(y)

    layers = {name: nn.Linear(6, 4, bias=False) for name in "qkv"}
    return randomised(Net(steps, norm=nn.RMSNorm(6), **layers)).eval()


@trap(norm=after(), pair=("norm", "conv"), shape=(5, 6))
def gamma_plus_one() -> nn.Module:
    """Gemma's RMS norm multiplies by 1 + weight, and casts to float32 inside."""
    return two(OwnRMSNorm(6, 1.0), nn.Linear(6, 4), norm_first=True)


@trap(norm=left("goes to an addition"), pair=("norm", "conv"), shape=(5, 6))
def norm_that_the_residual_reads() -> nn.Module:
    def steps(net: Net, x: Tensor) -> Tensor:
        y = net.norm(x)
        return y + net.conv(y)

    return randomised(Net(steps, norm=nn.LayerNorm(6), conv=nn.Linear(6, 6))).eval()


@trap(norm=after("attention"), pair=("norm", "attention"), shape=(5, 6))
def layer_norm_before_attention() -> nn.Module:
    return randomised(Attention(6)).eval()


@trap(norm=after(), pair=("norm", "conv"))
def group_norm_before_a_convolution() -> nn.Module:
    return two(nn.GroupNorm(2, 4), nn.Conv2d(4, 6, 3, padding=1), norm_first=True)


@trap(norm=left("the network's"), pair=("conv", "norm"), shape=(5, 6))
def layer_norm_last() -> nn.Module:
    return two(nn.Linear(6, 6), nn.LayerNorm(6))
