"""Use of a layer by other code: copies, calls with other parameters, and torch's settings."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable

import torch

from bnbench.base.user_code import first_line
from bnbench.verification import process
from bnbench.verification.checklist import check
from bnbench.verification.outcome import Skip, Wrong
from bnbench.verification.subject import Subject


@check("copies", group="library")
def copies(subject: Subject) -> None:
    """copy.deepcopy and torch.save give a layer with the same output and statistics of its own."""
    layer, _ = subject.trained()
    x = subject.data("eval")
    expected = subject.output(layer.eval(), x).detach()
    if not torch.equal(subject.output(layer, x), expected):
        raise Skip("its output in eval is not twice the same")
    twins: dict[str, Callable[[], torch.nn.Module]] = {
        "copy.deepcopy": lambda: copy.deepcopy(layer),
        "torch.save and torch.load": lambda: _reloaded(layer),
    }
    for name, make in twins.items():
        try:
            twin = make()
        except Exception as error:
            raise Wrong(f"{name} raised {first_line(error)}") from error
        if not torch.allclose(subject.output(twin.eval(), x), expected, rtol=0, atol=0, equal_nan=True):
            raise Wrong(f"{name} gives a layer with another output in eval")
        subject.output(twin.train(), x + 1)
        if not torch.allclose(subject.output(layer.eval(), x), expected, rtol=0, atol=0, equal_nan=True):
            raise Wrong(f"{name} gives a layer that shares its statistics with the first")


def _reloaded(layer: torch.nn.Module) -> torch.nn.Module:
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    loaded: torch.nn.Module = torch.load(file, weights_only=False)
    return loaded


@check("functional_call", group="library")
def functional(subject: Subject) -> None:
    """torch.func.functional_call uses the parameters that it is given: what replicas and meta-learning need."""
    layer, x = subject.layer(), subject.data("forward")
    given = {name: value.detach() * 2 for name, value in layer.named_parameters()}
    if not given:
        raise Skip("it has no parameters")
    changed = subject.layer()
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.mul_(2)
    y = torch.func.functional_call(layer, given, (x,))
    if not torch.allclose(y, subject.output(changed, x), rtol=1e-5, atol=1e-5, equal_nan=True):
        raise Wrong("it does not use the parameters that functional_call gives it")


@check("torch's settings", group="library")
def settings(subject: Subject) -> None:
    """A call leaves the settings of the process as they were: gradient mode, default dtype, threads."""
    layer = subject.layer()
    before = process.settings()
    for mode in (True, False):
        subject.output(layer.train(mode), subject.data("forward"))
    changed = [name for name, value in process.settings().items() if value != before[name]]
    if changed:
        raise Wrong(f"forward changes {', '.join(changed)}, for the whole process")
