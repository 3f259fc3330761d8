"""`bnbench.rebuild`: the network that `convert --save` or `fold --save` wrote."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnbench.api.arguments import PathLike, paths_of
from bnbench.base.errors import BnbenchError

if TYPE_CHECKING:
    from torch import nn

    from bnbench.base.registry import Entry
    from bnbench.network.files.rebuild import Table


def rebuild(
    model: str | nn.Module | Callable[..., nn.Module],
    path: PathLike,
    *,
    allow_changed: bool = False,
    norm: str | Callable[..., nn.Module] | None = None,
    plugins: PathLike | Iterable[PathLike] = (),
) -> nn.Module:
    """Build the network of X.safetensors and X.json again, on the CPU, without pickle.

    Its source builds it, X.json says what to change in it, and X.safetensors has its tensors. Outputs, modes and ties
    are those of the network that was saved, bit for bit. Nothing in the two files can run code.

    Parameters
    ----------
    model
        The MODEL that was saved: "my_model.py:Net", "torchvision:resnet18"; or a class, a function that returns the
        network, or a network as its source builds it, which is changed in place.
    path
        What `--save` was given: X, X.safetensors or X.json.
    allow_changed
        Build it from a source that has changed since. The names and shapes of all tensors must fit in any case.
    norm, plugins
        The normalizer that `convert` was given where it is your own: "my_layers.py:MyNorm", a class or a function; or
        the Python files that register it. X.json names it and can't load it.

    Returns
    -------
    torch.nn.Module
        In the mode (train or eval) in which it was saved.

    Raises
    ------
    BnbenchError
        The files are damaged, do not belong together, or are not ours; the source has changed, or builds another
        network.

    Examples
    --------
    >>> import bnbench
    >>> bnbench.rebuild("my_model.py:Net", "converted")  # doctest: +SKIP
    """
    from bnbench.network.files import check_source, read_table, rebuild_in

    path = os.fspath(path)
    table = read_table(path)
    if isinstance(model, str):
        word, built, source_hash = _named(model, table)
        if not allow_changed:
            check_source(table, source_hash, path, word)
    else:
        built = _built(model, table)
    return rebuild_in(built, table, path, _entries(norm, paths_of(plugins)))


def _entries(norm: str | Callable[..., Any] | None, plugins: Sequence[Path]) -> tuple[Entry, ...]:
    """The user's own normalizer, and those that plugins register."""
    if norm is not None:
        from bnbench.api.convert import norm_of

        return (norm_of(norm, {}, plugins).entry,)
    if plugins:
        from bnbench.api.plugins import known_names

        known_names(plugins, ())
    return ()


def _named(word: str, table: Table) -> tuple[str, nn.Module, str]:
    """The word with its options, the network that it names, and the hash of its source."""
    from bnbench.base.seeding import derive
    from bnbench.network.source.load import build, find_origin
    from bnbench.network.source.words import read_word

    saved, _, options = table.model.partition(",")
    if options and "," not in word and saved.rpartition(":")[2] == word.rpartition(":")[2]:
        word = f"{word},{options}"
    read = read_word(word)
    origin = find_origin(read)
    model, _ = build(origin, _wanted(table, read.options), derive(table.built_with.seed, "model"))
    return word, model, origin.content()


def _built(model: nn.Module | Callable[..., Any], table: Table) -> nn.Module:
    from torch import nn

    from bnbench.base.seeding import derive
    from bnbench.network.source.files import of_object
    from bnbench.network.source.load import build

    if isinstance(model, nn.Module):
        return model
    if not callable(model):
        raise BnbenchError(
            f"model: {model!r} is not a network.",
            fix="bnbench.rebuild('my_model.py:Net', 'X'), or a network.",
        )
    return build(of_object(model), _wanted(table, {}), derive(table.built_with.seed, "model"))[0]


def _wanted(table: Table, options: Mapping[str, Any]) -> Any:
    from bnbench.network.source import Wanted

    built = table.built_with
    return Wanted(
        num_classes=built.num_classes, in_channels=built.in_channels, options=options, seed=built.seed
    )
