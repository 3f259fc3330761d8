"""A published finding: who printed what and where, which quantity of a study stands for it, and when it holds."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

#: same: the paper's own data, network and unit, so that sizes can be compared; other: only the direction can.
Scale = Literal["same", "other"]


@dataclass(frozen=True)
class Citation:
    """Who published it. At least one of arxiv, doi and url says where it can be read."""

    authors: str
    year: int
    title: str
    arxiv: str = ""
    doi: str = ""
    url: str = ""

    @property
    def short(self) -> str:
        """For example "Wu and He 2018"; "Yang et al. 2019" from three authors on."""
        names = [name.strip() for name in re.split(r",|;| and | & ", self.authors) if name.strip()]
        surnames = [name if name == "et al." else name.split()[-1] for name in names]
        if len(surnames) > 2 or "et al." in self.authors:
            return f"{surnames[0]} et al. {self.year}"
        return f"{' and '.join(surnames)} {self.year}"

    @property
    def link(self) -> str:
        """Where it can be read."""
        if self.arxiv:
            return f"https://arxiv.org/abs/{self.arxiv}"
        return f"https://doi.org/{self.doi}" if self.doi else self.url

    @property
    def key(self) -> str:
        """One of a paper: Holm's correction is over the claims with the same one."""
        return (self.link or f"{self.authors} {self.year} {self.title}").lower()


@dataclass(frozen=True)
class Published:
    """The printed number. value: None where the paper prints none (a plot, a sentence), `text` says so.

    values: both sides, where the quantity is A - B or A / B and the paper prints A and B. unit: as printed; "%" and
    "pp" are hundredths. runs: how many runs it is a mean of; 1 also where the paper does not say; infinite for a
    theory's number. runs_known: whether the paper says. interval: as printed, None where there is none. decimals: of
    the printed number, whose last digit is rounded by up to half a unit.
    """

    unit: str
    value: float | None = None
    values: tuple[float, float] | None = None
    runs: float = 1
    runs_known: bool = True
    interval: tuple[float, float] | None = None
    decimals: int = 0
    text: str = ""

    @property
    def factor(self) -> float:
        """From the printed unit to bnbench's: accuracies are shares."""
        return 0.01 if self.unit in ("%", "pp") else 1.0

    def band(self, *, ratio: bool) -> tuple[float, float] | None:
        """Lower and upper bound of the published number, by its rounding, in bnbench's unit; None without a number."""
        half = 0.5 * 10.0**-self.decimals if math.isfinite(self.decimals) else 0.0
        if self.values is not None:
            (a, b), f = self.values, self.factor
            if ratio:
                ends = [x / y for x in (a - half, a + half) for y in (b - half, b + half) if y]
                return min(ends), max(ends)
            return (a - b - 2 * half) * f, (a - b + 2 * half) * f
        if self.value is None:
            return None
        return (self.value - half) * self.factor, (self.value + half) * self.factor


@dataclass(frozen=True)
class Criterion:
    """When the claim holds.

    compare: the quantity lies above (">") or below ("<") `number`. within: it lies at most `tolerance` (a share of
    the published value where `relative`) from the published value, or from `number` where one is given. prediction:
    the published value lies in the prediction interval.
    """

    kind: Literal["above", "below", "within", "prediction"]
    number: float | None = None
    tolerance: float = 0.0
    relative: bool = False
    text: str = ""


@dataclass(frozen=True)
class Claim:
    """One published number or sentence, and the quantity that stands for it.

    no_effect: the quantity's value where the paper's effect is absent: 0 of a difference, 1 of a ratio, None where
    a single quantity has none.
    """

    name: str
    text: str
    where: str
    published: Published
    quantity: str
    criterion: Criterion
    scale: Scale
    no_effect: float | None = None


@dataclass(frozen=True)
class Finding:
    """One file. study_name: of the folder of its results; study_hash: of the text of its study, but for the seeds.

    data: the names of its data sets. cpu_seconds: as measured on one thread, None where nobody did. why: what its
    author thinks of the outcome. path: of the file as the user named it, "" of a shipped one.
    """

    name: str
    citation: Citation
    claims: tuple[Claim, ...]
    deviations: tuple[str, ...]
    study_name: str
    study_hash: str
    data: tuple[str, ...] = ()
    cpu_seconds: float | None = None
    why: str = ""
    path: str = ""
