"""A sweep in words: the effect at each setting, the share of runs that trained, and how the effect changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bnbench.analysis.contents import Summary
from bnbench.analysis.difference import VERDICTS, Difference
from bnbench.analysis.interactions import Interaction
from bnbench.analysis.methods.intervals import ALPHA, MIN_SEEDS
from bnbench.analysis.rates import TrainedRate
from bnbench.analysis.settings import baselines_of
from bnbench.analysis.sweeps import MIN_PARTED
from bnbench.base.metrics import metric_of
from bnbench.reports.numbers import interval_text, p_text, verdict_text, words
from bnbench.reports.sentences.doubts import doubts
from bnbench.reports.sentences.effect import change_text, interval_words
from bnbench.reports.sentences.looks import sweep_stop_words
from bnbench.reports.sentences.ranges import range_sentences
from bnbench.study.labels import setting_text

#: Verdicts that come with a number in a list of settings.
_WITH_NUMBER = ("better", "worse", "same")


def sweep_sentences(summary: Summary) -> list[str]:
    """Empty where nothing is swept."""
    if not summary.best_settings:
        return []
    return [
        *best_without_verdict(summary),
        *setting_sentences(summary),
        *([sweep_stop_words(summary)] if summary.stops else []),
        *_shares(summary),
        *range_sentences(summary),
        *interaction_sentences(summary),
    ]


def best_comparisons(summary: Summary) -> list[Difference]:
    """The comparisons with a verdict: each variant at its best setting, where other seeds have chosen it."""
    return [c for best in summary.best_settings if best.parted for c in best.comparisons]


def best_words(summary: Summary) -> str:
    """The text after the metric's name in a sentence about the best settings."""
    chose = len(summary.best_settings[0].choosing)
    return f", each at its best setting (chosen with {chose} other seeds)"


def best_without_verdict(summary: Summary) -> Iterator[str]:
    """The best settings where the same seeds chose and compared."""
    primary = [
        difference
        for best in summary.best_settings
        for difference in best.comparisons
        if not best.parted and (difference.metric, difference.at) == (summary.primary, "final")
    ]
    if primary:
        effects = "; ".join(f"{difference.label} {_effect(difference)}" for difference in primary)
        yield (
            f"Each at its best setting, against {primary[0].baseline_label}, in {words(summary.primary)}: no verdict, "
            f"as the same {primary[0].n_planned} seeds chose the settings, which favours a variant with many equally "
            f"good ones; from {MIN_PARTED} seeds on some choose and the others compare. Differences: {effects}."
        )


def setting_sentences(summary: Summary, most: int | None = None) -> Iterator[str]:
    """The effect of each variant at every setting; variants with the same verdicts and numbers share a sentence.

    most: of more settings than this with one verdict, only their number, and the smallest and the largest effect.

    >>> next(setting_sentences(summary))
    "batch against none at each optimizer.lr, in test accuracy: better at 1.0 (+45 points, 40 to 51); undecided at 0.1."
    """
    judged = [c for c in summary.comparisons if (c.metric, c.at) == (summary.primary, "final") and c.verdict]
    keys = summary.swept_keys
    where = keys[0] if len(keys) == 1 else "setting"
    names: dict[str, list[str]] = {}
    for name in dict.fromkeys(c.variant for c in judged):
        text = _verdicts([c for c in judged if c.variant == name], keys, most)
        names.setdefault(text, []).append(name)
    for text, alike in names.items():
        yield f"{', '.join(alike)} against {summary.baseline} at each {where}, in {words(summary.primary)}: {text}."


def _where(setting: Mapping[str, Any], keys: Sequence[str]) -> str:
    """For example "optimizer.lr=0.1, batch_size=32"; the value alone where one key is swept."""
    return str(setting[keys[0]]) if len(keys) == 1 and keys[0] in setting else setting_text(setting)


def _verdicts(differences: Sequence[Difference], keys: Sequence[str], most: int | None) -> str:
    verdicts: dict[str, list[Difference]] = {verdict_text(word): [] for word in VERDICTS}
    for difference in differences:
        verdicts[verdict_text(str(difference.verdict))].append(difference)
    present = {word: alike for word, alike in verdicts.items() if alike}
    if len(present) == 1 and differences[0].verdict not in _WITH_NUMBER:
        return f"{next(iter(present))} at every setting"
    return "; ".join(f"{word} at {_places(alike, keys, most)}" for word, alike in present.items())


def _places(differences: Sequence[Difference], keys: Sequence[str], most: int | None) -> str:
    """E.g. "0.1 (+1.7 points, 1.4 to 2.0), 1"; of many "10 values, from +0.9 points at 0.3 to +97 points at 3"."""
    if most is None or len(differences) <= most:
        return ", ".join(_at(difference, keys) for difference in differences)
    if differences[0].verdict not in _WITH_NUMBER:
        return f"{len(differences)} settings"
    ends = [pick(differences, key=lambda d: abs(d.difference or 0.0)) for pick in (min, max)]
    low, high = (f"{change_text(end)} at {_where(end.setting, keys)}" for end in ends)
    doubtful = sum(bool(doubts(difference)) for difference in differences)
    limits = f" ({doubtful} of them with doubts: --tables verdicts)" if doubtful else ""
    return f"{len(differences)} settings, from {low} to {high}{limits}"


def _at(difference: Difference, keys: Sequence[str]) -> str:
    """For example "batch_size=2 (+4.1 points, 2.0 to 6.2)"; without the numbers where nothing is decided."""
    where = _where(difference.setting, keys)
    if difference.verdict not in _WITH_NUMBER:
        return where
    return f"{where} ({_effect(difference)}{doubts(difference) if difference.verdict != 'same' else ''})"


def _effect(difference: Difference) -> str:
    interval = interval_words(difference)
    return f"{change_text(difference)}{f', {interval}' if interval else ''}"


def _shares(summary: Summary) -> Iterator[str]:
    """How often a variant trained over the sweep; Fisher's exact test at each setting, after Holm."""
    rates = [rate for rate in summary.rates if rate.variant not in summary.checks]
    if all(rate.trained == rate.n for rate in rates):
        return
    with_base = list(zip(rates, baselines_of(rates, summary.baseline), strict=True))
    for name in dict.fromkeys(rate.variant for rate in rates if rate.variant != summary.baseline):
        pairs = [(rate, base) for rate, base in with_base if rate.variant == name and base]
        if pairs:
            yield _share(name, summary.baseline, pairs)


def _share(name: str, baseline: str, pairs: Sequence[tuple[TrainedRate, TrainedRate]]) -> str:
    own = [rate for rate, _ in pairs]
    # a baseline without the key stands at several settings, and counts once
    base = list({rate.label: rate for _, rate in pairs}.values())
    head = f"{name} trained in {_count(own)} runs of the sweep, {baseline} in {_count(base)}"
    tested = [(a, b) for a, b in pairs if a.p_holm is not None and a.trained * b.n != b.trained * a.n]
    if not tested:
        return f"{head}: as often at every setting."
    tested.sort(key=lambda pair: pair[0].p_holm or 0.0)
    decided = [pair for pair in tested if (pair[0].p_holm or 0.0) <= ALPHA]
    where = "; ".join(
        f"{a.trained} of {a.n} against {b.trained} of {b.n} at {setting_text(a.setting)}"
        f" (Fisher's exact test, Holm p {p_text(a.p_holm)})"
        for a, b in decided or tested[:1]
    )
    if not decided:
        return f"{head}: undecided at every setting, the most different being {where}."
    return f"{head}: decided at {len(decided)} of {len(pairs)} settings: {where}."


def _count(rates: Sequence[TrainedRate]) -> str:
    return f"{sum(rate.trained for rate in rates)} of {sum(rate.n for rate in rates)}"


def dependence_sentences(summary: Summary) -> Iterator[str]:
    """The effects with a significant dependence on a swept key.

    >>> next(dependence_sentences(summary))
    "The effect of batch depends on optimizer.lr (Holm p <0.0001)."
    """
    decided: dict[tuple[str, str], float] = {}
    for row in summary.interactions:
        if row.p_holm is not None and row.p_holm <= ALPHA:
            place = (row.key, row.label)
            decided[place] = min(row.p_holm, decided.get(place, 1.0))
    for (key, label), p in decided.items():
        yield f"The effect of {label} depends on {key} (Holm p {p_text(p)})."


def interaction_sentences(summary: Summary) -> Iterator[str]:
    """One sentence per effect that depends on a key, and one for all undecided effects."""
    on = f"against {summary.baseline} on {words(summary.primary)}"
    for key in dict.fromkeys(row.key for row in summary.interactions):
        lines: dict[str, list[Interaction]] = {}
        for row in summary.interactions:
            if row.key == key:
                lines.setdefault(row.label, []).append(row)
        undecided = []
        for label, rows in lines.items():
            tested = [row for row in rows if row.p_holm is not None]
            best = min(tested, key=lambda row: (row.p_holm or 0.0, -abs(row.change or 0.0)), default=None)
            if best is None:
                undecided.append(f"{label} (fewer than {MIN_SEEDS} pairs, or pairs are missing)")
            elif (best.p_holm or 0.0) <= ALPHA:
                yield f"The effect of {label} {on} depends on {key}: {_change(rows[0], best)}."
            else:
                undecided.append(f"{label} ({_change(rows[0], best)})")
        if undecided:
            yield f"It is undecided whether the effect {on} depends on {key}: {'; '.join(undecided)}."


def _change(first: Interaction, row: Interaction) -> str:
    percent = metric_of(row.comparison.metric).percent
    text = interval_text(row.change, row.change_low, row.change_high, percent=percent).replace(
        " pp", " points"
    )
    change, _, interval = text.partition(" [")
    limits = f"95% interval {interval.removesuffix(']').replace(', ', ' to ')}, " if interval else ""
    p = f"Holm p {p_text(row.p_holm)}"
    return f"from {first.value} to {row.value} it changes by {change} ({limits}{p}, {row.n} seeds)"
