"""`bnbench.fold`: normalizations become part of the layers beside them, with proof."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from bnbench.api.arguments import PathLike, StudyLike, path_of
from bnbench.api.network_files import origin_of
from bnbench.base.errors import BnbenchError
from bnbench.base.fold_record import FoldRecord

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bnbench.network.fold.folding import Folding
    from bnbench.network.source import Inputs, LoadedModel


@dataclass(frozen=True)
class ToFold:
    """A network, its word, what it is called with, and what was decided for it. examples: batches of given data."""

    model: nn.Module
    word: str
    inputs: Inputs
    said: tuple[str, ...] = ()
    examples: tuple[Any, ...] = ()
    source: str = ""
    loaded: LoadedModel | None = None


def fold(
    model: str | nn.Module,
    *,
    inputs: Callable[[int], Any] | Tensor | Sequence[int] | str | None = None,
    data: StudyLike | None = None,
    checkpoint: PathLike | None = None,
    speed: bool = False,
) -> Folding:
    """Fold what can be folded exactly, in a copy of the network, and compare the two. Runs `bnbench fold`.

    Batch norms (in inference) go into the convolutions and linear layers before or after them; gamma and beta of layer,
    RMS, group and instance norms go into the layers that follow. The network itself stays as it was.

    Parameters
    ----------
    model
        A module, or a word: "my_model.py:Net", "torchvision:resnet50". A network in training mode is folded as it
        works in inference; in one that is in inference mode, norms that stay in training mode are refused.
    inputs
        A function from a number of samples to what the network is called with; a batch as an example; or the shape of
        one sample, as (3, 64, 64) or "3x64x64". None: what its first layer takes.
    data
        A study (a file, its name, or a dict), on whose batches the predictions that change are counted.
    checkpoint
        A file with weights, which are loaded first: into the module itself, where one is given.
    speed
        Whether to time both, in pairs.

    Returns
    -------
    Folding
        `model` is the folded copy, in inference mode. `sites` has a record for each norm: folded, left or refused, with
        the reason. `proofs` has the comparisons; `passed` is false where one fails: then do not use the copy.

    Raises
    ------
    BnbenchError
        There is no such network, checkpoint or study, the network fails on its input, or it can't be copied.

    Notes
    -----
    Weights are computed in float64 and cast to their own type at the end.

    Examples
    --------
    >>> import bnbench
    >>> from torch import nn
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    >>> folding = bnbench.fold(network, inputs=(3, 8, 8))
    >>> [(site.name, site.action) for site in folding.sites], folding.passed
    ([('1', 'folded')], True)
    """
    from bnbench.engine.process import training_process

    with training_process():
        subject = subject_of(model, inputs)
        return run(with_data(with_checkpoint(subject, checkpoint), data), speed=speed)


def subject_of(
    model: str | nn.Module, inputs: Callable[[int], Any] | Tensor | Sequence[int] | str | None = None
) -> ToFold:
    """The network that is meant, and its inputs. Raises BnbenchError."""
    import torch
    from torch import Tensor, nn

    from bnbench.network.fold.checks import dtype_of
    from bnbench.network.fold.inputs import change_real, like

    if isinstance(model, str):
        from bnbench.network.source import Wanted, load_model

        text = _shape_text(inputs)
        return of_loaded(load_model(model, Wanted(input=text)), inputs if callable(inputs) else None)
    if not isinstance(model, nn.Module):
        raise BnbenchError(
            f"model: {model!r} is neither a module nor a word.", fix='a module, or "my_model.py:Net"'
        )
    name = type(model).__name__
    if isinstance(inputs, Tensor):
        return ToFold(model, name, like(inputs), examples=(inputs,), source="the given batch")
    if inputs is not None and callable(inputs):
        return ToFold(model, name, inputs)
    from bnbench.network.source.load import inputs_for

    dtype = dtype_of(model)
    # inputs are found in float32, and given in the network's own type
    plain = model if dtype == torch.float32 else deepcopy(model).float()
    found, text, why = inputs_for(plain, _shape_text(inputs))

    def drawn(samples: int) -> Any:
        return change_real(found(samples), lambda x: x.to(dtype))

    return ToFold(model, name, drawn, (f"input {text}{f': {why}' if why else ''}",))


def of_loaded(loaded: LoadedModel, inputs: Callable[[int], Any] | None = None) -> ToFold:
    """A network that a word named."""
    return ToFold(loaded.model, loaded.word, inputs or loaded.inputs, loaded.said, loaded=loaded)


def _shape_text(inputs: Any) -> str | None:
    """(3, 64, 64) and "3x64x64" as --input has it."""
    if isinstance(inputs, str) or inputs is None or callable(inputs):
        return inputs if isinstance(inputs, str) else None
    try:
        return "x".join(str(int(size)) for size in inputs)
    except (TypeError, ValueError):
        raise BnbenchError(
            f"inputs: {inputs!r} is no shape of one sample.", fix='inputs=(3, 64, 64), "3x64x64", or a batch.'
        ) from None


def with_checkpoint(subject: ToFold, checkpoint: PathLike | None) -> ToFold:
    """The same network with the weights of a file. Raises BnbenchError."""
    if checkpoint is None:
        return subject
    from bnbench.network.files.checkpoint import load_checkpoint

    report = load_checkpoint(subject.model, path_of(checkpoint, "checkpoint"))
    return replace(subject, said=(*subject.said, *report.said))


def with_data(subject: ToFold, data: StudyLike | None) -> ToFold:
    """The same network with batches of a study's data as examples. Raises BnbenchError and ConfigError."""
    if data is None:
        return subject
    from bnbench.api.arguments import data_folder
    from bnbench.api.plugins import known_names
    from bnbench.api.study_data import study_data

    found = study_data(data, known_names(), data_folder(None)).data
    source = f"the data of {found.source}"
    examples, note = examples_for(subject.model, [batch.inputs for batch in found.batches], source)
    return replace(subject, examples=examples, source=source, said=(*subject.said, *note))


def examples_for(
    model: nn.Module, batches: Sequence[Any], source: str
) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """The batches as the network takes them, and a sentence where gray images became three channels.

    Raises BnbenchError where it does not take them.
    """
    from bnbench.base.user_code import guarded
    from bnbench.network.fold.inputs import as_colours, fault_on

    first = batches[0]
    with guarded():
        fault = fault_on(model, first)
        if not fault:
            return tuple(batches), ()
        colours = as_colours(first)
        if colours is not None and not fault_on(model, colours):
            return tuple(map(as_colours, batches)), (f"{source}: gray images repeated to three channels",)
    shape = " x ".join(map(str, getattr(first, "shape", ())))
    raise BnbenchError(f"the network does not take {source} ({shape}): {fault}")


def run(subject: ToFold, *, speed: bool = False) -> Folding:
    """Fold and compare. Raises BnbenchError."""
    from bnbench.base.user_code import guarded
    from bnbench.network.fold.folding import FoldOptions, fold_network

    options = FoldOptions(subject.examples, subject.source, speed=speed)
    with guarded():
        folding = fold_network(subject.model, subject.inputs, options)
    return folding if subject.loaded is None else replace(folding, origin=origin_of(subject.loaded))


def record_of(subject: ToFold, folding: Folding, wrote: Sequence[str] = ()) -> FoldRecord:
    """What reports show. wrote: sentences on files."""
    said = [*subject.said, *folding.said, *wrote]
    speed = None if folding.speed is None else asdict(folding.speed)
    if folding.speed is not None:
        took = f"{folding.speed.milliseconds:.3g} ms as it was, {folding.speed.folded_milliseconds:.3g} ms folded"
        said.append(
            f"speed: {folding.speed}, a 95 % interval of the median over {folding.speed.pairs} pairs of passes in turn "
            f"({took}; batch {folding.speed.batch}, threads: {folding.speed.threads})"
        )
    return FoldRecord(subject.word, folding.sites, folding.proofs, folding.tracer, speed, tuple(said))
