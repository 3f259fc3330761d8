"""The ways through its layers that a network takes on other inputs, and the folds that hold on all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.user_code import raise_interrupt
from bnbench.network.flow.forward_pass import is_leaf, left_as_it_was
from bnbench.network.flow.recording import Recorder
from bnbench.network.fold.inputs import Inputs, adversarial, change_real, random_batches
from bnbench.network.fold.plan import NOT_USED, Fold, Left, Plan, Planner
from bnbench.network.sites.norm_site import Node, NormSites

OTHER_WAY = "the network takes another way through its layers on other inputs"


def other_ways(model: nn.Module, sites: NormSites, inputs: Inputs) -> list[tuple[Node, ...]]:
    """The nodes of passes on other inputs, each way once, without the one that the record has.

    Other inputs: one sample, images that are no square, larger and smaller ones; and, where the network reads the
    values of its tensors, every input of the comparisons.
    """
    modules = {id(node.module) for node in sites.nodes if node.module is not None}
    few = inputs(3)
    trials = [trial.batch for trial in adversarial(inputs) if sites.reads_numbers or trial.name in _SHAPES]
    trials += _other_sizes(few)
    trials += random_batches(inputs) if sites.reads_numbers else []
    ways = {_key(nodes): nodes for batch in (few, *trials) if (nodes := _nodes(model, modules, batch))}
    return list(ways.values())[1:]


def without_other_ways(model: nn.Module, sites: NormSites, inputs: Inputs) -> Plan:
    """The plan of the folds that every way allows alike; the others are refused."""
    plan = Planner(model, sites).run()
    if not plan.folds and not sites.reads_numbers:
        return plan
    ways = other_ways(model, sites, inputs)
    skip: dict[str, str] = {}
    while wrong := _differing(model, sites, ways, plan, skip):
        skip.update(wrong)
        plan = Planner(model, sites, skip).run()
    return plan


def _differing(
    model: nn.Module, sites: NormSites, ways: list[tuple[Node, ...]], plan: Plan, skip: dict[str, str]
) -> dict[str, str]:
    """By name: the norms whose fold another way does not allow."""
    wrong: dict[str, str] = {}
    for nodes in ways:
        if sites.tracer != "execution":  # the plan rests on nodes of another tracer
            return {fold.site.name: OTHER_WAY for fold in plan.folds} if sites.reads_numbers else {}
        ran = {id(node.module) for node in nodes}
        other = Planner(model, replace(sites, nodes=nodes), skip).run()
        outcomes = {outcome.site.name: outcome for outcome in other.outcomes}
        for left in plan.outcomes:
            if isinstance(left, Left) and left.reason == NOT_USED and id(left.site.module) in ran:
                wrong[left.site.name] = OTHER_WAY
        for fold in plan.folds:
            layers = (model.get_submodule(name) for name in (*fold.site.names[:1], *fold.layers))
            if any(id(layer) in ran for layer in layers) and not _alike(fold, outcomes[fold.site.name]):
                wrong[fold.site.name] = OTHER_WAY
    return wrong


def _alike(fold: Fold, other: Fold | Left) -> bool:
    return isinstance(other, Fold) and (fold.side, set(fold.layers)) == (other.side, set(other.layers))


#: Of the comparisons' inputs, those of another shape.
_SHAPES = ("one sample", "not square")


def _other_sizes(batch: Any) -> Iterator[Any]:
    """The inputs at twice and at half the size, of images along all their axes, of sequences along either of two."""

    def resized(axes: tuple[int, ...], larger: bool) -> Any:
        def change(x: Tensor) -> Tensor:
            for axis in axes if x.dim() > 2 else ():
                if axis < x.dim():
                    half = x.narrow(axis, 0, max(1, x.shape[axis] // 2))
                    x = torch.cat([x, x], axis) if larger else half
            return x

        return change_real(batch, change)

    for axes in ((2, 3, 4), (1,)):
        yield resized(axes, larger=True)
        yield resized(axes, larger=False)


def _key(nodes: tuple[Node, ...]) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    return tuple((node.kind, node.name, node.inputs) for node in nodes)


def _nodes(model: nn.Module, modules: set[int], batch: Any) -> tuple[Node, ...]:
    """None where the network does not take the input."""
    recorder = Recorder(model)
    try:
        with left_as_it_was(model):
            recorder.run(batch)
    except BaseException as error:  # whatever the network raises on an unusual input
        raise_interrupt(error)
        return ()
    return recorder.nodes(lambda module: id(module) in modules or is_leaf(module))
