"""One architecture of the census: found, converted and counted, by bnbench and beside it."""

from __future__ import annotations

import copy
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from census_count import count_norms, run_on, unexplained
from census_zoo import Architecture, on_meta
from torch import nn

from bnbench.base.network_records import Proof
from bnbench.models.layers import NormLayer
from bnbench.network.convert.conversion import convert_norms
from bnbench.network.convert.proofs import count_parameters, count_sites
from bnbench.network.convert.records import Choices
from bnbench.network.convert.replacement import replace_norms
from bnbench.network.sites.find import find_norm_sites
from bnbench.network.sites.norm_site import NormSites
from bnbench.norms import norms

#: Pixels of the images of the numeric proofs, the first that the network takes.
SIDES = (32, 64)
#: Seconds that the five proofs may take, and how many forward passes of six float64 samples they are worth.
SECONDS, PASSES = 30.0, 40
#: Parameters above which a network is not built for the numeric proofs.
MOST_PARAMETERS = 30_000_000


@dataclass
class Found:
    """What became of one architecture. kinds, actions, reasons: counts. silent: what the count beside has and ours
    has not, or what was left without a reason. proofs: by name; None where one can't be made. full: side of the images
    of the five proofs (-1: other inputs), 0 where they were not made.
    """

    zoo: str
    name: str
    family: str
    sites: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    actions: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    counted: int = 0
    counted_functions: int = 0
    counted_weights: int = 0
    silent: list[str] = field(default_factory=list)
    proofs: dict[str, bool | None] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    full: int = 0
    why_not_full: str = ""
    tracer: str = ""
    error: str = ""
    crash: str = ""
    seconds: float = 0.0

    @property
    def outcome(self) -> str:
        """converted, refused (in part or whole, each with a reason), without norm, silent, failed."""
        if self.crash or self.failed:
            return "failed"
        if self.silent:
            return "silent"
        if not self.sites:
            return "without norm"
        return "refused" if set(self.actions) - {"converted"} else "converted"


def judge(architecture: Architecture, to: str, *, full: bool = True) -> Found:
    """Structure and counts on the meta device (HF: on the CPU, small); all five proofs where they are quick."""
    found = Found(architecture.zoo, architecture.name, architecture.family)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            _structure(architecture, to, found)
            if full:
                _numbers(architecture, to, found)
        except Exception as error:  # a defect of ours, or a network that can't be built
            found.crash = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}"
    found.seconds = round(time.perf_counter() - start, 2)
    return found


def _structure(architecture: Architecture, to: str, found: Found) -> None:
    """Proofs 1 and 4, and the count beside."""
    model = architecture.build() if architecture.size is None else on_meta(architecture)
    inputs = inputs_of(architecture, model)
    traced: list[NormSites] = []
    # the count beside listens to the pass that our own search makes, and looks at nothing of the search
    count = count_norms(model, lambda network: traced.append(find_norm_sites(network, inputs)))
    if not traced:
        raise RuntimeError(count.error)
    sites = traced[0]
    found.tracer, found.error = sites.tracer, sites.error
    done = replace_norms(copy.deepcopy(model), sites.sites, NormLayer(norms.get(to)), Choices("all"))
    found.sites = len(sites.sites)
    found.kinds = dict(Counter(site.behaviour.kind for site in sites.sites))
    found.actions = dict(Counter(item.action for item in done.sites))
    found.reasons = dict(Counter(item.reason for item in done.sites if item.action != "converted"))
    for proof in (count_sites(sites.sites, done, model), count_parameters(model, done)):
        _note(found, proof)
    found.counted, found.counted_functions = len(count.modules), sum(count.functions.values())
    found.counted_weights = count.weights
    found.silent = unexplained(count, [(site.names, site.module is None) for site in sites.sites])
    found.silent += [
        f"{item.site.name}: no reason" for item in done.sites if not item.reason and not item.new
    ]


def _note(found: Found, proof: Proof) -> None:
    found.proofs[proof.name] = proof.passed
    if proof.passed is False:
        found.failed.append(f"{proof.name}: {proof.explanation}")


def inputs_of(architecture: Architecture, model: nn.Module) -> Callable[[int], Any]:
    """From a number of samples to what the network is called with."""
    size = architecture.size
    if size is None:
        given: Callable[[int], Any] = vars(model)["census_inputs"]
        return given
    device = next(model.parameters()).device

    def images(samples: int) -> torch.Tensor:
        generator = None if device.type == "meta" else torch.Generator().manual_seed(samples)
        return torch.randn(samples, *size, device=device, generator=generator)

    return images


def _numbers(architecture: Architecture, to: str, found: Found) -> None:
    """All five proofs, with values, where the network takes small images and is quick."""
    if not found.sites:
        return
    sides = (0,) if architecture.size is None else SIDES
    if architecture.size is not None:
        size = sum(parameter.numel() for parameter in on_meta(architecture).parameters())
        if size > MOST_PARAMETERS:
            found.why_not_full = f"more than {MOST_PARAMETERS:,} parameters"
            return
    torch.manual_seed(0)
    model = architecture.build()
    for side in sides:
        small = architecture if not side else _small(architecture, side)
        inputs = inputs_of(small, model)
        took = _seconds_of_pass(model, inputs)
        if took is None:
            found.why_not_full = f"it takes no images of {' or '.join(map(str, SIDES))} pixels"
            continue
        if took * PASSES > SECONDS:
            found.why_not_full = f"a pass takes {took:.1f} s"
            return
        conversion = convert_norms(model, NormLayer(norms.get(to)), Choices("all"), inputs)
        found.full, found.why_not_full = side or -1, ""
        for proof in conversion.proofs:
            _note(found, proof)
        return


def _small(architecture: Architecture, side: int) -> Architecture:
    return Architecture(
        architecture.zoo, architecture.name, architecture.family, architecture.build, (3, side, side)
    )


def _seconds_of_pass(model: nn.Module, inputs: Callable[[int], Any]) -> float | None:
    """Of six samples in training mode; None where the network does not run on them."""
    model.train()
    start = time.process_time()  # others may use the machine
    try:
        with torch.no_grad():
            run_on(inputs(6))(copy.deepcopy(model))
    except Exception:
        return None
    return time.process_time() - start


def add_numbers(architecture: Architecture, to: str, one: dict[str, Any]) -> dict[str, Any]:
    """A record with all five proofs, where only the structure was judged so far."""
    found = Found(**{key: value for key, value in one.items() if key != "outcome"})
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            _numbers(architecture, to, found)
        except Exception as error:
            found.crash = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}"
    found.seconds = round(found.seconds + time.perf_counter() - start, 2)
    return record(found)


def record(found: Found) -> dict[str, Any]:
    """As the JSON file has it."""
    return {**asdict(found), "outcome": found.outcome}
