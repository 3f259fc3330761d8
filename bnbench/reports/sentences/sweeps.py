"""What a sweep says in words: at each setting, where a variant trains, and whether its effect moves along."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bnbench.analysis.contents import Summary
from bnbench.analysis.difference import VERDICTS, Difference
from bnbench.analysis.interactions import Interaction
from bnbench.analysis.methods.intervals import ALPHA, MIN_SEEDS
from bnbench.analysis.ranges import Shift, UsableRange, baseline_ranges
from bnbench.analysis.rates import TrainedRate
from bnbench.analysis.settings import baselines_of
from bnbench.analysis.sweeps import MIN_PARTED
from bnbench.base.metrics import metric_of
from bnbench.reports.numbers import difference_text, interval_text, p_text, verdict_text, words
from bnbench.reports.sentences.doubts import doubts
from bnbench.reports.sentences.looks import sweep_stop_words
from bnbench.reports.tables.sweeps import edge_text, shift_text
from bnbench.study.labels import setting_text

_SHIFT_WORDS = {"further": "further out", "less far": "less far out"}


def sweep_sentences(summary: Summary) -> list[str]:
    """None where nothing is swept."""
    if not summary.best_settings:
        return []
    return [
        *_without_verdict(summary),
        *_same_setting(summary),
        *([sweep_stop_words(summary)] if summary.stops else []),
        *_shares(summary),
        *_ranges(summary),
        *_interactions(summary),
    ]


def best_comparisons(summary: Summary) -> list[Difference]:
    """Those that have a verdict: each variant at its best setting, where other seeds have chosen it."""
    return [c for best in summary.best_settings if best.parted for c in best.comparisons]


def best_words(summary: Summary) -> str:
    """What follows the metric's name in a sentence about them."""
    chose = len(summary.best_settings[0].choosing)
    return f", each at its best setting (chosen with {chose} other seeds)"


def _without_verdict(summary: Summary) -> Iterator[str]:
    """The best settings where the same seeds chose and compared."""
    shown = [
        found
        for best in summary.best_settings
        for found in best.comparisons
        if not best.parted and (found.metric, found.at) == (summary.primary, "final")
    ]
    if shown:
        differences = "; ".join(f"{found.label} {difference_text(found)}" for found in shown)
        yield (
            f"Each at its best setting, against {shown[0].baseline_label}, in {words(summary.primary)}: no verdict, as "
            f"the same {shown[0].n_planned} seeds chose the settings, which favours a variant with many equally good "
            f"ones; from {MIN_PARTED} seeds on some choose and the others compare. Differences: {differences}."
        )


def _same_setting(summary: Summary) -> Iterator[str]:
    """ "group against batch at the same setting, in test accuracy: better at batch_size=2 (…); undecided at …"."""
    shown = [c for c in summary.comparisons if (c.metric, c.at) == (summary.primary, "final") and c.verdict]
    alike: dict[str, list[str]] = {}
    for name in dict.fromkeys(c.variant for c in shown):
        alike.setdefault(_verdicts([c for c in shown if c.variant == name]), []).append(name)
    for text, names in alike.items():
        yield (
            f"{', '.join(names)} against {summary.baseline} at the same setting, in {words(summary.primary)}: {text}."
        )


def _verdicts(comparisons: Sequence[Difference]) -> str:
    verdicts: dict[str, list[Difference]] = {verdict_text(word): [] for word in VERDICTS}
    for found in comparisons:
        verdicts[verdict_text(str(found.verdict))].append(found)
    said = {word: found for word, found in verdicts.items() if found}
    if len(said) == 1 and comparisons[0].verdict not in ("better", "worse", "same"):
        return f"{next(iter(said))} at every setting"
    return "; ".join(f"{word} at {', '.join(map(_at, found))}" for word, found in said.items())


def _at(found: Difference) -> str:
    """ "batch_size=2 (+4.1 pp [+2.0, +6.2])"; without the numbers where nothing is decided."""
    where = setting_text(found.setting)
    if found.verdict not in ("better", "worse", "same"):
        return where
    return f"{where} ({difference_text(found)}{doubts(found) if found.verdict != 'same' else ''})"


def _shares(summary: Summary) -> Iterator[str]:
    """How often a variant trained at all over the sweep; Fisher's exact test at each setting, after Holm."""
    rates = [rate for rate in summary.rates if rate.variant not in summary.checks]
    if all(rate.trained == rate.n for rate in rates):
        return
    beside = list(zip(rates, baselines_of(rates, summary.baseline), strict=True))
    for name in dict.fromkeys(rate.variant for rate in rates if rate.variant != summary.baseline):
        pairs = [(rate, base) for rate, base in beside if rate.variant == name and base]
        if pairs:
            yield _share(name, summary.baseline, pairs)


def _share(name: str, baseline: str, pairs: Sequence[tuple[TrainedRate, TrainedRate]]) -> str:
    ours = [rate for rate, _ in pairs]
    theirs = list(
        {rate.label: rate for _, rate in pairs}.values()
    )  # without the key it stands at several settings
    head = f"{name} trained in {_count(ours)} runs of the sweep, {baseline} in {_count(theirs)}"
    tested = [(a, b) for a, b in pairs if a.p_holm is not None and a.trained * b.n != b.trained * a.n]
    if not tested:
        return f"{head}: as often at every setting."
    tested.sort(key=lambda pair: pair[0].p_holm or 0.0)
    found = [pair for pair in tested if (pair[0].p_holm or 0.0) <= ALPHA]
    where = "; ".join(
        f"{a.trained} of {a.n} against {b.trained} of {b.n} at {setting_text(a.setting)}"
        f" (Fisher's exact test, Holm p {p_text(a.p_holm)})"
        for a, b in found or tested[:1]
    )
    if not found:
        return f"{head}: undecided at every setting, the most different being {where}."
    return f"{head}: decided at {len(found)} of {len(pairs)} settings: {where}."


def _count(rates: Sequence[TrainedRate]) -> str:
    return f"{sum(rate.trained for rate in rates)} of {sum(rate.n for rate in rates)}"


def _ranges(summary: Summary) -> Iterator[str]:
    for key in dict.fromkeys(found.key for found in summary.usable_ranges):
        ranges = [found for found in summary.usable_ranges if found.key == key]
        if all(_trains_everywhere(found) for found in ranges):
            first, last = ranges[0].first, ranges[0].last
            yield (
                f"Every variant trains with every {key} from {first:g} to {last:g}: the edges of the usable range lie "
                "outside of the sweep."
            )
            continue
        for found, baseline in zip(ranges, baseline_ranges(ranges, summary.baseline), strict=True):
            if baseline and baseline is not found:
                yield _range(found, baseline)


def _trains_everywhere(found: UsableRange) -> bool:
    return found.n > 0 and found.cut_below == found.cut_above == found.n and found.first is not None and all(
        seed.first == found.first and seed.last == found.last for seed in found.seeds
    )  # fmt: skip


def _range(ours: UsableRange, theirs: UsableRange) -> str:
    """Where both train, then each edge by itself."""
    head = f"{_span(ours)}; {_span(theirs)}"
    edges = [
        f"the {name} edge of {ours.label} {_edge(shift)}"
        for name, shift in (("lower", ours.lower), ("upper", ours.upper))
        if shift is not None
    ]
    return f"{head}: {'; '.join(edges)}." if edges else f"{head}."


def _span(found: UsableRange) -> str:
    seeds = f"{found.n} seed{'s' * (found.n != 1)}"
    if not found.n:
        return f"{found.label}: no seed has a run at every {found.key}"
    if found.first is None or found.last is None:
        return f"{found.label} trains with no {found.key} on all of {seeds}"
    return (
        f"{found.label} trains on all of {seeds} with {found.key} from "
        f"{edge_text(found.first, found.fails_below)} to {edge_text(found.last, found.fails_above)}"
    )


def _edge(shift: Shift) -> str:
    if shift.verdict == "cut":
        return "can't be compared, as the sweep cuts it with some seed of both"
    if shift.verdict == "too_few_seeds":
        return f"has no verdict ({shift.n} seed{'s' * (shift.n != 1)} with a range on both sides)"
    numbers = f"{shift_text(shift)} decades, {shift.n} paired seeds, Holm p {p_text(shift.p_holm)}"
    if shift.verdict == "undecided":
        return f"is undecided ({numbers})"
    return f"lies {_SHIFT_WORDS[shift.verdict]} ({numbers})"


def _interactions(summary: Summary) -> Iterator[str]:
    """A sentence for each effect that depends on a key, and one for all those of which it is undecided."""
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
    text = interval_text(row.change, row.change_low, row.change_high, percent=percent)
    shown = text.replace(" [", ", 95% interval [")
    return f"from {first.value} to {row.value} it changes by {shown}, {row.n} paired seeds, Holm p {p_text(row.p_holm)}"
