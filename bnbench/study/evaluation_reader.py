"""Reading the keys `evaluate` and `test_sets` of a study: their mistakes, each at its own line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from bnbench.base.errors import Mistake, unknown_name
from bnbench.base.metrics import GAPS, METRICS, SPLITS
from bnbench.study.check import Checker
from bnbench.study.evaluation import OPTIONS, RUNNING, Inference, TestSet
from bnbench.study.merge import Layer, Level, open_level
from bnbench.study.sections import Choice
from bnbench.study.value_faults import faults_by_path, message
from bnbench.study.yaml_source import Path_, Source

EVALUATE, TEST_SETS = "evaluate", "test_sets"
#: More would make tables of little use.
MOST_SETS = 20
#: Of a test set: it begins a column.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{0,29}")
#: Names of parts, and of what stands beside parts in files.
_TAKEN = {*SPLITS, *GAPS, "probe", "final", "best", "validation", "training"}
_FORMS = "dark: {name: brightness, factor: 0.5}, or own: {dataset: {name: npz, path: FILE.npz}}"
_EXAMPLE = "evaluate: [running, precise]"

Wrong = Callable[[Path_, str], None]


def read_evaluate(given: Any, place: Callable[[Path_], str], wrong: Wrong) -> tuple[Inference, ...]:
    """The ways of inference of a study, the running one first.

    place: where a key was written. wrong: takes mistakes.
    """
    if given is None:
        return (RUNNING,)
    items = given if isinstance(given, list) else [given]
    if not items:
        wrong((EVALUATE,), f"evaluate: [] names no way of inference. Fix: {_EXAMPLE}, or leave the key out.")
    ways: list[Inference] = [RUNNING]
    seen: set[str] = set()
    for index, item in enumerate(items):
        path = (EVALUATE, str(index)) if isinstance(given, list) else (EVALUATE,)
        way = _way(item, path, wrong)
        if way is None:
            continue
        if way.name in seen:
            wrong(path, f"evaluate: {way.name} is there twice. Fix: leave one of them out.")
        seen.add(way.name)
        ways += [way.written_at(place(path))] if way.further else []
    return tuple(ways)


def refuse_looks(ways: Sequence[Inference], looks: Sequence[int], wrong: Wrong) -> None:
    """A look decides for each variant whether it needs more seeds; its lines would need seeds of their own."""
    if looks and len(ways) > 1:
        wrong(
            (EVALUATE,),
            "evaluate: seeds: auto stops each variant once it is decided, and a line such as "
            f"batch@{ways[1].name} may not be decided then. Fix: a number of seeds, such as seeds=10.",
        )


def _way(item: Any, path: Path_, wrong: Wrong) -> Inference | None:
    values = {"name": item} if isinstance(item, str) else item
    if not isinstance(values, dict) or not isinstance(values.get("name"), str):
        wrong(
            path, f"evaluate: {item!r} is no way of inference. Known: {', '.join(OPTIONS)}. Fix: {_EXAMPLE}."
        )
        return None
    if values["name"] not in OPTIONS:
        wrong(path, f"evaluate: {unknown_name('way of inference', values['name'], OPTIONS)}")
        return None
    try:
        return Inference.model_validate(values)
    except ValidationError as error:
        for inner, details in faults_by_path(error, path).items():
            if details[0]["type"] == "value_error" and inner == path:
                wrong(inner, f"evaluate: {details[0]['msg'].removeprefix('Value error, ')}.")
            else:
                wrong(inner, message(details, (EVALUATE, *inner[len(path) :]), Inference, EVALUATE))
        return None


def read_test_sets(
    given: Any, source: Source, checker: Checker, metrics: Mapping[str, Any], mistakes: list[Mistake]
) -> tuple[TestSet, ...]:
    """The further test sets of a study. metrics: of its task, by name; no column may have two meanings."""

    def wrong(path: Path_, text: str) -> None:
        mistakes.append(Mistake(source.place(path), text))

    if given is None:
        return ()
    if not isinstance(given, dict) or not given:
        what = (
            "it is empty"
            if given == {}
            else f"{given!r} is wrong: it should be a mapping of names to test sets"
        )
        wrong((TEST_SETS,), f"test_sets: {what}. Fix: {_FORMS}.")
        return ()
    if len(given) > MOST_SETS:
        wrong((TEST_SETS,), f"test_sets: {len(given)} test sets, and a study has at most {MOST_SETS}.")
        return ()
    sets: list[TestSet] = []
    seen: dict[str, str] = {}
    for name, item in given.items():
        path = (TEST_SETS, str(name))
        if fault := _name_fault(str(name), metrics, seen):
            wrong(path, f"test_sets.{name}: {fault}.")
            continue
        seen[str(name).casefold()] = str(name)
        chosen = _chosen(item, path, source, checker, mistakes)
        if chosen:
            sets.append(TestSet(name=str(name), **chosen).written_at(source.place(path)))
    return tuple(sets)


def _name_fault(name: str, metrics: Mapping[str, Any], seen: Mapping[str, str]) -> str:
    """What is wrong with the name of a test set, and the fix; "" where it can begin a column."""
    if not NAME.fullmatch(name):
        guess = re.sub(r"[^A-Za-z0-9]", "", name).lstrip("0123456789")[:30]
        return (
            "the name of a test set is a letter, then letters and digits, at most 30, as it begins a column such as "
            f"dark_accuracy. Fix: {guess if guess and guess not in _TAKEN else 'dark'}"
        )
    if name.casefold() in _TAKEN:
        return f"{name} is the name of a part already. Fix: another name, such as {name}2"
    if clash := next((metric for metric in metrics if metric.startswith(f"{name}_")), None):
        return f"{clash} is a metric, so that name can't begin a column. Fix: another name, such as {name}2"
    if other := seen.get(name.casefold()):
        return f"{other} differs in case alone. Fix: another name, such as {name}2"
    return ""


def _chosen(
    item: Any, path: Path_, source: Source, checker: Checker, mistakes: list[Mistake]
) -> dict[str, Choice] | None:
    """`dataset` or `corruption`, checked against what is registered; None with mistakes."""
    if isinstance(item, str):
        item = {"name": item}
    key = "dataset" if isinstance(item, dict) and "dataset" in item else "corruption"
    if isinstance(item, dict) and set(item) == {"corruption"}:
        inner: Any = item["corruption"]
        path = (*path, "corruption")
    elif key == "dataset":
        if others := [other for other in item if other != "dataset"]:
            place = source.place((*path, str(others[0])))
            problem = f"{'.'.join(path)}: dataset and {others[0]} do not go together"
            mistakes.append(Mistake(place, f"{problem}. Fix: two test sets, or one of the two."))
            return None
        inner, path = item["dataset"], (*path, "dataset")
    else:
        inner = item
    if isinstance(inner, str):
        inner = {"name": inner}
    if not isinstance(inner, dict) or "name" not in inner:
        mistakes.append(
            Mistake(source.place(path), f"{'.'.join(path)}: {item!r} names no test set. Fix: {_FORMS}.")
        )
        return None
    opened = open_level(inner, path, source, mistakes)
    level: Level = {(key, *leaf_path): leaf for leaf_path, leaf in opened.items()}
    before = len(mistakes)
    found: list[Mistake] = []
    choice = checker._choice(key, Layer(level, source.place(path)), found)
    for one in found:
        option = key == "corruption" and one.message.startswith(
            "corruption."
        )  # a study does not write that word
        text = one.message.removeprefix("corruption.") if option else one.message
        mistakes.append(Mistake(one.place, f"{'.'.join(path[:2])}{'.' if option else ': '}{text}"))
    return {key: choice} if choice and len(mistakes) == before else None


def task_metrics(names: Any) -> dict[str, Any]:
    """Every metric that begins a column: the known ones, and the task's."""
    return {**METRICS, **dict.fromkeys(names)}
