"""The tensors of a checkpoint, read without running code: .safetensors, and pickles by torch's `weights_only`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from bnbench.base.errors import BnbenchError
from bnbench.base.files import check_regular
from bnbench.base.user_code import first_line, raise_interrupt

#: Where training programs keep the weights in a checkpoint, the likeliest first.
_NESTS = (
    *("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params"),
    *("ema_state_dict", "model_ema", "ema", "ema_model", "params_ema", "state_dict_ema"),
)
#: How deep a nest may lie in another, as in {"ema": {"state_dict": ...}}.
_DEPTH = 3
_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".tar")


class CheckpointError(BnbenchError):
    """A checkpoint that can't be read, or is not one of this network."""


@dataclass(frozen=True)
class Contents:
    """tensors: by their keys as in the file. nest: where they lie in it, as "ema.state_dict". said: notes on it."""

    tensors: Mapping[str, Tensor]
    nest: str = ""
    said: tuple[str, ...] = ()


def read_checkpoint(path: Path) -> Contents:
    """Raises CheckpointError where it is not there, is damaged, needs code to be read, or holds no weights."""
    try:
        if path.is_dir():
            raise _folder(path)
        check_regular(path)
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read: {error.strerror or error}.") from None
    if not start:
        raise CheckpointError(f"{path}: the file is empty.", fix="copy it again.")
    if path.name.endswith(".index.json"):
        raise CheckpointError(
            f"{path}: it is the index of a checkpoint that is split into parts.",
            fix="put them together in one .safetensors file.",
        )
    # by its content, as names are wrong at times: the length of a header, and the header
    if start[8:9] == b"{":
        return Contents(_safetensors(path))
    if start[:2] != b"PK" and start[:1] != b"\x80" and path.suffix == ".safetensors":
        return Contents(_safetensors(path))
    return _unpacked(_pickled(path), path)


def _folder(path: Path) -> CheckpointError:
    inside = sorted(item.name for item in path.iterdir() if item.suffix in _SUFFIXES)
    fix = f"{path / inside[0]}" if inside else "name the file itself."
    return CheckpointError(f"{path}: it is a folder.", fix=fix)


def _safetensors(path: Path) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: it is no whole .safetensors file: {first_line(error)}.", fix="copy it again."
        ) from None


def _pickled(path: Path) -> object:
    """What torch reads with weights_only=True."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except BaseException as error:  # a damaged file may raise anything
        raise_interrupt(error)
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: BaseException) -> CheckpointError:
    text = str(error)
    new = path.with_name(f"{path.stem}_weights.pt").name
    if "TorchScript" in text:
        return CheckpointError(
            f"{path}: it is a TorchScript program, not a checkpoint.",
            fix=f'if you trust it: torch.save(torch.jit.load("{path.name}").state_dict(), "{new}")',
        )
    _, found, rest = text.partition("GLOBAL ")
    if isinstance(error, UnpicklingError) and found:
        needs = rest.split()[0]
        return CheckpointError(
            f"{path}: it is not weights alone: to read it, {needs} would have to be imported.",
            "A pickled model runs code when it is read, so bnbench reads tensors alone (weights_only=True).",
            "if you trust it, keep the weights alone, once, in a program that can import it: "
            f'x = torch.load("{path.name}", weights_only=False); '
            'x = x.get("state_dict", x.get("model", x)) if isinstance(x, dict) else x; '
            f'torch.save(x.state_dict() if hasattr(x, "state_dict") else x, "{new}")',
        )
    return CheckpointError(
        f"{path}: it can't be read as a checkpoint: {first_line(error)}.",
        "It is damaged, or no checkpoint of torch.",
        "copy it again, or save the weights again: torch.save(model.state_dict(), FILE).",
    )


def _unpacked(content: object, path: Path) -> Contents:
    """The weights in what was read."""
    nest: list[str] = []
    said: list[str] = []
    for _ in range(_DEPTH):
        if not isinstance(content, Mapping) or any(isinstance(value, Tensor) for value in content.values()):
            break
        inside = [key for key in _NESTS if isinstance(content.get(key), Mapping) and content[key]]
        if not inside:
            break
        nest.append(inside[0])
        if len(inside) > 1:
            said.append(f"weights under {inside[0]} are read, and not those under {', '.join(inside[1:])}")
        content = content[inside[0]]
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path}: it holds {_article(content)}, and no weights by name.",
            fix="torch.save(model.state_dict(), FILE)",
        )
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise _without_tensors(path, content)
    others = [str(key) for key in content if str(key) not in tensors]
    if others:
        said.append(f"{', '.join(others[:3])}{' and more' if len(others) > 3 else ''}: no tensors, left out")
    return Contents(tensors, ".".join(nest), tuple(said))


def _article(value: object) -> str:
    return f"a {type(value).__name__}"


def _without_tensors(path: Path, content: Mapping[Any, Any]) -> CheckpointError:
    keys = ", ".join(str(key) for key in list(content)[:5])
    if {"state", "param_groups"} <= set(content):
        return CheckpointError(
            f"{path}: it is an optimizer's state, not a network's.", fix="name the network's file."
        )
    return CheckpointError(
        f"{path}: it holds no weights by name{f' (its keys: {keys})' if keys else ''}.",
        f"They are looked for at its top and under {', '.join(_NESTS[:4])}, ….",
        "torch.save(model.state_dict(), FILE)",
    )
