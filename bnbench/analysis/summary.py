"""Everything that the tables show, computed once from a results folder's content."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from bnbench.analysis.agreement import agreements
from bnbench.analysis.cells import spread_of, summarize_cell
from bnbench.analysis.circumstances import mixed_circumstances
from bnbench.analysis.claims import judge_claims
from bnbench.analysis.contents import Summary, VariantSummary, only_looked_at
from bnbench.analysis.difference import Difference
from bnbench.analysis.earlier import look_cautions
from bnbench.analysis.family import with_verdicts
from bnbench.analysis.gap_caution import gap_caution
from bnbench.analysis.inside.study import inside_of
from bnbench.analysis.interactions import interactions
from bnbench.analysis.methods.intervals import ALPHA, MIN_SEEDS, t_quantile
from bnbench.analysis.new_samples import NewSamples
from bnbench.analysis.noise import NoiseFloor, floors_of_means, noise_floors
from bnbench.analysis.paired import compare
from bnbench.analysis.pairs import PHASES
from bnbench.analysis.ranges import usable_ranges
from bnbench.analysis.rates import TrainedRate, trained_rates
from bnbench.analysis.resumed import resumed_elsewhere
from bnbench.analysis.settings import baselines_of
from bnbench.analysis.speed import compare_areas, compare_speed
from bnbench.analysis.stops import Course, follow, spent_rates
from bnbench.analysis.sweeps import BestSetting, best_cell, best_settings
from bnbench.analysis.times import engine_of
from bnbench.analysis.twins import first_of_equals, groups_of_equals, mark_twins
from bnbench.results import Cell, StudyResults
from bnbench.results.lines import with_lines
from bnbench.study import DEFAULT_VARY, Target
from bnbench.study.evaluation import is_line
from bnbench.study.vary import read_vary

#: A difference that must be so many times its scatter to be decided is decided by the luck of the scatter.
MOST_TIMES = 5.0
FEW_SEEDS = 5

METHOD_WORDS = {"t": "the paired t test", "bootstrap": "the bootstrap"}


def summarize(results: StudyResults) -> Summary:
    """Spreads, differences, convergence and outcomes of a study; nothing that was planned is left out."""
    results, course = _with_targets(with_lines(results))
    variants = tuple(_variants(results))
    pairs = list(zip(results.cells, baselines_of(results.cells, results.baseline), strict=True))
    compared = [(cell, base) for cell, base in pairs if base and cell.variant != results.baseline]
    trained = [pair for pair in compared if not is_line(pair[0].variant)]
    first, samples, findings = first_of_equals(results.cells), NewSamples(results), _without_checks(results)
    judged = _judged(_differences(results, compared), results, first)
    comparisons = tuple(samples.added(map(course.at_its_look, judged) if course else judged))
    swept = len({str(dict(cell.setting)) for cell in results.cells}) > 1
    best = tuple(_with_new_samples(_judged_best(results, first), samples)) if swept else ()
    (vary, unread), (claims, unmeasured) = _vary(results), judge_claims(results)
    inside, unprobed = inside_of(_trained(results))
    found = (*unread, *unmeasured, *unprobed, *_warnings(results, variants, comparisons))
    return Summary(
        name=results.name,
        baseline=results.baseline,
        targets=results.targets,
        variants=variants,
        comparisons=comparisons,
        best_settings=best,
        best_rates=spent_rates(_best_rates(results, best), results.looks),
        same_results=groups_of_equals(findings.cells, first),
        checks=results.checks,
        agreements=tuple(agreements(results)),
        warnings=(*results.warnings, *found, *(course.warnings if course else ()), *samples.warnings),
        primary=results.primary,
        margin=results.margin,
        metrics=results.shown_metrics,
        parts=results.parts,
        task=results.task,
        vary=vary,
        study=results.study,
        speeds=tuple(s for t in results.targets for pair in trained for s in compare_speed(*pair, t)),
        areas=tuple(compare_areas(*pair, metric) for metric in _targeted(results) for pair in trained),
        rates=spent_rates(_rates(pairs, results), results.looks),
        noise=tuple(_noise(results)),
        usable_ranges=usable_ranges(_trained(findings)) if swept else (),
        interactions=tuple(interactions(findings, comparisons)) if swept else (),
        claims=claims,
        looks=results.looks,
        stops=course.stops if course else (),
        limits=tuple(_limits(results, comparisons)),
        inside=inside,
    )


def _noise(results: StudyResults) -> Iterator[NoiseFloor]:
    """Of accuracies that are shares of independent samples, not of characters in them; of means over samples."""
    if "accuracy" in results.task.names and results.task.per_class:
        yield from noise_floors(results.cells)
    yield from floors_of_means(results)


def _with_targets(results: StudyResults) -> tuple[StudyResults, Course | None]:
    """The results that count where a study looks several times, and each target's value as a number."""
    course = follow(results) if results.looks else None
    results = course.results if course else results
    return replace(results, targets=tuple(_known_target(t, results) for t in results.targets)), course


def _variants(results: StudyResults) -> Iterator[VariantSummary]:
    """Every variant at every setting; the baseline's first runs are the reference of its seconds per step."""
    reference = next((c.records for c in results.cells if c.variant == results.baseline and c.records), ())
    for cell in results.cells:
        yield summarize_cell(cell, results.targets, reference, results.columns)


def _differences(results: StudyResults, compared: Iterable[tuple[Cell, Cell]]) -> Iterator[Difference]:
    """Every variant and its baseline in every metric, at the end and at the best evaluation."""
    for cell, baseline in compared:
        for at in PHASES:
            for metric in results.columns:
                yield compare(cell, baseline, metric, at, results.margin)


def _with_new_samples(best: Iterable[BestSetting], samples: NewSamples) -> Iterator[BestSetting]:
    for choice in best:
        yield replace(choice, comparisons=tuple(samples.added(choice.comparisons)))


def _targeted(results: StudyResults) -> list[str]:
    """The metrics of the targets, each once."""
    return list(dict.fromkeys(target.metric for target in results.targets))


def _limits(results: StudyResults, comparisons: Sequence[Difference]) -> Iterator[str]:
    """What limits the verdict: mixed circumstances, earlier looks, few seeds, a margin that can't be shown."""
    runs = [run for cell in results.cells for run in cell.records]
    yield from mixed_circumstances(runs)
    yield from resumed_elsewhere(runs)
    yield from look_cautions(results)
    yield from gap_caution(comparisons, results.primary)
    yield from _cautions(results, comparisons)


def _judged(
    comparisons: Iterable[Difference], results: StudyResults, first: Mapping[str, str]
) -> tuple[Difference, ...]:
    """With a verdict on the primary metric, where variants with the same results count once."""
    return with_verdicts(mark_twins(comparisons, first), results.primary, results.checks)


def _judged_best(results: StudyResults, first: Mapping[str, str]) -> tuple[BestSetting, ...]:
    """The best setting of every variant; checks have no comparisons."""
    checks = [best for best in best_settings(results) if best.variant in results.checks]
    choices = (*best_settings(_without_checks(results)), *(replace(best, comparisons=()) for best in checks))
    comparisons = _judged((c for best in choices for c in best.comparisons), results, first)
    return tuple(
        replace(best, comparisons=tuple(c for c in comparisons if c.variant == best.variant))
        for best in choices
    )


def _without_checks(results: StudyResults) -> StudyResults:
    """The findings alone: a check takes no part in any family, of comparisons, ranges or interactions."""
    return replace(results, cells=tuple(c for c in results.cells if c.variant not in results.checks))


def _trained(results: StudyResults) -> StudyResults:
    """Without the lines of further ways of inference, for which nothing was trained."""
    return replace(results, cells=tuple(c for c in results.cells if not is_line(c.variant)))


def _rates(pairs: Iterable[tuple[Cell, Cell | None]], results: StudyResults) -> tuple[TrainedRate, ...]:
    """How often each variant trained; a check is not tested."""
    return trained_rates(
        [
            (cell, None if cell.variant in results.checks else baseline)
            for cell, baseline in pairs
            if not is_line(cell.variant)
        ]
    )


def _best_rates(results: StudyResults, best: Sequence[BestSetting]) -> tuple[TrainedRate, ...]:
    """How often each variant trained at the best setting that is compared, against the baseline at its own."""
    labels = {c.label for setting in best for c in setting.comparisons}
    labels |= {c.baseline_label for setting in best for c in setting.comparisons}
    cells = {cell.variant: cell for cell in _trained(results).cells if cell.label in labels}
    return trained_rates([(cell, cells.get(results.baseline)) for cell in cells.values()])


def _vary(results: StudyResults) -> tuple[tuple[str, ...], list[str]]:
    """The sources of randomness that study.yaml names, and what is wrong with it: then they are not known."""
    try:
        return read_vary(results.study.get("vary", list(DEFAULT_VARY))), []
    except ValueError as error:
        return DEFAULT_VARY, [f"study.yaml: {error} Taken for {', '.join(DEFAULT_VARY)}."]


def _cautions(results: StudyResults, comparisons: Sequence[Difference]) -> Iterator[str]:
    """What limits the verdicts, whatever the runs say."""
    margin = results.margin
    if margin and margin.metric != results.primary:
        yield (
            f"the margin is one of {margin.metric}, and the verdict is on {results.primary}: it decides nothing. "
            f"Fix: primary: {margin.metric}, or a margin of {results.primary}."
        )
    grains = [c.grain for c in comparisons if margin and c.metric == margin.metric and c.grain]
    if margin and grains and margin.value < max(grains):
        yield (
            f"the margin {margin.value:g} of {margin.metric} is smaller than what the answer on one sample can "
            f"change ({max(grains):.3g}): the runs can't show it. Choose a larger margin, or more samples."
        )
    judged = [c for c in comparisons if c.verdict in ("better", "worse", "same", "undecided")]
    if judged and not results.looks:
        yield from _unfinished([c for c in comparisons if c.verdict is not None])
        yield from _luck_of_the_scatter(min(c.n for c in judged), max(c.family for c in judged))


def _unfinished(asked: Sequence[Difference]) -> Iterator[str]:
    """Where runs are missing: who stops at the verdict that pleases has looked more than once."""
    short = [c for c in asked if c.n + sum(c.lost.values()) < c.n_planned]
    if short:
        least = min(short, key=lambda difference: difference.n)
        yield (
            f"not all planned runs are there ({least.label}: {least.n} of {least.n_planned} pairs): a verdict before "
            "the last is an early look, and not the 5 % test that was planned. The same command again adds the rest."
        )


def _luck_of_the_scatter(n: int, family: int) -> Iterator[str]:
    """Where so few seeds must decide so many comparisons that the scatter's luck counts for more than the effect."""

    def times(seeds: int) -> float:
        return t_quantile(seeds - 1, 1 - ALPHA / (2 * family)) / math.sqrt(seeds)

    if MIN_SEEDS <= n < FEW_SEEDS and times(n) > MOST_TIMES:
        yield (
            f"{n} seeds and {family} comparisons: a difference must be {times(n):.1f} times its scatter to be decided, "
            "so that what is decided tends to be what scatters little by chance. "
            f"{FEW_SEEDS} seeds need {times(FEW_SEEDS):.1f} times."
        )


def _known_target(target: Target, results: StudyResults) -> Target:
    """What the baseline reaches at the end (at its best setting), where the study asks to match it."""
    names = {cell.variant for cell in results.cells}
    if not target.match_baseline or results.baseline not in names:
        return target
    cell = best_cell(results.cells, results.baseline)
    mean = spread_of(cell, target.metric, "final").mean
    return replace(target, value=math.nan if mean is None else mean)


def _warnings(
    results: StudyResults, variants: Sequence[VariantSummary], comparisons: Sequence[Difference]
) -> Iterator[str]:
    for difference in comparisons:
        if difference.checks_disagree and difference.at == "final" and difference.metric == results.primary:
            yield (
                f"{difference.label}, {difference.metric}: {METHOD_WORDS[difference.method]} "
                f"(p {difference.p:.2g}) and the sign-flip test (p {difference.sign_flip_p:.2g}) disagree: "
                "don't rest on this verdict; look at every seed, or "
                "plan a new study with more (seeds: auto)."
            )
    for index, target in enumerate(results.targets):
        runs = [time for variant in variants for time in variant.targets[index].reached]
        if runs and target.match_baseline and math.isnan(target.value):
            yield f"the baseline {results.baseline} ended without a {target.metric} to match."
        elif runs and not any(runs) and not only_looked_at(variants):
            yield (
                f"no run reached the target {target.metric} {target.value:g}: it says nothing about speed here. "
                "Choose one that some runs reach, or train longer."
            )
    for cell, baseline in zip(results.cells, baselines_of(results.cells, results.baseline), strict=True):
        if not baseline:
            yield f"{cell.label}: the baseline {results.baseline} has no runs at this setting; not compared."
    engines = {
        engine_of(run)
        for variant in variants
        for run in variant.runs
        if run.environment and run.outcome != "crashed"
    }
    if len(engines) > 1:
        yield (
            f"the runs were trained by different engines ({', '.join(sorted(engines))}): the same mathematics, "
            "but other last bits, and their times don't compare."
        )
