"""The bytes of a state: a .safetensors file with a description in JSON. No pickle, so a file can run no code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bnbench.engine.state.kinds import WrongState

#: Of the description; another number is not read.
FORMAT = 1
_KEY = "bnbench_state"
#: Facts that are read before anything is filled.
_FACTS = {"step": int, "outside": dict, "made_by": dict, "resumed": list}


@dataclass(frozen=True)
class Content:
    """A state in parts. facts: what it depends on, plain data. node: see `write`. tensors: by their places."""

    facts: Mapping[str, Any]
    node: Any
    tensors: Mapping[str, Tensor]

    def to_bytes(self) -> bytes:
        """Whole. Tensors may lie on any device."""
        from safetensors.torch import save

        text = json.dumps({"format": FORMAT, "facts": self.facts, "node": self.node})
        tensors = {name: value.to("cpu", copy=True).contiguous() for name, value in self.tensors.items()}
        return save(tensors, {_KEY: text})

    @classmethod
    def of(cls, content: bytes) -> Content:
        """Raises WrongState where these are not the bytes of a state."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            size = int.from_bytes(content[:8], "little")
            header = json.loads(content[8 : 8 + size])
            described = json.loads(header["__metadata__"][_KEY])
            if described["format"] != FORMAT:
                raise WrongState(f"its format is {described['format']}, not {FORMAT}")
            facts = described["facts"]
            if [type(facts[name]) for name in _FACTS] != list(_FACTS.values()):
                raise WrongState("what it belongs to is damaged")
            return cls(facts, described["node"], load(content))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
            raise WrongState(f"it can't be read: {type(error).__name__}: {error}") from None


def size_of(tensors: Mapping[str, Tensor]) -> int:
    """Bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
