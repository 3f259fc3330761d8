"""`find_norm_sites`: every normalization in a network, with what it computes and what stands around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from bnbench.base.user_code import first_line
from bnbench.network.flow.exported import exported_nodes
from bnbench.network.flow.forward_pass import ForwardPass, Inputs, in_either_mode, initialized, is_leaf
from bnbench.network.flow.neighbours import Flow
from bnbench.network.flow.recording import Call
from bnbench.network.flow.symbolic import symbolic_nodes
from bnbench.network.sites.candidates import behaviours_of
from bnbench.network.sites.function_norms import function_sites
from bnbench.network.sites.norm_site import NormBehaviour, NormSite, NormSites
from bnbench.network.sites.refusals import has_lazy, refusal_of, refusal_within, wrappers

#: Samples of the pass: a prime, so that flattened positions are a multiple of it, and more than one.
SAMPLES = 3


def find_norm_sites(
    model: nn.Module,
    inputs: Inputs | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    samples: int = SAMPLES,
) -> NormSites:
    """Every normalization in a network. The network and the process are left as found.

    inputs: from a number of samples to what the network is called with: a tensor, a tuple of arguments, or a mapping of
    named ones; None: structure alone, traced by torch.fx. optimizer: whose groups are noted.

    One pass is made in the mode in which the network is, or in inference where that raises; what both raise is in
    `NormSites.error`. A network on the meta device is followed there.
    """
    subject = initialized(model, inputs, samples) if inputs is not None and has_lazy(model) else model
    seen = in_either_mode(subject, inputs, samples) if inputs is not None else ForwardPass()
    behaviours = behaviours_of(subject, seen.calls, samples)

    def is_node(module: nn.Module) -> bool:
        return id(module) in behaviours or is_leaf(module)

    tracer: Any = "execution"
    nodes = seen.recorder.nodes(is_node) if seen.recorder and not seen.error else ()
    if inputs is not None and any(node.name == "unknown" and node.kind == "function" for node in nodes):
        exported = exported_nodes(subject, inputs(samples), is_node)
        if exported and {id(node.module) for node in nodes if id(node.module) in behaviours} <= {
            id(n.module) for n in exported
        }:
            nodes, tracer = exported, "export"
    if not nodes:
        nodes, tracer = symbolic_nodes(subject, is_node), "fx"
    calls = {} if seen.error else seen.calls
    record = _Record(model, subject, Flow(nodes), calls, wrappers(model), optimizer)
    sites = function_sites([*record.sites(behaviours)], record.flow)
    error = first_line(seen.error) if seen.error else ""
    return NormSites(tuple(sites), nodes, tracer if nodes else "none", error, seen.training)


@dataclass
class _Record:
    """A network and one pass through it. subject: the network that was followed, a copy where it has lazy layers."""

    model: nn.Module
    subject: nn.Module
    flow: Flow
    calls: dict[int, list[Call]]
    wrapped: dict[str, str]
    optimizer: torch.optim.Optimizer | None
    names: dict[int, list[str]] = field(default_factory=dict)

    def sites(self, behaviours: Mapping[int, NormBehaviour]) -> Iterator[NormSite]:
        """One site for each module that normalizes."""
        for name, module in self.subject.named_modules(remove_duplicate=False):
            self.names.setdefault(id(module), []).append(name)
        holders: dict[int, list[str]] = {}
        for name, value in self.model.named_parameters(remove_duplicate=False):
            holders.setdefault(id(value), []).append(name)
        own = dict(self.model.named_modules(remove_duplicate=False))
        for key, behaviour in behaviours.items():
            names = tuple(self.names[key])
            yield self._site(key, names, own[names[0]], behaviour, holders)

    def _site(
        self,
        key: int,
        names: tuple[str, ...],
        module: nn.Module,
        behaviour: NormBehaviour,
        holders: Mapping[int, list[str]],
    ) -> NormSite:
        nodes = self.flow.calls_of_id(key)
        producers = tuple(self.flow.producer(node) for node in nodes)
        consumers = (neighbour for node in nodes for neighbour in self.flow.consumers(node))
        inside = [f"{name}." if name else "" for name in names]
        tied = (
            other
            for value in module.parameters()
            for other in holders.get(id(value), ())
            if not any(other.startswith(prefix) for prefix in inside)
        )
        return NormSite(
            names[0],
            names,
            tuple(name.rpartition(".")[0] for name in names),
            module,
            behaviour,
            tuple(made.shape for made in self.calls.get(key, ())),
            producers[0] if producers and all(other == producers[0] for other in producers) else None,
            tuple(dict.fromkeys(consumers)),
            module.training,
            {name: value.requires_grad for name, value in module.named_parameters()},
            self._group(module),
            dict((*module.named_parameters(), *module.named_buffers())),
            refusal_within(names, self.wrapped) or refusal_of(module),
            producers,
            tuple(dict.fromkeys(tied)),
        )

    def _group(self, module: nn.Module) -> int | None:
        own = {id(parameter) for parameter in module.parameters()}
        for number, group in enumerate(self.optimizer.param_groups if self.optimizer else ()):
            if any(id(parameter) in own for parameter in group["params"]):
                return number
        return None
