"""The criterion of a claim, from its text: "> 0", "< 5 pp", "within 3 %", "within 0.02 of 0", "prediction interval"."""

from __future__ import annotations

import math
import re

from bnbench.analysis.findings.finding import Criterion

FORMS = '"> 0", "< 5 pp", "within 3 %", "within 1.5 pp", "within 0.02 of 0" or "prediction interval"'
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_COMPARED = re.compile(rf"(>=|<=|>|<)\s*({_NUMBER})\s*(pp|%)?")
_WITHIN = re.compile(rf"within\s+({_NUMBER})\s*(pp|%)?(?:\s+of\s+({_NUMBER})\s*(pp|%)?)?")


def read_criterion(text: str) -> Criterion:
    """The criterion that the text states. Raises ValueError, with the forms that there are.

    A number is in bnbench's unit, where an accuracy is a share; "pp" makes it hundredths. After `within`, "%" means
    per cent of the published value.

    Examples
    --------
    >>> read_criterion("within 3 %")
    Criterion(kind='within', number=None, tolerance=0.03, relative=True, text='within 3 %')
    >>> read_criterion("> 5 pp").number
    0.05
    """
    words = " ".join(text.split())
    if words == "prediction interval":
        return Criterion("prediction", text=words)
    if match := _COMPARED.fullmatch(words):
        sign, number, unit = match.groups()
        return Criterion("above" if sign[0] == ">" else "below", _scaled(number, unit), text=words)
    if match := _WITHIN.fullmatch(words):
        tolerance, unit, number, of_unit = match.groups()
        relative = unit == "%" and number is None
        size = _scaled(tolerance, unit)
        if size > 0:
            middle = None if number is None else _scaled(number, of_unit)
            return Criterion("within", middle, size, relative, text=words)
    raise ValueError(f"{text!r} can't be read. Fix: one of {FORMS}")


def _scaled(number: str, unit: str | None) -> float:
    value = float(number) / (100 if unit else 1)
    if not math.isfinite(value):
        raise ValueError(f"{number} is too large")
    return value
