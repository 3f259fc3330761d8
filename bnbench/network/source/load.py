"""`load_model`: a network from a MODEL word, with inputs that it takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from bnbench.base.errors import BnbenchError
from bnbench.base.named_code import Importer
from bnbench.base.process_state import seeded
from bnbench.base.seeding import derive
from bnbench.base.user_code import guarded
from bnbench.network.source.arguments import call_text
from bnbench.network.source.configured import is_configured, named, of_configuration
from bnbench.network.source.files import in_file
from bnbench.network.source.inputs import One, default_inputs, inputs_of, read_input
from bnbench.network.source.origin import Origin
from bnbench.network.source.records import LoadedModel, Wanted
from bnbench.network.source.trial import tried
from bnbench.network.source.words import ModelWord, read_word
from bnbench.norms.behaviour import CPU

#: Samples of the pass that shows whether a network takes its inputs.
SAMPLES = 2


def find_origin(word: ModelWord, load: Importer | None = None) -> Origin:
    """The factory of a network. load: imports a file. Raises BnbenchError for a name that is not there."""
    from bnbench.network.source.huggingface import of_huggingface
    from bnbench.network.source.packages import of_timm, of_torchvision, refuse_weights

    if word.provider == "file":
        return in_file(word.place, word.name, load)
    refuse_weights(word.provider, word.options)
    return {"torchvision": of_torchvision, "timm": of_timm, "hf": of_huggingface}[word.provider](word.name)


def build(origin: Origin, wanted: Wanted, seed: int) -> tuple[nn.Module, dict[str, Any]]:
    """The network and the arguments of its factory, on the CPU. The process's random streams stay as they were."""
    arguments = origin.arguments(wanted)
    with guarded(), seeded(seed, CPU):
        return origin.make(arguments), arguments


def load_model(word: str, wanted: Wanted | None = None) -> LoadedModel:
    """The network that a MODEL word names, with random weights that follow from `wanted.seed`.

    Raises BnbenchError: a word that can't be read, a name that is not there, an argument that nothing gives, a network
    that does not take its inputs.
    """
    wanted = wanted or Wanted()
    read = read_word(word)
    origin = find_origin(read)
    options = {**read.options, **wanted.options}
    model, arguments = build(origin, replace(wanted, options=options), derive(wanted.seed, "model"))
    said = [] if origin.ready else [f"built as {call_text(origin.name, arguments)}"]
    if origin.ready:
        said.append(f"{origin.name} is built in the file, with the weights that it has there")
    inputs, text, why = _inputs(model, wanted)
    said.append(f"input {text}{f': {why}; --input gives another one' if why else ''}")
    return LoadedModel(model, word, origin.content(), inputs, text, tuple(said), wanted)


def inputs_for(model: nn.Module, text: str | None = None) -> tuple[Any, str, str]:
    """The inputs of a module that is built already: as --input says, or as its first layer takes them.

    Returns them, their shape in words, and why they are so where nobody said it. Raises BnbenchError.
    """
    return _inputs(model, Wanted(input=text))


def _inputs(model: nn.Module, wanted: Wanted) -> tuple[Any, str, str]:
    """The inputs, their shape in words, and why they are so where the user does not say it."""
    if wanted.input is not None:
        arguments = named(model, read_input(wanted.input, model))
        inputs = inputs_of(arguments)
        if fault := tried(model, inputs(SAMPLES)).fault:
            raise BnbenchError(
                f"--input {wanted.input}: the network does not take it: {fault}",
                fix="--input with the shape of one sample, without the number of samples.",
            )
        return inputs, _text(arguments), ""
    first = ""
    for arguments, why in _candidates(model):
        inputs = inputs_of(arguments)
        if not (fault := tried(model, inputs(SAMPLES)).fault):
            return inputs, _text(arguments), why
        first = first or f"{fault}\nTried: {_text(arguments)}, {why}."
    raise BnbenchError(
        f"the network does not take the default input: {first}", fix="--input 3x64x64, or whatever it takes."
    )


def _candidates(model: nn.Module) -> Iterable[tuple[tuple[One, ...], str]]:
    return of_configuration(model) if is_configured(model) else default_inputs(model)


def _text(arguments: Sequence[One]) -> str:
    return " and ".join(map(str, arguments))
