"""Runs every check on a layer, on every shape of input that it takes."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

import bnbench.verify.checks  # noqa: F401  # fills CHECKS
from bnbench.errors import BnbenchError
from bnbench.verify.checklist import CHECKS, Check
from bnbench.verify.findings import INPUTS, Finding, Verification
from bnbench.verify.outcome import Skip, Wrong, first_line
from bnbench.verify.parts import Parts, find_parts
from bnbench.verify.subject import CHANNELS, SHAPES, Rules, Subject
from bnbench.verify.target import Target, find_target

#: What --dim insists on, and what it also looks at.
_INSISTED = {"1": ("(N, C)",), "2": ("(N, C, H, W)",), "both": ()}
_CONSIDERED = {"1": INPUTS[:2], "2": INPUTS[2:], "both": INPUTS}

#: Given to a layer that takes them: not the usual values, so that a value written into it shows.
_EPS, _MOMENTUM = 1e-3, 0.3
_ROLES = {
    "gamma": "gamma",
    "beta": "beta",
    "running_mean": "running mean",
    "running_var": "running variance",
    "counter": "counter",
}


@dataclass(frozen=True)
class Wishes:
    """What the user said: the options of `bnbench verify`."""

    dim: Literal["1", "2", "both"] = "both"
    eps: float | None = None
    momentum: float | None = None
    weight_of: Literal["new", "old"] = "new"
    kept: Literal["unbiased", "biased"] = "unbiased"


def verify(word: str, wishes: Wishes, *, debug: bool = False) -> Verification:
    """All checks of the layer that `word` names. Raises LayerError where there is no layer to check.

    debug: what a check raises unexpectedly is raised on, and what the layer prints is shown.
    """
    printed = io.StringIO()
    with _quiet(printed, debug):
        target = find_target(word)
        makers = _makers(target, wishes)
        rules = _rules(target, wishes, makers)
        refused = _refused(makers, wishes)
        findings, parts = [], dict[str, str]()
        for name, maker in makers.items():
            if name in refused:
                findings.append(Finding("any", name, "skipped", refused[name]))
                continue
            subject = Subject(name, maker, _parts_of(maker, name), rules)
            findings += [_judge(check, subject, debug) for check in CHECKS if subject.rank in check.ranks]
            parts |= _told(subject.parts)
    notes = _notes(printed.getvalue(), parts)
    return Verification(word, _conventions(rules), parts, tuple(findings), notes)


@contextlib.contextmanager
def _quiet(printed: io.StringIO, debug: bool) -> Iterator[None]:
    """The user's code prints and warns into a box; its random numbers are the same every time."""
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
    values = {
        "eps": _EPS if wishes.eps is None else wishes.eps,
        "momentum": _MOMENTUM if wishes.momentum is None else wishes.momentum,
    }
    makers: dict[str, Callable[[], nn.Module]] = {}
    errors: list[BnbenchError] = []
    for name in _CONSIDERED[wishes.dim]:
        dim = 2 if len(SHAPES[name]) == 4 else 1

        def make(dim: int = dim) -> nn.Module:
            torch.manual_seed(0)
            return target.make(CHANNELS, dim, values)

        makers[name] = make
        try:
            make()
        except BnbenchError as error:
            errors.append(error)
    if len(errors) == len(makers):
        raise errors[0]
    return makers


def _rules(target: Target, wishes: Wishes, makers: dict[str, Callable[[], nn.Module]]) -> Rules:
    """eps and momentum: as given; else as the layer was made with; else as it says; else torch's."""
    options = target.options()
    layer = next(iter(_made(makers)))

    def value(key: Literal["eps", "momentum"], given: float | None, passed: float, usual: float) -> float:
        if given is not None:
            return given
        if key in options:
            return passed
        told = getattr(layer, key, getattr(layer, "epsilon", None) if key == "eps" else None)
        return float(told) if isinstance(told, int | float) else usual

    momentum = value("momentum", wishes.momentum, _MOMENTUM, 0.1 if wishes.weight_of == "new" else 0.9)
    return Rules(value("eps", wishes.eps, _EPS, 1e-5), momentum, wishes.weight_of, wishes.kept)


def _made(makers: dict[str, Callable[[], nn.Module]]) -> Iterator[nn.Module]:
    for maker in makers.values():
        with contextlib.suppress(BnbenchError):
            yield maker()


def _refused(makers: dict[str, Callable[[], nn.Module]], wishes: Wishes) -> dict[str, str]:
    """Input -> why the layer does not take it. Nothing where it takes none at all: then that is the fault."""
    reasons = {}
    for name, maker in makers.items():
        try:
            maker()(torch.randn(SHAPES[name], generator=torch.Generator().manual_seed(0)))
        except (Exception, SystemExit) as error:
            what = str(error).partition("\n")[0] if isinstance(error, BnbenchError) else first_line(error)
            reasons[name] = f"the layer does not take it: {what}"
    insisted = _INSISTED[wishes.dim]
    return (
        {}
        if len(reasons) == len(makers)
        else {name: why for name, why in reasons.items() if name not in insisted}
    )


def _parts_of(maker: Callable[[], nn.Module], name: str) -> Parts:
    """Of a fresh layer, and what it makes in its first step."""
    layer = maker().train()
    parts = find_parts(layer, CHANNELS)
    with contextlib.suppress(Exception, SystemExit):
        layer(torch.randn(SHAPES[name], generator=torch.Generator().manual_seed(0)))
    return {**find_parts(layer, CHANNELS), **parts}


def _judge(check: Check, subject: Subject, debug: bool) -> Finding:
    missing = [_ROLES[role] for role in check.needs if role not in subject.parts]
    if missing:
        return Finding(check.name, subject.input, "skipped", f"the layer has no {' and no '.join(missing)}")
    try:
        check.run(subject)
    except Skip as skip:
        return Finding(check.name, subject.input, "skipped", str(skip))
    except Wrong as wrong:
        return Finding(
            check.name, subject.input, "failed", wrong.message, wrong.size, wrong.tolerance, wrong.causes
        )
    except (Exception, SystemExit) as error:
        if debug:
            raise
        return Finding(
            check.name, subject.input, "failed", f"raised {first_line(error)}", causes=_raised(error)
        )
    return Finding(check.name, subject.input, "passed")


def _raised(error: BaseException) -> tuple[str, ...]:
    text = str(error)
    if "view size is not compatible" in text:
        return (".view() needs contiguous inputs: .reshape() takes any",)
    if "inplace operation" in text or "in-place operation" in text:
        return ("something that the backward pass needs is changed in place",)
    return ()


def _told(parts: Parts) -> dict[str, str]:
    return {
        _ROLES[role]: part.path + ("" if part.kind != "attribute" else " (plain attribute)")
        for role, part in parts.items()
    }


def _conventions(rules: Rules) -> dict[str, float | str]:
    return {
        "eps": rules.eps,
        "momentum": rules.momentum,
        "momentum_is_weight_of": rules.weight_of,
        "running_var": rules.kept,
    }


def _notes(printed: str, parts: dict[str, str]) -> tuple[str, ...]:
    notes = []
    if parts:
        notes.append(f"Taken: {', '.join(f'{role} = {path}' for role, path in parts.items())}.")
    lines = len(printed.splitlines())
    if lines:
        notes.append(f"The layer printed {lines} {'line' if lines == 1 else 'lines'}; --debug shows them.")
    absent = [name for role, name in _ROLES.items() if role != "counter" and name not in parts]
    if absent:
        notes.append(f"Found no {', '.join(absent)} among the layer's tensors; what needs them is skipped.")
    return tuple(notes)
