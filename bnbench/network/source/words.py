"""A MODEL word: FILE.py:NAME, torchvision:ARCH, timm:ARCH or hf:CONFIG, with options behind commas."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bnbench.base.errors import BnbenchError, ConfigError, nearest
from bnbench.study.yaml_source import read_value

Provider = Literal["file", "torchvision", "timm", "hf"]
PROVIDERS: tuple[Provider, ...] = ("torchvision", "timm", "hf")
#: For messages and help.
EXAMPLES = "my_model.py:Net, torchvision:resnet18, timm:resnet18 or hf:BertConfig"
_OPTION = re.compile(r",\s*([A-Za-z_]\w*)=")


@dataclass(frozen=True)
class ModelWord:
    """place: the file; "" of a provider. name: of the class or function in it, the architecture, the configuration."""

    provider: Provider
    place: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


def read_word(word: str) -> ModelWord:
    """`my_model.py:Net,width=8` and so on. Raises BnbenchError."""
    head, options = _options(word)
    place, colon, name = head.rpartition(":")
    if head.endswith(".py"):
        return ModelWord("file", head, "", options)
    if place.endswith(".py"):
        return ModelWord("file", place, name, options)
    if colon and place in PROVIDERS:
        if not name:
            raise BnbenchError(f'MODEL "{word}": the name is missing.', fix=f"for example {EXAMPLES}.")
        return ModelWord(place, "", name, options)
    if place.endswith(".ipynb") or head.endswith(".ipynb"):
        return ModelWord("file", place or head, name, options)
    guess = nearest(place, PROVIDERS) if colon else None
    hint = f' Did you mean "{guess}:{name}"?' if guess else ""
    raise BnbenchError(
        f'MODEL "{word}" names no network.{hint}',
        "It is a class, a function or a network in a file, or an architecture of a package.",
        f"for example {EXAMPLES}.",
    )


def _options(word: str) -> tuple[str, dict[str, Any]]:
    """The word without its options, and these."""
    head, *rest = _OPTION.split(word.strip())
    options: dict[str, Any] = {}
    for key, text in zip(rest[::2], rest[1::2], strict=True):
        if key in options:
            raise BnbenchError(f'MODEL "{word}": {key} is given twice.', fix="leave one of them out.")
        try:
            options[key] = read_value(text, key)
        except ConfigError as error:
            raise BnbenchError(f'MODEL "{word}": {key}={text}: {error.mistakes[0].message}') from None
    if "," in head:
        raise BnbenchError(
            f'MODEL "{word}": "{head.partition(",")[2]}" is not of the form option=value.',
            fix=f"{head.partition(',')[0]},option=value.",
        )
    return head, options
