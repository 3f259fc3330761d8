"""Another normalizer in the place of those of somebody's network, with proofs of what was done."""

from bnbench.network.convert.conversion import Conversion, checked_options, convert, convert_norms
from bnbench.network.convert.records import SOURCES, Choices, Replaced, Replacement
from bnbench.network.convert.replacement import replace_norms

__all__ = [
    "SOURCES",
    "Choices",
    "Conversion",
    "Replaced",
    "Replacement",
    "checked_options",
    "convert",
    "convert_norms",
    "replace_norms",
]
