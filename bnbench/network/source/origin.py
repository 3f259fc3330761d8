"""Where a network comes from: its factory, and what identifies it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from bnbench.base.errors import BnbenchError
from bnbench.base.user_code import first_line, raise_interrupt
from bnbench.base.user_file import line_of
from bnbench.network.source.arguments import Signature, call_text
from bnbench.network.source.records import Wanted

#: What a function returns that is a network, but not one that can be trained here.
_ARRAYS = (list, tuple, dict)


@dataclass(frozen=True)
class Origin:
    """A factory of networks.

    place: its file, or its package. name: what it is called there. adapt: further arguments that follow from the data.
    sizes: sides of an image to try, where nothing says which it takes. file, module: of the user's. ready: the factory
    copies one network that is built already. how: an option is given, {} for "key=value".
    """

    place: str
    name: str
    factory: Callable[..., Any]
    signature: Signature
    content: Callable[[], str]
    how: str
    adapt: Callable[[Wanted], dict[str, Any]] = field(default=lambda wanted: {})
    file: Path | None = None
    module: ModuleType | None = None
    ready: bool = False

    def arguments(self, wanted: Wanted) -> dict[str, Any]:
        """Of one call. Raises BnbenchError."""
        return self.adapt(wanted) | self.signature.arguments(wanted, self.place, self.how)

    def make(self, arguments: dict[str, Any]) -> nn.Module:
        """A network, as the factory makes it. Raises BnbenchError; one of its own passes."""
        try:
            model = self.factory(**arguments)
        except BnbenchError:
            raise
        except BaseException as error:
            raise_interrupt(error)
            raise BnbenchError(
                f"{self._place_of(error)}: {self.name} can't be built: {first_line(error)}",
                f"It was called as {call_text(self.name, arguments)}.",
                "mend that line; or give it other arguments." if self.file else "change its options.",
            ) from error
        if not isinstance(model, nn.Module):
            holds = f" of {len(model)}" if isinstance(model, _ARRAYS) else ""
            raise BnbenchError(
                f"{self.place}: {self.name} returned a {type(model).__name__}{holds}, not a torch.nn.Module.",
                fix="name the network's class itself, or a function that returns the network alone.",
            )
        if "_parameters" not in vars(model):
            raise BnbenchError(
                f"{self.place}: the __init__ of {type(model).__name__} does not call torch's.",
                fix="begin it with super().__init__().",
            )
        return model

    def _place_of(self, error: BaseException) -> str:
        line = line_of(error, self.file) if self.file else "?"
        return f"{self.file}:{line}" if line != "?" else self.place
