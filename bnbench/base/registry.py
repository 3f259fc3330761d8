"""Names for the things that a study can choose: data sets, models, normalizers.

A thing is one factory in one file of its kind's folder, registered by a decorator; its
keyword-only parameters are the options that a study may set, with their types and defaults.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from bnbench.base.errors import PluginError, UnknownNameError, unknown_name
from bnbench.base.options import means_none, options_model, schema_of, unreadable_option
from bnbench.base.user_code import first_line, raise_interrupt

if TYPE_CHECKING:
    from pydantic import BaseModel

Factory = TypeVar("Factory", bound=Callable[..., Any])


@dataclass(frozen=True)
class NoFacts:
    """No facts: for the kinds that register a factory alone."""


@dataclass(frozen=True)
class Entry:
    """One registered name: its factory, and the facts of its kind.

    plugin: the module name of the plugin that registered it; "" where none did.
    """

    name: str
    factory: Callable[..., Any]
    facts: Any
    plugin: str = ""

    @property
    def summary(self) -> str:
        """The first line of the factory's docstring."""
        return (inspect.getdoc(self.factory) or "").partition("\n")[0]

    def options(self) -> type[BaseModel]:
        """A typed model of the factory's keyword-only parameters; refuses unknown keys. Raises PluginError."""
        return self._options

    @cached_property
    def _options(self) -> type[BaseModel]:
        try:
            return options_model(self.name, self.factory)
        except BaseException as error:  # whatever a type hint can raise
            raise_interrupt(error)
            why = unreadable_option(self.factory) or first_line(error)
            problem = f"{self.name}: its options can't be read from a study: {why}"
            where = f"They are the keyword-only parameters of {self.factory.__qualname__}."
            raise PluginError(
                problem, where, "give each a type that pydantic knows, such as int or list[float]."
            ) from error

    def option_names(self) -> list[str]:
        """In the order of the signature."""
        return list(self.options().model_fields)

    def metric_names(self) -> tuple[str, ...]:
        """What a task measures; empty for anything else."""
        return tuple(getattr(self.facts, "names", ()))

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of its options."""
        return schema_of(self.options())

    def typed(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a study as the types that the factory declares (an Enum, a Path, a tuple, ...)."""
        model = self.options().model_validate(dict(options))
        return {name: getattr(model, name) for name in type(model).model_fields}


#: The plugin that is being imported, the last one last: for threads that it starts, too.
_plugins: list[str] = []


@contextmanager
def registering(plugin: str) -> Iterator[None]:
    """Inside, registrations belong to that plugin (its module name)."""
    _plugins.append(plugin)
    try:
        yield
    finally:
        _plugins.pop()


class Registry:
    """The names of one kind. Imports every module of `package` on first use, and only then."""

    def __init__(
        self,
        kind: str,
        package: str,
        facts: type[Any] = NoFacts,
        check: Callable[[Entry, list[Entry]], None] | None = None,
    ) -> None:
        """facts: a frozen dataclass, whose fields are the keywords of `register`.

        check: called with a new entry and the others; where it raises, the entry is not registered.
        """
        self.kind, self._package, self._facts, self._check = kind, package, facts, check
        self._entries: dict[str, Entry] = {}
        #: Modules that registered something for a plugin.
        self._registrants: set[str] = set()
        self._loaded = self._loading = False

    def register(self, name: str, **facts: Any) -> Callable[[Factory], Factory]:
        """Decorator: give `factory` a name. Raises PluginError where the name is taken or a fact unknown."""
        known = self._checked_facts(name, facts)
        caller = sys._getframe(1).f_globals.get("__name__", "")

        def add(factory: Factory) -> Factory:
            before = self._entries.get(name)
            if before and not _is_loaded_again(before.factory, factory):
                raise PluginError(
                    f'the {self.kind} "{name}" is registered already, by {before.factory.__module__}.',
                    fix="choose another name.",
                )
            plugin = _plugins[-1] if _plugins else ""
            entry = Entry(name, factory, known, plugin)
            if self._check:
                self._check(entry, [other for other in self._entries.values() if other.name != name])
            self._entries[name] = entry
            if plugin:
                self._registrants.add(caller)
            return factory

        return add

    def forget_plugins(self) -> set[str]:
        """Forget the registrations of plugins. Returns their modules, which must be loaded again to register again."""
        self._entries = {name: entry for name, entry in self._entries.items() if not entry.plugin}
        modules, self._registrants = self._registrants, set()
        return modules

    def forget(self, name: str) -> None:
        """Forget one registration, if it is there: of a name that is needed for a while."""
        self._entries.pop(name, None)

    def _checked_facts(self, name: str, facts: Mapping[str, Any]) -> Any:
        if not isinstance(name, str) or not name:
            raise PluginError(f"a {self.kind} is registered as {name!r}.", fix="give it a name.")
        if means_none(name) and name != "none":
            problem = f'a {self.kind} is registered as "{name}", which means none in a study.'
            raise PluginError(problem, fix="choose another name.")
        hints = typing.get_type_hints(self._facts)
        for fact, value in facts.items():
            if fact not in hints:
                raise PluginError(f'{self.kind} "{name}": {unknown_name("fact", fact, hints)}')
            if wrong := _wrong_value(hints[fact], value):
                raise PluginError(f'{self.kind} "{name}": {fact}={value!r} is wrong: {wrong}.')
        return self._facts(**facts)

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
        if self._loaded or self._loading:
            return
        self._loading = True
        try:
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self._package}.{module.name}")
            self._loaded = True
        finally:
            self._loading = False


def _wrong_value(hint: Any, value: Any) -> str:
    """What the value should be, "" where it is that."""
    from pydantic import TypeAdapter, ValidationError

    try:
        TypeAdapter(hint).validate_python(value, strict=True)
    except ValidationError as error:
        return error.errors()[0]["msg"].replace("Input should be", "it should be")
    return ""


def _is_loaded_again(before: Callable[..., Any], factory: Callable[..., Any]) -> bool:
    """Whether both come from one file that was run twice (a plugin loaded again), or one cell."""
    same = (before.__module__, before.__qualname__) == (factory.__module__, factory.__qualname__)
    if same and factory.__module__ == "__main__":
        return True
    return same and getattr(before, "__globals__", None) is not getattr(factory, "__globals__", None)
