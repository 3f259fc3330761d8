"""`--train-the-difference`: a small paired study of a finding against its fix, by bnbench's own `compare`."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnbench.api.study_data import StudyData
from bnbench.base.diagnosis import Diagnosis
from bnbench.base.errors import BnbenchError
from bnbench.base.network_records import Finding

if TYPE_CHECKING:
    from torch import nn

    from bnbench.api.comparison import Comparison
    from bnbench.network.doctor.cures import Cure
    from bnbench.network.sites.norm_site import NormSites

#: Seeds and optimizer steps of the study, at most.
SEEDS, STEPS = 5, 300
FOUND, FIXED = "as_found", "fixed"


@dataclass(frozen=True)
class Difference:
    """The cost of a finding, measured by training.

    text: the fix. comparison: None where no study shows the cost; `reason` says why.
    """

    finding: Finding | None
    text: str = ""
    comparison: Comparison | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        comparison = self.comparison
        return {
            "rule": self.finding.rule if self.finding else "",
            "place": self.finding.place if self.finding else "",
            "fix": self.text,
            "reason": self.reason,
            "sentences": self.sentences,
            "verdicts": comparison.verdicts if comparison else [],
            "folder": str(comparison.folder) if comparison else "",
        }

    @property
    def sentences(self) -> list[str]:
        """The answer in words."""
        if self.finding is None or self.comparison is None:
            rule = f"{self.finding.rule} at {self.finding.place or 'the network'}: " if self.finding else ""
            return [f"{rule}no study: {self.reason}."]
        head = f"{self.finding.rule} at {self.finding.place or 'the network'}, trained as found and with {self.text}:"
        return [head, *self.comparison.sentences, *self.comparison.cautions]


@dataclass(frozen=True)
class Training:
    """How the study is trained. output: its folder; None for one in results/, named after the finding."""

    seeds: int = SEEDS
    steps: int = STEPS
    output: Path | None = None


def chosen_finding(findings: tuple[Finding, ...], rule: str = "") -> Finding | None:
    """The first of that rule; without a rule the first of all. Raises BnbenchError where that rule found nothing."""
    wanted = [finding for finding in findings if rule in ("", finding.rule)]
    if rule and not wanted:
        raise BnbenchError(
            f"--train-the-difference {rule}: this rule found nothing.",
            fix=f"one of {', '.join(dict.fromkeys(f.rule for f in findings)) or 'none: there is no finding'}",
        )
    return wanted[0] if wanted else None


@dataclass(frozen=True)
class Untrained:
    """The network of a finding, to be trained on a study's data.

    model: its word, from which each seed builds a new one, or a module, which each starts from as it is. built: the
    network that was looked at. data: a study's (see `require_study`).
    """

    model: str | nn.Module
    built: nn.Module
    data: object


def with_difference(diagnosis: Diagnosis, sites: NormSites, given: Untrained, rule: str = "") -> Diagnosis:
    """The diagnosis with its first finding (of that rule) trained against its fix. Raises BnbenchError."""
    difference = difference_of(diagnosis.findings, sites, given, rule)
    return replace(diagnosis, details={**(diagnosis.details or {}), "difference": difference.to_json()})


def difference_of(
    findings: tuple[Finding, ...],
    sites: NormSites,
    given: Untrained,
    rule: str = "",
    training: Training | None = None,
) -> Difference:
    """Train the network as found and mended, paired by seeds, and compare them.

    findings: of the network. sites: its record. rule: whose first finding is meant; "" for the first that has a study.
    Raises BnbenchError where the rule found nothing, where no study shows its cost, or where training fails.
    """
    from bnbench.network.doctor.cures import cure_of

    assert isinstance(given.data, StudyData)
    finding = chosen_finding(findings, rule.upper())
    if finding is None:
        return Difference(None, reason="there is no finding")
    cure = cure_of(finding, sites, given.built)
    for other in findings if isinstance(cure, str) and not rule else ():
        if not isinstance(found := cure_of(other, sites, given.built), str):
            finding, cure = other, found
            break
    if isinstance(cure, str):
        return Difference(finding, reason=cure)
    if "optimizer.decay_norm_and_bias" in cure.settings and not _decays(given.data):
        return Difference(
            finding, reason="the study's optimizer has no weight decay: optimizer.weight_decay=5e-4"
        )
    comparison = _compared(finding, cure, _Source(given.model, given.data), training or Training())
    return Difference(finding, cure.text, comparison)


def _decays(data: StudyData) -> bool:
    options = data.settings.optimizer.options
    return bool(options.get("weight_decay")) and "decay_norm_and_bias" in options


@dataclass(frozen=True)
class _Source:
    """Where the networks come from."""

    model: str | nn.Module
    data: StudyData

    def build(self, mend: Callable[[nn.Module], nn.Module] | None) -> nn.Module:
        """A network as it is found or mended, from the global random streams, which the caller has seeded."""
        import torch

        from bnbench.api.network_data import recipe_of
        from bnbench.engine.own import fit_of
        from bnbench.engine.own.fit import fitted

        if isinstance(self.model, str):
            model = recipe_of(self.model, self.data).built(int(torch.randint(2**31, ())))
        else:
            model = self.model
        model = copy.deepcopy(model)  # a file may hold one network that is built already
        fit = fit_of(type(model).__name__, model, self.data.use)
        return fitted(mend(model) if mend else model, fit)

    @property
    def identity(self) -> str:
        """Of the word and its source, or of the module's content: runs of another network are none of this one's."""
        import torch

        from bnbench.network.source.load import find_origin
        from bnbench.network.source.words import read_word

        if isinstance(self.model, str):
            return f"{self.model} {find_origin(read_word(self.model)).content()}"
        hashed = hashlib.sha256(repr(self.model).encode())
        for name, value in self.model.state_dict().items():
            hashed.update(f"{name} {value!r}".encode())
            if hasattr(value, "detach"):
                hashed.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return hashed.hexdigest()


def _compared(finding: Finding, cure: Cure, source: _Source, training: Training) -> Comparison:
    from bnbench.api.compare import compare

    digest = hashlib.sha256(f"{source.identity} {finding} {cure.text}".encode()).hexdigest()[:8]
    names = {variant: f"{variant}_{digest}" for variant in (FOUND, FIXED)}
    study = _study(finding, cure, source.data, names, training)
    output = training.output or Path("results") / f"doctor-{finding.rule}-{digest}"
    with _registered(
        {names[FOUND]: lambda: source.build(None), names[FIXED]: lambda: source.build(cure.mend)}
    ):
        return compare(study, output=output, jobs=1)


@contextmanager
def _registered(builders: Mapping[str, Callable[[], nn.Module]]) -> Iterator[None]:
    """Inside, the networks are models of these names."""
    from bnbench.models import models

    for name, build in builders.items():
        models.register(name, init="own")(_factory(build))
    try:
        yield
    finally:
        for name in builders:
            models.forget(name)


def _factory(build: Callable[[], nn.Module]) -> Callable[..., nn.Module]:
    def model(*arguments: Any) -> Any:
        """A network of the user's, whatever the normalizer of the study is."""
        return build()

    return model


def _study(
    finding: Finding, cure: Cure, data: StudyData, names: Mapping[str, str], training: Training
) -> dict[str, Any]:
    """The settings of the study's baseline, with two variants, few seeds and few steps."""
    from bnbench.study.resolved import resolved

    whole = resolved(data.study, Path.cwd())
    own = whole["variants"].get(data.study.baseline, {})
    left_out = (
        "variants",
        "baseline",
        "target",
        "expect",
        "sweep",
        "margin",
        "evaluate",
        "test_sets",
        "probe",
        "role",
    )
    values = {key: value for key, value in {**whole, **own}.items() if key not in (*left_out, "check_of")}
    said = {word.partition("=")[0] for word in data.overrides}
    if not said & {"steps", "epochs"}:
        values.pop("epochs", None)
        values["steps"] = max(1, min(training.steps, data.data.steps or training.steps))
    if "seeds" not in said:
        values["seeds"] = training.seeds
    return {
        **values,
        "name": f"doctor-{finding.rule}",
        "description": f"{finding.rule} at {finding.place or 'the network'}: as found, and with {cure.text}",
        "norm": "none",
        "variants": {
            FOUND: {"model": names[FOUND], **cure.found},
            FIXED: {"model": names[FIXED], **cure.settings},
        },
        "baseline": FOUND,
    }
