"""How often the words that a study prints are wrong where nothing differs, and what the looks cost and find.

The tables of `false_verdicts.py`, each a generator of lines of Markdown. Everything is drawn without a true
difference unless a table says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from many_studies import (
    OUTCOMES,
    RHO,
    Array,
    Outcomes,
    correlated,
    differences,
    equivalence,
    holm,
    look_by_look,
    p_values,
    t_test,
)
from scipy import special

from bnbench.analysis.methods.intervals import ALPHA

LOOKS = (5, 8, 12, 20)
SEEDS = (3, 5, 10, 20)
FAMILIES = (1, 5, 20)
#: Of a paired difference, where a run has 1.
SD = math.sqrt(2 * (1 - RHO))
Table = Callable[[int, np.random.Generator], Iterator[str]]


def row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def header(*columns: str) -> Iterator[str]:
    yield row(*columns)
    yield row("---", *["---:"] * (len(columns) - 1))


def per_cent(happened: npt.ArrayLike) -> str:
    return f"{100 * np.mean(np.asarray(happened)):.1f}"


def _any(decided: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Whether any variant of a study was decided."""
    return np.any(np.asarray(decided) != 0, axis=-1)


def families(studies: int, random: np.random.Generator) -> Iterator[str]:
    """Any false verdict among k variants, by the rules of before and with the floor under the scatter.

    At 20 seeds the bootstrap judges, half as many studies of one variant, a tenth of five, a fortieth of 20.
    """
    yield from header(
        "outcomes",
        "seeds",
        *(f"{k} variant{'s' * (k > 1)}{w}" for k in FAMILIES for w in (", before", ", now")),
    )
    for outcomes in OUTCOMES.values():
        for n in SEEDS:
            cells = []
            for k in FAMILIES:
                few = max(20, studies // (2 * k)) if n >= 20 else studies
                values = differences(outcomes, random, (few, k, n))
                for grain in (0.0, outcomes.grain):
                    cells.append(per_cent((holm(p_values(values, grain)) <= ALPHA).any(-1)))
            yield row(outcomes.name, n, *cells)


def words(studies: int, random: np.random.Generator) -> Iterator[str]:
    """Any false word in a table of 5 variants and 4 metrics that share 0.8 of a run's luck."""
    yield from header(
        "variants", "seeds", "a word for each metric, before", "for the primary metric alone, now"
    )
    for k in (1, 5, 20):
        for n in (3, 5, 10):
            shared = correlated(random, (studies, k + 1, n))
            metrics = [
                math.sqrt(0.8) * shared + math.sqrt(0.2) * correlated(random, shared.shape) for _ in range(4)
            ]
            decided = [(holm(t_test(m[:, 1:] - m[:, :1])) <= ALPHA).any(-1) for m in metrics]
            yield row(k, n, per_cent(np.any(decided, 0)), per_cent(decided[0]))


def looks(studies: int, random: np.random.Generator) -> Iterator[str]:
    """`seeds: auto` up to 20 and 40: any false verdict, and the seeds that a variant used."""
    yield from header(
        "outcomes", *(f"{k} variant{'s' * (k > 1)} (seeds)" for k in FAMILIES), "1 variant, up to 40 (seeds)"
    )
    for outcomes in OUTCOMES.values():
        cells = []
        for k, plan in [*((k, LOOKS) for k in FAMILIES), (1, (*LOOKS, 30, 40))]:
            values = differences(outcomes, random, (studies, k, plan[-1]))
            found = look_by_look(values, plan, outcomes.grain)
            cells.append(f"{per_cent(_any(found.decided))} ({found.seeds.mean():.1f})")
        yield row(outcomes.name, *cells)


def effects(studies: int, random: np.random.Generator) -> Iterator[str]:
    """`seeds: auto` up to 20 and normal outcomes: how often an effect is decided, and with how many seeds.

    The others of five variants have no effect. In units of the standard deviation of the paired difference.
    """
    yield from header(
        "true effect (sd)", "1 variant: decided", "seeds", "1 of 5: decided", "seeds", "fixed 20, 1 of 1"
    )
    for size in (0.5, 1.0, 2.0, 4.0):
        cells: list[str] = []
        for k in (1, 5):
            values = differences(OUTCOMES["normal"], random, (studies, k, 20))
            values[:, 0] += size * SD
            found = look_by_look(values, LOOKS)
            cells += [per_cent(found.decided[:, 0] == 1), f"{found.seeds[:, 0].mean():.1f}"]
        values = differences(OUTCOMES["normal"], random, (studies, 1, 20)) + size * SD
        yield row(f"{size:g}", *cells, per_cent(t_test(values) <= ALPHA))


def margins(studies: int, random: np.random.Generator) -> Iterator[str]:
    """ "The same" where the true difference is the margin (0.5 sd of a difference): at most 5 is promised."""
    yield from header("outcomes", *(f"{n} seeds" for n in SEEDS), "looks up to 20")
    for outcomes in OUTCOMES.values():
        cells = []
        for n in SEEDS:
            values = differences(outcomes, random, (studies, 1, n))
            cells.append(per_cent(equivalence(*_at_margin(values, outcomes), outcomes.grain) <= ALPHA))
        values, margin = _at_margin(differences(outcomes, random, (studies, 1, 20)), outcomes)
        found = look_by_look(values, LOOKS, outcomes.grain, margin)
        yield row(outcomes.name, *cells, per_cent(found.decided == 2))


def _at_margin(values: Array, outcomes: Outcomes) -> tuple[Array, float]:
    """The differences moved by the margin, which is a whole number of samples where they are counts."""
    margin = 0.5 * SD * outcomes.sd
    if outcomes.grain:
        margin = max(1, round(margin / outcomes.grain)) * outcomes.grain
    return values + margin, margin  # of rare large values, most lie below their mean


def gates(studies: int, random: np.random.Generator) -> Iterator[str]:
    """Gates of one study each, on a metric with normal outcomes: how often one fails, or passes wrongly."""
    yield from header(
        "seeds",
        *(f"{k} x worse than: fails, no difference" for k in (1, 5, 10)),
        "worse than: passes, 1 sd worse",
        "not the same as: passes, at the margin",
        "not as good as: passes, at the margin",
        "not the same as (1 sd): fails, no difference",
        "not as good as (1 sd): fails, no difference",
    )
    for n in (3, 5, 10):
        values = differences(OUTCOMES["normal"], random, (studies, 10, n)) / SD
        worse = (t_test(values) <= ALPHA) & (values.mean(-1) < 0)
        one = values[:, 0]
        cells = [per_cent(worse[:, :k].any(-1)) for k in (1, 5, 10)]
        cells.append(per_cent(~((t_test(one - 1) <= ALPHA) & (one.mean(-1) < 1))))
        cells.append(per_cent(equivalence(one - 1, 1.0) <= ALPHA))
        cells.append(per_cent(_loss_bound(one - 1) < 1))
        cells += [per_cent(equivalence(one, 1.0) > ALPHA), per_cent(_loss_bound(one) >= 1)]
        yield row(n, *cells)


def _loss_bound(values: Array) -> Array:
    """The largest loss that fits, one-sided at 5 %, where higher is better."""
    n = values.shape[-1]
    half = special.stdtrit(n - 1, 1 - ALPHA) * values.std(-1, ddof=1) / math.sqrt(n)
    found: Array = -values.mean(-1) + half
    return found


def best_settings(studies: int, random: np.random.Generator) -> Iterator[str]:
    """Best settings: the same seeds choose and compare (before), or the first third chooses (now)."""
    yield from header(
        "settings", "seeds", "shared luck",
        *(f"{side}{when}" for side in ("one good setting", "both flat") for when in (", before", ", now")),
        "bias (sd of a run), before", "now",
    )  # fmt: skip
    for settings, n, luck in (
        (5, 5, 0.5),
        (5, 10, 0.9),
        (11, 5, 0.5),
        (11, 5, 0.9),
        (11, 10, 0.9),
        (11, 20, 0.9),
    ):
        cells, bias = [], []
        for flat in (False, True):
            variant, baseline = (_sweep(random, studies, n, settings, luck, f) for f in (flat, True))
            for choosing in (range(n), range(max(2, n // 3))):
                comparing = range(n) if len(choosing) == n else range(len(choosing), n)
                values = _at_best(variant, choosing, comparing) - _at_best(baseline, choosing, comparing)
                cells.append(per_cent(t_test(values) <= ALPHA))
                bias.append(f"{values.mean():+.2f}")
        yield row(settings, n, luck, *cells, *bias[:2])


def _sweep(
    random: np.random.Generator, studies: int, n: int, settings: int, luck: float, flat: bool
) -> tuple[Array, Array]:
    """Validation and test results, (studies, seeds, settings); not flat: all settings but the first 3 sd worse."""
    val = random.standard_normal((studies, n, settings))
    test = luck * val + math.sqrt(1 - luck**2) * random.standard_normal(val.shape)
    lower = 0 if flat else 3 * (np.arange(settings) > 0)
    return val - lower, test - lower


def _at_best(results: tuple[Array, Array], choosing: Sequence[int], comparing: Sequence[int]) -> Array:
    val, test = results
    best = val[:, list(choosing)].mean(1).argmax(-1)
    found: Array = np.take_along_axis(test[:, list(comparing)], best[:, None, None], -1)[..., 0]
    return found


def sweeps(studies: int, random: np.random.Generator) -> Iterator[str]:
    """A sweep of one variant: any false verdict at the same setting, and any change along the sweep."""
    yield from header(
        "settings",
        "seeds",
        "same setting, Holm",
        "any change excludes 0, before",
        "Holm over the changes, now",
    )
    for settings in (3, 5, 11):
        for n in (3, 5, 10):
            values = correlated(random, (studies, 2 * settings, n))
            differ = values[:, :settings] - values[:, settings:]
            change = t_test(differ[:, 1:] - differ[:, :1])
            yield row(
                settings, n,
                per_cent((holm(t_test(differ)) <= ALPHA).any(-1)),
                per_cent((change <= ALPHA).any(-1)),
                per_cent((holm(change) <= ALPHA).any(-1)),
            )  # fmt: skip


TABLES: dict[str, Table] = {
    table.__name__.replace("_", " "): table
    for table in (families, words, sweeps, best_settings, margins, gates, looks, effects)
}
