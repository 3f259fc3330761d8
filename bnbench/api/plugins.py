"""The user's plugins: loaded, and known by the source that they reach."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from types import ModuleType
from typing import Any

from bnbench.api.layers import Layers, absolute, import_layer_file, register_layers, words_in
from bnbench.api.unregistered import registers_nothing
from bnbench.base.errors import PluginError
from bnbench.base.kinds import KINDS
from bnbench.base.own_modules import FINDER, forget
from bnbench.base.reached import (
    Module,
    Reach,
    loaded_modules,
    module_of,
    modules_behind,
    reach,
    two_of_a_name,
)
from bnbench.base.registry import Entry, registering
from bnbench.base.user_code import guarded, raise_interrupt, text_of
from bnbench.base.user_file import import_file, place_of
from bnbench.study import CHOICES, Settings, Vocabulary


@dataclass(frozen=True)
class Names:
    """What is registered, and where the user's own came from.

    plugins: by module name, what each starts from. overrides: with a normalizer's name where the user named its code.
    sources: files of plugins and words for layers, to load the same again.
    """

    vocabulary: Vocabulary
    plugins: Mapping[str, tuple[Module, ...]] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    sources: tuple[tuple[Path, ...], tuple[str, ...]] = ((), ())

    def uses_plugins(self, settings: Settings) -> bool:
        """Whether anything that these settings choose is a plugin's."""
        return any(entry.plugin for entry in self._entries(settings)) or bool(self._starts(settings))

    def loader(self) -> Callable[[], None] | None:
        """What loads the user's own in a worker, and raises PluginError where it changed; None where nothing is."""
        return partial(load_same, *self.sources, self.content()) if any(self.sources) else None

    def reached(self, settings: Settings, built: Iterable[Any] = ()) -> Reach:
        """What the plugins that these settings use reach. built: the network and the like, as it came out."""
        if not self.uses_plugins(settings):
            return Reach()
        found = reach([*self._starts(settings), *modules_behind(built)])
        # a layer of an installed package: known by the package's version
        installed = {e.plugin for e in self._entries(settings) if not self.plugins.get(e.plugin)} - {""}
        return replace(found, installed=found.installed | {name.partition(".")[0] for name in installed})

    def _entries(self, settings: Settings) -> list[Entry]:
        return [self.vocabulary[key][getattr(settings, key).name] for key in CHOICES]

    def _starts(self, settings: Settings) -> list[Module]:
        entries = self._entries(settings)
        starts = [module for entry in entries for module in self.plugins.get(entry.plugin, ())]
        return [*starts, *modules_behind(entry.factory for entry in entries)]

    def content(self) -> dict[str, str]:
        """The content of every module that a plugin reaches, as it was loaded."""
        return reach(module for modules in self.plugins.values() for module in modules).content()


def known_names(plugins: Sequence[Path] = (), overrides: Sequence[str] = ()) -> Names:
    """Load everything that is registered, then the user's own: these plugins alone, and as they are now.

    overrides: may name layers by their code (`norm=my_layers.py:MyNorm`), which is loaded, too. Raises PluginError and
    LayerError; then nothing of the user's is registered.
    """
    names = _known_names(plugins, words_in(overrides))
    return replace(names[0], overrides=names[1].overrides(overrides))


def _known_names(plugins: Sequence[Path], words: Mapping[str, str]) -> tuple[Names, Layers]:
    registries = {kind.key: kind.registry() for kind in KINDS}
    FINDER.folders.clear()
    for registry in registries.values():
        registry.names()  # so that a plugin that takes a name is the one to be blamed
        forget(registry.forget_plugins())
    paths = list({path.resolve(): path for path in plugins}.values())
    try:
        modules = {path.resolve(): _import_plugin(path) for path in paths}
        registered = {entry.plugin for registry in registries.values() for entry in registry.entries()}
        named = {Path(word.rpartition(":")[0] or word).expanduser().resolve() for word in words}
        for path in paths:
            if modules[path.resolve()].__name__ not in registered and path.resolve() not in named:
                raise registers_nothing(path, modules[path.resolve()])
        layers = register_layers(words, lambda path: modules.get(path.resolve()) or import_layer_file(path))
        loaded = {module.__name__: module for module in (*modules.values(), *layers.modules.values())}
        starts = {name: _starts_of(module) for name, module in loaded.items()}
        for name, found in starts.items():
            if file := loaded[name].__file__:
                _check_names(Path(file), reach(found))
    except BaseException:
        for registry in registries.values():
            forget(registry.forget_plugins())
        raise
    vocabulary = {
        key: {entry.name: entry for entry in registry.entries()} for key, registry in registries.items()
    }
    sources = tuple(path.absolute() for path in paths), absolute(tuple(words))
    return Names(vocabulary, starts, sources=sources), layers


def forget_plugins() -> None:
    """Leave the registries as they are without plugins."""
    FINDER.folders.clear()
    for kind in KINDS:
        kind.registry().forget_plugins()


def load_same(plugins: Sequence[Path], words: Sequence[str], content: Mapping[str, str]) -> None:
    """Load the user's own in a worker. Raises PluginError where it is not what the study began with."""
    now = _known_names(plugins, dict.fromkeys(words, ""))[0].content()
    changed = sorted(name for name in {*now, *content} if now.get(name) != content.get(name))
    if changed:
        raise PluginError(
            f"{', '.join(changed)}: changed while the study was running.",
            "Its runs would not be those of one source.",
            "run the same command again.",
        )


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """The versions of installed packages, by the names that they are imported under."""
    names = set(names) - {"torch", "numpy", "bnbench"}
    if not names:
        return {}
    known = packages_distributions()
    found = {}
    for name in sorted(names & set(known)):
        for distribution in sorted(set(known[name])):
            try:
                found[distribution] = version(distribution)
            except PackageNotFoundError:
                continue
    return found


def _import_plugin(path: Path) -> ModuleType:
    """Import one Python file of the user's."""
    with _blamed(path), guarded():
        return import_file(path, "bnbench_plugin", registering)


def _check_names(path: Path, found: Reach) -> None:
    """Raises PluginError where an import of the plugin's may mean a file beside it, and gets another one."""
    for name in sorted({*found.own, *found.installed}):
        if both := two_of_a_name(name, str(path.resolve().parent)):
            raise PluginError(
                f'--plugin {path}: it imports "{name}", which is two modules: {" and ".join(both)}.',
                "Python keeps one module of a name, so which one runs depends on what is imported first.",
                f"give one of them another name, such as {path.stem}_{name}.",
            )


@contextmanager
def _blamed(path: Path) -> Iterator[None]:
    """Whatever the file raises is one message that names it."""
    try:
        yield
    except PluginError as error:
        raise PluginError(f"--plugin {path}: {error.what}", error.why, error.fix) from None
    except BaseException as error:
        raise_interrupt(error)
        line, helper = place_of(error, path)
        where = f"{helper}: " if helper else ""
        relative = isinstance(error, ImportError) and "no known parent package" in str(error) and not helper
        raise PluginError(
            f"--plugin {path}:{line}: {where}{text_of(error)}",
            "A plugin is a file of its own, in no package." if relative else "",
            "import what lies beside it by its name: `from helper import X`, not `from .helper import X`."
            if relative
            else "",
        ) from error


def _starts_of(module: ModuleType) -> tuple[Module, ...]:
    """A plugin, and the modules behind what it and its own modules hold once they are imported."""
    starts: dict[str, Module] = {}
    waiting = [module_of(module)]
    while waiting:
        found = waiting.pop()
        if found is None or found.file in starts:
            continue
        starts[found.file] = found
        for loaded in loaded_modules(reach([found]), found):
            waiting += modules_behind(vars(loaded).values())
    return tuple(starts.values())
