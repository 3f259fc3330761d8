"""A finding with what came out, as the JSON file that `replicate run` writes: enough to judge it again anywhere."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bnbench.analysis.findings.criteria import read_criterion
from bnbench.analysis.findings.finding import Citation, Claim, Finding, Published
from bnbench.analysis.findings.measured import Measured
from bnbench.base.errors import ResultsError
from bnbench.base.files import read_text, to_json, write_whole

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Replicated:
    """A finding and the values of its claims, in the order of the claims.

    overrides: of the command line; they are deviations, too. seconds: training time of all runs of the study.
    cpu_seconds: processor time of the command that trained them all, None where it found some finished, or where more
    than one process trained. outdated: whether the finding's study has changed since.
    """

    finding: Finding
    measured: tuple[Measured, ...]
    overrides: tuple[str, ...] = ()
    seconds: float | None = None
    cpu_seconds: float | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    outdated: bool = False

    @property
    def command(self) -> str:
        """What repeats it."""
        return shlex.join(
            ["bnbench", "replicate", "run", self.finding.path or self.finding.name, *self.overrides]
        )

    @property
    def deviations(self) -> tuple[str, ...]:
        """Those of the file, and the overrides."""
        return (*self.finding.deviations, *(f"set by hand: {text}" for text in self.overrides))


def write_replicated(folder: Path, replicated: Replicated) -> Path:
    """Write it as a JSON file with the name of the finding. Raises ResultsError."""
    path = folder / f"{replicated.finding.name}.json"
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, to_json(_values(replicated), ascii=True))
    return path


def read_replicated(path: Path) -> Replicated:
    """What `write_replicated` wrote. Raises ResultsError where the file is damaged."""
    try:
        values = json.loads(read_text(path))
        if not 1 <= values["schema_version"] <= SCHEMA_VERSION:
            fix = "upgrade bnbench."
            raise ResultsError(f"{path}: schema version {values['schema_version']} is newer.", fix=fix)
        return _replicated(values)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        problem = f"{path}: damaged: {type(error).__name__}: {error}."
        raise ResultsError(problem, fix="delete it; `bnbench replicate run` writes it again.") from None


def with_text_of(replicated: Replicated, finding: Finding) -> Replicated:
    """The same values under the finding's present text, where it asks for the same quantities of the same study."""
    kept = {claim.quantity: measured for claim, measured in _claims(replicated)}
    same = finding.study_hash == replicated.finding.study_hash
    if not same or any(claim.quantity not in kept for claim in finding.claims):
        return replace(replicated, outdated=True)
    measured = tuple(kept[claim.quantity] for claim in finding.claims)
    return replace(replicated, finding=finding, measured=measured)


def _claims(replicated: Replicated) -> list[tuple[Claim, Measured]]:
    return list(zip(replicated.finding.claims, replicated.measured, strict=True))


def _values(replicated: Replicated) -> dict[str, Any]:
    finding = replicated.finding
    return {
        "schema_version": SCHEMA_VERSION,
        "finding": finding.name,
        "citation": asdict(finding.citation),
        "deviations": list(finding.deviations),
        "why": finding.why,
        "path": finding.path,
        "study": finding.study_name,
        "data": list(finding.data),
        "study_hash": finding.study_hash,
        "overrides": list(replicated.overrides),
        "seconds": replicated.seconds,
        "cpu_seconds": replicated.cpu_seconds,
        "environment": dict(replicated.environment),
        "claims": [_claim_values(claim, measured) for claim, measured in _claims(replicated)],
    }


def _claim_values(claim: Claim, measured: Measured) -> dict[str, Any]:
    published = asdict(claim.published)
    if math.isinf(claim.published.runs):
        published["runs"] = "theory"
    return {
        "name": claim.name,
        "claim": claim.text,
        "where": claim.where,
        "published": published,
        "quantity": claim.quantity,
        "criterion": claim.criterion.text,
        "scale": claim.scale,
        "no_effect": claim.no_effect,
        "measured": asdict(measured),  # JSON has no infinity: null stands for one
    }


def _replicated(values: Mapping[str, Any]) -> Replicated:
    claims, measured = [], []
    for one in values["claims"]:
        published = dict(one["published"])
        published["runs"] = math.inf if published["runs"] == "theory" else published["runs"]
        for key in ("values", "interval"):
            published[key] = tuple(published[key]) if published[key] else None
        claims.append(
            Claim(
                name=one["name"],
                text=one["claim"],
                where=one["where"],
                published=Published(**published),
                quantity=one["quantity"],
                criterion=read_criterion(one["criterion"]),
                scale=one["scale"],
                no_effect=one["no_effect"],
            )
        )
        own = dict(one["measured"])
        for key in ("sides", "most"):
            own[key] = tuple(tuple(math.inf if x is None else x for x in side) for side in own[key])
        measured.append(Measured(**own | {key: tuple(own[key]) for key in ("seeds", "signs", "errors")}))
    finding = Finding(
        name=values["finding"],
        citation=Citation(**values["citation"]),
        claims=tuple(claims),
        deviations=tuple(values["deviations"]),
        study_name=values["study"],
        data=tuple(values["data"]),
        why=values["why"],
        path=values["path"],
        study_hash=values["study_hash"],
    )
    return Replicated(
        finding,
        tuple(measured),
        tuple(values["overrides"]),
        values["seconds"],
        values["cpu_seconds"],
        values["environment"],
    )
