"""Statistics that are computed from a single value, which is then normalized to a constant."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from bnbench.engine.rehearsal.case import Case
from bnbench.network.sites.recorded import Site, Sites, WeightLayer, ignores_size
from bnbench.norms.behaviour import MANY, refusal, values_alone
from bnbench.norms.owner import made_as


def why_alone(case: Case, sites: Sites, site: Site) -> str:
    """Why this normalizer can't work here; "" where it can: it sees more than one value a statistic."""
    sizes = case.batches()
    for size in sizes:
        shape = site.shape_for(size)
        share = values_alone(site.module, shape) if shape else 0.0
        if shape and share:
            alike = [other.name for other in sites.norms if other.signature == site.signature]
            only_last = len(sizes) > 1 and size == list(sizes)[-1]
            return _alone_message(case, site, alike, shape, share, only_last)
    shape = site.shape_for(case.smallest_part)
    if case.smallest_part == 1 and shape and values_alone(site.module, shape, training=False):
        return (
            f"norm: {case.settings.norm.name}: {site} uses the statistics of its batch at inference, too, and one "
            "of the parts that are evaluated has a single sample, so each statistic is computed from one value. "
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
        f"each statistic{part} is computed from one value, so the output is a constant, a sign or far too large, "
        "whatever the input"
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
        "cover more values (batch: the samples; layer: the channels)."
    )


def why_one_weight(case: Case, layer: WeightLayer) -> str:
    """Why a layer can't normalize its weights: each output has one. "" where nothing is wrong."""
    weight = getattr(layer.module, "weight", None)
    from_torch = type(layer.module).__module__.startswith("torch.nn")
    if from_torch or not isinstance(weight, nn.Parameter) or weight[0].numel() > 1:
        return ""
    if not ignores_size(layer.module, weight):
        return ""
    kind = type(layer.module).__name__
    return (
        f"norm: {case.settings.norm.name}: {layer.name} ({kind}) has one weight per output, and a single weight "
        "that is normalized is always the same. Fix: a model with more than 1 input to each layer, or norm: group."
    )
