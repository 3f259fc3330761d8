"""What a user should know of a study although it is not a mistake."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from bnbench.study.cautions import cautions_of
from bnbench.study.cells import Cells
from bnbench.study.schema import Settings


def misnamed(variants: Mapping[str, Settings], norms: Collection[str]) -> list[str]:
    """Variants that are called as a norm is, and have another one, where norms are compared."""
    if len({settings.norm.name for settings in variants.values()}) == 1:
        return []
    return [
        f"the variant {name} has norm: {settings.norm.name}, though it is called as the norm {name} is."
        for name, settings in variants.items()
        if name in norms and settings.norm.name != name
    ]


def all_cautions(made: Cells) -> list[str]:
    """What limits the answers: of all variants, or of those that are named."""
    by_caution: dict[str, list[str]] = {}
    for cell in made.cells:
        for caution in cautions_of(cell.settings):
            by_caution.setdefault(caution, []).append(cell.variant)
    return [
        caution if set(names) == set(made.variants) else f"{', '.join(dict.fromkeys(names))}: {caution}"
        for caution, names in by_caution.items()
    ]
