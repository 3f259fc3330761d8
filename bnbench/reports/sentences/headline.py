"""The answer of a study in a few lines: what was compared, and what came out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bnbench.analysis.contents import Summary, VariantSummary
from bnbench.analysis.difference import VERDICTS, Difference
from bnbench.base.metrics import metric_of
from bnbench.reports.numbers import runs_text, spread_text, unit_of, verdict_text, words
from bnbench.reports.sentences.agreement import brief_agreements
from bnbench.reports.sentences.doubts import doubts
from bnbench.reports.sentences.effect import brief, change_text, points
from bnbench.reports.sentences.listing import counted
from bnbench.reports.sentences.looks import sweep_stop_words
from bnbench.reports.sentences.ranges import usable_sentences
from bnbench.reports.sentences.runs import absent_runs_of, failure_sentences
from bnbench.reports.sentences.speed import goal_text, sooner_clause
from bnbench.reports.sentences.sweeps import dependence_sentences, setting_sentences
from bnbench.reports.sentences.verdicts import (
    DECIDED,
    ONLY_LOOKED_AT,
    judged_differences,
    same_results_sentences,
    verdict_sentence,
)
from bnbench.study.layer_names import is_whole, network_name

#: With more comparisons than this, sentences group them by verdict.
MOST_SENTENCES = 4
#: More settings than this with one verdict are counted.
MOST_SETTINGS = 4
#: More names than this are counted.
MOST_NAMES = 8


def title(summary: Summary) -> str:
    """What was compared.

    >>> title(summary)
    "quickstart: Batch norm on 8x8 digits (3 variants x 5 seeds)"
    """
    about = _about(summary.study)
    return f"{summary.name}{f': {about}' if about else ''} ({size_text(summary)})"


def _about(study: Mapping[str, Any]) -> str:
    """The study's description, else "mlp on mnist"; "" in a folder that says neither.

    A description does not know of another network, as --model puts in.
    """
    model, data = study.get("model"), study.get("dataset")
    network = network_name(model) if isinstance(model, Mapping) and model.get("name") else ""
    if description := study.get("description"):
        own = isinstance(model, Mapping) and is_whole(model) and network not in str(description)
        return f"{description}; network {network}" if own else str(description)
    return (
        f"{network} on {data['name']}" if network and isinstance(data, Mapping) and data.get("name") else ""
    )


def size_text(summary: Summary) -> str:
    """For example "3 variants x 4 settings x 5 seeds"."""
    names, cells = len({variant.variant for variant in summary.trained}), len(summary.trained)
    counts = sorted({len(variant.seeds) for variant in summary.trained})
    parts = [counted(names, "variant")]
    if cells != names:
        even = cells % names == 0
        parts = [*parts, counted(cells // names, "setting")] if even else [counted(cells, "cell")]
    seeds = f"{counts[0]} to {counted(counts[-1], 'seed')}" if len(counts) > 1 else counted(counts[0], "seed")
    return " x ".join([*parts, seeds])


def headline(summary: Summary, command: str = "") -> list[str]:
    """The verdicts in plain sentences; each says what limits it.

    command: what was run, for a plan with more seeds.

    >>> headline(summary)[0]
    "batch is better than none in test accuracy: 97.8% → 99.1%, +1.2 points (95% interval 0.4 to 2.1, p 0.015,
    5 seeds). It reaches 93% val accuracy 3.0 times sooner (95% interval 1.8 to 4.8, in steps)."
    """
    if summary.only_looked_at:
        return [ONLY_LOOKED_AT, *failure_sentences(summary)]
    return _verdicts(summary, command)


def _verdicts(summary: Summary, command: str) -> list[str]:
    judged = judged_differences(summary)
    if summary.best_settings:
        return _of_a_sweep(summary, judged, command)
    agreements = brief_agreements(summary)
    if not judged and not agreements:
        alone = [line for variant in summary.variants for line in variant_sentences(summary, variant)]
        return [*alone, *failure_sentences(summary)]
    if len(judged) > MOST_SENTENCES:
        return [
            *_by_verdict(summary, judged),
            *_fewest(agreements),
            *same_results_sentences(summary),
            *failure_sentences(summary),
        ]
    return [
        *(verdict_sentence(summary, d, command) + sooner_clause(summary, d.label) for d in judged),
        *_fewest(agreements),
        *same_results_sentences(summary),
        *failure_sentences(summary),
    ]


def variant_sentences(summary: Summary, variant: VariantSummary) -> Iterator[str]:
    """A variant without a comparison.

    >>> next(variant_sentences(summary, summary.variants[0]))
    "batch: 99.06 ± 0.25% test accuracy with 5 seeds. 5 of 5 runs reached 93% val accuracy."
    """
    spread = variant.spreads["final", summary.primary]
    percent = metric_of(summary.primary).percent
    absent = " ".join(absent_runs_of(variant))
    if spread.mean is None:
        yield f"{variant.label}: no run has a {words(summary.primary)}. {absent}".strip()
        return
    value = spread_text(spread, spread.n, percent=percent) + unit_of(summary.primary).replace("pp", " points")
    seeds = counted(spread.n, "seed")
    reached = "".join(
        f" {target.k} of {runs_text(target.n)} reached {goal_text(target.target)}."
        for target in variant.targets[:1]
    )
    yield f"{variant.label}: {value} {words(summary.primary)} with {seeds}.{reached} {absent}".strip()


def _of_a_sweep(summary: Summary, judged: Sequence[Difference], command: str) -> list[str]:
    many = len({variant.variant for variant in summary.variants}) - 1 > MOST_SENTENCES
    at_best = [d for d in judged if d.verdict != "too_few_seeds"]
    best = _by_verdict(summary, at_best) if many else [verdict_sentence(summary, d, command) for d in at_best]
    dependent = list(dependence_sentences(summary))
    return [
        *_at_each_setting(summary),
        *dependent[:MOST_SENTENCES],
        *([sweep_stop_words(summary)] if summary.stops else []),
        *usable_sentences(summary),
        *best,
        *_fewest(brief_agreements(summary)),
        *(line for line in same_results_sentences(summary) if " @ " not in line),
        *failure_sentences(summary),
    ]


def _at_each_setting(summary: Summary) -> list[str]:
    """A sentence for each variant; where that is too many, how often each verdict was reached."""
    sentences = list(setting_sentences(summary, MOST_SETTINGS))
    if len(sentences) <= MOST_SENTENCES:
        return sentences
    counts = Counter(
        verdict_text(d.verdict)
        for d in summary.comparisons
        if (d.metric, d.at) == (summary.primary, "final") and d.verdict
    )
    listed = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return [
        f"At the same setting, against {summary.baseline} in {words(summary.primary)}: {listed}, of "
        f"{counts.total()} comparisons."
    ]


def _by_verdict(summary: Summary, judged: Sequence[Difference]) -> Iterator[str]:
    """For example "Better than none in test accuracy: batch (+1.2 points), group (+0.9 points)." and so on."""
    for verdict in VERDICTS:
        alike = [difference for difference in judged if difference.verdict == verdict]
        if not alike:
            continue
        names = [f"{d.label} ({change_text(d)}{doubts(d)})" if verdict in DECIDED else d.label for d in alike]
        listed = ", ".join(names) if len(names) <= MOST_NAMES else f"{len(names)} of {len(judged)} variants"
        where = ", each at its best setting" if summary.best_settings else ""
        yield f"{_head(verdict, summary)} in {words(summary.primary)}{where}: {listed}.{_finds(alike)}"


def _head(verdict: str, summary: Summary) -> str:
    if verdict in DECIDED:
        return f"{verdict.capitalize()} than {summary.baseline}"
    text = verdict_text(verdict)
    return f"{text[:1].upper()}{text[1:]} {'as' if verdict == 'same' else 'against'} {summary.baseline}"


def _finds(alike: Sequence[Difference]) -> str:
    """E.g. " With 3 seeds and 20 comparisons only differences of about 2.2 to 44 points are found reliably."."""
    known = [d for d in alike if d.verdict == "undecided" and d.detectable]
    if not known:
        return ""
    least, most = (pick(known, key=lambda d: d.detectable or 0.0) for pick in (min, max))
    low, high = (brief(d, d.detectable or 0.0, "-") for d in (least, most))
    size = points(low if low == high else f"{low} to {high}", least)
    seeds = counted(known[0].n, "seed")
    return (
        f" With {seeds} and {known[0].family} comparisons only differences of about {size} or more are found reliably "
        "(80% power)."
    )


def _fewest(agreements: Sequence[str]) -> list[str]:
    """All sentences if they are few; otherwise (one per setting of a sweep) the disagreements, and a count."""
    if len(agreements) <= MOST_SENTENCES:
        return list(agreements)
    good = [line for line in agreements if " gives the same results as " in line or " agrees with " in line]
    others = [line for line in agreements if line not in good]
    number = f"{len(good)} of {len(agreements)} variants with role: check agree with what they check."
    return [*others[:MOST_SENTENCES], number]
