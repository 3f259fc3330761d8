"""Networks of torchvision and timm, with random weights: nothing is downloaded."""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from types import ModuleType
from typing import Any

from torch import nn

from bnbench.base.errors import BnbenchError, nearest
from bnbench.network.source.arguments import Signature
from bnbench.network.source.compiler import without_compiler
from bnbench.network.source.origin import Origin
from bnbench.network.source.records import Wanted

#: Options that would load weights, and what they stand for.
WEIGHTS = (
    "weights",
    "weights_backbone",
    "pretrained",
    "pretrained_backbone",
    "checkpoint_path",
    "pretrained_cfg",
)


def package(name: str, extra: str = "") -> ModuleType:
    """An optional package. Raises BnbenchError with the extra that installs it."""
    try:
        with without_compiler():
            return importlib.import_module(name)
    except ImportError as error:
        raise BnbenchError(
            f"the package {name} can't be imported: {error}",
            "It gives the network, and is no part of what bnbench always needs.",
            f"pip install 'bnbench[{extra or name}]'",
        ) from None


def of_torchvision(arch: str) -> Origin:
    """An architecture of torchvision.models. Raises BnbenchError for an unknown one, with the nearest."""
    with without_compiler():
        models = importlib.import_module("torchvision.models")
    known = models.list_models()
    if arch not in known:
        raise unknown("torchvision", arch, known)
    builder = models.get_model_builder(arch)
    off = {
        name: None
        for name in ("weights", "weights_backbone")
        if name in inspect.signature(builder).parameters
    }
    signature = _open_signature(arch, builder, ("num_classes",))

    def make(**options: Any) -> nn.Module:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The default weight initialization of")
            model: nn.Module = builder(**off, **options)
        return model

    return Origin(
        "torchvision", arch, make, signature, version_of("torchvision", arch), _how("torchvision", arch)
    )


def of_timm(arch: str) -> Origin:
    """An architecture of timm. Raises BnbenchError for an unknown one, with the nearest."""
    timm = package("timm")
    bare = arch.partition(".")[0]  # a tag names weights
    known = _timm_names()
    if bare not in known:
        raise unknown("timm", arch, known)
    signature = _open_signature(bare, lambda: None, ("num_classes", "in_chans"))

    def make(**options: Any) -> nn.Module:
        model: nn.Module = timm.create_model(bare, pretrained=False, **options)
        return model

    def adapt(wanted: Wanted) -> dict[str, Any]:
        """Networks for images of one size are built for that of the data."""
        config = timm.get_pretrained_cfg(bare, allow_unregistered=True) if wanted.shape else None
        fixed = config is not None and getattr(config, "fixed_input_size", False)
        return {"img_size": wanted.shape[1:]} if fixed and wanted.shape and len(wanted.shape) == 3 else {}

    return Origin("timm", bare, make, signature, version_of("timm", bare), _how("timm", bare), adapt)


@cache
def _timm_names() -> Sequence[str]:
    names: Sequence[str] = package("timm").list_models()
    return names


def unknown(provider: str, arch: str, known: Sequence[str]) -> BnbenchError:
    """The error for an architecture that a package does not have."""
    guess = nearest(arch, known)
    alike = [name for name in known if name.startswith(arch[:4]) and name != guess][:8]
    hint = f' Did you mean "{guess}"?' if guess else ""
    also = f" Also alike: {', '.join(alike)}." if alike else ""
    return BnbenchError(
        f'{provider} has no architecture "{arch}".{hint}',
        f"It has {len(known)}.{also}",
        f"{provider}:{guess or known[0]}",
    )


def _open_signature(name: str, builder: Callable[..., Any], more: Sequence[str]) -> Signature:
    """What the builder takes by name, and further names that it passes on."""
    own = {
        key: p
        for key, p in inspect.signature(builder).parameters.items()
        if p.kind is not p.VAR_KEYWORD and key not in (*WEIGHTS, "progress")
    }
    keyword = inspect.Parameter.KEYWORD_ONLY
    own |= {key: inspect.Parameter(key, keyword, default=None) for key in more}
    return Signature(name, own, open=True)


def refuse_weights(provider: str, options: Any) -> None:
    """Raises BnbenchError for an option that would load weights."""
    for name in options:
        if name in (*WEIGHTS, "progress"):
            raise BnbenchError(
                f"{provider}: {name} is no option here.",
                "Networks start from random weights, another draw for each seed, and nothing is downloaded.",
                f"leave {name} out.",
            )


def version_of(name: str, arch: str) -> Callable[[], str]:
    """What identifies a network of a package: the package's version and the network's name."""

    def content() -> str:
        from importlib.metadata import version

        return f"{name} {version(name)}: {arch}"

    return content


def _how(provider: str, arch: str) -> str:
    return f"{provider}:{arch},{{}}"
