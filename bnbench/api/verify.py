"""`bnbench.verify` and `verify_padding`: judge a layer that is named, or given as a class or a function."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from bnbench.api.arguments import PathLike, choice_of, number_of, paths_of
from bnbench.base.errors import LayerError
from bnbench.verification.dependence import Dependences
from bnbench.verification.findings import Verification
from bnbench.verification.parent import TIMEOUT
from bnbench.verification.parent import verify as verify_in_child
from bnbench.verification.parent import verify_padding as padding_in_child
from bnbench.verification.wishes import Wishes

if TYPE_CHECKING:
    from bnbench.verification.target import Target


# Each option is an argument of its own, as a command's are: that is how editors and `help` show them.
def verify(
    layer: str | Callable[..., Any],
    *,
    dim: Literal["1", "2", "3", "all"] | int = "all",
    eps: float | None = None,
    momentum: float | Literal["none"] | None = None,
    momentum_convention: Literal["new", "old"] = "new",
    running_var: Literal["unbiased", "biased"] = "unbiased",
    plugins: PathLike | Iterable[PathLike] = (),
    timeout: float = TIMEOUT,
) -> Verification:
    """Is this layer a batch norm? Runs every check of `bnbench verify`, and names the cause of each failure.

    A layer that can be imported by its name is judged in a process of its own, which it may hang or crash. A class
    of a notebook or of the script that runs is judged in this process, without a time limit.

    Parameters
    ----------
    layer
        A class, or a function of the number of channels (and, if it takes one, the dimension) that makes a layer;
        or the name of one: "my_layers.py:MyNorm", "torch.nn:BatchNorm1d", "batch".
    dim
        Input that must work: 1 for (N, C), 2 for (N, C, H, W), 3 for (N, C, D, H, W), "all" for whatever it takes.
    eps, momentum
        Passed to a layer that takes them; if it takes none, the values that it is assumed to use.
    momentum_convention
        Whether momentum weighs the "new" value, as in torch, or the "old" one, as in Keras.
    running_var
        Whether the stored variance is "unbiased", as in torch, or "biased", as in Keras.
    plugins
        Python files that register your own names.
    timeout
        Seconds after which the layer is given up.

    Returns
    -------
    Verification
        `passed` says whether the mathematics is right; `findings` has every check, `by_cause()` what went wrong.

    Raises
    ------
    LayerError
        There is no layer to judge, or it ends, crashes or hangs its process.

    Examples
    --------
    >>> import bnbench, torch
    >>> bnbench.verify(torch.nn.BatchNorm1d).passed
    True
    """
    choice_of("momentum_convention", momentum_convention, ("new", "old"))
    choice_of("running_var", running_var, ("unbiased", "biased"))
    weight = momentum if momentum == "none" else number_of("momentum", momentum, 0, 1)
    wishes = Wishes(_dim(dim), number_of("eps", eps, 0), weight, momentum_convention, running_var)
    number_of("timeout", timeout, 1, 86400)
    word = layer if isinstance(layer, str) else _name_of(layer)
    if word is not None:
        return verify_in_child(word, wishes, plugins=paths_of(plugins), timeout=timeout)
    return _verify_here(layer, wishes)


def verify_padding(
    layer: str | Callable[..., Any] | None = None,
    *,
    eps: float | None = None,
    momentum: float | Literal["none"] | None = None,
    plugins: PathLike | Iterable[PathLike] = (),
    timeout: float = TIMEOUT,
) -> Dependences:
    """Does padding change what becomes of valid positions? Runs `bnbench verify --padding`.

    Parameters
    ----------
    layer
        As for `verify`; None: every registered normalizer.
    eps, momentum
        Passed to a layer that takes them.
    plugins
        Python files that register your own names.
    timeout
        Seconds after which the layer is given up.

    Returns
    -------
    Dependences
        `layers` has one entry a normalizer: the modes in which its outputs depend on padding, on other samples and on
        later positions. `passed` is false where a layer that takes a mask depends on padding.

    Raises
    ------
    LayerError
        There is no layer to judge, it takes no tokens, or it ends, crashes or hangs its process.

    Examples
    --------
    >>> import bnbench
    >>> [layer.padding for layer in bnbench.verify_padding("masked_batch").layers]
    [()]
    """
    weight = momentum if momentum == "none" else number_of("momentum", momentum, 0, 1)
    wishes = Wishes(eps=number_of("eps", eps, 0), momentum=weight)
    number_of("timeout", timeout, 1, 86400)
    word = "" if layer is None else layer if isinstance(layer, str) else _name_of(layer)
    if word is not None:
        return padding_in_child(word, wishes, plugins=paths_of(plugins), timeout=timeout)
    from bnbench.engine.process import training_process
    from bnbench.verification.padding import judge_layer, values_of

    with training_process():
        return Dependences((judge_layer(_target_of(layer), values_of(wishes)),))


def _dim(dim: str | int) -> Literal["1", "2", "3", "all"]:
    for known in ("1", "2", "3", "all"):
        if str(dim) == known:
            return known
    raise LayerError(f"dim: {dim!r} is none of 1, 2, 3 and all.")


def _name_of(layer: Any) -> str | None:
    """E.g. "package.module:Name" where another process finds the same layer under it; None for one of this process."""
    module, name = getattr(layer, "__module__", None), getattr(layer, "__qualname__", None)
    if not callable(layer) or not module or not name or not name.isidentifier() or module == "__main__":
        return None
    spec = getattr(sys.modules.get(module), "__spec__", None)
    if spec is None or not spec.has_location or importlib.util.find_spec(module.partition(".")[0]) is None:
        return None
    return f"{module}:{name}" if getattr(sys.modules[module], name, None) is layer else None


def _verify_here(layer: Any, wishes: Wishes) -> Verification:
    from bnbench.engine.process import training_process
    from bnbench.verification.judge import verify as judge

    target = _target_of(layer)
    with training_process():
        return judge(target, wishes)


def _target_of(layer: Any) -> Target:
    """A layer of this process. Raises LayerError for what makes no layers."""
    from torch import nn

    from bnbench.norms.named import NamedLayer, check_signature
    from bnbench.verification.target import Target

    if isinstance(layer, nn.Module) or not callable(layer):
        kind = "a layer that is made already" if isinstance(layer, nn.Module) else repr(layer)
        raise LayerError(
            f"{kind} can't be verified: checks need fresh layers.",
            fix="give its class, or a function: lambda num_features: MyNorm(num_features, ...)",
        )
    name = getattr(layer, "__qualname__", type(layer).__name__)
    named = NamedLayer(name, layer, None, inspect.getmodule(layer))
    target = Target(named)
    check_signature(named, set(target.options().values()))
    return target
