"""Small networks with the cases that a record of normalizations, a conversion or a fold may get wrong.

`NETWORKS[name]()` gives a network with random running statistics, gamma and beta, and its inputs: a function from a
number of samples to what the network is called with.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Case = tuple[nn.Module, Callable[[int], Any]]
NETWORKS: dict[str, Callable[[], Case]] = {}
IMAGE, VECTOR, LINE, TOKENS = (3, 8, 8), (6,), (4, 10), (5, 8)


def noise(*shape: int, seed: int = 0) -> Callable[[int], Tensor]:
    """Normal numbers, the same each time."""
    return lambda samples: torch.randn(samples, *shape, generator=torch.Generator().manual_seed(seed))


def shaken(model: nn.Module, seed: int = 0) -> nn.Module:
    """The network with random running statistics, and with no gamma that is 1 and no beta that is 0."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in (*model.named_parameters(), *model.named_buffers()):
            if nn.parameter.is_lazy(value) or not value.is_floating_point():
                continue
            if name.endswith("running_mean"):
                value.copy_(torch.randn(value.shape, generator=draw))
            elif name.endswith("running_var"):
                value.copy_(0.5 + torch.rand(value.shape, generator=draw))
            elif value.dim() == 1:
                value.add_(0.3 * torch.randn(value.shape, generator=draw))
    return model


def case(*shape: int) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Registers a network by the name of the function or class that builds it. shape: of one sample."""

    def register(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        def made() -> Case:
            with torch.random.fork_rng([]):
                torch.manual_seed(0)
                return shaken(build()), noise(*shape)

        NETWORKS[build.__name__] = made
        return build

    return register


# --- who holds a normalization


@case(*IMAGE)
class TwoNames(nn.Module):
    """One batch norm under two names of one parent, called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.first = self.second = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.conv2(self.first(self.conv1(x)).relu()))


class _Holder(nn.Module):
    def __init__(self, conv: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm = conv, norm

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


@case(*IMAGE)
class TwoParents(nn.Module):
    """One batch norm that two blocks hold."""

    def __init__(self) -> None:
        super().__init__()
        norm = nn.BatchNorm2d(4)
        self.left = _Holder(nn.Conv2d(3, 4, 3), norm)
        self.right = _Holder(nn.Conv2d(4, 4, 3), norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.right(self.left(x))


@case(4, 6, 6)
def root_is_a_norm() -> nn.Module:
    """The network is a batch norm."""
    return nn.BatchNorm2d(4)


@case(*IMAGE)
class Containers(nn.Module):
    """Norms in a ModuleList, a ModuleDict, a Sequential, and made by a partial."""

    def __init__(self) -> None:
        super().__init__()
        make = functools.partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)
        self.convs = nn.ModuleList([nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)])
        self.norms = nn.ModuleList([make(4), make(4)])
        self.named = nn.ModuleDict({"conv": nn.Conv2d(4, 4, 1), "norm": nn.GroupNorm(2, 4)})
        self.tail = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x))
        return self.tail(self.named["norm"](self.named["conv"](x)))


@case(*IMAGE)
class TiedGamma(nn.Module):
    """Two batch norms with one gamma."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.bn2.weight = self.bn1.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))


# --- what a normalization is


class BatchNormAct(nn.BatchNorm2d):
    """A batch norm with a forward of its own, dropout and an activation, as timm has it."""

    def __init__(
        self, num_features: int, act: nn.Module | None = None, drop: nn.Module | None = None
    ) -> None:
        super().__init__(num_features)
        self.drop, self.act = drop or nn.Identity(), act or nn.ReLU()

    def forward(self, input: Tensor) -> Tensor:
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        y = F.batch_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            self.momentum,
            self.eps,
        )
        return self.act(self.drop(y))


@case(*IMAGE)
def fused_activation() -> nn.Module:
    """Batch norms with an activation inside, one with a dropout too."""
    drop = nn.Dropout2d(0.2)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), BatchNormAct(4), nn.Conv2d(4, 4, 3), BatchNormAct(4, nn.SiLU(), drop)
    )


class NormReLU(nn.BatchNorm2d):
    """The activation is a function in its forward."""

    def forward(self, input: Tensor) -> Tensor:
        return F.leaky_relu(super().forward(input), 0.1)


@case(*IMAGE)
def functional_activation() -> nn.Module:
    """A subclass of batch norm whose forward ends in F.leaky_relu."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), NormReLU(4))


class FrozenBN(nn.Module):
    """Four buffers, as in torchvision and detectron2."""

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((num_features,), value))

    def forward(self, x: Tensor) -> Tensor:
        column = (1, -1, 1, 1)
        scale = self.weight.reshape(column) * (self.running_var.reshape(column) + self.eps).rsqrt()
        return x * scale + (self.bias.reshape(column) - self.running_mean.reshape(column) * scale)


@case(*IMAGE)
def frozen() -> nn.Module:
    """A frozen batch norm of its own class."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), FrozenBN(4, 1e-4), nn.ReLU())


class StaysInEval(nn.BatchNorm2d):
    """A batch norm that train() does not reach."""

    def train(self, mode: bool = True) -> StaysInEval:
        super().train(False)
        return self


@case(*IMAGE)
def frozen_by_override() -> nn.Module:
    """A batch norm whose train() is overridden, in eval mode."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), StaysInEval(4).eval())


@case(*IMAGE)
def synced() -> nn.Module:
    """A SyncBatchNorm."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.SyncBatchNorm(4), nn.ReLU())


@case(*IMAGE)
def lazy() -> nn.Module:
    """A batch norm without a shape, behind a lazy convolution."""
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU())


class Half(nn.Module):
    """A parametrization: half of the parameter."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x


@case(*IMAGE)
def parametrized() -> nn.Module:
    """A batch norm whose gamma is parametrized."""
    norm = nn.BatchNorm2d(4)
    nn.utils.parametrize.register_parametrization(norm, "weight", Half())
    return nn.Sequential(nn.Conv2d(3, 4, 3), norm)


@case(*IMAGE)
def spectral_gamma() -> nn.Module:
    """A batch norm whose gamma is divided by its norm, by the old hooks."""
    norm = nn.BatchNorm2d(4)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.utils.weight_norm(norm, "weight"))


@case(*IMAGE)
def hooked() -> nn.Module:
    """A batch norm with a forward hook that doubles its output, and a pre-hook."""
    norm = nn.BatchNorm2d(4)
    norm.register_forward_hook(lambda module, inputs, output: 2 * output)
    norm.register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,))
    return nn.Sequential(nn.Conv2d(3, 4, 3), norm)


@case(*IMAGE)
def options() -> nn.Module:
    """Batch norms without gamma, without running statistics, and with the plain average over batches."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 1),
        nn.BatchNorm2d(4, affine=False),
        nn.Conv2d(4, 4, 1),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.Conv2d(4, 4, 1),
        nn.BatchNorm2d(4, momentum=None),
    )


# --- over which axes


@case(*VECTOR)
def features() -> nn.Module:
    """BatchNorm1d on (N, C)."""
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))


@case(*LINE)
def sequence() -> nn.Module:
    """BatchNorm1d on (N, C, L)."""
    return nn.Sequential(nn.Conv1d(4, 5, 3), nn.BatchNorm1d(5), nn.ReLU())


@case(4, 6)
def linear_and_channels() -> nn.Module:
    """BatchNorm1d on (N, C, L) behind a linear layer over L = 4 = C: its axis is not the linear layer's."""
    return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4))


@case(*TOKENS)
class FlatPositions(nn.Module):
    """BatchNorm1d on the positions of (N, T, C), flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(8, 6), nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        return self.norm(y.reshape(-1, 6)).view(y.shape)


@case(8, 8, 3)
def over_a_whole_sample() -> nn.Module:
    """A layer norm over (H, W, C), then one over C."""
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm((8, 8, 4)), nn.Linear(4, 6), nn.LayerNorm(6))


class LayerNorm2d(nn.LayerNorm):
    """Over the channels of (N, C, H, W), by two permutations, as in torchvision."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@case(*IMAGE)
def channels_by_permutation() -> nn.Module:
    """A layer norm over channels first."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), LayerNorm2d(4, eps=1e-6), nn.Conv2d(4, 2, 1))


@case(*IMAGE)
class PermuteOutside(nn.Module):
    """A plain layer norm between two permutations of the network's forward."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.linear = nn.Conv2d(3, 4, 3), nn.LayerNorm(4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.norm(self.conv(x).permute(0, 2, 3, 1)))


@case(*IMAGE)
def groups() -> nn.Module:
    """Group norms of 2, 1 and C groups, and an instance norm."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 1),
        nn.GroupNorm(2, 4),
        nn.Conv2d(4, 4, 1),
        nn.GroupNorm(1, 4),
        nn.Conv2d(4, 4, 1),
        nn.GroupNorm(4, 4),
        nn.Conv2d(4, 4, 1),
        nn.InstanceNorm2d(4, affine=True),
    )


@case(*VECTOR)
def one_value_a_group() -> nn.Module:
    """GroupNorm(4, 4) on (N, 4): every output is beta."""
    return nn.Sequential(nn.Linear(6, 4), nn.GroupNorm(4, 4))


# --- by behaviour


class LlamaNorm(nn.Module):
    """Root mean square, in float32, as Hugging Face writes it."""

    def __init__(self, hidden_size: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = nn.Parameter(torch.ones(hidden_size)), eps

    def forward(self, hidden_states: Tensor) -> Tensor:
        dtype = hidden_states.dtype
        hidden_states = hidden_states.to(torch.float32)
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)
        return self.weight * hidden_states.to(dtype)


class GemmaNorm(nn.Module):
    """Root mean square times 1 + weight."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps, self.weight = eps, nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        y = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self.eps)
        return (y * (1.0 + self.weight.float())).type_as(x)


@case(*TOKENS)
def rms_norms() -> nn.Module:
    """RMS norms that are no nn.RMSNorm, beside one that is."""
    return nn.Sequential(
        LlamaNorm(8),
        nn.Linear(8, 8, bias=False),
        GemmaNorm(8),
        nn.Linear(8, 8, bias=False),
        nn.RMSNorm(8, 1e-5),
    )


class MyThing(nn.Module):
    """A batch norm that says so nowhere."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("m", torch.zeros(width))
        self.register_buffer("v", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        m, v = self.m, self.v
        if self.training:
            m, v = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
            with torch.no_grad():
                self.m.lerp_(m, 0.05)
                self.v.lerp_(v, 0.05)
        y = (x - m[:, None, None]) / (v[:, None, None] + 2e-3).sqrt()
        return y * self.a[:, None, None] + self.b[:, None, None]


class Standardize(nn.Module):
    """The layer norm of the Annotated Transformer: unbiased, and eps beside the root."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.a * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) + self.b


@case(*IMAGE)
def unnamed_batch_norm() -> nn.Module:
    """A batch norm of a class called MyThing, with parameters called a and b."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), MyThing(4), nn.ReLU())


@case(*TOKENS)
def unnamed_layer_norm() -> nn.Module:
    """A layer norm of a class called Standardize."""
    return nn.Sequential(nn.Linear(8, 6), Standardize(6))


@case(*TOKENS)
class QueryKeyNorm(nn.Module):
    """Attention whose queries and keys are normalized by head."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.q_norm, self.k_norm = LlamaNorm(4), LlamaNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(self.q_norm(q), self.k_norm(k), v)
        return self.out(y.transpose(1, 2).reshape(n, t, 8))


class LayerScale(nn.Module):
    """A learnt factor a channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Unit(nn.Module):
    """Vectors of length 1, as before a cosine similarity."""

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1)


class OwnSoftmax(nn.Module):
    """A softmax of a class of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return x.softmax(-1)


class OwnGate(nn.Module):
    """An activation of a class of its own, which saturates."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.7 * x)


@case(*TOKENS)
def no_norms() -> nn.Module:
    """Nothing here normalizes by statistics of its input."""
    weight_normed = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
    spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8))
    return nn.Sequential(
        weight_normed, nn.GELU(), spectral, LayerScale(8), OwnGate(), nn.Softmax(-1), OwnSoftmax(), nn.Tanh()
    )


@case(*TOKENS)
def unit_length() -> nn.Module:
    """F.normalize at the end."""
    return nn.Sequential(nn.Linear(8, 4), Unit())


# --- the flow of data


@case(*IMAGE)
class NormTwice(nn.Module):
    """One batch norm, one name, two calls, and a convolution with two calls."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.norm(self.conv(self.norm(self.conv(x))))


@case(*IMAGE)
class ReadByTwo(nn.Module):
    """A convolution whose output goes to a norm and to a sum; a residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.conv2, self.norm2 = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x)
        z = F.relu(self.norm1(y))
        return F.relu(self.norm2(self.conv2(z)) + y)


@case(*IMAGE)
class Joined(nn.Module):
    """A norm after a concatenation, and one after a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 4, 1)
        self.norm1, self.conv, self.norm2 = nn.BatchNorm2d(6), nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.left(x), self.right(x)], 1)
        return self.norm2(self.conv(self.norm1(both)) + both)


@case(*IMAGE)
class Between(nn.Module):
    """Flattening, dropout and an in-place activation around norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm1, self.drop = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)
        self.fc1, self.norm2, self.fc2 = nn.Linear(256, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.flatten(self.drop(self.norm1(self.conv(x))), 1)
        x = self.norm2(self.fc1(x))
        x += 1
        return self.fc2(F.relu(x, inplace=True))


class Doubled(torch.autograd.Function):
    """A function that no tracer of torch functions sees: it computes in NumPy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.from_numpy(2 * x.detach().numpy())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 2 * grad


doubled = Doubled.apply


@case(*IMAGE)
class Unseen(nn.Module):
    """Between convolution and norm, and behind the norm, stands a torch.autograd.Function."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(doubled(self.conv(x)))
        return self.head(y) + doubled(y).mean()


def _twice(x: Tensor) -> Tensor:
    return 2 * x


@case(*IMAGE)
class ScriptedFunction(nn.Module):
    """A scripted function between convolution and norm: torch.export sees what it does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.twice = torch.jit.script(_twice)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.twice(self.conv(x)))


@case(*IMAGE)
class ControlFlow(nn.Module):
    """A branch that depends on the data, which torch.fx does not trace."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.norm(y) if float(x.abs().sum()) > 0 else y


@case(*IMAGE)
class Functional(nn.Module):
    """Normalizations that are called as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.weight = nn.Conv2d(3, 4, 1), nn.Parameter(torch.ones(4))
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("var", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        x = F.batch_norm(self.conv(x), self.mean, self.var, self.weight, training=self.training)
        x = F.instance_norm(F.group_norm(x, 2))
        x = F.layer_norm(x.flatten(2), (64,))
        return F.rms_norm(x, (64,))


@case(*IMAGE)
class ByHand(nn.Module):
    """A normalization written out in the network's forward: no record shows it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)


class PreNorm(nn.Module):
    """A wrapper that is called a norm and holds a layer of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fn = nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(self.norm(x)) + x


@case(*TOKENS)
def wrapped_in_a_block() -> nn.Module:
    """Blocks that end in a norm are not the norm."""
    return nn.Sequential(PreNorm(), nn.Sequential(nn.LayerNorm(8), nn.ReLU()), nn.Linear(8, 2))


# --- refused


class _Scriptable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


@case(*IMAGE)
def scripted() -> nn.Module:
    """The whole network is a ScriptModule."""
    return torch.jit.script(_Scriptable())


@case(*IMAGE)
def partly_scripted() -> nn.Module:
    """One block is a ScriptModule."""
    return nn.Sequential(torch.jit.script(_Scriptable()), nn.BatchNorm2d(4))


@case(*IMAGE)
def compiled() -> nn.Module:
    """The whole network is compiled."""
    module: nn.Module = torch.compile(_Scriptable())  # type: ignore[assignment]
    return module


@case(*IMAGE)
def partly_compiled() -> nn.Module:
    """One block is compiled in place."""
    block = _Scriptable()
    block.compile()
    return nn.Sequential(block, nn.BatchNorm2d(4))


@case(*IMAGE)
def data_parallel() -> nn.Module:
    """The network stands in a DataParallel."""
    return nn.DataParallel(_Scriptable())


# --- inputs and outputs


class _TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image, self.vector = nn.Conv2d(3, 4, 8), nn.Linear(6, 4)
        self.norm1, self.norm2 = nn.BatchNorm1d(4), nn.LayerNorm(4)

    def forward(self, image: Tensor, vector: Tensor) -> dict[str, Tensor]:
        joint = self.norm1(self.image(image).flatten(1))
        return {"joint": joint + vector.mean(), "vector": self.norm2(self.vector(vector))}


def two_inputs() -> Case:
    """Two inputs by position, two outputs by name."""
    return shaken(_TwoInputs()), lambda n: (noise(3, 8, 8)(n), noise(6, seed=1)(n))


def named_inputs() -> Case:
    """The same, called by name."""
    return shaken(_TwoInputs()), lambda n: {"vector": noise(6, seed=1)(n), "image": noise(3, 8, 8)(n)}


NETWORKS["two_inputs"], NETWORKS["named_inputs"] = two_inputs, named_inputs
