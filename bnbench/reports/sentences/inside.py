"""Sentences on the networks' inside: the indices of the probes against the baseline, and against their noise floor."""

from __future__ import annotations

from collections.abc import Iterator

from bnbench.analysis.contents import Summary
from bnbench.analysis.inside.indices import IndexContrast, IndexSpread
from bnbench.analysis.methods.intervals import MIN_SEEDS
from bnbench.base.indices import Scale, index_facts
from bnbench.reports.numbers import NOTHING, count_text, factor_interval, number_interval, p_text
from bnbench.reports.sentences.listing import counted, listed

#: The index that the short answer names, where it is there.
_FIRST = "drift"
#: With more comparisons than this, a sweep has sentences for the best settings alone.
_MOST = 12


def inside_sentences(summary: Summary) -> list[str]:
    """A sentence for each index and variant, for each index at its noise floor, and for the runs without a number.

    In a sweep of many comparisons, those of each variant's best setting: the table has every setting.

    >>> inside_sentences(summary)[0]
    "batch lowers the drift of the pre-activations by a factor 13 [11, 16] against none (95% interval, 5 seeds)."
    """
    contrasts = _shown_contrasts(summary)
    spreads = [spread for spread in summary.inside.spreads if _is_shown(summary, spread)]
    return [
        *(line for name in dict.fromkeys(c.index for c in contrasts) for line in _of_index(name, contrasts)),
        *_floor_sentences(spreads),
        *_absent_sentences(spreads),
        *([_method(contrasts)] if any(contrast.p is not None for contrast in contrasts) else []),
    ]


def inside_line(summary: Summary) -> str:
    """One line for the short answer; "" where no probe was asked for.

    >>> inside_line(summary)
    "Inside: batch lowers the drift by a factor 13 [11, 16] (--tables probes)"
    """
    if not summary.inside.asked:
        return ""
    contrasts = sorted(summary.inside.contrasts, key=lambda c: (not c.shown, c.index != _FIRST))
    more = "(--tables probes)"
    if not contrasts:
        return "Inside: --tables probes"
    first = contrasts[0]
    if summary.swept_keys:
        holds = sum(bool(contrast.shown) for contrast in contrasts)
        return f"Inside: {holds} of {len(contrasts)} comparisons with {first.baseline} hold after correction {more}"
    if not first.shown:
        return f"Inside: no index is shown to differ from {first.baseline}'s {more}"
    verb = _VERBS[first.shown]
    name = first.index.replace("_", " ")
    return f"Inside: {first.label} {verb} the {name} by {_change(first)} {more}"


def _of_index(name: str, contrasts: list[IndexContrast]) -> Iterator[str]:
    """A verb stands only where Holm's correction lets it; what is not shown is one sentence."""
    words, own = index_facts(name).words, [contrast for contrast in contrasts if contrast.index == name]
    for contrast in own:
        if contrast.shown:
            verb, change = _VERBS[contrast.shown], _change(contrast)
            seeds = f"95% interval, {counted(contrast.n, 'seed')}"
            yield f"{contrast.label} {verb} the {words} by {change} against {contrast.baseline} ({seeds})."
    equal = [contrast.label for contrast in own if _is_equal(contrast)]
    if equal:
        yield f"Equal to {own[0].baseline} on every seed: the {words} of {listed(equal)}."
    others = [contrast for contrast in own if not contrast.shown and not _is_equal(contrast)]
    if others:
        each = "; ".join(f"{c.label} {_effect_words(c)} ({_why_not_shown(c)})" for c in others)
        yield f"Not shown to differ from {own[0].baseline} in the {words}: {each}."


_VERBS = {"lower": "lowers", "higher": "raises"}


def _is_equal(contrast: IndexContrast) -> bool:
    """Whether both variants have the same number on every seed."""
    nothing = 1.0 if contrast.scale == "ratio" else 0.0
    return (
        bool(contrast.values) and all(value == nothing for _, value in contrast.values) and not contrast.lost
    )


def _effect_words(contrast: IndexContrast) -> str:
    """For example "0.9 [0.5, 1.6] times", "-12.0 [-16.0, -8.0] pp"; – where no seed has both numbers."""
    times = contrast.scale == "ratio" and contrast.effect is not None
    return f"{effect_text(contrast)}{' times' * times}"


def effect_text(contrast: IndexContrast) -> str:
    """For example "0.077 [0.063, 0.091]" of a ratio, "-12.0 [-16.0, -8.0] pp" of shares; – where nothing is known."""
    return value_text(contrast.effect, contrast.low, contrast.high, contrast.scale, sign="+")


def value_text(
    value: float | None, low: float | None, high: float | None, scale: Scale, sign: str = ""
) -> str:
    """A number with its interval: three digits of a ratio or a plain number, a share in percent."""
    if value is None:
        return NOTHING
    shares = scale == "points"
    unit = (" pp" if sign else "%") if shares else ""
    numbers = [value, low, high]
    if shares:
        numbers = [None if number is None else 100 * number for number in numbers]
    if scale == "ratio":
        sign = ""
    value, low, high = numbers
    if low is None or high is None or value is None:
        return f"{_plain(value or 0.0, sign)}{unit}"
    if scale == "ratio" and high > 5 * low:
        return f"{_plain(value, '')} [{_plain(low, '')}, {_plain(high, '')}]"
    return f"{number_interval(value, low, high, sign)}{unit}"


def _plain(value: float, sign: str) -> str:
    text = f"{value:{sign}.3g}"
    return text if text.strip("+-0.") else "0"


def _change(contrast: IndexContrast) -> str:
    """The size of a change, without its direction: "a factor 13 [11, 16]", "12.0 [8.0, 16.0] points"."""
    value, low, high = contrast.effect or 0.0, contrast.low, contrast.high
    if contrast.scale == "ratio":
        if value < 1:
            value, low, high = 1 / value, high and 1 / high, low and 1 / low
        return f"a factor {factor_interval(value, low, high)}"
    if value < 0:
        value, low, high = -value, None if high is None else -high, None if low is None else -low
    text = value_text(value, low, high, contrast.scale)
    return f"{text.removesuffix('%')} points" if contrast.scale == "points" else text


def _why_not_shown(contrast: IndexContrast) -> str:
    seeds = f"{count_text(contrast.n, contrast.planned)} seed{'s' * (contrast.planned != 1)}"
    if contrast.p is None:
        return f"{seeds}: {'too few for an interval' if contrast.n < MIN_SEEDS else 'no scatter, so no interval'}"
    if contrast.lost:
        return f"{seeds}: nothing is concluded while pairs have no number"
    return f"{seeds}, p {p_text(contrast.p_holm)}"


def _floor_sentences(spreads: list[IndexSpread]) -> Iterator[str]:
    """The indices that do not stand out from their noise, which no comparison of them may forget."""
    for name in dict.fromkeys(spread.index for spread in spreads):
        below = [spread for spread in spreads if spread.index == name and spread.above_floor is False]
        if below:
            each = [
                f"{s.label} ({value_text(s.mean, None, None, s.scale)}, floor {_floor(s)})" for s in below
            ]
            yield f"Not shown to be above the noise floor: the {index_facts(name).words} of {listed(each)}."


def _floor(spread: IndexSpread) -> str:
    return value_text(spread.floor, None, None, spread.scale)


def _absent_sentences(spreads: list[IndexSpread]) -> Iterator[str]:
    """Runs without a number, by the indices that they lack."""
    lacking: dict[tuple[str, str, tuple[int, ...]], list[str]] = {}
    for spread in spreads:
        for reason in dict.fromkeys(spread.absent.values()):
            seeds = tuple(seed for seed, why in spread.absent.items() if why == reason)
            lacking.setdefault((spread.label, reason, seeds), []).append(spread.index)
    for (label, reason, seeds), names in lacking.items():
        runs = f"{label} seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
        yield f"{runs} ({reason.replace('_', ' ')}): no value of {listed(name.replace('_', ' ') for name in names)}."


def _method(contrasts: list[IndexContrast]) -> str:
    """What the intervals and the verbs mean, said once."""
    family = contrasts[0].family
    return (
        "Each 95% interval holds for its number alone. Lowers and raises stand where p is at most 5% after Holm's "
        f"correction over {'the one comparison' if family == 1 else f'all {family} comparisons'} of the inside."
    )


def _shown_contrasts(summary: Summary) -> list[IndexContrast]:
    return [contrast for contrast in summary.inside.contrasts if _is_shown(summary, contrast)]


def _is_shown(summary: Summary, item: IndexContrast | IndexSpread) -> bool:
    """Everything where that is not too much; else, in a sweep, each variant at its best setting."""
    if len(summary.inside.contrasts) <= _MOST:
        return True
    best = summary.at_best_setting.get(item.variant)
    return best is None or best.setting == item.setting
