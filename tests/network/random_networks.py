"""Networks drawn at random: layers, norms and what stands between, each reading any value that there is so far."""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.network.fold_layers import randomised

#: Channels of the input, and of what layers give.
CHANNELS = (4, 8)
#: What a step may be; the first ones are drawn more often.
STEPS = (
    *("convolution", "batch", "linear", "layer") * 3,
    *("transposed", "group", "instance", "again", "relu", "relu in place", "dropout", "addition"),
    *("concatenation", "slice", "split", "shuffle", "maximum", "average", "view in place", "kept", "padding"),
)


class RandomNetwork(nn.Module):
    """dims: of its images (N, 4, ...). Each step reads a value and makes the next one; all have one size."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.draw = random.Random(seed)
        self.dims = self.draw.choice((1, 2, 2, 3))
        self.layers = nn.ModuleList()
        self.program: list[tuple[str, int, int]] = []  # a step, the value it reads, a layer or another value
        self.stem = self._layer(nn.Conv1d, nn.Conv2d, nn.Conv3d)(4, 4, 3, padding=1)
        sizes = [4]
        for _ in range(self.draw.randint(3, 8)):
            read = len(sizes) - 1 if self.draw.random() < 0.8 else self.draw.randrange(len(sizes))
            step = self.draw.choice(STEPS)
            size, other = self._step(step, sizes, read)
            if size and size <= 16:
                self.program.append((step, read, other))
                sizes.append(size)
        self.gives_two = self.draw.random() < 0.2

    def _layer(self, *of_dims: type[nn.Module]) -> type[nn.Module]:
        return of_dims[self.dims - 1]

    def _step(self, step: str, sizes: list[int], read: int) -> tuple[int, int]:
        """The channels that it gives, 0 where it can't be; and its layer or its other value."""
        draw, channels = self.draw, sizes[read]
        if step in ("slice", "split", "shuffle") and channels % 2:
            return 0, 0
        if step in ("slice", "split"):
            return channels // 2, draw.randrange(2)
        if step in ("addition", "concatenation"):
            other = draw.choice([i for i, size in enumerate(sizes) if step[0] == "c" or size == channels])
            return (channels + sizes[other] if step == "concatenation" else channels), other
        if step == "again":
            fitting = [i for i, layer in enumerate(self.layers) if _takes(layer) == channels]
            chosen = draw.choice(fitting or [-1])
            return (0 if chosen < 0 else getattr(self.layers[chosen], "out_channels", channels)), chosen
        layer = self._module(step, channels)
        if layer is None:
            return channels, 0
        self.layers.append(layer)
        size = getattr(layer, "out_channels", getattr(layer, "out_features", channels))
        return size, len(self.layers) - 1

    def _module(self, step: str, channels: int) -> nn.Module | None:
        draw, norms = self.draw, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
        groups = draw.choice([number for number in (1, 2, 4) if channels % number == 0])
        size, out, bias = draw.choice((1, 3)), draw.choice(CHANNELS), draw.random() < 0.6
        if step == "convolution":
            mode = draw.choice(("zeros", "zeros", "circular", "replicate"))
            layer = self._layer(nn.Conv1d, nn.Conv2d, nn.Conv3d)
            return layer(channels, out, size, padding=size // 2, groups=groups, bias=bias, padding_mode=mode)
        if step == "transposed":
            layer = self._layer(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
            return layer(channels, out, size, padding=size // 2, groups=groups, bias=bias)
        if step == "batch":
            return self._layer(*norms)(channels, eps=draw.choice((1e-5, 0.1, 1)), affine=draw.random() < 0.8)
        if step == "instance":
            layer = self._layer(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
            return layer(channels, affine=True, track_running_stats=draw.random() < 0.3)
        if step == "group":
            return nn.GroupNorm(2 if channels % 2 == 0 else 1, channels)
        if step == "linear":
            return nn.Linear(channels, out, bias=bias)
        return nn.LayerNorm(channels) if step == "layer" else None

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        values, kept = [self.stem(x)], []
        for step, read, other in self.program:
            value = values[read]
            if step == "kept":
                kept.append(value)
            values.append(self._run(step, value, values[other] if other < len(values) else value, other))
        return values[-1], *kept, *(values[len(values) // 2 :][:1] if self.gives_two else ())

    def _run(self, step: str, x: Tensor, second: Tensor, other: int) -> Tensor:
        half, dims = x.shape[1] // 2, self.dims
        if step in ("linear", "layer"):
            return self.layers[other](x.movedim(1, -1)).movedim(-1, 1)
        if step in ("convolution", "transposed", "batch", "group", "instance", "again"):
            return self.layers[other](x)
        if step == "addition":
            return x + second
        if step == "concatenation":
            return torch.cat([second, x], 1)
        if step == "view in place":
            x[:, 0].mul_(1.5)
        if step == "shuffle":
            return x.unflatten(1, (2, half)).transpose(1, 2).flatten(1, 2)
        if step == "slice":
            return x[:, half:] if other else x[:, :half]
        simple = {
            "relu": lambda: F.relu(x),
            "relu in place": lambda: x.relu_(),
            "dropout": lambda: F.dropout(x, 0.3, self.training),
            "split": lambda: x.chunk(2, 1)[other],
            "maximum": lambda: getattr(F, f"max_pool{dims}d")(x, 3, 1, 1),
            "average": lambda: getattr(F, f"avg_pool{dims}d")(x, 3, 1, 1, count_include_pad=False),
            "padding": lambda: F.pad(x, (1, 1) * dims)[(..., *[slice(1, -1)] * dims)],
        }
        return simple[step]() if step in simple else x


def _takes(layer: nn.Module) -> int:
    names = ("in_channels", "num_features", "num_channels")
    return next((getattr(layer, name) for name in names if hasattr(layer, name)), 0)


def random_network(seed: int) -> RandomNetwork:
    """In float64 and in inference mode, with random statistics; some gammas are positive, some zero."""
    torch.manual_seed(seed)
    network = RandomNetwork(seed)
    randomised(network, seed).double().eval()
    for layer in network.layers:
        gamma = getattr(layer, "weight", None)
        if gamma is not None and gamma.dim() == 1 and network.draw.random() < 0.3:
            gamma.data.abs_()
            gamma.data[:1] *= network.draw.choice((0, 1))
    return network
