"""`bnbench.convert`: another normalizer in one's own network, with proofs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bnbench.api.arguments import PathLike, choice_of, paths_of
from bnbench.api.fold import ToFold as Subject
from bnbench.api.fold import subject_of, with_checkpoint
from bnbench.api.network_files import origin_of
from bnbench.base.conversion_record import ConversionRecord
from bnbench.base.errors import BnbenchError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bnbench.models.layers import NormLayer
    from bnbench.network.convert import Choices, Conversion

#: Names that torch has for options of ours.
_TORCHS_NAMES = {"num_groups": "groups", "elementwise_affine": "affine"}


# Each option is an argument of its own, as a command's are: that is how editors and `help` show them.
def convert(
    model: str | nn.Module,
    to: str | Callable[..., nn.Module] = "batch_custom",
    *,
    source: str = "batch",
    options: Mapping[str, Any] | None = None,
    biases: Literal["fair", "keep"] = "fair",
    inputs: Callable[[int], Any] | Tensor | Sequence[int] | str | None = None,
    checkpoint: PathLike | None = None,
    seed: int = 0,
    plugins: PathLike | Iterable[PathLike] = (),
) -> Conversion:
    """Put another normalizer in the place of a network's own, in a copy of it. Runs `bnbench convert`.

    Each new layer has the old one's gamma, beta, running statistics, eps, momentum, hooks, mode, device and dtype, as
    far as it can hold them. A layer that stands under several names stays one layer. Where a normalizer can't stand,
    the old layer is left, with the reason. The network itself stays as it was.

    Parameters
    ----------
    model
        A module, or a word: "my_model.py:Net", "torchvision:resnet18".
    to
        A registered normalizer, such as "group"; "my_layers.py:MyNorm"; or a class or function of the number of
        channels (and, if it takes one, the dimension) that makes a layer.
    source
        Which normalizations: "batch" (batch and sync norms), "all", or one kind: "sync", "frozen", "instance",
        "group", "layer", "rms".
    options
        Of the normalizer: {"groups": 8}. What is not among them (eps, momentum, affine) is the old layer's.
    biases
        "fair": a layer before a batch norm gets the bias back that the norm stood for, where the new one does not;
        and loses one that the new norm takes out, where the old one did not. "keep": none comes, none goes.
    inputs
        A function from a number of samples to what the network is called with; a batch as an example; or the shape of
        one sample, as (3, 64, 64) or "3x64x64". None: what its first layer takes.
    checkpoint
        A file with weights, which are loaded first: into the module itself, where one is given.
    seed
        Of the biases that come back.
    plugins
        Python files that register your own names.

    Returns
    -------
    Conversion
        `model` is the converted copy, `sites` has a record for each normalization, `proofs` what was checked;
        `passed` is false where one fails. `renamed` maps old parameter names to new ones.

    Raises
    ------
    BnbenchError
        There is no such network, normalizer or option; the network has no normalization, or can't be copied.

    Notes
    -----
    An optimizer holds the parameters of the network that it was made for: make a new one for the converted network,
    with `renamed` where its groups go by names. Use the new layers before the network is compiled or wrapped.

    Examples
    --------
    >>> import bnbench
    >>> from torch import nn
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    >>> conversion = bnbench.convert(network, "group", options={"groups": 4}, inputs=(3, 8, 8))
    >>> conversion.model[1], conversion.passed
    (GroupNorm(4, 8, eps=1e-05, affine=True, bias=True), True)
    >>> conversion.sites[0].details["bias"]
    'given back: 0'
    """
    from bnbench.engine.process import training_process
    from bnbench.network.convert import SOURCES, Choices

    choice_of("source", source, SOURCES)
    choice_of("biases", biases, ("fair", "keep"))
    norm = norm_of(to, options or {}, paths_of(plugins))
    with training_process():
        subject = with_checkpoint(_subject(model, inputs), checkpoint)
        return run(subject, norm, Choices(source, biases, seed))  # type: ignore[arg-type]


def _subject(model: str | nn.Module, inputs: Any) -> Subject:
    """The network and its inputs; one on the meta device has no values to run on."""
    from torch import nn

    if isinstance(model, nn.Module) and inputs is None:
        if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
            return Subject(model, type(model).__name__, None)  # type: ignore[arg-type]
    return subject_of(model, inputs)


def norm_of(
    to: str | Callable[..., Any], options: Mapping[str, Any], plugins: Sequence[Path] = ()
) -> NormLayer:
    """The normalizer with those options. Raises BnbenchError."""
    from bnbench.api.plugins import known_names
    from bnbench.models.layers import NormLayer
    from bnbench.network.convert import checked_options
    from bnbench.norms import norms

    if isinstance(to, str):
        names = known_names(plugins, (f"norm={to}",))
        entry = norms.get(names.overrides[0].partition("=")[2])
    else:
        entry = _entry_of(to)
    known = entry.option_names()
    words = {
        _TORCHS_NAMES.get(name, name) if name not in known else name: value for name, value in options.items()
    }
    norm = NormLayer(entry)
    return NormLayer(entry, checked_options(norm, words))


def _entry_of(to: Any) -> Any:
    """A class or a function of this process, as an entry that no registry holds."""
    import inspect

    from torch import nn

    from bnbench.base.registry import Entry
    from bnbench.norms import NormFacts
    from bnbench.norms.named import NamedLayer
    from bnbench.norms.named_factory import factory_of

    if isinstance(to, nn.Module) or not callable(to):
        kind = "a layer that is made already" if isinstance(to, nn.Module) else repr(to)
        raise BnbenchError(
            f"to: {kind} can't be put in several places.",
            fix='its class, a function: lambda num_features: MyNorm(num_features, ...), or a name: "group"',
        )
    name = getattr(to, "__qualname__", type(to).__name__)
    return Entry(name, factory_of(NamedLayer(name, to, None, inspect.getmodule(to))), NormFacts())


def run(subject: Subject, norm: NormLayer, choices: Choices) -> Conversion:
    """Convert and prove. Raises BnbenchError."""
    from bnbench.base.user_code import guarded
    from bnbench.network.convert import convert_norms

    with guarded():
        conversion = convert_norms(subject.model, norm, choices, subject.inputs)
    return conversion if subject.loaded is None else replace(conversion, origin=origin_of(subject.loaded))


def record_of(subject: Subject, conversion: Conversion, wrote: Sequence[str] = ()) -> ConversionRecord:
    """What reports show. wrote: sentences on files."""
    said = [*subject.said, *wrote]
    if conversion.error:
        said.append(f"the network ends with an error on its input: {conversion.error}")
    return ConversionRecord(
        subject.word,
        conversion.to,
        conversion.source,
        conversion.sites,
        conversion.proofs,
        {old: new for old, new in conversion.renamed.items() if old != new},
        tuple(said),
    )
