"""The list of registries is in one place: everything that is registered is in it, and nothing else lists them."""

from __future__ import annotations

import ast
import pkgutil
import sys
from pathlib import Path

import bnbench
from bnbench.base.kinds import KIND_OF, KINDS
from bnbench.base.registry import Registry
from bnbench.study.schema import AUTO, CHOICES, DEFAULT_CHOICES, Settings
from bnbench.study.sections import Choice

PACKAGE = Path(bnbench.__file__).parent


def test_a_kind_is_a_choice_of_the_settings() -> None:
    fields = {key for key, field in Settings.model_fields.items() if field.annotation is Choice}
    assert fields == set(CHOICES) == {kind.key for kind in KINDS if kind.chosen}
    assert set(KIND_OF) - {"corruption"} <= set(
        Settings.model_fields
    )  # a corruption is chosen in `test_sets`
    assert {
        "norm": "none",
        "schedule": "constant",
        "loss": "cross_entropy",
    }.items() <= DEFAULT_CHOICES.items()
    for kind in KINDS:
        assert kind.default in (None, AUTO) or kind.default in kind.registry().names()
        assert kind.registry().kind == kind.noun


def test_every_registry_is_in_the_list() -> None:
    from bnbench.network.doctor.rules import rules  # no study chooses one

    for module in pkgutil.iter_modules([str(PACKAGE)], "bnbench."):
        if module.ispkg:
            __import__(module.name)
    registries = {
        id(value): value
        for name, module in list(sys.modules.items())
        if name.startswith("bnbench.")
        for value in vars(module).values()
        if isinstance(value, Registry) and value is not rules
    }
    assert registries == {id(kind.registry()): kind.registry() for kind in KINDS}


def test_no_other_file_lists_them() -> None:
    names = {kind.key for kind in KINDS} | {kind.attribute for kind in KINDS}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            items = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", [])
            words = {getattr(item, "value", getattr(item, "id", None)) for item in items}
            mostly = len(words - names) < len(KINDS)  # else it is a list of all settings
            assert not mostly or len(words & names) < len(KINDS) - 1, (
                f"{path}:{getattr(node, 'lineno', 0)} lists the registries again: use bnbench.base.kinds"
            )
