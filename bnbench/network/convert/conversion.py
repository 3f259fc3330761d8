"""`convert`: another normalizer in a copy of a network, with a table of what became of each layer, and five proofs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from bnbench.base.errors import BnbenchError, unknown_name
from bnbench.base.network_records import Proof, SiteRecord
from bnbench.base.registry import Entry
from bnbench.network.convert.biases import BiasChange, Biases
from bnbench.network.convert.copying import check_copy, copied, with_shapes
from bnbench.network.convert.proofs import (
    comes_back,
    count_parameters,
    count_sites,
    one_step,
    same_as_custom,
)
from bnbench.network.convert.proofs.trial import Trials
from bnbench.network.convert.records import Choices, Replaced, Replacement, Source, inside
from bnbench.network.convert.replacement import replace_norms
from bnbench.network.files.savable import Origin, Savable
from bnbench.network.sites.find import find_norm_sites
from bnbench.network.sites.norm_site import NormSites
from bnbench.norms import norms
from bnbench.norms.norm_layer import NormLayer

Inputs = Callable[[int], Any]


@dataclass(frozen=True)
class Conversion(Savable):
    """A converted network. The network that was given is as it was.

    model: the converted copy. to: the normalizer. source: which normalizations were to be converted. sites: what became
    of each. proofs: what was checked. renamed: of each parameter, its name in the new network, None where it has none
    there; an optimizer of the old network holds the old parameters, so make a new one of `model.parameters()`.
    error: what the network raised on its inputs, "" without an error. original: the network that was given. origin: its
    word. entries: the normalizer, for `save`.
    """

    model: nn.Module
    to: str
    source: str
    sites: tuple[SiteRecord, ...]
    proofs: tuple[Proof, ...]
    renamed: Mapping[str, str | None]
    error: str = ""
    original: nn.Module | None = field(default=None, repr=False)
    origin: Origin = field(default_factory=Origin)
    entries: tuple[Entry, ...] = field(default=(), repr=False)

    @property
    def passed(self) -> bool:
        """Whether no proof failed."""
        return all(proof.passed is not False for proof in self.proofs)

    @property
    def left(self) -> tuple[SiteRecord, ...]:
        """The normalizations that were not converted, each with its reason."""
        return tuple(site for site in self.sites if site.action != "converted")

    def __repr__(self) -> str:
        """The answer in one line."""
        done = len(self.sites) - len(self.left)
        return f"<Conversion to {self.to}: {done} of {len(self.sites)} norms converted, passed={self.passed}>"


def convert(
    model: nn.Module,
    to: str | NormLayer,
    *,
    source: Source = "batch",
    options: Mapping[str, Any] | None = None,
    inputs: Inputs | None = None,
    biases: Biases = "fair",
    seed: int = 0,
) -> Conversion:
    """Convert a copy of a network to a registered normalizer. See `bnbench.convert`, which takes more kinds of both.

    options: of the normalizer; what is not among them (eps, momentum, ...) is the old layers'. inputs: from a number of
    samples to what the network is called with; None: no proof that runs it. Raises BnbenchError.
    """
    if isinstance(to, str):
        to = NormLayer(norms.get(to))
    norm = replace(to, options={**to.options, **checked_options(to, options or {})})
    return convert_norms(model, norm, Choices(source, biases, seed), inputs)


def checked_options(norm: NormLayer, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as the normalizer's types have them. Raises BnbenchError for one that it does not have."""
    from pydantic import ValidationError

    entry = norm.entry
    for name in options:
        if name not in entry.option_names():
            raise BnbenchError(unknown_name(f"option of norm {entry.name}", name, entry.option_names()))
    try:
        typed = entry.typed({**norm.options, **options})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"][:1]))
        raise BnbenchError(f"{place}={first['input']!r} of norm {entry.name}: {first['msg']}.") from None
    return {name: typed[name] for name in options}


def convert_norms(
    model: nn.Module, norm: NormLayer, choices: Choices, inputs: Inputs | None, sites: NormSites | None = None
) -> Conversion:
    """Convert a copy. Raises BnbenchError for a network without a normalization, and for one that can't be copied."""
    model = with_shapes(model, inputs)
    found = sites or find_norm_sites(model, inputs)
    if not found.sites:
        raise BnbenchError(
            f"{type(model).__name__} has no normalization: no module of it normalizes what it is given.",
            "So there is nothing to convert, whatever its layers are called.",
        )
    twin = copied(model)
    check_copy(model, twin, inputs if not found.error else None)
    done = replace_norms(twin, found.sites, norm, choices)
    trials = Trials(model, found.sites, inputs if not found.error else None)
    proofs: tuple[Proof, ...] = (
        count_sites(found.sites, done, model),
        same_as_custom(trials),
        comes_back(model, found.sites, done, norm),
        count_parameters(model, done),
        one_step(trials, norm, choices),
    )
    if found.error:
        proofs = tuple(
            replace(proof, explanation=f"the network does not run on its input: {found.error}")
            if proof.passed is None and proof.name in ("batch = batch_custom", "one step")
            else proof
            for proof in proofs
        )
    records = tuple(map(record, done.sites))
    return Conversion(
        done.model,
        norm.entry.name,
        choices.source,
        records,
        proofs,
        renamed(model, done),
        found.error,
        model,
        entries=(norm.entry,),
    )


def record(item: Replaced) -> SiteRecord:
    """One row of the table."""
    site = item.site
    details: dict[str, Any] = {"before": text_of(item.old or site.module)}
    if site.shapes:
        details["shape"] = list(site.shapes[0])
    if item.action == "converted":
        details |= {
            "after": text_of(item.new),
            "gamma": item.carried.gamma,
            "beta": item.carried.beta,
            "statistics": item.carried.statistics,
            "kept": item.kept,
            "bias": bias_text(item),
            "lost": item.carried.lost,
            "moved": item.carried.moved,
            "notes": notes(item),
        }
    return SiteRecord(
        site.name, site.names, site.behaviour.kind, site.calls, item.action, item.reason, details
    )


def text_of(module: nn.Module | None) -> str:
    """A layer on one line, such as GroupNorm(32, 64)."""
    if module is None:
        return "function"
    arguments = " ".join(str(module.extra_repr()).split())
    return f"{type(module).__name__}({arguments})"


def bias_text(item: Replaced) -> str:
    """What became of the bias before the layer."""
    texts = [_bias_text(bias) for bias in item.biases]
    return "; ".join(dict.fromkeys(texts)) or "none"


def _bias_text(bias: BiasChange) -> str:
    if not bias.action:
        return f"none: {bias.reason}" if bias.reason else "none"
    text = f"{bias.action}" + (f": {bias.producer}" if bias.action != "none" else "")
    return f"{text} ({bias.reason})" if bias.reason else text


def notes(item: Replaced) -> list[str]:
    """Sentences on what is neither carried nor lost."""
    more = [f"{item.activation} is part of the new layer"] if item.activation else []
    if not item.site.shapes:
        more.append("no input reached it: its dimension is that of its class")
    return [*item.carried.notes, *more]


def renamed(before: nn.Module, done: Replacement) -> dict[str, str | None]:
    """The name of each old parameter in the new network, None where it has none there."""
    after = {name for name, _ in done.model.named_parameters(remove_duplicate=False)}
    changed = {name for item in done.sites if item.new is not None for name in item.site.names}
    carried = {old: new for item in done.sites for old, new in item.new_names().items()}
    names: dict[str, str | None] = {}
    for place, module in before.named_modules(remove_duplicate=False):
        for own, _ in module.named_parameters(recurse=False):
            name = inside(place, own)
            held = name if name in after and not _within(place, changed) else None
            names[name] = carried.get(name, held)
    return {name: names[name] for name, _ in before.named_parameters(remove_duplicate=False)}


def _within(place: str, changed: set[str]) -> bool:
    return any(place == name or place.startswith(f"{name}.") or not name for name in changed)
