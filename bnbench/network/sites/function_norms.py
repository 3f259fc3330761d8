"""Normalizations that a network calls as functions: found in the flow of data, with no module to replace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from torch import Tensor

from bnbench.network.flow.neighbours import Flow
from bnbench.network.flow.nodes import tensors_in
from bnbench.network.sites.norm_site import Kind, Node, NormBehaviour, NormSite

FUNCTIONS: dict[str, Kind] = {
    "batch_norm": "batch",
    "native_batch_norm": "batch",
    "layer_norm": "layer",
    "native_layer_norm": "layer",
    "group_norm": "group",
    "native_group_norm": "group",
    "instance_norm": "instance",
    "rms_norm": "rms",
    "local_response_norm": "other",
}


def function_sites(sites: Sequence[NormSite], flow: Flow) -> list[NormSite]:
    """The sites of modules, and one for each call of a function. A function that is given the parameters of a module
    refuses this module, as its own forward is not what is called.
    """
    owners = {id(value): index for index, site in enumerate(sites) for value in site.state.values()}
    found = list(sites)
    names: dict[str, int] = {}
    for node in flow.nodes:
        if node.kind != "function" or node.name not in FUNCTIONS:
            continue
        given = tensors_in((node.arguments, dict(node.named_arguments)))
        owner = next((owners[id(tensor)] for tensor in given if id(tensor) in owners), None)
        if owner is not None:
            found[owner] = _called_with_its_parameters(found[owner], node, flow)
            continue
        place = f"{node.scope}: {node.name}" if node.scope else node.name
        names[place] = names.get(place, 0) + 1
        found.append(_site(place if names[place] == 1 else f"{place} ({names[place]})", node, flow))
    return found


def _called_with_its_parameters(site: NormSite, node: Node, flow: Flow) -> NormSite:
    reason = f"{node.name} is called with its parameters, beside its own forward. Fix: call the module"
    consumers = dict.fromkeys((*site.consumers, *flow.consumers(node)))
    return replace(
        site,
        shapes=(*site.shapes, node.shape) if node.shape else site.shapes,
        producers=(*site.producers, flow.producer(node)),
        producer=None,
        consumers=tuple(consumers),
        refused=site.refused or reason,
    )


def _site(name: str, node: Node, flow: Flow) -> NormSite:
    return NormSite(
        name,
        (name,),
        (node.scope,),
        None,
        _behaviour(node),
        (node.shape,) if node.shape else (),
        flow.producer(node),
        tuple(flow.consumers(node)),
        refused=f"torch.nn.functional.{node.name.removeprefix('native_')} is called as a function: there is no module "
        "to replace",
        producers=(flow.producer(node),),
    )


def _behaviour(node: Node) -> NormBehaviour:
    """What the function does by its name and arguments, for an input of the shape of its output."""
    kind, dims = FUNCTIONS[node.name], max(len(node.shape), 2)
    trailing = next(iter(_sizes(node)), ())
    spatial = tuple(range(2, dims))
    axes: tuple[int, ...] = {
        "batch": (0, *spatial),
        "instance": spatial,
        "group": (1, *spatial),
    }.get(kind, tuple(range(dims - max(len(trailing), 1), dims)))
    channel = dims - 1 if kind in ("layer", "rms") else 1
    numbers = [value for value in node.arguments if isinstance(value, int) and not isinstance(value, bool)]
    groups = node.named_arguments.get("num_groups", numbers[0] if numbers else None)
    size = node.shape[channel] if len(node.shape) > channel else 0
    values = 0
    for axis in axes if node.shape and kind not in ("batch", "group") else ():
        values = (values or 1) * node.shape[axis]
    return NormBehaviour(
        kind,
        () if kind == "other" else axes,
        channel,
        size,
        int(groups) if kind == "group" and isinstance(groups, int) else None,
        centers=kind != "rms",
        values=values,
    )


def _sizes(node: Node) -> Iterator[tuple[int, ...]]:
    """normalized_shape, by position or by name."""
    for value in (node.named_arguments.get("normalized_shape"), *node.arguments):
        if isinstance(value, tuple | list) and not isinstance(value, Tensor):
            yield tuple(int(size) for size in value)
