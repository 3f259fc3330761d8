"""From a YAML file to a `Finding`: every mistake at once, each with its line. The study in it is read by the caller."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal

from bnbench.analysis.findings.criteria import FORMS, read_criterion
from bnbench.analysis.findings.fields import Fields
from bnbench.analysis.findings.finding import Citation, Claim, Criterion, Published, Scale
from bnbench.base.errors import Mistake
from bnbench.study.yaml_source import Source

_OF_CLAIM = ("claim", "where", "published", "quantity", "criterion", "scale", "no_effect")
_OF_FILE = ("citation", "where", "claims", "deviations", "study", "cpu_seconds", "why")
_OF_CITATION = ("authors", "year", "title", "arxiv", "doi", "url")
_OF_PUBLISHED = ("value", "values", "unit", "runs", "interval", "decimals")
_WANTED = "citation: {authors: Wu and He, year: 2018, title: Group Normalization, arxiv: '1803.08494'}"
_CLAIM = "group norm errs less than batch norm at batch size 2"
_NUMBER = (
    '{value: 10.6, unit: pp, runs: 1}; or, where the paper prints no number, a text: "a plot, no number"'
)


class FindingReader:
    """Reads the file's own part; `mistakes` has what is wrong with it."""

    def __init__(self, source: Source) -> None:
        self.mistakes: list[Mistake] = list(source.mistakes)
        self.fields = Fields(source, (), source.data, self.mistakes)
        several = "claims" in source.data
        self.fields.refuse_unknown(_OF_FILE if several else (*_OF_FILE, *_OF_CLAIM))

    def citation(self) -> Citation:
        """Who published it."""
        fields = self.fields.section("citation")
        if fields is None:
            given = self.fields.values.get("citation")
            problem = "it is missing" if given is None else f"{given!r} is wrong"
            self.fields.wrong("citation", f"{problem}. Fix: {_WANTED}")
            return Citation("", 0, "")
        fields.refuse_unknown(_OF_CITATION)
        year = fields.number("year", 1900, whole=True)
        if "year" not in fields.values:
            fields.wrong("year", "it is missing. Fix: year: 2018")
        links = {key: fields.text(key, required=False) for key in ("arxiv", "doi", "url")}
        if not any(key in fields.values for key in links):
            fields.wrong(
                "", "it says nowhere where the paper is. Fix: arxiv: '1803.08494', or a doi, or a url."
            )
        authors = fields.text("authors", "authors: Yuxin Wu and Kaiming He")
        title = fields.text("title", "title: Group Normalization")
        return Citation(authors, int(year or 0), title, **links)

    def claims(self) -> tuple[Claim, ...]:
        """The claims under `claims:`, or the one that the file itself states."""
        if "claims" not in self.fields.values:
            return (self._claim("", self.fields),)
        given = self.fields.values["claims"]
        if not isinstance(given, Mapping) or not given:
            self.fields.wrong(
                "claims", "it should be a mapping of names to claims, as in at_2: {claim: ...}."
            )
            return ()
        parent = self.fields.section("claims")
        assert parent is not None
        claims = []
        for name in given:
            fields = parent.section(name)
            if fields is None:
                parent.wrong(name, f"{given[name]!r} is not a claim. Fix: {name}: {{claim: {_CLAIM}, ...}}")
                continue
            fields.refuse_unknown(_OF_CLAIM)
            claims.append(self._claim(name, fields))
        return tuple(claims)

    def deviations(self) -> tuple[str, ...]:
        """What differs from the paper; an empty list where nothing does."""
        given = self.fields.values.get("deviations")
        if isinstance(given, list) and all(isinstance(one, str) and one.strip() for one in given):
            return tuple(" ".join(one.split()) for one in given)
        if given is None and "deviations" not in self.fields.values:
            problem = (
                "it is missing. Fix: a list, as in [MNIST in place of CIFAR-10, 10 epochs in place of 160]; "
                "[] where nothing differs."
            )
        else:
            problem = f"{given!r} is wrong: it should be a list of texts."
        self.fields.wrong("deviations", problem)
        return ()

    def _claim(self, name: str, fields: Fields) -> Claim:
        published = self._published(fields)
        quantity = fields.text("quantity", "quantity: batch.test_accuracy - none.test_accuracy")
        where = fields.text("where", required=False) or (
            self.fields.text("where", "where: table 2") if fields.path else ""
        )
        if not fields.path and not where:
            fields.wrong("where", "it is missing. Fix: where: table 2")
        return Claim(
            name=name,
            text=fields.text("claim", f"claim: {_CLAIM}"),
            where=where,
            published=published,
            quantity=quantity,
            criterion=self._criterion(fields, published),
            scale=self._scale(fields),
            no_effect=fields.number("no_effect"),
        )

    def _scale(self, fields: Fields) -> Scale:
        given = fields.values.get("scale")
        if given == "same" or given == "other":
            return "same" if given == "same" else "other"
        problem = "it is missing" if given is None else f"{given!r} is wrong"
        fields.wrong("scale", f"{problem}. Fix: same (the paper's own data, network and unit) or other.")
        return "other"

    def _criterion(self, fields: Fields, published: Published) -> Criterion:
        text = fields.text("criterion", f"one of {FORMS}")
        if not text:
            return Criterion("above", 0.0)
        try:
            criterion = read_criterion(text)
        except ValueError as error:
            fields.wrong("criterion", f"{error}.")
            return Criterion("above", 0.0)
        numbered = published.value is not None or published.values is not None
        needs = criterion.kind == "prediction" or (criterion.kind == "within" and criterion.number is None)
        if needs and not numbered and published.unit:
            fields.wrong("criterion", f'"{text}" needs a published number, and there is none. Fix: "> 0".')
        return criterion

    def _published(self, fields: Fields) -> Published:
        given = fields.values.get("published")
        if isinstance(given, str) and given.strip():
            return Published("none", text=" ".join(given.split()))
        inner = fields.section("published")
        if inner is None:
            problem = "it is missing" if given is None else f"{given!r} is wrong"
            fields.wrong("published", f"{problem}. Fix: {_NUMBER}.")
            return Published("")
        inner.refuse_unknown(_OF_PUBLISHED)
        unit = inner.text("unit", 'unit: pp, or "%", steps, std, x, ... as the paper has it')
        value, values = inner.number("value"), inner.pair("values")
        if (inner.values.get("value") is None) == (inner.values.get("values") is None):
            inner.wrong(
                "", "it needs value (one number) or values (both sides of A - B or A / B), and one of them."
            )
        printed = [number for number in (value, *(values or ())) if number is not None]
        decimals = inner.number("decimals", 0, whole=True)
        runs, known = _runs(inner)
        interval = inner.pair("interval")
        if interval and interval[0] > interval[1]:
            inner.wrong("interval", f"{list(interval)} begins above its end. Fix: [low, high].")
        return Published(
            unit=unit,
            value=value,
            values=values,
            runs=runs,
            runs_known=known,
            interval=interval,
            decimals=int(decimals) if decimals is not None else max(map(_decimals, printed), default=0),
        )


def _runs(fields: Fields) -> tuple[float, bool]:
    """How many runs the number is a mean of, and whether the paper says."""
    given = fields.values.get("runs", "unknown")
    if given in ("theory", "one", "unknown"):
        return (math.inf if given == "theory" else 1), given != "unknown"
    number = fields.number("runs", 1, whole=True)
    if number is None:
        key = ".".join((*fields.path, "runs"))
        problem = f"{key}: {given!r} is wrong: a whole number from 1 on, one, unknown or theory."
        fields.mistakes[-1] = Mistake(fields.mistakes[-1].place, problem)
    return number or 1, True


def _decimals(number: float) -> int:
    """Decimals of a number as Python writes it, at least those that the file has without trailing zeros."""
    if number == int(number):
        return 0
    exponent = Decimal(repr(number)).as_tuple().exponent
    return max(0, -int(exponent))
