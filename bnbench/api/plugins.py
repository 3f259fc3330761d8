"""The user's plugins: loaded, and known by the source that they reach."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from types import ModuleType
from typing import Any

from bnbench.api.layers import Layers, absolute, import_layer_file, register_layers, words_in
from bnbench.api.own_models import (
    LOCAL,
    OwnModels,
    absolute_model,
    model_words,
    register_models,
    register_objects,
)
from bnbench.api.unregistered import registers_nothing
from bnbench.base.errors import PluginError
from bnbench.base.interactive import digest, is_interactive
from bnbench.base.kinds import KINDS
from bnbench.base.origins import modules_behind
from bnbench.base.own_modules import FINDER, forget
from bnbench.base.reached import (
    Module,
    Reach,
    loaded_modules,
    module_of,
    reach,
    two_of_a_name,
)
from bnbench.base.registry import Entry, registering
from bnbench.base.user_code import guarded, raise_interrupt, text_of
from bnbench.base.user_file import NO_PACKAGE, import_file, place_of
from bnbench.study import CHOICES, Settings, Vocabulary
from bnbench.study.augment_names import names_in


@dataclass(frozen=True)
class Names:
    """What is registered, and where the user's own came from.

    plugins: by module name, what each starts from. overrides: with a normalizer's name where the user named its code.
    sources: files of plugins, words for layers and words for networks, to load the same again.
    """

    vocabulary: Vocabulary
    plugins: Mapping[str, tuple[Module, ...]] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    sources: tuple[tuple[Path, ...], tuple[str, ...], tuple[str, ...]] = ((), (), ())

    def uses_plugins(self, settings: Settings) -> bool:
        """Whether anything that these settings choose is a plugin's."""
        return (
            any(entry.plugin for entry in self._entries(settings))
            or bool(self._starts(settings))
            or bool(self._interactive(settings))
        )

    def needs_this_process(self, settings: Settings) -> bool:
        """Whether the calling program itself registered a name in these settings, so that no worker can load it."""
        return any(
            entry.plugin == LOCAL
            or (not entry.plugin and not str(entry.factory.__module__).startswith("bnbench."))
            for entry in self._entries(settings)
        )

    def _interactive(self, settings: Settings) -> list[Any]:
        return [entry.factory for entry in self._entries(settings) if is_interactive(entry.factory)]

    def loader(self) -> Callable[[], None] | None:
        """What loads the user's own in a worker, and raises PluginError where it changed; None where nothing is."""
        return partial(load_same, *self.sources, self.content()) if any(self.sources) else None

    def reached(self, settings: Settings, built: Iterable[Any] = ()) -> Reach:
        """What the plugins that these settings use reach. built: the network and the like, as it came out."""
        if not self.uses_plugins(settings):
            return Reach()
        reached = reach([*self._starts(settings), *modules_behind(built)])
        if interactive := self._interactive(settings):
            reached.own["interactive code"] = digest(interactive)
        # a layer of an installed package: known by the package's version
        plugins = {entry.plugin for entry in self._entries(settings) if entry.plugin}
        packages = {name.partition(".")[0] for name in plugins - {LOCAL} if not self.plugins.get(name)}
        return replace(reached, installed=reached.installed | packages)

    def _entries(self, settings: Settings) -> list[Entry]:
        chosen = [self.vocabulary[key][getattr(settings, key).name] for key in CHOICES]
        augment = settings.augment
        chosen += [self.vocabulary["augment"][name] for name in names_in(augment.name, augment.options)]
        for one in settings.test_sets:
            for key, choice in (("dataset", one.dataset), ("corruption", one.corruption)):
                chosen += [self.vocabulary[key][choice.name]] if choice else []
        return chosen

    def _starts(self, settings: Settings) -> list[Module]:
        entries = self._entries(settings)
        starts = [module for entry in entries for module in self.plugins.get(entry.plugin, ())]
        return [*starts, *modules_behind(entry.factory for entry in entries)]

    def content(self) -> dict[str, str]:
        """The content of every module that a plugin reaches, as it was loaded."""
        return reach(module for modules in self.plugins.values() for module in modules).content()


def known_names(
    plugins: Sequence[Path] = (), overrides: Sequence[str] = (), networks: Mapping[str, Any] | None = None
) -> Names:
    """Load everything that is registered, then the user's own: these plugins alone, and as they are now.

    overrides: may name layers and networks by their code (`norm=my_layers.py:MyNorm`, `model=my_model.py:Net`), which
    is loaded, too. networks: factories of the calling program, by the names of the models that they become. Raises
    PluginError, LayerError and BnbenchError; then nothing of the user's is registered.
    """
    names, layers, models = _load(
        plugins, words_in(overrides), model_words(overrides), networks or {}, overrides
    )
    return replace(names, overrides=models.overrides(layers.overrides(overrides)))


def _load(
    plugins: Sequence[Path],
    words: Mapping[str, str],
    networks: Mapping[str, str],
    objects: Mapping[str, Any],
    given: Sequence[str] | None = None,
) -> tuple[Names, Layers, OwnModels]:
    for kind in KINDS:
        kind.registry().names()  # so that a plugin that takes a name is the one to be blamed
    forget_plugins()
    paths = list({path.resolve(): path for path in plugins}.values())
    try:
        modules = {path: import_plugin(path) for path in paths}
        load = partial(_import_once, {p.resolve(): m for p, m in modules.items()})
        layers, models = register_layers(words, load), register_models(networks, load, given)
        register_objects(objects)
        named = {**layers.modules, **models.modules}
        _refuse_idle(modules, named)
        starts = {module.__name__: _starts_of(module) for module in modules.values()}
        starts |= {name: _starts_of(module) for name, module in named.items() if name not in starts}
        places = {module.__name__: f"--plugin {path}" for path, module in modules.items()}
        for name, start in starts.items():
            if start:
                _check_names(
                    places.get(name, os.path.relpath(start[0].file)), Path(start[0].file), reach(start)
                )
    except BaseException:
        forget_plugins()
        raise
    sources = (
        tuple(path.absolute() for path in paths),
        absolute(tuple(words)),
        tuple(map(absolute_model, networks)),
    )
    return Names(_vocabulary(), starts, sources=sources), layers, models


def _vocabulary() -> Vocabulary:
    return {kind.key: {entry.name: entry for entry in kind.registry().entries()} for kind in KINDS}


def forget_plugins() -> None:
    """Leave the registries as they are without plugins; modules that registered in them will be loaded again."""
    FINDER.folders.clear()
    for kind in KINDS:
        forget(kind.registry().forget_plugins())


def _import_once(modules: Mapping[Path, ModuleType], path: Path) -> ModuleType:
    """The file of a layer; a plugin's is imported already."""
    return modules.get(path.resolve()) or import_layer_file(path)


def _refuse_idle(modules: Mapping[Path, ModuleType], named: Collection[str]) -> None:
    """Raises PluginError for a plugin that registers nothing, and that no layer or network is named from either."""
    used = {entry.plugin for entries in _vocabulary().values() for entry in entries.values()}
    for path, module in modules.items():
        if module.__name__ not in used | set(named):
            raise registers_nothing(path, module)


def load_same(
    plugins: Sequence[Path], words: Sequence[str], networks: Sequence[str], content: Mapping[str, str]
) -> None:
    """Load the user's own modules in a worker. Raises PluginError where it has changed since the study began."""
    now = _load(plugins, dict.fromkeys(words, ""), dict.fromkeys(networks, ""), {})[0].content()
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
    distributions = packages_distributions()
    versions = {}
    for name in sorted(names & set(distributions)):
        for distribution in sorted(set(distributions[name])):
            with suppress(PackageNotFoundError):
                versions[distribution] = version(distribution)
    return versions


def import_plugin(path: Path) -> ModuleType:
    """Import one Python file of the user's."""
    with _blamed(path), guarded():
        return import_file(path, "bnbench_plugin", registering)


def _check_names(place: str, path: Path, reached: Reach) -> None:
    """Raises PluginError where an import of the file may mean a file beside it, and gets another one."""
    for name in sorted({*reached.own, *reached.installed}):
        if both := two_of_a_name(name, str(path.parent)):
            raise PluginError(
                f'{place}: it imports "{name}", which is two modules: {" and ".join(both)}.',
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
            NO_PACKAGE if relative else "",
        ) from error


def _starts_of(module: ModuleType) -> tuple[Module, ...]:
    """A plugin, and the modules that define the objects in it and in its own modules, once imported."""
    starts: dict[str, Module] = {}
    waiting = [module_of(module)]
    while waiting:
        start = waiting.pop()
        if start is None or start.file in starts:
            continue
        starts[start.file] = start
        for loaded in loaded_modules(reach([start]), start):
            waiting += modules_behind(vars(loaded).values())
    return tuple(starts.values())
