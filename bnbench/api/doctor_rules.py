"""The rules of `bnbench doctor`: those that come with it, those of plugins, and which of them look."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bnbench.base.diagnosis import RuleRecord
from bnbench.base.errors import PluginError, UnknownNameError

if TYPE_CHECKING:
    from bnbench.base.registry import Entry


@dataclass(frozen=True)
class Selection:
    """Which rules look. only: their names; all, where it is empty. ignore: those that do not. plugins: more files."""

    only: Sequence[str] = ()
    ignore: Sequence[str] = ()
    plugins: Sequence[Path] = field(default=())

    def entries(self) -> list[Entry]:
        """The rules. Raises UnknownNameError and PluginError."""
        entries = known_rules(self.plugins)
        names = [entry.name for entry in entries]
        only, ignore = set(map(_written, self.only)), set(map(_written, self.ignore))
        for name in (*self.only, *self.ignore):
            if _written(name) not in map(str.upper, names):
                raise UnknownNameError("rule", name, names)
        return [
            entry
            for entry in entries
            if (not only or entry.name.upper() in only) and entry.name.upper() not in ignore
        ]


def _written(name: str) -> str:
    """The name of a rule in capitals; D6 is D06."""
    return re.sub(r"^([A-Z])(\d)$", r"\g<1>0\2", name.upper())


def known_rules(plugins: Sequence[Path] = ()) -> list[Entry]:
    """The rules that come with bnbench, and those that these files register, alone. Raises PluginError."""
    from bnbench.api.plugins import import_plugin
    from bnbench.base.own_modules import forget
    from bnbench.network.doctor.rules import rules

    forget(rules.forget_plugins())
    before = len(rules.names())
    for path in plugins:
        import_plugin(path.resolve())
        if len(rules.names()) == before:
            raise PluginError(
                f"--plugin {path}: it registers no rule.",
                "doctor runs the rules of a plugin, and nothing else of it.",
                'from bnbench.network.doctor.rules import Symptom, rules, then @rules.register("X01", title="...", '
                'cost="...") above def my_rule(patient): ...',
            )
        before = len(rules.names())
    return rules.entries()


def explained(name: str, plugins: Sequence[Path] = ()) -> RuleRecord:
    """A rule with its page. Raises UnknownNameError."""
    from bnbench.network.doctor.examination import record_of

    (entry,) = Selection([name], (), plugins).entries()
    return record_of(entry)
