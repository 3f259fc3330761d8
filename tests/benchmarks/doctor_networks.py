"""Networks for the doctor's benchmark: bnbench's own, torchvision's, timm's, transformers', and as users write them.

Each is built from a private seed and brought into the state of a trained network: gamma and beta that moved, running
statistics that are those of its data.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnbench.models import models
from bnbench.models.layers import NormLayer
from bnbench.norms import norms

CLASSES = 10
#: Batches that a healthy network has counted.
STEPS = 3000


@dataclass(frozen=True)
class Network:
    """build: makes it. shape: of one sample. source: where it comes from."""

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    source: str

    def inputs(self, samples: int) -> Tensor:
        """Noise, smooth within a sample as images are, with another mean in each sample."""
        draw = torch.Generator().manual_seed(1)
        rough = torch.randn(samples, *self.shape, generator=draw)
        level = torch.randn(samples, *[1] * len(self.shape), generator=draw)
        return rough + 0.5 * level

    def fresh(self) -> nn.Module:
        """From a private seed, never trained, in training mode."""
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            return self.build().train()

    def trained(self) -> nn.Module:
        """As after a long training on `inputs`."""
        return settled(self.fresh(), self)


NETWORKS: dict[str, Network] = {}


def network(source: str, *shape: int) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Registers a network by the name of its class or function."""

    def register(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        NETWORKS[build.__name__] = Network(build.__name__, build, shape, source)
        return build

    return register


def batch_norms(model: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    """Those with running statistics, by their first name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None
    }


def output_of(given: Any) -> Tensor:
    """The logits of a network's output."""
    if isinstance(given, Tensor):
        return given
    logits = getattr(given, "logits", None)
    return (
        logits
        if isinstance(logits, Tensor)
        else output_of(next(iter(given.values() if hasattr(given, "values") else given)))
    )


def settled(model: nn.Module, network: Network) -> nn.Module:
    """Gamma and beta moved, running statistics those of the data: total variance, one layer's pass at a time."""
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for module in model.modules():
            for name, value in module.named_parameters(recurse=False):
                if "norm" in type(module).__name__.lower() and name == "weight":
                    value.copy_(0.7 + 0.6 * torch.rand(value.shape, generator=draw))
                elif "norm" in type(module).__name__.lower() and name == "bias":
                    value.add_(0.2 * torch.randn(value.shape, generator=draw))
        settle_statistics(model, network.inputs(256))
    return model


def settle_statistics(model: nn.Module, inputs: Tensor) -> None:
    """One pass over all of it in training mode: mean and variance of the whole, as of a long training."""
    layers = batch_norms(model)
    momenta = {name: layer.momentum for name, layer in layers.items()}
    was = {module: module.training for module in model.modules()}
    for module in model.modules():
        if "dropout" in type(module).__name__.lower() or "droppath" in type(module).__name__.lower():
            module.eval()
    for layer in layers.values():
        layer.reset_running_stats()
        layer.momentum = None
    with torch.no_grad():
        model(inputs)
    for name, layer in layers.items():
        layer.momentum = momenta[name]
        assert layer.num_batches_tracked is not None
        layer.num_batches_tracked.fill_(STEPS)
    for module, training in was.items():
        module.training = training


# --- as users write them: the order is in forward, names and places say nothing


@network("hand-written", 3, 12, 12)
class Shuffled(nn.Module):
    """Layers are made in another order than they are used."""

    def __init__(self) -> None:
        super().__init__()
        self.bn_b, self.head = nn.BatchNorm2d(12), nn.Linear(12, CLASSES)
        self.last = nn.Conv2d(12, 12, 3, padding=1, bias=False)
        self.bn_a, self.first = nn.BatchNorm2d(8), nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn_c, self.second = nn.BatchNorm2d(12), nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn_a(self.first(x)))
        x = F.relu(self.bn_c(self.second(x)))
        return self.head(F.relu(self.bn_b(self.last(x))).mean((2, 3)))


@network("hand-written", 3, 12, 12)
class PreActivation(nn.Module):
    """Norm, ReLU, convolution, with shortcuts (He et al. 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(5))
        self.convs = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(3))
        self.tail = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for norm, conv in zip(self.norms[:3], self.convs, strict=True):
            x = x + conv(F.relu(norm(x)))
        x = self.tail(F.relu(self.norms[3](x)))
        return self.fc(F.adaptive_avg_pool2d(F.relu(self.norms[4](x)), 1).flatten(1))


@network("hand-written", 3, 16, 16)
class Wings(nn.Module):
    """A small U-Net with concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.down2 = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2, bias=False)
        self.up_norm = nn.BatchNorm2d(8)
        self.out = nn.Conv2d(16, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.down1(x)
        two = self.down2(F.max_pool2d(one, 2))
        up = F.leaky_relu(self.up_norm(self.up(two)), 0.1)
        return self.out(torch.cat([one, up], 1)).mean((2, 3))


@network("hand-written", 4, 24)
class Signal(nn.Module):
    """Convolutions along time."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(4, 12, 5, bias=False), nn.Conv1d(12, 12, 5, groups=4, bias=False)
        self.na, self.nb, self.nc = nn.BatchNorm1d(12), nn.BatchNorm1d(12), nn.BatchNorm1d(16)
        self.c, self.fc = nn.Linear(12, 16, bias=False), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.na(self.a(x)))
        x = torch.relu(self.nb(self.b(x))).amax(2)
        return self.fc(torch.relu(self.nc(self.c(x))))


@network("hand-written", 20)
class Table(nn.Module):
    """Rows of features; its blocks stand in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict()
        for index, (wide, out) in enumerate([(20, 32), (32, 24), (24, 24)]):
            self.blocks[f"linear{index}"] = nn.Linear(wide, out, bias=False)
            self.blocks[f"norm{index}"] = nn.BatchNorm1d(out)
        self.head = nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for index in range(3):
            x = F.gelu(self.blocks[f"norm{index}"](self.blocks[f"linear{index}"](x)))
        return self.head(x)


class _Separable(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.point, self.depth = nn.Conv2d(channels, channels, 1, bias=False), None
        self.depth = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.n1, self.n2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.hardswish(self.n2(self.point(F.hardswish(self.n1(self.depth(x))))))


@network("hand-written", 3, 12, 12)
class Separable(nn.Module):
    """Depthwise and pointwise convolutions in blocks with shortcuts."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, 10, 3, stride=2, bias=False), nn.BatchNorm2d(10)
        self.body = nn.Sequential(_Separable(10), _Separable(10))
        self.head = nn.Linear(10, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(F.relu(self.stem_norm(self.stem(x)))).mean((-2, -1)))


# --- of others


@network("bnbench", 3, 12, 12)
def own_cnn() -> nn.Module:
    """bnbench's `cnn` with torch's batch norm."""
    return _own("cnn", (3, 12, 12))


@network("bnbench", 3, 16, 16)
def own_resnet() -> nn.Module:
    """bnbench's `resnet`, with 8 layers."""
    return _own("resnet", (3, 16, 16), depth=8, width=8)


def _own(name: str, shape: tuple[int, ...], **options: Any) -> nn.Module:
    entry = models.get(name)
    known = {key: value for key, value in options.items() if key in entry.option_names()}
    model: nn.Module = entry.factory(shape, CLASSES, NormLayer(norms.get("batch")), **entry.typed(known))
    return model


@network("torchvision", 3, 32, 32)
def resnet18() -> nn.Module:
    """torchvision's."""
    from torchvision.models import resnet18 as build

    return build(num_classes=CLASSES)


@network("torchvision", 3, 32, 32)
def shufflenet() -> nn.Module:
    """torchvision's shufflenet_v2_x0_5."""
    from torchvision.models import shufflenet_v2_x0_5 as build

    return build(num_classes=CLASSES)


if importlib.util.find_spec("timm"):

    @network("timm", 3, 32, 32)
    def resnet10t() -> nn.Module:
        """timm's."""
        import timm

        model: nn.Module = timm.create_model("resnet10t", pretrained=False, num_classes=CLASSES)
        return model


if importlib.util.find_spec("transformers"):

    @network("transformers", 3, 32, 32)
    def hf_resnet() -> nn.Module:
        """A small ResNetForImageClassification."""
        from transformers import ResNetConfig, ResNetForImageClassification

        config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
        config.num_labels = CLASSES
        return ResNetForImageClassification(config)
