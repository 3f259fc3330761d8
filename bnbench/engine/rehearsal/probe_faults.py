"""Probes that a study's networks or the length of its runs do not allow, found before training."""

from __future__ import annotations

import copy
from collections.abc import Iterator

from torch import nn

from bnbench.base.errors import Mistake
from bnbench.base.process_state import left_as_found
from bnbench.base.user_code import raise_interrupt, text_of
from bnbench.engine.build import CPU, two_networks
from bnbench.engine.probe_steps import measures_by_step
from bnbench.engine.rehearsal.case import Case
from bnbench.probes import probes
from bnbench.probes.layers import Found, chosen, find_layers
from bnbench.study.probe import Probe
from bnbench.study.probed_claims import Looked

#: So many layers are named in a message.
_NAMED = 4


class ProbeFaults:
    """Looks at one cell after the other, then knows what is wrong with each and with all together."""

    def __init__(self) -> None:
        #: The variants of each fault, by its place and its text around their names.
        self._faults: dict[tuple[str, str], list[str]] = {}
        self._layers: list[tuple[Case, tuple[Found, ...]]] = []
        #: What the probe of each cell sees, by its label.
        self.looked: dict[str, Looked] = {}

    def look_at(self, case: Case, model: nn.Module, steps: int) -> None:
        """One cell. model: its network, which stays as it is. steps: of a run."""
        probe = case.settings.probe
        if probe is None:
            return
        found = None
        faults = _of_the_run(probe, case, steps)
        try:
            with left_as_found(CPU):
                found = find_layers(copy.deepcopy(model).cpu(), case.inputs)
            faults += _of_the_layers(probe, case, found)
        except BaseException as error:
            raise_interrupt(error)
            faults.append(
                (
                    "",
                    f"probe: the network {case.settings.model.name} of {{}} can't be copied: "
                    f"{_braced(text_of(error))}. A probe works on a copy. Fix: probe: false, or no tensors with a "
                    "history as attributes of a layer.",
                )
            )
        for key, text in faults:
            self._faults.setdefault((probe.place(key), text), []).append(case.label)
        if found:
            self._layers.append((case, found))
        if found and not faults:
            seen, looks = chosen(found, probe.layers), measures_by_step(probe, steps)
            self.looked[case.label] = Looked(
                {layer.depth: layer.name for layer in seen},
                not all(layer.hidden for layer in seen),
                {name: tuple(step for step, names in looks.items() if name in names) for name in probe.what},
                steps,
            )

    def mistakes(self) -> Iterator[Mistake]:
        """Each once, with its variants; then networks whose layers do not correspond."""
        for (place, text), labels in self._faults.items():
            yield Mistake(place, text.format(_listed(labels)))
        for index, (case, layers) in enumerate(self._layers):
            for other, others in self._layers[:index]:
                if text := _why_apart(other, others, case, layers):
                    assert case.settings.probe is not None
                    yield Mistake(case.settings.probe.place(""), text)
                    return


#: The key of `probe` that is wrong, and a text with {} for the variants.
_Fault = tuple[str, str]


def _braced(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _of_the_run(probe: Probe, case: Case, steps: int) -> list[_Fault]:
    """Steps that no run reaches, and more samples than there are."""
    faults = list[_Fault]()
    costly = [name for name in probe.what if probes.get(name).facts.costly]
    if costly and two_networks(case.settings):
        faults.append(
            (
                "what",
                f"probe.what: {', '.join(costly)}: such measures follow one loss and one optimizer, and {{}} trains "
                "two networks, each with its own. Fix: leave them out.",
            )
        )
    if beyond := [step for step in probe.at or () if step > steps]:
        kept = [step for step in probe.at or () if step < steps]
        faults.append(
            (
                "at",
                f"probe.at: {', '.join(map(str, beyond))}: a run of {{}} has {steps:,} steps. "
                f"Fix: at: {[*kept, steps]}, where {steps} is the end, or longer runs.",
            )
        )
    if probe.samples and probe.samples > case.num_train:
        faults.append(
            (
                "samples",
                f"probe.samples: {probe.samples:,}: the training part of {{}} has {case.num_train:,} samples. "
                f"Fix: samples: {case.num_train}, or fewer.",
            )
        )
    return faults


def _of_the_layers(probe: Probe, case: Case, found: tuple[Found, ...]) -> list[_Fault]:
    """A network without layers, and layers that it does not have."""
    if not found:
        return [
            (
                "",
                f"probe: the network {case.settings.model.name} of {{}} has no layers that correspond: it has no "
                "linear and no convolution layer. Fix: probe: false, or a network with such layers.",
            )
        ]
    try:
        chosen(found, probe.layers)
    except ValueError as error:
        return [("layers", f"probe.layers: {_braced(str(error))}, as in {{}}. Fix: probe.layers: [last].")]
    return []


def _why_apart(one: Case, layers: tuple[Found, ...], other: Case, others: tuple[Found, ...]) -> str:
    """Why the layers of two cells do not correspond; "" where they do.

    Variants of one model have the same names everywhere; those of two models have one in common at least.
    """
    names, other_names = ([layer.name for layer in found] for found in (layers, others))
    model, other_model = one.settings.model, other.settings.model
    if names == other_names or (model != other_model and set(names) & set(other_names)):
        return ""
    if model != other_model and model.name == other_model.name:
        return ""
    return (
        f"probe: the network {other_model.name} has no layers that correspond: {one.label} has {_listed(names)}, and "
        f"{other.label} has {_listed(other_names)}. Fix: names of layers that do not depend on the norm, such as "
        "self.fc1 = nn.Linear(...), or probe: false."
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
