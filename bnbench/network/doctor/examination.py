"""The rules, one after the other, on one network; which is as it was after each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bnbench.base.diagnosis import SEVERITIES, Idle, RuleRecord
from bnbench.base.errors import BnbenchError
from bnbench.base.network_records import Finding
from bnbench.base.registry import Entry
from bnbench.base.user_code import raise_interrupt, text_of
from bnbench.network.doctor.pages import link_of, page_of
from bnbench.network.doctor.patient import Patient
from bnbench.network.doctor.rules import Symptom, rules
from bnbench.network.snapshot import Snapshot

_NEEDED = {
    "forward": "no forward pass could be followed",
    "data": "no data was given (--data STUDY)",
    "optimizer": "no optimizer was given (--optimizer FILE.py:NAME)",
    "checkpoint": "no checkpoint was given (--checkpoint FILE)",
}


def record_of(entry: Entry) -> RuleRecord:
    """A rule as reports show it."""
    facts = entry.facts
    return RuleRecord(entry.name, facts.title, facts.severity, facts.cost, link_of(entry), page_of(entry))


def examine(
    patient: Patient, entries: Sequence[Entry] | None = None
) -> tuple[tuple[Finding, ...], tuple[RuleRecord, ...], tuple[Idle, ...]]:
    """What the rules find, the gravest first; the rules that looked; those that did not, and why."""
    findings: list[Finding] = []
    ran: list[RuleRecord] = []
    idle: list[Idle] = []
    before = Snapshot(patient.model)
    for entry in rules.entries() if entries is None else entries:
        if missing := [_NEEDED[need] for need in entry.facts.needs if not patient.has(need)]:
            idle.append(Idle(entry.name, " and ".join(missing)))
            continue
        try:
            found = list(_findings(entry, patient, before))
        except BnbenchError as error:  # the network can't be run as the rule needs it
            idle.append(Idle(entry.name, error.what.rstrip(".")))
            continue
        except BaseException as error:  # of the user's network, or of a plugin's rule
            raise_interrupt(error)
            idle.append(Idle(entry.name, f"it ended with {text_of(error)}", failed=True))
            continue
        findings += found
        ran.append(record_of(entry))
    findings.sort(key=lambda finding: (SEVERITIES.index(finding.severity), finding.rule))
    return tuple(findings), tuple(ran), tuple(idle)


def _findings(entry: Entry, patient: Patient, before: Snapshot) -> Iterator[Finding]:
    try:
        symptoms: list[Symptom] = list(entry.factory(patient))
    finally:
        before.restore(whole=bool(entry.plugin))
    for symptom in symptoms:
        yield Finding(
            rule=entry.name,
            severity=symptom.severity or entry.facts.severity,
            place=symptom.place,
            evidence=float(symptom.evidence),
            measure=symptom.measure,
            message=symptom.message,
            cost=symptom.cost or entry.facts.cost,
            fix=symptom.fix,
            page=link_of(entry),
        )
