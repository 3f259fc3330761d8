"""Names for the things that a study can choose: data sets, models, normalizers.

A thing is one factory in one file of its kind's folder, registered by a decorator; its
keyword-only parameters are the options that a study may set, with their types and defaults.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from bnbench.errors import PluginError, UnknownNameError

if TYPE_CHECKING:
    from pydantic import BaseModel

Factory = TypeVar("Factory", bound=Callable[..., Any])


@dataclass(frozen=True)
class Entry:
    """One registered name: its factory, and what others must know of it (`facts`)."""

    name: str
    factory: Callable[..., Any]
    facts: Mapping[str, Any]

    @property
    def summary(self) -> str:
        """The first line of the factory's docstring."""
        return (inspect.getdoc(self.factory) or "").partition("\n")[0]

    def options(self) -> type[BaseModel]:
        """A typed model of the factory's keyword-only parameters; refuses unknown keys."""
        from pydantic import ConfigDict, create_model

        hints = typing.get_type_hints(self.factory, include_extras=True)
        fields: dict[str, Any] = {
            name: (
                _strict_numbers(hints.get(name, Any)),
                ... if parameter.default is parameter.empty else parameter.default,
            )
            for name, parameter in inspect.signature(self.factory).parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY
        }
        config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
        return create_model(self.name, __config__=config, **fields)


def _strict_numbers(hint: Any) -> Any:
    """The same type, but where a number is wanted and no truth value, true is not 1."""
    from pydantic import BeforeValidator

    def refuse(value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError("a number is wanted, not true or false")
        return value

    kinds = [hint, *typing.get_args(hint)]
    numeric = (int in kinds or float in kinds) and bool not in kinds
    return typing.Annotated[hint, BeforeValidator(refuse)] if numeric else hint


class Registry:
    """The names of one kind. Imports every module of `package` on first use, and only then."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self._package = kind, package
        self._entries: dict[str, Entry] = {}
        self._loaded = False

    def register(self, name: str, **facts: Any) -> Callable[[Factory], Factory]:
        """Decorator: give `factory` a name. Raises PluginError where the name is taken."""

        def add(factory: Factory) -> Factory:
            if name in self._entries:
                raise PluginError(
                    f'the {self.kind} "{name}" is registered already, by {self._entries[name].factory.__module__}.',
                    fix="choose another name.",
                )
            self._entries[name] = Entry(name, factory, facts)
            return factory

        return add

    def get(self, name: str) -> Entry:
        """The entry of that name. Raises UnknownNameError with the nearest name."""
        self._load()
        if name not in self._entries:
            raise UnknownNameError(self.kind, name, self._entries)
        return self._entries[name]

    def names(self) -> list[str]:
        """All names, in alphabetical order."""
        self._load()
        return sorted(self._entries)

    def entries(self) -> list[Entry]:
        """All entries, by name."""
        return [self._entries[name] for name in self.names()]

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self._package}.{module.name}")
