"""Reading the key `probe` of a study: its mistakes, each at its own line."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from pydantic import ValidationError

from bnbench.base.errors import unknown_name
from bnbench.base.options import means_none
from bnbench.study.probe import Probe
from bnbench.study.value_faults import faults_by_path, message
from bnbench.study.yaml_source import Path_

KEY = "probe"
#: What a measure, a step or a layer may be given as; in messages.
_FORMS = {
    "at": "a list of steps from 0, such as [0, 1, 10, 100]",
    "what": "a list of measures, such as [activations, gradients]",
    "layers": "a list of layers, such as [1, last] or [blocks.0]",
}


def read_probe(
    given: Any,
    measures: Collection[str],
    place: Callable[[Path_], str],
    wrong: Callable[[Path_, str], None],
) -> Probe | None:
    """The probe of a study; None where it has none, or a wrong one, whose mistakes `wrong` has been given.

    given: the value of the key: a mapping, or true for the defaults. measures: the known ones. place: where a key
    was written.
    """
    if given is None or given is False or means_none(given):
        return None
    if given is True or (isinstance(given, str) and given.lower() in ("yes", "on", "default")):
        given = {}
    if not isinstance(given, dict):
        wrong(
            (KEY,),
            f"probe: {given!r} is wrong: it should be true, or a mapping of keys to values. "
            "Fix: probe: {at: [0, 1, 10, 100], every: 100}.",
        )
        return None
    given = {key: _listed(key, value) for key, value in given.items()}
    faults = [*_faults(given, measures)]
    try:
        probe = Probe.model_validate(given)
    except ValidationError as error:
        known = {path for path, _ in faults}
        for path, details in faults_by_path(error, (KEY,)).items():
            if path[:2] not in known:
                faults.append((path[:2], message(details, path, Probe, KEY)))
    for path, text in faults:
        wrong(path, text)
    if faults:
        return None
    probe.remember({"": place((KEY,)), **{key: place((KEY, key)) for key in Probe.model_fields}})
    return probe


def unprobed(variants: Iterable[str]) -> str:
    """Why networks of another framework are not probed."""
    return (
        f"probe with framework: keras ({', '.join(dict.fromkeys(variants))}): the probes look inside networks of "
        "PyTorch, and these train in TensorFlow, with its own kernels and its own optimizer. "
        "Fix: framework: torch, or probe: false."
    )


def _listed(key: str, value: Any) -> Any:
    """One value for a list of one."""
    return (
        [value] if key in _FORMS and isinstance(value, str | int) and not isinstance(value, bool) else value
    )


def _faults(given: dict[str, Any], measures: Collection[str]) -> list[tuple[Path_, str]]:
    """What pydantic would say less clearly: each key at fault, and a message with the fix."""
    faults: list[tuple[Path_, str]] = []
    for key, form in _FORMS.items():
        value = given.get(key)
        if value is not None and not isinstance(value, list):
            faults.append(((KEY, key), f"probe.{key}: {value!r} is wrong: it should be {form}."))
            continue
        if value == [] and key != "at":
            faults.append(((KEY, key), f"probe.{key}: [] names nothing. Fix: leave the key out, or {form}."))
        repeated = sorted({str(item) for item in value or [] if (value or []).count(item) > 1})
        if repeated:
            faults.append(((KEY, key), f"probe.{key}: {', '.join(repeated)} repeated. Fix: name each once."))
    for step in given.get("at") or [] if isinstance(given.get("at"), list) else []:
        if isinstance(step, bool) or not isinstance(step, int) or step < 0:
            faults.append(
                (
                    (KEY, "at"),
                    f"probe.at: {step!r} is no step: steps are whole numbers from 0, the network as it starts. "
                    "Fix: at: [0, 1, 10, 100].",
                )
            )
    every = given.get("every")
    if isinstance(every, int) and not isinstance(every, bool) and every < 1:
        faults.append(
            (
                (KEY, "every"),
                f"probe.every: {every} is no number of steps. Fix: every: 100, or single steps: at: [0].",
            )
        )
    for name in given.get("what") or [] if isinstance(given.get("what"), list) else []:
        if not isinstance(name, str) or name not in measures:
            faults.append(((KEY, "what"), f"probe.what: {unknown_name('measure', str(name), measures)}"))
    return faults
