"""Normalizers that are named by their code: my_layers.py:MyNorm, torch.nn:GroupNorm.

Only the command line and Python may name code; a study's file runs none.
"""

from __future__ import annotations

import re
import shlex

_OF_A_MODULE = re.compile(r".+:[A-Za-z_]\w*")


def names_code(name: object) -> bool:
    """Whether a normalizer's name stands for a file or a module with the layer in it."""
    return isinstance(name, str) and (name.endswith((".py", ".ipynb")) or bool(_OF_A_MODULE.fullmatch(name)))


def label_of(norm: str) -> str:
    """The name in tables: MyNorm for my_layers.py:MyNorm."""
    return norm.rpartition(":")[2] if names_code(norm) else norm


def refusal(name: str, override: str, path: object = "STUDY") -> str:
    """The message for a study that names code, with the fix. path: of the study's file; None where it is a dict."""
    problem = f"{name} names code, and a study runs none by itself. Fix: name it"
    if path is None:
        return f"{problem} in the overrides: overrides=[{override!r}]"
    return f"{problem} on the command line: bnbench compare {shlex.quote(str(path))} {shlex.quote(override)}"
