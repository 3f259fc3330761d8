"""A caution on a verdict about a gap: a network that has learned little has a small one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bnbench.analysis.difference import Difference
from bnbench.base.metrics import GAPS, parted


def gap_caution(comparisons: Sequence[Difference], primary: str) -> Iterator[str]:
    """Which variants have a worse gap than the baseline, but a better metric on the part itself, or the reverse.

    Better on the part: the whole 95 % interval of the paired difference lies on the other side of 0.
    """
    part, name = parted(primary)
    if part not in GAPS:
        return
    level = f"{GAPS[part][0]}_{name}"
    gaps = {c.label: c for c in comparisons if c.metric == primary and c.verdict in ("better", "worse")}
    levels = (c for c in comparisons if c.metric == level and c.at == "final" and c.label in gaps)
    texts = [
        f"{c.label} {c.difference:+.3g}"
        for c in levels
        if c.difference is not None and c.ci_low is not None and c.ci_high is not None
        if (gaps[c.label].difference or 0) * c.difference < 0 < c.ci_low * c.ci_high
    ]
    if texts:
        yield (
            f"{primary} says how much worse the {GAPS[part][0]} part is than the training part, not how good "
            f"either is. {level} differs from the baseline's in the other direction: {', '.join(texts)}."
        )
