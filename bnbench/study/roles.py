"""`role: check` of a variant: it should repeat another one's result, and is declared so before any training.

Two right implementations of one layer drift apart by rounding alone. A variant that checks another is
no finding of its own: it is judged by agreement, outside the family of comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bnbench.base.errors import Mistake, unknown_name
from bnbench.study.merge import Leaf, Level

ROLE, CHECK_OF, CHECK = "role", "check_of", "check"


def take_roles(levels: Mapping[str, Level], base: Level, mistakes: list[Mistake]) -> dict[str, str]:
    """Each variant that is a check, with the variant that it checks; their keys leave the levels.

    base: the shared settings, where no role can stand.
    """
    for path, leaf in base.items():
        if path[0] in (ROLE, CHECK_OF):
            problem = f"{path[0]} is a key of a variant, not of the study"
            fix = "Fix: variants: {NAME: {role: check, check_of: OTHER, ...}}."
            mistakes.append(Mistake(leaf.place, f"{problem}. {fix}"))
    own = {path for path in base if path[0] in (ROLE, CHECK_OF)}
    checks: dict[str, Leaf] = {}
    for name, level in levels.items():
        role_level = {path: level.pop(path) for path in list(level) if path[0] in (ROLE, CHECK_OF)}
        check_of = _check(
            name, {path: leaf for path, leaf in role_level.items() if path not in own}, mistakes
        )
        if check_of:
            checks[name] = check_of
    for name, leaf in checks.items():
        _refuse(name, leaf, levels, checks, mistakes)
    return {name: str(leaf.value) for name, leaf in checks.items()}


def refuse_baseline(baseline: str, checks: Mapping[str, str], place: str, mistakes: list[Mistake]) -> None:
    """The others are compared with the baseline, so it can't be one that is not compared."""
    if baseline in checks:
        fix = f"Fix: baseline: {checks[baseline]}, or no role: check in {baseline}."
        mistakes.append(Mistake(place, f"baseline: {baseline} is a check of {checks[baseline]}. {fix}"))


def _check(name: str, role_level: Level, mistakes: list[Mistake]) -> Leaf | None:
    """The leaf of its check_of; None where it has no role, or one that makes no sense."""
    for path, leaf in role_level.items():
        if len(path) > 1 or not isinstance(leaf.value, str):
            key = ".".join(path)
            problem = f"variants.{name}.{key}: {_short(leaf.value)} is not a word"
            mistakes.append(
                Mistake(leaf.place, f"{problem}. Fix: role: check with check_of: NAME of a variant.")
            )
            return None
    role, of = role_level.get((ROLE,)), role_level.get((CHECK_OF,))
    if role and role.value != CHECK:
        problem = f"variants.{name}.role: {_short(role.value)} is not known. Known: {CHECK}"
        mistakes.append(Mistake(role.place, f"{problem}. Fix: role: check, or leave the key out."))
        return None
    if role and not of:
        problem = f"variants.{name}: role: check does not say which variant it checks"
        mistakes.append(
            Mistake(role.place, f"{problem}. Fix: check_of: NAME beside it, such as check_of: builtin.")
        )
    return of


def _refuse(
    name: str, leaf: Leaf, levels: Mapping[str, Level], checks: Mapping[str, Leaf], mistakes: list[Mistake]
) -> None:
    other = str(leaf.value)
    problem = ""
    if other not in levels:
        problem = unknown_name("variant", other, [known for known in levels if known not in checks])
    elif other == name:
        problem = "a variant can't check itself. Fix: the name of the variant whose result it should repeat."
    elif other in checks:
        problem = f"{other} is a check itself. Fix: check_of: {checks[other].value}."
    if problem:
        mistakes.append(Mistake(leaf.place, f"variants.{name}.check_of: {problem}"))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
