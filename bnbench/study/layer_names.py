"""Normalizers and networks that are named by their code: my_layers.py:MyNorm, torch.nn:GroupNorm, my_model.py:Net.

Only the command line and Python may name code; a study's file runs none.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

_OF_A_NETWORK = re.compile(r".+\.(py|ipynb)(:[A-Za-z_]\w*)?(,.*)?|[\w./~-]+:[A-Za-z_].*", re.DOTALL)
_OF_A_MODULE = re.compile(r".+:[A-Za-z_]\w*")


def names_code(name: object) -> bool:
    """Whether a normalizer's name stands for a file or a module with the layer in it."""
    return isinstance(name, str) and (name.endswith((".py", ".ipynb")) or bool(_OF_A_MODULE.fullmatch(name)))


def names_network(name: object) -> bool:
    """Whether a model's name stands for a network in a file, or of a package."""
    return isinstance(name, str) and bool(_OF_A_NETWORK.fullmatch(name))


def label_of(norm: str) -> str:
    """The name in tables: MyNorm for my_layers.py:MyNorm."""
    return norm.rpartition(":")[2] if names_code(norm) else norm


def network_name(model: Mapping[str, Any]) -> str:
    """The name of a study's model as a person knows it: torchvision:resnet18, my_model.py:Net, mlp."""
    name = str(model.get("name"))
    chosen = model.get("arch") or model.get("config")
    return f"{name}:{chosen}" if is_whole(model) and chosen else name


def is_whole(model: Mapping[str, Any]) -> bool:
    """Whether a study's model, with its options, is a network that was not written for bnbench."""
    return {"replace", "image_size"} <= set(model)


def network_refusal(name: str, path: object = "STUDY") -> str:
    """The message for a study that names a network's code, with the fix. path: as for `refusal`."""
    problem = f"model: {name} names a file, and a study runs no code by itself. Fix: name it"
    if name.partition(":")[0] in ("torchvision", "timm", "hf"):
        provider, _, arch = name.partition(":")
        chooses = "config" if provider == "hf" else "arch"
        return f'unknown model "{name}". Fix: model: {{name: {provider}, {chooses}: {arch}}}'
    if path is None:
        return f"{problem} in the call: model={name!r}"
    return (
        f"{problem} on the command line: bnbench compare {shlex.quote(str(path))} --model {shlex.quote(name)}"
    )


def refusal(name: str, override: str, path: object = "STUDY") -> str:
    """The message for a study that names code, with the fix. path: of the study's file; None where it is a dict."""
    problem = f"{name} names code, and a study runs none by itself. Fix: name it"
    if path is None:
        return f"{problem} in the overrides: overrides=[{override!r}]"
    return f"{problem} on the command line: bnbench compare {shlex.quote(str(path))} {shlex.quote(override)}"
