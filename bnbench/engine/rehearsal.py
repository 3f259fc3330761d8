"""What a study can't mean, and what limits its answer, found before it trains: on the real shapes of its networks."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

import bnbench
from bnbench.base.errors import BnbenchError, Mistake
from bnbench.base.user_code import raise_interrupt, text_of
from bnbench.data.augmentations import Augmentation
from bnbench.data.batches import epoch_order
from bnbench.engine.build import build_model, make_optimizer, make_schedule
from bnbench.network.biases import Layers, is_covered, missing_biases
from bnbench.network.sites import Site, Sites, WeightLayer, find_sites, ignores_size
from bnbench.norms.behaviour import MANY, initial_share, refusal, takes, values_alone
from bnbench.norms.owner import made_as
from bnbench.study import Settings

#: More of the initial running statistics than this is worth a word.
WORTH_A_WORD = 0.05
_OURS = str(Path(bnbench.__file__).parent)
_TORCHS = str(Path(torch.__file__).parent)


@dataclass(frozen=True)
class Case:
    """One cell of a study, and the sizes of its data. smallest_part: samples in the smallest evaluation batch."""

    label: str
    settings: Settings
    input_shape: tuple[int, int, int]
    num_classes: int
    num_train: int
    smallest_part: int
    augmentation: Augmentation | None
    seeds: tuple[int, ...] = (0,)

    def batches(self) -> Counter[int]:
        """The sizes of an epoch's batches, and how many have each; the last batch has the last size."""
        settings = self.settings
        order = epoch_order(self.num_train, settings.batch_size, 0, 0, settings.last_batch)
        return Counter(map(len, order))


@dataclass
class Rehearsal:
    """What came out. cautions: of a cell's runs, by its label. forward_errors: of a cell's network, likewise."""

    mistakes: list[Mistake] = field(default_factory=list)
    cautions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    forward_errors: dict[str, BaseException] = field(default_factory=dict)


def rehearse_cases(cases: Iterable[Case]) -> Rehearsal:
    """Build and probe every cell's network. Cells of one network are probed once."""
    done = Rehearsal()
    probed: dict[str, _Probed] = {}
    layers: list[Layers] = []
    messages: dict[str, Mistake] = {}
    for case in cases:
        try:
            found = _probe_once(case, probed)
            messages |= {text: Mistake(f"variant {case.label}", text) for text in found.mistakes}
            if found.error:
                done.forward_errors[case.label] = found.error
            if text := equal_seeds(case, found):
                messages.setdefault(text, Mistake(f"variant {case.label}", text))
        except BaseException as error:
            raise_interrupt(error)
            mistake = build_mistake(case.label, error)
            messages.setdefault(mistake.message, mistake)
            continue
        model, norm = case.settings.model.name, case.settings.norm.name
        layers.append(Layers(case.label, model, norm, found.covered))
        if text := _unfilled(case, found):
            done.cautions[case.label] = (text,)
    for label, text in missing_biases(layers).items():
        done.cautions[label] = (*done.cautions.get(label, ()), text)
    done.mistakes = list(messages.values())
    return done


def build_mistake(label: str, error: BaseException) -> Mistake:
    """Of what was raised while a network, its optimizer or its schedule was made."""
    return _mistake(label, error, "it can't be built: ")


def crash_mistake(label: str, error: BaseException) -> Mistake:
    """Of what a network raises on a batch."""
    return _mistake(label, error, "")


def _mistake(label: str, error: BaseException, head: str) -> Mistake:
    if isinstance(error, BnbenchError):
        return Mistake(f"variant {label}", str(error))
    place = place_of(error)
    what = text_of(error)
    fix = ". Fix: a smaller model" if "can't allocate memory" in what else ""
    return Mistake(f"variant {label}", f"{head}{what}{f' ({place})' if place else ''}{fix}")


def place_of(error: BaseException) -> str:
    """The last line of the user's own code in the traceback, "my_norms.py:12"; "" where none is."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame
        for frame in frames
        if not frame.filename.startswith((_OURS, _TORCHS, "<")) and "site-packages" not in frame.filename
    ]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else ""


@dataclass
class _Probed:
    """What was found out about one network. covered: of every layer of weights, whether something shifts its output."""

    model: nn.Module
    sites: Sites
    mistakes: list[str]
    error: BaseException | None
    shares: list[tuple[Site, float]]
    covered: tuple[tuple[WeightLayer, bool], ...]


def _probe_once(case: Case, probed: dict[str, _Probed]) -> _Probed:
    settings = case.settings
    if case.augmentation:
        case.augmentation.check(case.input_shape)
    model = build_model(settings, case.input_shape, case.num_classes, case.seeds[0])
    make_optimizer(settings)(model)  # for their own checks, which ask for every cell's options
    steps = sum(case.batches().values())
    make_schedule(settings, steps * settings.epochs, steps)
    network = settings.model_dump_json(
        include={"model", "norm", "batch_size", "last_batch", "epochs", "init", "framework"}
    )
    key = f"{network} {case.input_shape} {case.num_train} {case.smallest_part}"
    if key not in probed:
        probed[key] = _probe(case, model)
    return probed[key]


def _probe(case: Case, model: nn.Module) -> _Probed:
    found = find_sites(model, case.input_shape)
    if found.error:  # perhaps at the number of samples: once more with the study's own
        found = find_sites(model, case.input_shape, max(case.batches()))
    sites = list({site.signature: site for site in found.norms}.values())
    mistakes = [text for text in (_alone(case, found, site) for site in sites) if text]
    # of all widths alike: what is kept depends on the batches alone
    kinds = {(type(site.module), len(site.shape)): site for site in sites}.values()
    shares = [] if mistakes or found.error else [(site, _share(case, site)) for site in kinds]
    shape, known = case.input_shape, () if found.error else tuple(found.layers)
    covered = tuple((layer, is_covered(layer, model, shape)) for layer in known)
    mistakes += [text for layer in found.layers if (text := _one_weight(case, layer))]
    return _Probed(model, found, mistakes, None if mistakes else found.error, shares, covered)


def _alone(case: Case, found: Sites, site: Site) -> str:
    """Why this normalizer can't work here; "" where it can: it sees more than one value a statistic."""
    sizes = case.batches()
    for size in sizes:
        shape = site.shape_for(size)
        share = values_alone(site.module, shape) if shape else 0.0
        if shape and share:
            alike = [other.name for other in found.norms if other.signature == site.signature]
            only_last = len(sizes) > 1 and size == list(sizes)[-1]
            return _alone_message(case, site, alike, shape, share, only_last)
    shape = site.shape_for(case.smallest_part)
    if case.smallest_part == 1 and shape and values_alone(site.module, shape, training=False):
        return (
            f"norm: {case.settings.norm.name}: at inference, too, {site} uses the statistics of its batch, and a "
            "part that is evaluated has one sample, whose every statistic is of one value. "
            "Fix: more data to evaluate, or a norm that keeps running statistics."
        )
    return ""


def _alone_message(
    case: Case, site: Site, alike: Sequence[str], shape: Sequence[int], share: float, only_last: bool
) -> str:
    settings = case.settings
    more = f" (and {len(alike) - 1} more)" if len(alike) > 1 else ""
    owner = f"norm: {settings.norm.name}" if made_as(site.module) else f"model: {settings.model.name}"
    where = f"{owner}: {site}{more} gets {tuple(shape)}"
    which = f" in the last batch of every epoch, which has {shape[0]}" if only_last else ""
    part = "" if share == 1 else f" for {share:.0%} of the values"
    why = (
        f"every statistic{part} is of one value, and the output a constant, a mere sign or far too large, "
        "whatever comes in"
    )
    if raised := refusal(site.module, shape):
        why = f"its statistics have too few values there ({raised})"
    larger = site.shape_for(MANY)
    by_batch = larger is not None and not values_alone(site.module, larger)
    return f"{where}{which}: {why}. Fix: {_fix(case, by_batch, only_last, share)}"


def _fix(case: Case, by_batch: bool, only_last: bool, share: float) -> str:
    settings = case.settings
    if by_batch and case.num_train == 1:
        limit = "max_train_samples: 2 or more" if settings.max_train_samples == 1 else "more data to train on"
        return f"{limit}, or a norm that looks at single samples, such as layer."
    if by_batch and share < 1:
        return "a batch_size that the norm's parts divide (and last_batch: drop), or another norm."
    if by_batch and only_last:
        return (
            "last_batch: merge (the default) or drop, another batch_size, or a norm that looks at single "
            "samples, such as layer."
        )
    if by_batch:
        return "batch_size: 2 or more, or a norm that looks at single samples, such as layer."
    learnt = (
        "norm.learn_eps: true (made for single values), " if settings.norm.name == "filter_response" else ""
    )
    groups = "fewer groups, " if "groups" in settings.norm.options else ""
    return (
        f"{learnt}{groups}a network that leaves more positions or channels there, or a norm whose statistics "
        "are of more values (batch: over the samples; layer: over the channels)."
    )


def _share(case: Case, site: Site) -> float:
    """The share of its initial running statistics that is left at the end of a run."""
    sizes = [(site.shape_for(size), count * case.settings.epochs) for size, count in case.batches().items()]
    batches = [(shape, count) for shape, count in sizes if shape and len(shape) > 1]
    small = [((*shape[:2], *(min(size, 2) for size in shape[2:])), count) for shape, count in batches]
    if not batches:
        return 0.0
    return initial_share(site.module, small if takes(site.module, small[0][0]) else batches)


def _unfilled(case: Case, found: _Probed) -> str:
    kept = [(site, share) for site, share in found.shares if share > WORTH_A_WORD]
    if not kept:
        return ""
    site, share = max(kept, key=lambda pair: pair[1])
    steps = sum(case.batches().values()) * case.settings.epochs
    options = case.settings.norm.options
    momentum = f" (norm.momentum: {options['momentum']})" if "momentum" in options else ""
    more = f" and {len(kept) - 1} more" if len(kept) > 1 else ""
    mended = "More epochs, or a momentum that forgets sooner, fill them."
    if share > 0.999:
        mended = "No number of steps changes that; another momentum does."
    return (
        f"{case.label}: after its {steps:,} step{'s' * (steps != 1)} the running statistics of {site}{more} still hold "
        f"{share:.0%} of their initial values{momentum}, and inference uses them. {mended}"
    )


def _one_weight(case: Case, layer: WeightLayer) -> str:
    """Why a layer that normalizes its weights can't: each output has one. "" where nothing is wrong."""
    weight = getattr(layer.module, "weight", None)
    plain = type(layer.module).__module__.startswith("torch.nn")
    if plain or not isinstance(weight, nn.Parameter) or weight[0].numel() > 1:
        return ""
    if not ignores_size(layer.module, weight):
        return ""
    kind = type(layer.module).__name__
    return (
        f"norm: {case.settings.norm.name}: {layer.name} ({kind}) has one weight an output: normalized, it is "
        "the same whatever it was. Fix: a model with more than 1 input to each layer, or norm: group."
    )


def equal_seeds(case: Case, found: _Probed) -> str:
    """Why all seeds of a cell would be one run; "" where they differ, or there is one."""
    if len(case.seeds) < 2 or "split" in case.settings.vary:
        return ""
    vary, sizes = case.settings.vary, case.batches()
    if "order" in vary and (sum(sizes.values()) > 1 or sum(s * n for s, n in sizes.items()) < case.num_train):
        return ""
    if "augmentation" in vary and case.augmentation:
        return ""
    if "init" in vary and _starts_differently(case, found.model):
        return ""
    if "noise" in vary and (found.sites.draws or _keeps_noise(found.model)):
        return ""
    return (
        f"vary: [{', '.join(vary)}]: nothing of this changes a run of {case.label}, so that its {len(case.seeds)} "
        f"seeds would be one run {len(case.seeds)} times, without any scatter. Fix: vary: [init, order], or seeds: 1."
    )


def _starts_differently(case: Case, model: nn.Module) -> bool:
    other = build_model(case.settings, case.input_shape, case.num_classes, case.seeds[1])
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    return any(not torch.equal(ours.detach().cpu(), theirs.detach()) for ours, theirs in pairs)


def _keeps_noise(model: nn.Module) -> bool:
    return any(callable(getattr(module, "reset_noise", None)) for module in model.modules())
