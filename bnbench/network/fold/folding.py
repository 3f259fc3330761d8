"""`fold_network`: the plan, put into effect in a copy, and checked."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, is_lazy

from bnbench.base.errors import BnbenchError
from bnbench.base.network_records import Proof, SiteRecord
from bnbench.base.process_state import left_as_found
from bnbench.base.user_code import first_line, raise_interrupt
from bnbench.network.files.savable import Origin, Savable
from bnbench.network.fold import checks
from bnbench.network.fold.checks import Pair
from bnbench.network.fold.inputs import RANDOM, Inputs, adversarial, change_real, fault_on, random_batches
from bnbench.network.fold.plan import Fold, Left, Plan, Planner, details_of
from bnbench.network.fold.precision import in_float64
from bnbench.network.fold.speed import Speed, measure
from bnbench.network.fold.structure import put_into
from bnbench.network.fold.ways import OTHER_WAY, without_other_ways
from bnbench.network.sites.find import find_norm_sites
from bnbench.network.sites.norm_site import NormSites

_WAYS = (
    "the network makes Python's numbers of tensors: an input that none of the comparisons is like may take another way "
    "through its layers"
)
_FRESH = (
    "the running statistics of every norm are those of a network that was never trained, mean 0 and variance 1: "
    "--checkpoint loads trained ones"
)


@dataclass(frozen=True)
class Folding(Savable):
    """A folded copy of a network. model: in inference mode. sites: one record for each norm. proofs: every comparison.

    tracer: who followed the data. speed: None unless it was asked for. original: the network as it was. origin: its
    word. said: what limits the comparisons.
    """

    model: nn.Module
    sites: tuple[SiteRecord, ...]
    proofs: tuple[Proof, ...]
    tracer: str = ""
    speed: Speed | None = None
    original: nn.Module | None = field(default=None, repr=False)
    origin: Origin = field(default_factory=Origin)
    said: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no comparison failed."""
        return all(proof.passed is not False for proof in self.proofs)

    @property
    def folded(self) -> tuple[SiteRecord, ...]:
        """The norms that went into layers, and those whose gamma and beta did."""
        return tuple(site for site in self.sites if site.action == "folded")

    @property
    def left(self) -> tuple[SiteRecord, ...]:
        """The norms that stay, each with its reason."""
        return tuple(site for site in self.sites if site.action != "folded")


@dataclass(frozen=True)
class FoldOptions:
    """examples: batches of given data, for predictions. source: where they are from. speed: whether to time.

    inputs: how many random ones are compared in the network's own type.
    """

    examples: tuple[Any, ...] = ()
    source: str = ""
    inputs: int = RANDOM
    speed: bool = False
    speed_samples: int = 8


def fold_network(model: nn.Module, inputs: Inputs, options: FoldOptions | None = None) -> Folding:
    """Fold what can be folded exactly, in a copy, and compare. The network itself stays as it was.

    Raises BnbenchError for a network that can't be copied or that fails on its input.
    """
    chosen = options or FoldOptions()
    device = _device(model)

    def placed(batch: Any) -> Any:
        return change_real(batch, lambda x: x.to(device), every=True)

    examples = tuple(map(placed, chosen.examples))
    return _folded(model, lambda samples: placed(inputs(samples)), replace(chosen, examples=examples))


def _folded(model: nn.Module, inputs: Inputs, chosen: FoldOptions) -> Folding:
    with left_as_found(_device(model)):
        own = in_inference(model, inputs)
        result = deepcopy(own)  # that no pass has run through: a network may count them
        sites = find_norm_sites(own, inputs)
        if sites.error:
            raise BnbenchError(f"the network fails on its input: {sites.error}")
        plan = _tried(own, sites, inputs)
        folded = deepcopy(own)
        for each in (folded, result):
            put_into(each, plan)
        records = tuple(map(_record, plan.outcomes))
        proofs = _proofs(Pair(own, folded), plan, inputs, chosen)
        said = ((_WAYS,) if sites.reads_numbers else ()) + ((_FRESH,) if _is_fresh(plan) else ())
        batch = inputs(chosen.speed_samples) if chosen.speed else None
        speed = measure(own, folded, batch, chosen.speed_samples) if chosen.speed else None
    return Folding(result, records, proofs, sites.tracer, speed, model, said=said)


def in_inference(model: nn.Module, inputs: Inputs) -> nn.Module:
    """A copy in inference mode, with the sizes of lazy layers.

    In a network that is in inference mode already, the modes of its layers stay as they are. Raises BnbenchError.
    """
    lazy = any(map(is_lazy, (*model.parameters(), *model.buffers())))
    try:
        # torch copies lazy parameters, and no lazy buffers
        fresh = {id(buffer): UninitializedBuffer() for buffer in model.buffers() if is_lazy(buffer)}
        copy = deepcopy(model, fresh)
    except BaseException as error:  # whatever a user's module raises
        raise_interrupt(error)
        raise BnbenchError(f"the network can't be copied: {first_line(error)}") from error
    if model.training:
        copy.eval()
    if lazy and (fault := fault_on(copy, inputs(2), itself=True)):
        raise BnbenchError(f"the network fails on its input: {fault}")
    if any(tensor.is_meta for tensor in (*copy.parameters(), *copy.buffers())):
        raise BnbenchError("the network is on the meta device: it has no weights to fold.")
    return copy


def _tried(own: nn.Module, sites: NormSites, inputs: Inputs) -> Plan:
    """A plan of folds that keep the output in a trial: what nothing in the record forbids may still be wrong."""
    plan = without_other_ways(own, sites, inputs)
    if not plan.folds:
        return plan
    refused = {o.site.name: o.reason for o in plan.outcomes if isinstance(o, Left) and o.reason == OTHER_WAY}
    wide, batch = in_float64(own), inputs(2)
    try:
        # of a copy, as a network may count its passes
        truth = checks.outputs(deepcopy(wide), batch, wide=True)
    except BaseException as error:  # quantized layers, and others of one type alone
        raise_interrupt(error)
        reason = f"the network can't be compared in float64: {first_line(error)}"
        return Planner(own, sites, {site.name: reason for site in sites.sites}).run()
    if _gap(wide, plan, truth, batch) <= checks.LARGEST:
        return plan
    skip = dict(refused)
    for fold in plan.folds:
        others = refused | {other.site.name: "not tried here" for other in plan.folds if other is not fold}
        gap = _gap(wide, Planner(own, sites, others).run(), truth, batch)
        if not gap <= checks.LARGEST:
            what = f"changed the output by {gap:.2g} of its largest entry"
            if gap == float("inf"):
                what = "changed the output, or the network failed without this norm"
            skip[fold.site.name] = f"a trial of this fold alone {what}: something else reads what it changes"
    return Planner(own, sites, skip).run()


def _gap(wide: nn.Module, plan: Plan, truth: list[torch.Tensor], batch: Any) -> float:
    folded = deepcopy(wide)
    put_into(folded, plan)
    try:
        return checks.difference(truth, checks.outputs(folded, batch, wide=True))
    except BaseException as error:  # a network that reads an attribute of a norm that is gone
        raise_interrupt(error)
        return float("inf")


def _proofs(pair: Pair, plan: Plan, inputs: Inputs, options: FoldOptions) -> tuple[Proof, ...]:
    if not plan.folds:
        return (_count(plan), Proof("float64", None, None, "nothing is folded: the copy is the network"))
    wide, wide_folded = in_float64(pair.own), in_float64(pair.own)
    put_into(wide_folded, plan)
    first = checks.in_float64(Pair(wide, wide_folded), adversarial(inputs))
    if first.passed is None:
        return _count(plan), first
    random = checks.measure(pair, wide, random_batches(inputs, options.inputs))
    given = checks.measure(pair, wide, options.examples) if options.examples else random
    return (
        _count(plan),
        first,
        checks.own_type_proof(pair, random),
        checks.predictions_proof(given, options.source or "random inputs"),
    )


def _count(plan: Plan) -> Proof:
    found, folded = len(plan.outcomes), len(plan.folds)
    unexplained = sum(isinstance(outcome, Left) and not outcome.reason for outcome in plan.outcomes)
    text = f"norms found: {folded} folded, {found - folded} left, {unexplained} of these without a reason"
    return Proof("count", unexplained == 0, found, text)


def _is_fresh(plan: Plan) -> bool:
    """Whether no batch norm that is folded has seen a batch."""
    modules = [fold.site.module for fold in plan.folds if fold.whole]
    pairs = [(getattr(m, "running_mean", None), getattr(m, "running_var", None)) for m in modules]
    return bool(pairs) and all(
        isinstance(mean, torch.Tensor)
        and isinstance(var, torch.Tensor)
        and not mean.any()
        and bool((var == 1).all())
        for mean, var in pairs
    )


def _record(outcome: Fold | Left) -> SiteRecord:
    site = outcome.site
    action = "folded" if isinstance(outcome, Fold) else outcome.action
    reason = "" if isinstance(outcome, Fold) else outcome.reason
    return SiteRecord(
        site.name, site.names, site.behaviour.kind, site.calls, action, reason, details_of(outcome)
    )


def _device(model: nn.Module) -> torch.device:
    tensor = next(iter((*model.parameters(), *model.buffers())), None)
    return torch.device("cpu") if tensor is None else tensor.device
