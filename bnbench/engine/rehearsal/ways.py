"""Whether a study's ways of inference fit its networks."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from bnbench.base.errors import Mistake
from bnbench.engine.inference import statistics_layers
from bnbench.engine.rehearsal.case import Case


def ways_asked(case: Case) -> list[str]:
    """The further ways of inference."""
    return [way.name for way in case.settings.evaluate if way.further]


def judge_ways(case: Case, model: nn.Module) -> tuple[bool, tuple[str, ...]]:
    """Whether the network has running statistics, and why they can't be replaced by others."""
    asked = ways_asked(case)
    if not asked:
        return False, ()
    framework = case.settings.framework
    if framework != "torch":
        text = f"evaluate: {', '.join(asked)}: {framework} infers with its running statistics alone."
        return False, (f"{text} Fix: evaluate: [running], or framework: torch.",)
    found = statistics_layers(case.settings, case.sizes, model)
    mistakes = [
        f"evaluate: {', '.join(asked)}: no other statistics can take the place of the running ones: {text}. "
        "Fix: evaluate: [running], or another norm."
        for text in found.refused
    ]
    if "example_weighted" in asked and found.without_form and not found.refused:
        mistakes.append(
            f"evaluate: example_weighted: inference of {found.without_form[0]} is not "
            "(x - mean) / sqrt(var + eps), into which an example's own statistics could enter. Fix: leave "
            "example_weighted out, or another norm."
        )
    return bool(found.layers), tuple(mistakes)


def no_statistics(cases: Iterable[tuple[Case, bool]]) -> Mistake | None:
    """The mistake where a study asks for further ways of inference, and none of its networks has running statistics."""
    asked = [(case, has) for case, has in cases if ways_asked(case)]
    if not asked or any(has for _, has in asked):
        return None
    names = list(
        dict.fromkeys(f"{case.runs[0].variant} (norm {case.settings.norm.name})" for case, _ in asked)
    )
    text = (
        f"evaluate: {', '.join(ways_asked(asked[0][0]))}: no network of the study has running statistics that others "
        f"could replace: {', '.join(names)}. Fix: a variant with norm: batch, or evaluate: [running]."
    )
    return Mistake(asked[0][0].settings.evaluate[1].place, text)
