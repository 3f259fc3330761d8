"""Faults for the doctor's benchmark: 26 rules, each put into at least ten networks, with the healthy twin beside it.

An injection is written from the fault's definition, not from the rule's code. It gives the faulty case, the healthy one
in the very same setting, and where the fault is.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from doctor_networks import CLASSES, NETWORKS, Network, batch_norms, output_of, settle_statistics
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset


@dataclass
class Case:
    """What a doctor is given. places: where the finding may stand; () for anywhere."""

    model: nn.Module
    inputs: Callable[[int], Any]
    optimizer: torch.optim.Optimizer | None = None
    data: Any = None
    checkpoint: Path | None = None
    places: tuple[str, ...] = ()
    ranks: int = 1


@dataclass(frozen=True)
class Injection:
    """One fault in one network."""

    rule: str
    network: str
    what: str
    faulty: Callable[[Path], Case]
    healthy: Callable[[Path], Case]


@dataclass(frozen=True)
class Spot:
    """A network, and one of its batch norms. index: of the network, by which faults vary."""

    network: Network
    index: int

    @property
    def site(self) -> str:
        """The name of the batch norm: another place in each network. The network is built for it, once."""
        names = sites_of(self.network.name)
        return names[(5 * self.index + 1) % len(names)]

    def model(self) -> nn.Module:
        """Trained, a new one each time."""
        return self.network.trained()

    def norm(self, model: nn.Module) -> Any:
        """The batch norm of that place."""
        return model.get_submodule(self.site)


INJECTIONS: list[Injection] = []
Change = Callable[[nn.Module, Spot], Any]


@functools.cache
def sites_of(name: str) -> list[str]:
    """The batch norms of a network."""
    return list(batch_norms(NETWORKS[name].fresh()))


def spots() -> Iterator[Spot]:
    """One batch norm of each network."""
    return (Spot(each, index) for index, each in enumerate(NETWORKS.values()))


def loader(network: Network, batch: int = 32, samples: int = 256, **options: Any) -> DataLoader[Any]:
    """Batches of its data with random labels."""
    x = network.inputs(samples)
    y = torch.arange(samples) % CLASSES
    return DataLoader(TensorDataset(x, y), batch_size=batch, **options)


def sgd(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    """An optimizer of all its parameters."""
    return torch.optim.SGD(model.parameters(), lr=0.1, **options)


def replace(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of another one."""
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, module)


def change(rule: str, what: str, data: bool = False, where: str = "{site}") -> Callable[[Change], Change]:
    """Registers a change of a trained network's batch norm, for every network."""

    def register(function: Change) -> Change:
        for spot in spots():

            def made(folder: Path, faulty: bool, spot: Spot = spot) -> Case:
                model = spot.model()
                model = (function(model, spot) or model) if faulty else model
                given = loader(spot.network) if data else None
                return Case(
                    model, spot.network.inputs, sgd(model), given, places=(where.format(site=spot.site),)
                )

            INJECTIONS.append(
                Injection(
                    rule,
                    spot.network.name,
                    what,
                    lambda folder, made=made: made(folder, True),  # type: ignore[misc]
                    lambda folder, made=made: made(folder, False),  # type: ignore[misc]
                )
            )
        return function

    return register


@change("D01", "running statistics of other data", data=True, where="")
def other_statistics(model: nn.Module, spot: Spot) -> None:
    norm = spot.norm(model)
    if spot.index % 3 == 0:
        norm.running_mean += norm.running_var.sqrt()
    elif spot.index % 3 == 1:
        norm.running_var *= 9
    else:
        norm.running_mean.copy_(norm.running_mean.roll(1) - norm.running_var.sqrt())
        norm.running_var *= 0.2


@change("D02", "statistics of one layer reset in a trained network")
def reset(model: nn.Module, spot: Spot) -> None:
    spot.norm(model).reset_running_stats()


@change("D03", "gamma and beta frozen by requires_grad alone")
def frozen(model: nn.Module, spot: Spot) -> None:
    targets = batch_norms(model).values() if spot.index % 2 else [spot.norm(model)]
    for norm in targets:
        norm.requires_grad_(False)


@change("D04", "eval mode while the network trains")
def stays_in_eval(model: nn.Module, spot: Spot) -> None:
    if spot.index % 2:
        spot.norm(model).eval()
        return
    base, site = type(model), spot.site

    class Frozen(base):  # type: ignore[misc, valid-type]
        def train(self, mode: bool = True) -> Any:
            super().train(mode)
            self.get_submodule(site).eval()
            return self

    model.__class__ = Frozen
    model.train()


@change("D05", "one batch norm used at two places", where="")
def shared(model: nn.Module, spot: Spot) -> None:
    norm = spot.norm(model)
    names = [
        name
        for name, other in batch_norms(model).items()
        if other.num_features == norm.num_features and type(other) is type(norm) and name != spot.site
    ]
    if names:
        replace(model, names[0], norm)
    else:  # it is called twice by its own block
        replace(model, spot.site, nn.Sequential(norm, nn.ReLU(), norm))


def before(model: nn.Module, site: str, inputs: Tensor) -> str:
    """The convolution or linear layer that ran last before that norm."""
    order: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: order.append(name))  # type: ignore[misc]
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear | nn.modules.batchnorm._BatchNorm)
    ]
    with torch.no_grad():
        model.eval()(inputs)
    model.train()
    for handle in handles:
        handle.remove()
    earlier = order[: order.index(site)]
    kinds = dict(model.named_modules())
    return next(n for n in reversed(earlier) if not isinstance(kinds[n], nn.modules.batchnorm._BatchNorm))


@change("D06", "bias of the layer before a batch norm", where="")
def bias(model: nn.Module, spot: Spot) -> None:
    layer: Any = model.get_submodule(before(model, spot.site, spot.network.inputs(2)))
    outputs = layer.out_channels if hasattr(layer, "out_channels") else layer.out_features
    layer.bias = nn.Parameter(0.3 * torch.randn(outputs, generator=torch.Generator().manual_seed(3)))


@change("D07", "a second batch norm behind the first", where="{site}*")
def twice(model: nn.Module, spot: Spot) -> None:
    norm = spot.norm(model)
    second = nn.Sequential(norm, type(norm)(norm.num_features))
    replace(model, spot.site, second)
    settle_statistics(model, spot.network.inputs(256))


@change("D08", "channels whose filter is 0, and whose variance is 0")
def dead(model: nn.Module, spot: Spot) -> None:
    norm = spot.norm(model)
    with torch.no_grad():
        layer: Any = model.get_submodule(before(model, spot.site, spot.network.inputs(2)))
        if len(layer.weight) == norm.num_features:
            layer.weight[:2] = 0
    norm.running_mean[:2] = 0
    norm.running_var[:2] = (0.0, 5.6e-45, 1e-14)[spot.index % 3]


@change("D09", "gamma of 0, or negative")
def gammas(model: nn.Module, spot: Spot) -> None:
    with torch.no_grad():
        gamma = spot.norm(model).weight
        if spot.index % 3 == 0:
            gamma.zero_()
        elif spot.index % 3 == 1:
            gamma[::2] *= -1
        else:
            gamma[: max(1, len(gamma) // 4)] *= 1e-7


@change("D10", "momentum in TensorFlow's convention, or too small for the training")
def momentum(model: nn.Module, spot: Spot) -> None:
    norm = spot.norm(model)
    if spot.index % 3 == 2:
        norm.momentum = 1e-3
        norm.num_batches_tracked.fill_(500)
    else:
        norm.momentum = (0.99, 0.9)[spot.index % 3]


@change("D11", "momentum 0 or None")
def no_momentum(model: nn.Module, spot: Spot) -> None:
    spot.norm(model).momentum = (0.0, None)[spot.index % 2]


@change("D12", "variance of at most eps")
def small_variance(model: nn.Module, spot: Spot) -> None:
    norm = spot.norm(model)
    if spot.index % 2:
        norm.eps = 2 * float(norm.running_var.median())
    else:
        norm.running_var.fill_(norm.eps / 2)


@change("D22", "statistics in half precision, or not finite")
def half(model: nn.Module, spot: Spot) -> None:
    norm = spot.norm(model)
    if spot.index % 4 == 0:
        norm.running_mean, norm.running_var = norm.running_mean.half(), norm.running_var.half()
    elif spot.index % 4 == 1:
        norm.running_mean, norm.running_var = norm.running_mean.bfloat16(), norm.running_var.bfloat16()
    elif spot.index % 4 == 2:
        norm.running_var[0] = math.inf
    else:
        norm.running_mean[0] = math.nan


def add(rule: str, network: str, what: str, make: Callable[[Path, bool], Case]) -> None:
    """Register a pair by one function of (folder, faulty)."""
    INJECTIONS.append(
        Injection(rule, network, what, lambda folder: make(folder, True), lambda folder: make(folder, False))
    )


# --- optimizers


def _spared(model: nn.Module, missed: Sequence[Tensor] = (), decay: float = 1e-4) -> list[dict[str, Any]]:
    """Two groups: weights that decay, and vectors that do not, but for those that are missed."""
    known = {id(one) for one in missed}
    decayed = [one for one in model.parameters() if one.ndim > 1 or id(one) in known]
    spared = [one for one in model.parameters() if one.ndim <= 1 and id(one) not in known]
    return [{"params": decayed, "weight_decay": decay}, {"params": spared, "weight_decay": 0.0}]


def _optimizers() -> None:
    for spot in spots():
        name = spot.network.name

        def decay(folder: Path, faulty: bool, spot: Spot = spot) -> Case:
            model = spot.model()
            kind = (torch.optim.SGD, torch.optim.AdamW, torch.optim.Adam)[spot.index % 3]
            if not faulty:
                groups: Any = _spared(model)
            elif spot.index % 2:
                groups = _spared(model, list(spot.norm(model).parameters()))
            else:
                groups = [{"params": list(model.parameters()), "weight_decay": 1e-4}]
            return Case(model, spot.network.inputs, kind(groups, lr=0.01), places=(spot.site,))

        def missing(folder: Path, faulty: bool, spot: Spot = spot) -> Case:
            model = spot.model()
            norm = spot.norm(model)
            gone = {id(one) for one in norm.parameters()} if faulty else set()
            if faulty and spot.index % 2:  # the layer was replaced after the optimizer was made
                optimizer = sgd(model)
                replace(model, spot.site, copy.deepcopy(norm))
            else:
                optimizer = torch.optim.SGD(
                    [one for one in model.parameters() if id(one) not in gone], lr=0.1
                )
            return Case(model, spot.network.inputs, optimizer, places=(spot.site, ""))

        add("D13", name, "weight decay on gamma and beta", decay)
        add("D14", name, "gamma and beta in no group of the optimizer", missing)


_optimizers()


# --- outputs, dropout, batches


class Logits(nn.Module):
    """A network and what follows it."""

    def __init__(self, model: nn.Module, tail: nn.Module) -> None:
        super().__init__()
        self.model, self.tail = model, tail

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(output_of(self.model(x)))


def _data() -> None:
    for spot in spots():
        name = spot.network.name

        def softmax(folder: Path, faulty: bool, spot: Spot = spot) -> Case:
            model = Logits(spot.model(), nn.Softmax(1) if faulty else nn.Identity())
            return Case(model.train(), spot.network.inputs, sgd(model), loader(spot.network))

        def dropout(folder: Path, faulty: bool, spot: Spot = spot) -> Case:
            model = spot.model()
            if faulty:
                replace(model, spot.site, nn.Sequential(nn.Dropout(0.4), spot.norm(model)))
                settle_statistics(model, spot.network.inputs(256))
            return Case(
                model, spot.network.inputs, sgd(model), loader(spot.network), places=(f"{spot.site}*",)
            )

        def small(folder: Path, faulty: bool, spot: Spot = spot) -> Case:
            model = spot.model()
            size = (2, 3, 4)[spot.index % 3] if faulty else 64
            given = loader(spot.network, size, 120 if faulty else 1024)
            return Case(model, spot.network.inputs, sgd(model), given)

        def one_left(folder: Path, faulty: bool, spot: Spot = spot) -> Case:
            model = spot.model()
            given = loader(spot.network, 32, 97, drop_last=not faulty)
            return Case(model, spot.network.inputs, sgd(model), given)

        add("D15", name, "softmax before the loss", softmax)
        add("D16", name, "dropout before a batch norm", dropout)
        add("D17", name, "batches of 2 to 4", small)
        add("D18", name, "a last batch of one", one_left)


_data()


# --- axes


class Pooled(nn.Module):
    """A network of images whose pooled features go through a norm."""

    def __init__(self, channels: int, norm: nn.Module, spatial: bool, depth: int) -> None:
        super().__init__()
        self.norm, self.spatial = norm, spatial
        self.convs = nn.ModuleList(
            nn.Conv2d(3 if index == 0 else channels, channels, 3, padding=1) for index in range(depth)
        )
        self.head = nn.Linear(channels, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = F.relu(conv(x))
        if self.spatial:
            return self.head(
                F.adaptive_avg_pool2d(F.relu(self.norm(F.adaptive_avg_pool2d(x, 1))), 1).flatten(1)
            )
        return self.head(F.relu(self.norm(x.mean((2, 3)))))


class OfEachMap(nn.Module):
    """An instance norm as users write it; torch's own refuses maps of one value."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean((2, 3), keepdim=True)
        scale = (centred.square().mean((2, 3), keepdim=True) + 1e-5).rsqrt()
        return centred * scale * self.gain[:, None, None] + self.shift[:, None, None]


class Wide(nn.Module):
    """A convolution, then a norm over the last axis, which is as wide as there are channels; or over channels."""

    def __init__(self, width: int, faulty: bool, norm: type[nn.Module], turned: bool) -> None:
        super().__init__()
        self.faulty, self.turned = faulty, turned
        self.norm, self.conv = norm(width), nn.Conv2d(3, width, 3, padding=1)
        self.again, self.head = nn.Conv2d(width, width, 1), nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = self.norm(x) if self.faulty else self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.head(F.relu(self.again(F.gelu(x))).mean((2, 3)))


class RootMean(nn.Module):
    """An RMS norm as language models write it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


def _axes() -> None:
    for index in range(10):
        channels, depth = (4, 8, 12, 16, 32)[index % 5], 1 + index % 3

        def single(folder: Path, faulty: bool, index: int = index, channels: int = channels) -> Case:
            shown = Network("pooled", nn.Identity, (3, 8, 8), "hand-written")
            spatial = index % 2 == 1
            kind = index % 4
            norm: nn.Module
            if not faulty:
                norm = nn.GroupNorm(2 if channels > 4 else 1, channels)
            elif kind == 1:
                norm = OfEachMap(channels)
            else:
                norm = nn.GroupNorm(channels, channels)
            with torch.random.fork_rng([]):
                torch.manual_seed(index)
                model = Pooled(channels, norm, spatial, 1 + index % 3)
            return Case(model, shown.inputs, sgd(model), places=("norm",))

        def spatial_axes(folder: Path, faulty: bool, index: int = index) -> Case:
            width = (6, 8, 10, 12, 16)[index % 5]
            shown = Network("wide", nn.Identity, (3, width, width), "hand-written")
            with torch.random.fork_rng([]):
                torch.manual_seed(index)
                model = Wide(width, faulty, (nn.LayerNorm, RootMean)[index % 2], index % 2 == 0)
            return Case(model, shown.inputs, sgd(model), places=("norm",))

        add("D19", f"pooled {channels} channels, {depth} deep, {index}", "one value in each group", single)
        add("D20", f"convolutions, {index}", "a norm over the width of (N, C, H, W)", spatial_axes)


_axes()


# --- recursions


class Recurrent(nn.Module):
    """A cell with a norm on its state, over some steps. kind: of the cell; norm: batch or layer."""

    def __init__(self, kind: int, size: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.kind, self.size = kind, size
        self.norm = norm(size)
        self.inner, self.outer = nn.Linear(size, size, bias=False), nn.Linear(5, size, bias=False)
        self.gate = nn.Linear(size + 5, size)
        self.cell = nn.GRUCell(5, size) if kind == 2 else nn.LSTMCell(5, size)
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.head = nn.Linear(size, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), self.size)
        memory = torch.zeros_like(state)
        for step in x.unbind(1):
            if self.kind == 0:
                state = torch.tanh(self.norm(self.inner(state) + self.outer(step)))
            elif self.kind == 1:
                gate = torch.sigmoid(self.gate(torch.cat([state, step], 1)))
                state = gate * state + (1 - gate) * torch.tanh(
                    self.norm(self.inner(state)) + self.outer(step)
                )
            elif self.kind == 2:
                state = self.norm(self.cell(step, state))
            elif self.kind == 3:
                state, memory = self.cell(step, (state, memory))
                state = torch.sigmoid(state) * torch.tanh(self.norm(memory))
                memory = memory + self.norm(memory)
            else:
                state = state + F.relu(self.norm(self.conv(state[:, None])[:, 0] + self.outer(step)))
        return self.head(state)


def _recursions() -> None:
    for index in range(10):

        def recursion(folder: Path, faulty: bool, index: int = index) -> Case:
            steps, size = 3 + index % 4, (6, 9)[index // 5]
            shown = Network("recurrent", nn.Identity, (steps, 5), "hand-written")
            with torch.random.fork_rng([]):
                torch.manual_seed(index)
                model = Recurrent(index % 5, size, nn.BatchNorm1d if faulty else nn.LayerNorm)
            return Case(model, shown.inputs, sgd(model), places=("norm",))

        add("D21", f"recurrent cell {index % 5}, {index}", "batch norm in a recursion", recursion)


_recursions()


# --- checkpoints, processes, padding, activation checkpointing


def _files() -> None:
    for spot in spots():
        name = spot.network.name

        def part(folder: Path, faulty: bool, spot: Spot = spot) -> Case:
            state = spot.model().state_dict()
            if faulty:
                kind = spot.index % 4
                if kind == 0:  # parameters alone
                    buffers = ("running_mean", "running_var", "num_batches_tracked")
                    state = {key: value for key, value in state.items() if not key.endswith(buffers)}
                elif kind == 1:
                    del state[f"{spot.site}.running_var"], state[f"{spot.site}.running_mean"]
                elif kind == 2:
                    del state[f"{spot.site}.weight"]
                else:
                    state = {
                        f"module.{key}": value
                        for key, value in state.items()
                        if spot.site not in key or "running" not in key
                    }
            file = folder / f"{spot.network.name}-{spot.site}-{faulty}.pt"
            torch.save(state, file)
            model = spot.network.fresh()
            return Case(
                model, spot.network.inputs, checkpoint=file, places=(spot.site, "") if spot.index % 4 else ()
            )

        def ranks(folder: Path, faulty: bool, spot: Spot = spot) -> Case:
            model = spot.model()
            model = nn.DataParallel(model) if spot.index % 2 else model
            if not faulty:
                model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
            return Case(model, spot.network.inputs, sgd(model), loader(spot.network, 8), ranks=4)

        def repeated(folder: Path, faulty: bool, spot: Spot = spot) -> Case:
            model = spot.model()
            owner = spot.site.rpartition(".")[0]
            if faulty:
                replace(model, spot.site, Again(spot.norm(model), spot.index % 2 == 0))
            elif owner:
                pass
            return Case(
                model, spot.network.inputs, sgd(model), loader(spot.network), places=(f"{spot.site}*",)
            )

        add("D23", name, "a checkpoint without a norm's buffers or gamma", part)
        add("D24", name, "four processes with 8 samples each", ranks)
        add("D26", name, "activation checkpointing, or a second call with the same inputs", repeated)


class Again(nn.Module):
    """A part that runs again: in the backward pass, or twice in the forward pass."""

    def __init__(self, inner: nn.Module, saves_memory: bool) -> None:
        super().__init__()
        self.inner, self.saves_memory = inner, saves_memory

    def forward(self, x: Tensor) -> Any:
        if self.saves_memory:
            return checkpoint(self.inner, x, use_reentrant=False)
        with torch.no_grad():
            self.inner(x)  # a look at the activations, as loggers take it
        return self.inner(x)


_files()


class Padded(nn.Module):
    """Sequences (N, T, F) whose last column is 1 where a position is valid."""

    def __init__(self, kind: int, size: int, masked: bool) -> None:
        super().__init__()
        self.kind, self.masked = kind, masked
        self.up = nn.Linear(4, size) if kind % 2 else nn.Conv1d(4, size, 1)
        self.norm = (
            nn.LayerNorm(size) if masked else nn.BatchNorm1d(size) if kind % 3 else nn.InstanceNorm1d(size)
        )
        self.head = nn.Linear(size, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        valid = x[..., -1:]
        up = self.up(x[..., :-1]) if self.kind % 2 else self.up(x[..., :-1].transpose(1, 2)).transpose(1, 2)
        up = up * valid
        up = self.norm(up) if self.masked else self.norm(up.transpose(1, 2)).transpose(1, 2)
        up = F.relu(up) * valid
        return self.head(up.sum(1) / valid.sum(1).clamp_min(1))


def _sequences(draw: torch.Generator) -> Tensor:
    lengths = torch.randint(3, 12, (64,), generator=draw)
    valid = (torch.arange(12)[None] < lengths[:, None]).float()[..., None]
    values = (1 + torch.randn(64, 12, 4, generator=draw)) * valid
    return torch.cat([values, valid], 2)


def _padding() -> None:
    from bnbench.network.doctor.data import DataBatch, PatientData, padded_pair

    for index in range(10):

        def padded(folder: Path, faulty: bool, index: int = index) -> Case:
            sequences = _sequences(torch.Generator().manual_seed(index))
            with torch.random.fork_rng([]):
                torch.manual_seed(index)
                model = Padded(index, (6, 10)[index % 2], not faulty)
            batches = tuple(DataBatch(part, None, len(part)) for part in sequences.split(16))
            given = PatientData(
                "sequences", batches, batch_size=16, samples=64, padded=padded_pair(sequences)
            )
            return Case(model, lambda count: sequences[:count], sgd(model), given, places=("norm",))

        add("D25", f"padded sequences, {index}", "padding inside the statistics", padded)


_padding()
