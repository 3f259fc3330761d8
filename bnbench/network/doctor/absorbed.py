"""Biases that normalizations take out: found in the flow of data, then proved by moving them.

Whatever is added to a channel before a batch or an instance norm goes out with the mean. The flow says which biases
can only end there; the proof moves all of them and compares what leaves these normalizations, in training and then in
inference with the running statistics of that same batch (momentum 1): both have to stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.errors import BnbenchError
from bnbench.base.process_state import seed_streams
from bnbench.network.doctor.patient import Patient
from bnbench.network.doctor.untouched import called, device_of
from bnbench.network.flow.neighbours import is_transparent
from bnbench.network.sites.norm_site import Node, NormSite
from bnbench.norms.owner import weight_layers

#: Functions behind which a shift of a channel still is one. The proof finds out where it is not.
_KEEPING = frozenset(
    "add iadd __add__ __iadd__ radd sub cat concat concatenate stack chunk split unbind getitem narrow select mean "
    "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d max_pool1d "
    "max_pool2d max_pool3d adaptive_max_pool2d interpolate upsample roll channel_shuffle".split()
)
_KEEPING_MODULES = (
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.Upsample,
    nn.ChannelShuffle,
)
_Convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
#: Biases that are moved one by one where all together change something.
MOST_ALONE = 48
#: Beside the largest output: rounding that deep networks amplify, in float64 and in float32.
_TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-3}


class Flow:
    """The nodes of one forward pass, and who reads each of them."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = {node.index: node for node in nodes}
        self.readers: dict[int, list[int]] = {node.index: [] for node in nodes}
        for node in nodes:
            for index in node.inputs:
                self.readers[index].append(node.index)

    def calls_of(self, module: nn.Module) -> list[Node]:
        """The nodes in which it is called."""
        return [node for node in self.nodes.values() if node.module is module]


@dataclass(frozen=True)
class Absorbed:
    """A layer whose bias has no effect. change: of the outputs, relative, where it moves. norms: that take it out."""

    name: str
    layer: nn.Module
    change: float
    norms: tuple[NormSite, ...]


def absorbed_biases(patient: Patient) -> Iterator[Absorbed]:
    """Layers whose bias can have no effect, in the order of the network. Changes the model: call it in `untouched`."""
    takers = {id(site.module): site for site in patient.norms if _takes_out_shifts(site)}
    if not takers or patient.inputs is None:
        return
    flow = Flow(patient.sites.nodes)
    found = []
    for name, layer in weight_layers(patient.model):
        if isinstance(getattr(layer, "bias", None), nn.Parameter):
            norms = _ends(flow, layer, takers)
            if norms:
                found.append((name, layer, norms))
    if not found:
        return
    ends = {id(site.module): site for _, _, norms in found for site in norms}
    trial = _Trial(patient, flow, list(ends.values()))
    changes = trial.changes([layer for _, layer, _ in found])
    for (name, layer, norms), change in zip(found, changes, strict=True):
        if change is not None and change <= trial.tolerance:
            yield Absorbed(name, layer, change, norms)


def _takes_out_shifts(site: NormSite) -> bool:
    """Whether it subtracts a mean of each channel by itself, in training."""
    behaviour = site.behaviour
    if not behaviour.centers or site.refused:
        return False
    alone = behaviour.kind == "group" and behaviour.groups == behaviour.num_features
    return behaviour.kind in ("batch", "sync", "instance") or alone


def _ends(flow: Flow, layer: nn.Module, takers: dict[int, NormSite]) -> tuple[NormSite, ...]:
    """The normalizations in which the layer's shift ends; none where it may reach something else."""
    ends: dict[int, NormSite] = {}
    waiting = [node.index for node in flow.calls_of(layer)]
    seen = set(waiting)
    while waiting:
        readers = flow.readers[waiting.pop()]
        for index in readers:
            node = flow.nodes[index]
            if id(node.module) in takers:
                ends[id(node.module)] = takers[id(node.module)]
            elif not _keeps_shifts(node):
                return ()
            elif index not in seen:
                seen.add(index)
                waiting.append(index)
    return tuple(ends.values())


def _keeps_shifts(node: Node) -> bool:
    if is_transparent(node):
        return True
    if node.kind == "function":
        return node.name in _KEEPING
    module = node.module
    if isinstance(module, _Convolutions):
        return module.padding == "valid" or not any(module.padding)
    return isinstance(module, (*_KEEPING_MODULES, nn.Linear))


class _Done(Exception):
    """Everything that is compared was computed."""


class _Trial:
    """The network with random gammas in training mode, in float64 where it can, on the same inputs and random draws.

    What is compared are the outputs of the normalizations in which the shifts end; nothing behind them is computed.
    """

    def __init__(self, patient: Patient, flow: Flow, ends: Sequence[NormSite]) -> None:
        self.model, self.device = patient.model, device_of(patient.model)
        self.inputs = patient.inputs(4) if patient.inputs else None
        self.ends = [site.module for site in ends if site.module is not None]
        self.last = sum(len(flow.calls_of(norm)) for norm in self.ends)
        self.modules = _run_before(patient.model, flow, self.ends)
        if not patient.model.training:
            self.model.train()
        self._randomize()
        self.before: list[Tensor] = []
        self.dtype = torch.float64
        try:
            self._start()
        except BnbenchError:  # it makes tensors of one dtype by itself
            self.dtype = torch.float32
            self._start()
        self.tolerance = _TOLERANCE[self.dtype]

    def _randomize(self) -> None:
        """A constant parameter (a gamma of 0, the 1e-6 of a layer scale) hides what stands before it."""
        draw = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in _own(self.modules, parameters=True):
                if parameter.is_floating_point() and bool((parameter == parameter.flatten()[0]).all()):
                    parameter.copy_(0.5 + torch.rand(parameter.shape, generator=draw))

    def _start(self) -> None:
        for tensor in _own(self.modules, parameters=False):
            if tensor.is_floating_point():
                tensor.data = tensor.data.to(self.dtype)
        buffers = [
            tensor for tensor in _own(self.modules, parameters=False) if not isinstance(tensor, nn.Parameter)
        ]
        self.buffers = [(tensor, tensor.clone()) for tensor in buffers]
        self.before = self._outputs()

    def changes(self, layers: Sequence[nn.Module]) -> list[float | None]:
        """How much the outputs change where each layer's bias moves: of all together where that is nothing."""
        together = self._change(layers)
        if together <= self.tolerance or len(layers) == 1:
            return [together] * len(layers)
        return [self._change([layer]) if place < MOST_ALONE else None for place, layer in enumerate(layers)]

    def _change(self, layers: Iterable[nn.Module]) -> float:
        draw = torch.Generator().manual_seed(1)
        biases = [(layer.bias, layer.bias.data) for layer in layers if isinstance(layer.bias, nn.Parameter)]
        for bias, value in biases:
            bias.data = value + (torch.rand(value.shape, generator=draw) * 2 - 1).to(value)
        try:
            after = self._outputs()
        except BnbenchError:
            return float("inf")
        finally:
            for bias, value in biases:
                bias.data = value
        if len(after) != len(self.before):
            return float("inf")
        return max((_distance(a, b) for a, b in zip(self.before, after, strict=True)), default=float("inf"))

    def _outputs(self) -> list[Tensor]:
        """In training, then in inference with the statistics of that batch; then everything is as at the start."""
        momenta = [
            (norm, norm.momentum) for norm in self.ends if isinstance(getattr(norm, "momentum", None), float)
        ]
        modes = [(module, module.training) for module in self.model.modules()]
        try:
            for norm, _ in momenta:
                norm.momentum = 1.0  # type: ignore[assignment]
            outputs = self._run()
            if momenta:
                self.model.eval()
                outputs += self._run()
        finally:
            for norm, momentum in momenta:
                norm.momentum = momentum
            for module, mode in modes:
                module.training = mode
            with torch.no_grad():
                for buffer, content in self.buffers:
                    buffer.copy_(content)
        return outputs

    def _run(self) -> list[Tensor]:
        outputs: list[Tensor] = []

        def kept(module: nn.Module, inputs: Any, output: Any) -> None:
            outputs.extend(_tensors(output))
            if len(outputs) >= self.last:
                raise _Done

        handles = [norm.register_forward_hook(kept) for norm in self.ends]
        seed_streams(0, self.device)
        try:
            with torch.no_grad():
                called(self.model, _typed(self.inputs, self.dtype), self.device)
        except BnbenchError as error:
            if not isinstance(error.__cause__, _Done):
                raise
        finally:
            for handle in handles:
                handle.remove()
        return outputs


def _run_before(model: nn.Module, flow: Flow, ends: Sequence[nn.Module]) -> list[nn.Module]:
    """The modules that have run where the last of these has: those of the nodes, and those that call them."""
    last = max(node.index for norm in ends for node in flow.calls_of(norm))
    found: dict[int, nn.Module] = {id(model): model}
    for node in flow.nodes.values():
        if node.index > last:
            continue
        if node.module is not None:
            found |= {id(inner): inner for inner in node.module.modules()}
        parts = node.scope.split(".") if node.scope else []
        for depth in range(len(parts)):
            inner = model.get_submodule(".".join(parts[: depth + 1]))
            found[id(inner)] = inner
    return list(found.values())


def _own(modules: Iterable[nn.Module], *, parameters: bool) -> list[Tensor]:
    """The parameters (and the buffers) that these modules hold themselves, each once."""
    found: dict[int, Tensor] = {}
    for module in modules:
        found |= {id(value): value for value in module.parameters(recurse=False)}
        if not parameters:
            found |= {id(value): value for value in module.buffers(recurse=False)}
    return list(found.values())


def _typed(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: _typed(item, dtype) for key, item in value.items()}
    return tuple(_typed(item, dtype) for item in value) if isinstance(value, tuple | list) else value


def _tensors(value: Any) -> Iterator[Tensor]:
    """Every float tensor of an output."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value.detach().double().clone()
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
    elif hasattr(value, "to_tuple"):  # an output of transformers
        yield from _tensors(value.to_tuple())


def _distance(one: Tensor, other: Tensor) -> float:
    if one.shape != other.shape or not bool(other.isfinite().all()):
        return float("inf")
    if not one.numel():
        return 0.0
    return float((one - other).abs().max() / one.abs().max().clamp_min(torch.finfo(torch.float64).tiny))
