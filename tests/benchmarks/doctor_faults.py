"""Recall and precision of `bnbench doctor` on injected faults, with torch-audit on the same ones.

    python tests/benchmarks/doctor_faults.py                # all, and the table
    python tests/benchmarks/doctor_faults.py D06 D21        # these rules
    python tests/benchmarks/doctor_faults.py kept.jsonl     # results are kept there, and not measured again

At least ten faults of each of the 26 rules, in different networks, each beside the healthy network in the same setting.
Found: the rule has a finding at the place of the fault. Accused: the rule has a finding there in the healthy twin, or
any rule has an error anywhere in it. torch-audit (0.3.0) is given the model, the optimizer, a batch of the loader and
one training step; found, generously: any finding of any of its rules that it does not have on the healthy twin.
"""

from __future__ import annotations

import contextlib
import fnmatch
import importlib.util
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from doctor_injections import INJECTIONS, Case, Injection
from doctor_networks import output_of

import bnbench
from bnbench.base.diagnosis import Diagnosis


@dataclass(frozen=True)
class Result:
    """One fault. found: by the doctor. accused: the healthy twin. audit: torch-audit found it; None: it was not run."""

    rule: str
    network: str
    what: str
    found: bool
    accused: bool
    audit: bool | None = None
    why: str = ""


def diagnosed(case: Case, rules: Sequence[str] = ()) -> Diagnosis:
    """What the doctor says of a case."""
    with ranks(case.ranks):
        return bnbench.doctor(
            case.model,
            inputs=case.inputs,
            optimizer=case.optimizer,
            checkpoint=case.checkpoint,
            data=case.data,
            rules=rules,
        )


def ranks(count: int) -> Any:
    """As in so many processes: this machine has one, so the question is answered for it."""
    if count == 1:
        return contextlib.nullcontext()
    answers: dict[str, Any] = {
        "is_initialized": lambda: True,
        "get_world_size": lambda group=None: count,
        "get_rank": lambda group=None: 0,
    }
    return mock.patch.multiple(torch.distributed, **answers)


def found(injection: Injection, case: Case, diagnosis: Diagnosis) -> bool:
    """Whether the rule has a finding at the place of the fault."""
    places = [one.place for one in diagnosis.findings if one.rule == injection.rule]
    if not case.places or "" in case.places:
        return bool(places)
    return any(fnmatch.fnmatchcase(place, pattern) for place in places for pattern in case.places)


def audited(case: Case) -> set[tuple[str, str, str]]:
    """What torch-audit finds: before training, and in one step of it."""
    from torch_audit.runtime import Auditor

    batch = next(iter(case.data), None) if isinstance(case.data, torch.utils.data.DataLoader) else None
    inputs = batch[0] if batch is not None else case.inputs(16)
    if case.checkpoint is not None:
        case.model.load_state_dict(torch.load(case.checkpoint, weights_only=True), strict=False)
    auditor = Auditor(case.model, optimizer=case.optimizer, every_n_steps=1, suppress_internal_errors=True)
    with auditor:
        auditor.audit_static()
        auditor.audit_init()
        loss = output_of(auditor.forward(inputs)).square().mean()
        auditor.backward(loss)
        if case.optimizer is not None:
            auditor.optimizer_step()
    return {(str(one.rule_id), str(one.module_path), str(one.entity)) for one in auditor.findings}


def audit_finds(injection: Injection, folder: Path) -> bool:
    """Whether torch-audit has a finding that it does not have on the healthy twin."""
    results = []
    for make in (injection.faulty, injection.healthy):
        try:
            results.append(audited(make(folder)))
        except Exception:  # a fault that stops the training is seen without a tool
            results.append(set())
    return bool(results[0] - results[1])


def measured(injection: Injection, folder: Path, audit: bool) -> Result:
    """Doctor and torch-audit on one fault and its healthy twin."""
    faulty, healthy = injection.faulty(folder), injection.healthy(folder)
    sick, well = diagnosed(faulty, [injection.rule]), diagnosed(healthy, [injection.rule])
    failed = "; ".join(idle.reason for idle in sick.idle if idle.failed)
    return Result(
        injection.rule,
        injection.network,
        injection.what,
        found(injection, faulty, sick),
        found(injection, healthy, well) or bool(well.having("error")),
        audit_finds(injection, folder) if audit else None,
        failed,
    )


def all_measured(injections: Sequence[Injection], audit: bool, kept: Path | None) -> list[Result]:
    """Every result; those that `kept` has are not measured again."""
    known: dict[tuple[str, str], Result] = {}
    if kept is not None and kept.is_file():
        for line in kept.read_text().splitlines():
            one = Result(**json.loads(line))
            known[one.rule, one.network] = one
    results = []
    with tempfile.TemporaryDirectory() as name:
        for injection in injections:
            result = known.get((injection.rule, injection.network)) or measured(injection, Path(name), audit)
            results.append(result)
            if kept is not None and (injection.rule, injection.network) not in known:
                with kept.open("a") as file:
                    file.write(json.dumps(asdict(result)) + "\n")
            print("." if result.found and not result.accused else "F", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return results


def titles() -> dict[str, str]:
    """By rule."""
    from bnbench.api.doctor_rules import known_rules

    return {entry.name: entry.facts.title for entry in known_rules()}


def table(results: Sequence[Result]) -> str:
    """Markdown: one line a rule, and one for all."""
    names = titles()
    lines = ["| rule | what it finds | faults | found | healthy twins accused | torch-audit |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for rule in [*sorted({one.rule for one in results}), "all"]:
        own = [one for one in results if rule in (one.rule, "all")]
        right, theirs = sum(one.found for one in own), sum(bool(one.audit) for one in own)
        audit = "" if own[0].audit is None else str(theirs)
        shares = (f" ({right / len(own):.1%})", f" ({theirs / len(own):.1%})") if rule == "all" else ("", "")
        accused = sum(one.accused for one in own)
        lines.append(
            f"| {rule} | {names.get(rule, '')} | {len(own)} | {right}{shares[0]} | {accused} | {audit}{shares[1]} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    """Print the table, and what was missed or accused."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    rules = [word for word in arguments if word[0] == "D" and word[1:].isdigit()]
    kept = next((Path(word) for word in arguments if word.endswith(".jsonl")), None)
    audit = bool(importlib.util.find_spec("torch_audit"))
    chosen = [one for one in INJECTIONS if not rules or one.rule in rules]
    results = all_measured(chosen, audit, kept)
    print(table(results))
    for one in results:
        if not one.found:
            print(f"missed: {one.rule}, {one.what}, in {one.network} {one.why}")
        if one.accused:
            print(f"accused: {one.rule} in healthy {one.network}")


if __name__ == "__main__":
    main(sys.argv[1:])
