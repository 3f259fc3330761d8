"""Somebody's network with a variant's normalizer in the place of its own.

It is built by its own constructor, from a stream of the seed alone, so that all variants draw the same initial weights
and its own initialization is kept. Then its normalizers are replaced, and what a new layer or a bias that comes back
draws follows from further streams. What stays is equal in all variants, bit for bit.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from dataclasses import replace as with_changes
from typing import Any

import torch
from torch import nn

from bnbench.base.errors import BnbenchError
from bnbench.base.files import key_text
from bnbench.base.process_state import seeded
from bnbench.base.seeding import derive
from bnbench.base.user_code import guarded, raise_interrupt
from bnbench.engine.own.facts import Use
from bnbench.engine.own.fit import Fit, candidates, fitted, tensor_of
from bnbench.engine.own.refusals import cannot_stand, misfit, no_norms, wrong_outputs
from bnbench.network.convert import Choices, Replaced, replace_norms
from bnbench.network.sites.find import find_norm_sites
from bnbench.network.sites.norm_site import NormSite
from bnbench.network.source.trial import tried
from bnbench.norms.behaviour import CPU
from bnbench.norms.norm_layer import NormLayer

#: Samples of the batch on which a network is tried; a number that no axis of an image has by chance.
SAMPLES = 3
_SAID, _OWN_SEED = "bnbench_said", "bnbench_own_seed"
#: What was found on the last networks, by what they are built from.
_known: OrderedDict[str, Found] = OrderedDict()
_MOST = 32


@dataclass(frozen=True)
class Found:
    """How batches reach a network, and its normalizations."""

    fit: Fit
    sites: tuple[NormSite, ...]
    factory: Callable[..., Any]


@dataclass(frozen=True)
class Recipe:
    """What a network is built from. name: as the study has it. factory: from a `Wanted` and the options to the network.

    changed: the options of the normalizer that are not its defaults. replace: "batch", "all", or "auto": its batch
    norms, and all its normalizers where it has none. side: that images are resized to.
    """

    name: str
    factory: Callable[..., nn.Module]
    options: Mapping[str, Any]
    norm: NormLayer
    use: Use
    replace: str = "auto"
    side: int | None = None
    changed: Mapping[str, Any] = field(default_factory=dict)

    def built(self, seed: int) -> nn.Module:
        """The network as its own constructor makes it."""
        self.use.refuse(self.name)
        wanted = self.use.wanted()
        if self.side is not None and wanted.shape is not None and len(wanted.shape) == 3:
            wanted = with_changes(wanted, shape=(wanted.shape[0], self.side, self.side))
        with guarded(), seeded(derive(seed, "build"), CPU):
            model = self.factory(wanted, **self.options)
            own_seed = torch.initial_seed() != derive(seed, "build") and not getattr(
                self.factory, "ready", False
            )
        if self._wants_the_step(model):
            wider = with_changes(wanted, in_channels=(wanted.in_channels or 0) + 1)
            with guarded(), seeded(derive(seed, "build"), CPU):
                model = self.factory(wider, **self.options)
        if own_seed:
            vars(model)[_OWN_SEED] = True
        return model.train()

    def _wants_the_step(self, model: nn.Module) -> bool:
        """Whether the step of a diffusion process reaches it as a further channel."""
        return self.use.timed and not next(candidates(model, self.use, None)).apart

    @property
    def key(self) -> str:
        """Networks of one key are built alike, apart from their weights."""
        side = self.side, self.use.name, repr(self.use.sizes), repr(vars(self.use.task))
        return f"{self.name} {key_text(dict(self.options))} {side}"


def own_network(recipe: Recipe, seed: int) -> nn.Module:
    """The network of one run, on the CPU, in training mode. Raises BnbenchError for whatever does not fit together."""
    model = recipe.built(seed)
    own_seed = bool(vars(model).pop(_OWN_SEED, False))
    _materialise(model, recipe, seed)
    found = _found(model, recipe)
    model, said = _with_norm(model, recipe, found, seed)
    model = fitted(model, found.fit)
    if how := found.fit.said():
        said += f"; {how}"
    if getattr(recipe.factory, "ready", False):
        said += "; every seed starts from the weights that the file has built"
    if own_seed:
        said += "; its own code seeds torch, so weights drawn after that are the same for every seed"
    vars(model)[_SAID] = said
    return model


def said_of(model: nn.Module) -> str:
    """What was done to somebody's network, in one sentence; "" of any other network."""
    said = vars(model).get(_SAID, "")
    return said if isinstance(said, str) else ""


def _materialise(model: nn.Module, recipe: Recipe, seed: int) -> None:
    """Lazy layers make their parameters in a first pass: one in eval, from a stream of their own."""
    if not any(nn.parameter.is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
        return
    x = recipe.use.inputs(SAMPLES)
    with guarded(), seeded(derive(seed, "lazy"), CPU), torch.no_grad():
        model.eval()
        for fit in candidates(model, recipe.use, recipe.side):
            args, named = fit.arguments(x)
            try:
                model(*args, **named)
            except BaseException as error:  # the next one, or the trial says what is wrong
                raise_interrupt(error)
                continue
            break
    model.train()


def _found(model: nn.Module, recipe: Recipe) -> Found:
    """How batches reach it, and its normalizations; looked at once for all runs of a study."""
    known = _known.get(recipe.key)
    if known is None or known.factory is not recipe.factory:
        fit = fit_of(recipe.name, model, recipe.use, recipe.side)
        found = find_norm_sites(model, lambda samples: fit.call(recipe.use.inputs(samples)))
        known = _known[recipe.key] = Found(fit, found.sites, recipe.factory)
        if not known.sites:
            del _known[recipe.key]
            raise no_norms(recipe.name, model)
        if isinstance(model, torch.jit.ScriptModule):  # with no variant: nothing can be looked at in it
            del _known[recipe.key]
            refused = [Replaced(site, "refused", site.refused) for site in known.sites if site.refused]
            raise cannot_stand(recipe.name, recipe.norm.entry.name, model, refused)
    _known.move_to_end(recipe.key)
    while len(_known) > _MOST:
        _known.popitem(last=False)
    return known


def fit_of(name: str, model: nn.Module, use: Use, side: int | None = None) -> Fit:
    """The first way to give a network a batch that gives what the task wants. Raises BnbenchError without one.

    name: for the message. side: that images are resized to.
    """
    faults: list[_Fault] = []
    for fit in candidates(model, use, side):
        outputs, fault = _tried_with(name, model, fit, use)
        if fault is None:
            return with_changes(fit, outputs=outputs)
        faults.append(fault)
    raise max(faults, key=lambda fault: fault.layers).error  # the one that came furthest says most


@dataclass(frozen=True)
class _Fault:
    """Why a way to give a batch does not do. layers: how many calls came through; one that gives an output has all."""

    error: BnbenchError
    layers: float = math.inf


def _tried_with(name: str, model: nn.Module, fit: Fit, use: Use) -> tuple[str, _Fault | None]:
    """Which of the network's outputs is the answer, at inference and in training; or what is wrong."""
    keys, through = list[str](), 0
    for training in (False, True):
        trial = tried(model, fit.call(use.inputs(SAMPLES)), training=training)
        if trial.fault:
            return "", _Fault(misfit(name, trial, use, fit), through + trial.layers)
        through += trial.layers
        key, why = tensor_of(trial.outputs)
        if why:
            return "", _Fault(wrong_outputs(name, f"{'in training ' * training}{why}", use))
        keys.append(key)
        y = with_changes(fit, outputs=key).chosen(trial.outputs)
        if (shape := use.output_shape(SAMPLES)) is not None and tuple(y.shape) != shape:
            gives = f"gives {tuple(y.shape)} for {SAMPLES} samples"
            return "", _Fault(wrong_outputs(name, gives, use))
    if keys[0] != keys[1]:
        return "", _Fault(wrong_outputs(name, "gives other outputs in training than at inference", use))
    return keys[0], None


def _with_norm(model: nn.Module, recipe: Recipe, found: Found, seed: int) -> tuple[nn.Module, str]:
    """The network with the variant's normalizer, and what was done. Raises BnbenchError where it can't stand."""
    batch = any(site.behaviour.kind in ("batch", "sync") for site in found.sites)
    source = recipe.replace if recipe.replace != "auto" else "batch" if batch else "all"
    name = recipe.norm.entry.name
    if name == "batch" and not recipe.changed and source == "batch":
        count = sum(site.behaviour.kind in ("batch", "sync") for site in found.sites)
        return (
            model,
            "its own batch norm, as it is" if count == 1 else f"its own {count} batch norms, as they are",
        )
    with seeded(derive(seed, "norms"), CPU):
        choices = Choices(source=source, seed=derive(seed, "biases"))  # type: ignore[arg-type]
        norm = NormLayer(recipe.norm.entry, recipe.changed)
        replaced = replace_norms(model, found.sites, norm, choices)
    if refused := [site for site in replaced.sites if site.action == "refused"]:
        raise cannot_stand(recipe.name, name, model, refused)
    if not any(site.action == "converted" for site in replaced.sites):
        raise no_norms(recipe.name, model, source)
    return replaced.model, _said(replaced.sites, name, source, batch)


def _said(sites: tuple[Replaced, ...], name: str, source: str, batch: bool) -> str:
    done = sum(site.action == "converted" for site in sites)
    what = "batch norms" if source == "batch" else "normalizers" if source == "all" else f"{source} norms"
    put = "taken out" if name == "none" else f"replaced by {name}"
    left = len(sites) - done
    rest = f", {left} other normalizer{'s' * (left != 1)} left" if left else ""
    why = "" if batch or source != "all" else " (it has no batch norm)"
    total = done if source != "all" else len(sites)
    actions = [bias.action for site in sites for bias in site.biases]
    given, taken = actions.count("given back"), actions.count("taken out")
    biases = f"; {given} bias{'es' * (given != 1)} given back" if given else ""
    biases += f"; {taken} bias{'es' * (taken != 1)} taken out" if taken else ""
    return f"{done} of {total} {what} {put}{why}{rest}{biases}"
