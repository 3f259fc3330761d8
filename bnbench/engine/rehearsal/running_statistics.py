"""Running statistics that still hold much of their initial value when a run ends."""

from __future__ import annotations

from collections.abc import Sequence

from bnbench.engine.rehearsal.case import Case
from bnbench.network.sites.recorded import Site
from bnbench.norms.behaviour import initial_share, takes

#: More of the initial running statistics than this is a caution.
WORTH_A_CAUTION = 0.05


def share_left(case: Case, site: Site) -> float:
    """The share of its initial running statistics that is left at the end of a run."""
    if case.settings.is_only_a_look:
        return 0.0
    sizes = [(site.shape_for(size), count) for size, count in case.batches_of_a_run().items()]
    batches = [(shape, count) for shape, count in sizes if shape and len(shape) > 1]
    small = [((*shape[:2], *(min(size, 2) for size in shape[2:])), count) for shape, count in batches]
    if not batches:
        return 0.0
    return initial_share(site.module, small if takes(site.module, small[0][0]) else batches)


def why_unfilled(case: Case, shares: Sequence[tuple[Site, float]]) -> str:
    """The caution on the layer that keeps most; "" where every layer is filled. shares: see `share_left`."""
    kept = [(site, share) for site, share in shares if share > WORTH_A_CAUTION]
    if not kept:
        return ""
    site, share = max(kept, key=lambda pair: pair[1])
    steps = sum(case.batches_of_a_run().values())
    options = case.settings.norm.options
    momentum = f" (norm.momentum: {options['momentum']})" if "momentum" in options else ""
    more = f" and {len(kept) - 1} more" if len(kept) > 1 else ""
    fix = f"More {'epochs' if case.settings.steps is None else 'steps'}, or a momentum that forgets sooner, fill them."
    if share > 0.999:
        fix = "No number of steps changes that; another momentum does."
    return (
        f"{case.label}: after its {steps:,} step{'s' * (steps != 1)} the running statistics of {site}{more} still hold "
        f"{share:.0%} of their initial values{momentum}, and inference uses them. {fix}"
    )
