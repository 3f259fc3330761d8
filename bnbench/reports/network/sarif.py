"""A diagnosis as SARIF 2.1.0 (OASIS, 2020), which code hosts show beside the lines of a file."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from bnbench.base.diagnosis import Diagnosis, RuleRecord
from bnbench.base.network_records import Finding

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_URI = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/"


def to_sarif(diagnosis: Diagnosis) -> dict[str, Any]:
    """One run: the rules that looked, and a result for each finding.

    A result's place in a file is the model's class, where that is in a file; its logical location is the module's name.
    """
    from bnbench import __version__

    order = {rule.id: index for index, rule in enumerate(diagnosis.rules)}
    driver = {
        "name": "bnbench doctor",
        "version": __version__,
        "semanticVersion": __version__,
        "rules": [_rule(rule) for rule in diagnosis.rules],
    }
    notes = [
        {"level": "error" if idle.failed else "note", "message": {"text": f"{idle.rule}: {idle.reason}"}}
        for idle in diagnosis.idle
    ]
    invocation = {"executionSuccessful": not any(idle.failed for idle in diagnosis.idle)}
    if notes:
        invocation["toolExecutionNotifications"] = notes  # type: ignore[assignment]
    run = {
        "tool": {"driver": driver},
        "invocations": [invocation],
        "columnKind": "utf16CodeUnits",
        "results": [_result(finding, order, diagnosis) for finding in diagnosis.findings],
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def plain(page: str) -> str:
    """A page without the marks of Markdown; links are their text."""
    text = re.sub(r"\*\*|^#+ |`", "", page, flags=re.MULTILINE)
    return re.sub(r"\[([^]]*)\]\(([^)]*)\)", r"\1", text).strip()


def _rule(rule: RuleRecord) -> dict[str, Any]:
    described = {
        "id": rule.id,
        "name": "".join(word.capitalize() for word in rule.title.replace("-", " ").split()),
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.cost},
        "help": {"text": plain(rule.page), "markdown": rule.page},
        "defaultConfiguration": {"level": rule.severity},
    }
    return described


def _result(finding: Finding, order: dict[str, int], diagnosis: Diagnosis) -> dict[str, Any]:
    name = finding.place or "the network"
    number = f"Evidence: {finding.evidence:g} {finding.measure}."
    text = f"{name}: {finding.message} {number} {finding.cost} Fix: {finding.fix}"
    logical = {
        "name": finding.place.rpartition(".")[2],
        "fullyQualifiedName": finding.place,
        "kind": "member",
    }
    location: dict[str, Any] = {"logicalLocations": [logical]} if finding.place else {}
    if diagnosis.source.file:
        location["physicalLocation"] = {
            "artifactLocation": {"uri": _uri(diagnosis.source.file)},
            "region": {"startLine": max(1, diagnosis.source.line)},
        }
    result = {
        "ruleId": finding.rule,
        "ruleIndex": order[finding.rule],
        "level": finding.severity,
        "message": {"text": text},
        "partialFingerprints": {"place/v1": f"{finding.rule}:{finding.place}"},
        "properties": {"evidence": finding.evidence, "measure": finding.measure, "fix": finding.fix},
    }
    return {**result, "locations": [location]} if location else result


def _uri(file: str) -> str:
    """Relative to the folder where it is below it, as code hosts want it; else absolute."""
    path = Path(file).resolve()
    here = Path.cwd().resolve()
    return Path(os.path.relpath(path, here)).as_posix() if path.is_relative_to(here) else path.as_uri()
