"""`bnbench.doctor`: what is wrong with the normalizations of a network."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bnbench.api.arguments import Overrides, PathLike, override_words, path_of, paths_of, words_of
from bnbench.api.doctor_rules import Selection
from bnbench.api.network_data import (
    data_for,
    gap_values,
    given_data,
    loaded_for,
    require_study,
    said_with,
    wanted_of,
)
from bnbench.api.optimizer_word import optimizers_of
from bnbench.base.diagnosis import NOWHERE, Diagnosis, Source
from bnbench.base.errors import BnbenchError
from bnbench.base.network_records import Action, Proof, SiteRecord

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from bnbench.api.difference import Untrained
    from bnbench.base.registry import Entry
    from bnbench.network.doctor.patient import Patient
    from bnbench.network.sites.norm_site import NormSite, NormSites
    from bnbench.network.source import Wanted


# Each option is an argument of its own, as a command's are: that is how editors and `help` show them.
def doctor(
    model: str | nn.Module,
    *,
    inputs: Callable[[int], Any] | str | None = None,
    optimizer: Optimizer | Iterable[Optimizer] | str | None = None,
    checkpoint: PathLike | None = None,
    data: Any = None,
    overrides: Overrides = (),
    train_the_difference: bool | str = False,
    rules: str | Iterable[str] = (),
    ignore: str | Iterable[str] = (),
    plugins: PathLike | Iterable[PathLike] = (),
) -> Diagnosis:
    """What is wrong with the normalizations of this network? Runs every rule of `bnbench doctor`.

    The model comes out as it went in: parameters, buffers, gradients, random streams, flags and hooks.

    Parameters
    ----------
    model
        A module, as it is trained or used; or a word: "my_model.py:Net", "torchvision:resnet50".
    inputs
        A function from a number of samples to what the network is called with, or their shape, as "3x64x64".
        None: for a word its default input; a module is not run, and rules that need a forward pass are left out.
    optimizer
        What trains it: one optimizer, several, or the word of a function of the model, "FILE.py:make_optimizer".
    checkpoint
        A file with the weights, which are loaded first.
    data
        Batches for the rules that need data: a study (a file, its name or a dict), whose training part is taken; a
        DataLoader; an iterable of batches, `inputs` or `(inputs, targets)`; or a tensor (samples, ...).
    overrides
        Settings that replace the study's.
    train_the_difference
        True, or a rule: train the network as found and with the fix of the first finding (of that rule), on the
        study's data, paired over 5 seeds of at most 300 steps (`overrides` may say others). The answer is in
        `details["difference"]`. Takes the time of ten short trainings.
    rules, ignore
        The rules that look, or that do not, by name: "D06".
    plugins
        Python files that register rules of your own.

    Returns
    -------
    Diagnosis
        `findings` has a record for each place; `having("error")` those of one severity; `passed` is false where one is
        an error.

    Raises
    ------
    BnbenchError
        There is no such model, checkpoint, study or rule, or it can't be read.

    Examples
    --------
    >>> import bnbench
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    >>> [finding.rule for finding in bnbench.doctor(model, inputs="3x8x8").findings]
    ['D06']
    """
    selection = Selection(words_of("rules", rules), words_of("ignore", ignore), paths_of(plugins))
    entries = selection.entries()
    from bnbench.engine.process import training_process

    with training_process():
        batches = given_data(data, override_words(overrides), selection.plugins)
        if train_the_difference is not False:
            require_study(batches)
        subject = subject_of(model, inputs, wanted_of(batches), batches)
        diagnosis, sites = diagnose(subject, Beside(optimizer, checkpoint, batches), entries)
    if train_the_difference is False:
        return diagnosis
    from bnbench.api.difference import with_difference

    rule = "" if train_the_difference is True else train_the_difference
    return with_difference(diagnosis, sites, untrained(subject, batches), rule)


@dataclass(frozen=True)
class Subject:
    """A model, the word that names it, how it is called, what was decided for it, and where its class is written.

    is_word: whether the word makes the same network again.
    """

    model: nn.Module
    word: str
    inputs: Callable[[int], Any] | None = None
    input_text: str = ""
    said: tuple[str, ...] = ()
    source: Source = NOWHERE
    is_word: bool = False


@dataclass(frozen=True)
class Beside:
    """What was given beside the model."""

    optimizer: Optimizer | Iterable[Optimizer] | str | None = None
    checkpoint: PathLike | None = None
    data: Any = None


def subject_of(
    model: str | nn.Module,
    inputs: Callable[[int], Any] | str | None,
    wanted: Wanted | None = None,
    data: Any = None,
) -> Subject:
    """The model that is meant. data: that it is looked at with. Raises BnbenchError."""
    from torch import nn

    if isinstance(model, nn.Module):
        name = type(model).__qualname__
        called = _called_with(inputs, model) if isinstance(inputs, str) else inputs
        return Subject(model, name, called, inputs if isinstance(inputs, str) else "", (), _source_of(model))
    if not isinstance(model, str):
        raise BnbenchError(
            f"model: {model!r} is neither a module nor a word.", fix='a module, or "my_model.py:Net"'
        )
    from bnbench.network.source import Wanted

    text = inputs if isinstance(inputs, str) else None
    loaded = loaded_for(model, replace(wanted or Wanted(), input=text), data)
    called = inputs if callable(inputs) else loaded.inputs
    return Subject(
        loaded.model, loaded.word, called, loaded.input_text, loaded.said, _source_of(loaded.model), True
    )


def _called_with(text: str, model: nn.Module) -> Callable[[int], Any]:
    from bnbench.network.source.configured import named
    from bnbench.network.source.inputs import inputs_of, read_input

    return inputs_of(named(model, read_input(text, model)))


def _source_of(model: nn.Module) -> Source:
    """Where its class is written, if that is a file of the user's."""
    from bnbench.base.own_modules import is_own

    try:
        file = inspect.getsourcefile(type(model)) or ""
        line = inspect.getsourcelines(type(model))[1]
    except (OSError, TypeError):
        return NOWHERE
    return Source(file, line) if file and is_own(file) else NOWHERE


def untrained(subject: Subject, data: Any) -> Untrained:
    """The model as `with_difference` takes it."""
    from bnbench.api.difference import Untrained

    return Untrained(subject.word if subject.is_word else subject.model, subject.model, data)


def diagnose(subject: Subject, beside: Beside, entries: Sequence[Entry]) -> tuple[Diagnosis, NormSites]:
    """Run these rules on a model, which comes out as it went in; with its record. Raises BnbenchError."""
    from bnbench.base.user_code import guarded
    from bnbench.network.doctor.examination import examine
    from bnbench.network.snapshot import digest, untouched

    before = digest(subject.model)
    with guarded(), untouched(subject.model):
        patient = _patient_of(subject, beside)
        findings, ran, idle = examine(patient, entries)
        records = tuple(map(_record_of, patient.sites.sites))
        said = _said(patient)
        gap = gap_values(patient)
    same = digest(subject.model) == before
    proof = Proof(
        "the model is as it was",
        same,
        "equal"
        if same
        else "different",  # the hash itself has the identities of objects, which differ by process
        "a hash of parameters, buffers, gradients, flags and hooks, before and after",
    )
    diagnosis = Diagnosis(
        model=subject.word,
        sites=records,
        findings=findings,
        rules=ran,
        idle=idle,
        proofs=(proof,),
        said=(*said_with(patient.data, subject.said), *said),
        source=subject.source,
        details=gap,
    )
    return diagnosis, patient.sites


def _patient_of(subject: Subject, beside: Beside) -> Patient:
    from bnbench.network.doctor.patient import Patient
    from bnbench.network.doctor.trained import was_trained
    from bnbench.network.doctor.untouched import materialise
    from bnbench.network.sites.find import find_norm_sites

    checkpoint = None
    if beside.checkpoint is not None:
        from bnbench.network.files.checkpoint import load_checkpoint

        checkpoint = load_checkpoint(subject.model, path_of(beside.checkpoint, "checkpoint"), partial=True)
    optimizers = optimizers_of(beside.optimizer, subject.model)
    data = data_for(subject.model, beside.data)
    inputs = (data.inputs if data is not None else None) or subject.inputs
    materialise(subject.model, inputs)
    sites = find_norm_sites(subject.model, inputs, optimizers[0] if optimizers else None)
    return Patient(
        model=subject.model,
        sites=sites,
        inputs=inputs,
        optimizers=optimizers,
        checkpoint=checkpoint,
        data=data,
        was_trained=checkpoint is not None or was_trained(sites.sites, optimizers),
        input_text=subject.input_text,
    )


def _said(patient: Patient) -> tuple[str, ...]:
    said = []
    if patient.sites.error:
        said.append(
            f"The network ended with an error on its input, so its flow is not known: {patient.sites.error}"
        )
    if not patient.was_trained:
        said.append("Nothing shows that it was trained: statistics that were never updated are no finding.")
    return tuple(said)


def _record_of(site: NormSite) -> SiteRecord:
    details: Mapping[str, Any] = {
        "class": "" if site.module is None else type(site.module).__name__,
        "shapes": [list(shape) for shape in site.shapes],
        "training": site.training,
    }
    action: Action = "refused" if site.refused else "left"
    return SiteRecord(site.name, site.names, site.behaviour.kind, site.calls, action, site.refused, details)
