"""Runs every check on a layer, on every shape of input that it takes; in this process: see child.py."""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

import bnbench.verification.checks  # noqa: F401  # fills CHECKS
from bnbench.base.errors import BnbenchError, LayerError
from bnbench.base.user_code import first_line
from bnbench.verification.causes import usual_causes
from bnbench.verification.checklist import CHECKS, Check
from bnbench.verification.conventions import Convention, passed_values, provisional, settle
from bnbench.verification.findings import Finding, Verification
from bnbench.verification.hidden import uses_batch_in_eval
from bnbench.verification.outcome import Skip, Wrong
from bnbench.verification.parts import Parts, add_by_effect, find_parts
from bnbench.verification.process import functions, replaced, undisturbed
from bnbench.verification.refusals import refusals
from bnbench.verification.rules import Rules
from bnbench.verification.subject import CHANNELS, SHAPES, STATISTICS, Subject
from bnbench.verification.target import Target, find_target
from bnbench.verification.wishes import Wishes, dim_of

_ROLES = {
    "gamma": "gamma",
    "beta": "beta",
    "running_mean": "running mean",
    "running_var": "running variance",
    "counter": "counter",
}
Stage = Callable[[str], None]


def verify(
    layer: str | Target, wishes: Wishes, *, debug: bool = False, at: Stage = lambda stage: None
) -> Verification:
    """Run all checks on a layer, given by itself or by name. Raises LayerError without a layer to check.

    debug: unexpected exceptions in a check propagate, and the layer's output goes to the terminal.
    at: receives a description of each step before the step starts, in case it never ends.
    """
    printed, before = _Counter(), functions()
    word = layer if isinstance(layer, str) else layer.layer.name
    with _quiet(printed, debug):
        at("while it was imported")
        target = find_target(layer) if isinstance(layer, str) else layer
        at("while it was made")
        makers = _makers(target, wishes)
        at("in its first call")
        refused = refusals(word, makers, wishes)
        taken = {name: maker for name, maker in makers.items() if name not in refused}
        subjects, convention = _subjects(target, wishes, taken)
        findings: list[Finding] = []
        parts = dict[str, str]()
        for name in makers:
            if name in refused:
                findings.append(refused[name])
                continue
            for check in CHECKS:
                if subjects[name].rank in check.ranks:
                    at(f'in the check "{check.name}" on {name}')
                    findings.append(_judge(check, subjects[name], debug))
            parts |= _attribute_names(subjects[name].parts)
        notes = _notes(printed, parts, convention, next(iter(subjects.values())))
    if names := replaced(before):
        raise LayerError(
            f"{word} replaces {', '.join(names[:3])}{' and others' * (len(names) > 3)}, for the whole process.",
            "The checks call it, too: their results mean nothing.",
            "leave Python's and torch's own functions as they are.",
        )
    return Verification(word, convention.to_json(), parts, _consistent(findings, convention.rules), notes)


class _Counter(io.TextIOBase):
    """Takes what user code prints, and keeps the number of lines alone."""

    lines = 0

    def write(self, text: str) -> int:
        self.lines += text.count("\n")
        return len(text)

    def writable(self) -> bool:
        return True


@contextlib.contextmanager
def _quiet(printed: _Counter, debug: bool) -> Iterator[None]:
    """Counts what the user's code prints; its random numbers are the same every time."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        if not debug:
            stack.enter_context(contextlib.redirect_stdout(printed))
            stack.enter_context(contextlib.redirect_stderr(printed))
        yield


def _makers(target: Target, wishes: Wishes) -> dict[str, Callable[[], nn.Module]]:
    """Input -> what makes a layer for it. Raises the first error where no input has a layer."""
    values = passed_values(wishes)
    makers: dict[str, Callable[[], nn.Module]] = {}
    errors: list[BnbenchError] = []
    for name in wishes.inputs:

        def make(dim: int = dim_of(name), name: str = name) -> nn.Module:
            torch.manual_seed(0)
            return _materialized(target.make(CHANNELS, dim, values), name)

        makers[name] = make
        try:
            make()
        except BnbenchError as error:
            errors.append(error)
    if len(errors) == len(makers):
        raise errors[0]
    return makers


def _materialized(layer: nn.Module, name: str) -> nn.Module:
    """A lazy layer has its parameters from its first input on: a call in eval, which moves no statistics."""
    answer: object = layer
    with contextlib.suppress(Exception):
        answer = layer.train()
    if answer is not layer:
        message = f"{type(layer).__name__}.train() returns {type(answer).__name__}, where torch's returns the layer."
        raise LayerError(message, fix="end it with: return self")
    if any(nn.parameter.is_lazy(tensor) for tensor in (*layer.parameters(), *layer.buffers())):
        with undisturbed(), torch.no_grad(), contextlib.suppress(Exception):
            layer.eval()(_input(name))
            layer.train()
    return layer


def _subjects(
    target: Target, wishes: Wishes, makers: dict[str, Callable[[], nn.Module]]
) -> tuple[dict[str, Subject], Convention]:
    """A subject for each input that the layer takes, under the rules that its numbers on the first one settle."""
    rules = provisional(target, wishes)
    subjects = {name: Subject(name, maker, _parts_of(maker, name), rules) for name, maker in makers.items()}
    subjects = {name: _without_caches(subject) for name, subject in subjects.items()}
    name, first = next(iter(subjects.items()))
    with undisturbed():
        convention = settle(target, wishes, first, makers[name]())
    return {name: replace(one, rules=convention.rules) for name, one in subjects.items()}, convention


def _without_caches(subject: Subject) -> Subject:
    """Without the tensors that the first step creates and eval does not use: they are not running statistics."""
    fresh = find_parts(subject.maker(), CHANNELS)
    late = {role for role in STATISTICS if role in subject.parts and role not in fresh}
    with undisturbed():
        if not late or not uses_batch_in_eval(subject):
            return subject
    return replace(subject, parts={role: part for role, part in subject.parts.items() if role not in late})


def _parts_of(maker: Callable[[], nn.Module], name: str) -> Parts:
    """The parts of a fresh layer, including those that its first step creates."""
    layer, x = maker().train(), _input(name)
    parts = find_parts(layer, CHANNELS)
    with undisturbed(), contextlib.suppress(Exception, SystemExit):
        layer(x.clone())
        parts = {**find_parts(layer, CHANNELS), **parts}
        add_by_effect(maker, parts, CHANNELS, x)
    return parts


def _input(name: str) -> Tensor:
    return torch.randn(SHAPES[name], generator=torch.Generator().manual_seed(0))


def _judge(check: Check, subject: Subject, debug: bool) -> Finding:
    missing = [_ROLES[role] for role in check.needs if not _has(subject, role)]
    passed = Finding(check.name, subject.input, "passed", group=check.group)
    if missing:
        return replace(passed, status="skipped", message=f"the layer has no {' and no '.join(missing)}")
    try:
        with undisturbed():
            check.run(subject)
    except Skip as skip:
        return replace(passed, status="skipped", message=str(skip))
    except Wrong as wrong:
        causes = wrong.causes or (subject.foreign_words if check.group == "mathematics" else ())
        failed = replace(passed, status="failed", message=wrong.message, causes=causes)
        finite = wrong.size is None or math.isfinite(wrong.size)
        return replace(failed, size=wrong.size if finite else None, tolerance=wrong.tolerance)
    except BaseException as error:  # whatever a layer raises is its own fault
        if debug and isinstance(error, Exception):
            raise
        message = f"raised {first_line(error)}"
        return replace(passed, status="failed", message=message, causes=_raised(error, subject))
    return passed


def _has(subject: Subject, role: str) -> bool:
    if role in ("running_mean", "running_var"):
        return subject.statistics_are != "absent"
    return role in subject.parts


def _raised(error: BaseException, subject: Subject) -> tuple[str, ...]:
    text = str(error)
    if "view size is not compatible" in text:
        return (".view() needs contiguous inputs: .reshape() takes any",)
    if "inplace operation" in text or "in-place operation" in text:
        return ("something that the backward pass needs is changed in place",)
    return _not_registered(subject) if "dtype" in text else ()


def _not_registered(subject: Subject) -> tuple[str, ...]:
    """A layer that is not registered keeps its precision, wherever the network goes."""
    from bnbench.verification.checks.registration import registration_causes

    return registration_causes(subject)


def _consistent(findings: list[Finding], rules: Rules) -> tuple[Finding, ...]:
    """A formula is named for a check only where it fits on every input on which this check fails.

    What is seen directly (a layer in a list, a wrong dtype) needs no formula, and stands where it is seen.
    """
    table = usual_causes(rules.right, rules.weight_of, rules.measured)
    ranks = {cause.words: set[int]() for cause in table}
    for cause in table:
        ranks[cause.words] |= set(cause.ranks)

    def fits(words: str, check: str) -> bool:
        others = (other for other in findings if other.check == check and other.status == "failed")
        return all(
            words in other.causes for other in others if len(SHAPES[other.input]) in ranks.get(words, ())
        )

    return tuple(
        replace(item, causes=tuple(words for words in item.causes if fits(words, item.check)))
        for item in findings
    )


def _attribute_names(parts: Parts) -> dict[str, str]:
    return {
        _ROLES[role]: part.path + ("" if part.kind != "attribute" else " (plain attribute)")
        for role, part in parts.items()
    }


def _notes(
    printed: _Counter, parts: dict[str, str], convention: Convention, subject: Subject
) -> tuple[str, ...]:
    notes = []
    if parts:
        notes.append(f"Recognised: {', '.join(f'{role} = {path}' for role, path in parts.items())}.")
    notes += convention.notes()
    if subject.statistics_are == "hidden":
        notes.append(
            "The running statistics are not among the layer's tensors; they were measured from its outputs in eval."
        )
    if printed.lines:
        lines = f"{printed.lines} {'line' if printed.lines == 1 else 'lines'}"
        notes.append(f"The layer printed {lines}; --debug shows them.")
    absent = [name for role, name in _ROLES.items() if role != "counter" and name not in parts]
    if subject.statistics_are == "hidden":
        absent = [name for name in absent if not name.startswith("running")]
    if absent:
        notes.append(f"Found no {', '.join(absent)} among the layer's tensors; what needs them is skipped.")
    return tuple(notes)
