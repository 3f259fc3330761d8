"""The content of a summary: one row for each variant, every comparison, and the outcome of each gate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bnbench.analysis.agreement import Agreement
from bnbench.analysis.claims import Claim
from bnbench.analysis.convergence import TargetSummary
from bnbench.analysis.difference import Difference
from bnbench.analysis.inside.contents import Inside
from bnbench.analysis.interactions import Interaction
from bnbench.analysis.noise import NoiseFloor
from bnbench.analysis.pairs import Phase, Spread
from bnbench.analysis.ranges import UsableRange
from bnbench.analysis.rates import TrainedRate
from bnbench.analysis.settings import free_keys
from bnbench.analysis.speed import AreaComparison, SpeedComparison
from bnbench.analysis.stops import Stop
from bnbench.analysis.sweeps import BestSetting
from bnbench.analysis.times import how_trained, shares_time
from bnbench.base.metrics import SPLITS, columns_of
from bnbench.base.task_facts import IMAGE_CLASSIFICATION, TaskFacts
from bnbench.base.words import ENGLISH
from bnbench.study import DEFAULT_PRIMARY, DEFAULT_VARY, Margin, Target, fixed_sentence
from bnbench.study.evaluation import is_line
from bnbench.study.labels import Labelled
from bnbench.study.records import RunRecord

NOT_PROBED = Inside()


@dataclass(frozen=True)
class GateOutcome:
    """The result of a gate on a finished study. failed: the condition holds, or can't be judged."""

    gate: str
    failed: bool
    reason: str


@dataclass(frozen=True)
class VariantSummary(Labelled):
    """One variant at one setting of the sweep, over its seeds.

    runs: those that are there. outcomes: how many of the planned runs ended in each `Outcome`, and how
    many are "missing"; every key is there. num_parameters, steps_per_epoch,
    layers: of the built model, None or empty where no run got as far as building it. trained_parameters: None where
    all of them learn. spreads: every
    metric, by (at, metric). seconds_per_step: training time alone. seconds_refused: why the seconds
    can't be compared with the baseline's; "" where they can.
    """

    norm: str
    num_parameters: int | None
    steps_per_epoch: int | None
    layers: tuple[str, ...]
    seeds: tuple[int, ...]
    runs: tuple[RunRecord, ...]
    outcomes: Mapping[str, int]
    spreads: Mapping[tuple[Phase, str], Spread]
    targets: tuple[TargetSummary, ...]
    seconds_per_step: Spread
    seconds_refused: str = ""
    trained_parameters: int | None = None


def only_looked_at(variants: Sequence[VariantSummary]) -> bool:
    """Whether there are runs, and no step was planned for any of them."""
    runs = [run for variant in variants for run in variant.runs]
    return bool(runs) and all(run.was_only_looked_at for run in runs)


@dataclass(frozen=True)
class Summary:
    """A study's result. variants: the study's order. targets: their values known (`match_baseline`).

    comparisons: every variant with the baseline at the same setting, in every metric; so are speeds (in every
    target, on every clock), areas (once a metric of a target) and rates. best_settings, usable_ranges,
    interactions: empty where nothing is swept. primary: the metric that the verdict is about; margin: a smaller
    difference counts as none. gates: what became of each --fail-if. looks, stops: of `seeds: auto`, and where each
    variant stands; empty where the number of seeds is fixed. limits: limits of the verdict, beside the runs' own
    cautions. metrics: the metrics in the tables; parts: what they are of (see `StudyResults.parts`). task: facts
    about its task. vary: the sources of randomness that a seed changes. best_rates: the rates at the best
    settings. checks, agreements: the variants with `role: check`, what they check, and what came of it.
    same_results: groups of variants that are equal in every metric on every seed. study: study.yaml as it was
    resolved, empty where it can't be read. inside: what the probes say.
    """

    name: str
    baseline: str
    targets: tuple[Target, ...]
    variants: tuple[VariantSummary, ...]
    comparisons: tuple[Difference, ...]
    best_settings: tuple[BestSetting, ...] = ()
    warnings: tuple[str, ...] = ()
    primary: str = DEFAULT_PRIMARY
    margin: Margin | None = None
    speeds: tuple[SpeedComparison, ...] = ()
    areas: tuple[AreaComparison, ...] = ()
    rates: tuple[TrainedRate, ...] = ()
    best_rates: tuple[TrainedRate, ...] = ()
    checks: Mapping[str, str] = field(default_factory=dict)
    agreements: tuple[Agreement, ...] = ()
    same_results: tuple[tuple[str, ...], ...] = ()
    noise: tuple[NoiseFloor, ...] = ()
    usable_ranges: tuple[UsableRange, ...] = ()
    interactions: tuple[Interaction, ...] = ()
    gates: tuple[GateOutcome, ...] = ()
    metrics: tuple[str, ...] = IMAGE_CLASSIFICATION.default_metrics
    parts: tuple[str, ...] = SPLITS
    task: TaskFacts = IMAGE_CLASSIFICATION
    looks: tuple[int, ...] = ()
    stops: tuple[Stop, ...] = ()
    limits: tuple[str, ...] = ()
    vary: tuple[str, ...] = DEFAULT_VARY
    study: Mapping[str, Any] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    language: str = ENGLISH
    inside: Inside = field(default=NOT_PROBED, repr=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """The metrics on every part."""
        return columns_of(self.metrics, self.parts)

    @property
    def names(self) -> tuple[str, ...]:
        """Every variant once, the baseline first."""
        names = dict.fromkeys(variant.variant for variant in self.variants)
        return tuple(sorted(names, key=lambda name: name != self.baseline))

    def labelled(self, label: str) -> VariantSummary | None:
        """The variant (in a sweep, at one of its settings) with this label."""
        return next((variant for variant in self.variants if variant.label == label), None)

    @property
    def swept_keys(self) -> tuple[str, ...]:
        """The keys with more than one value over the settings, without those that follow another key."""
        return tuple(free_keys(self.variants))

    @property
    def at_best_setting(self) -> dict[str, VariantSummary]:
        """Every variant by its name: in a sweep at its best setting, else as it is."""
        best = {choice.variant: choice.setting for choice in self.best_settings}
        return {
            variant.variant: variant
            for variant in reversed(self.variants)
            if variant.setting == best.get(variant.variant, variant.setting)
        }

    @property
    def best_comparisons(self) -> tuple[Difference, ...]:
        """Every variant with the baseline, each at its best setting; empty where nothing is swept."""
        return tuple(comparison for best in self.best_settings for comparison in best.comparisons)

    @property
    def only_looked_at(self) -> bool:
        """Whether no step was planned for any run: the numbers are those of the initial networks."""
        return only_looked_at(self.variants)

    @property
    def runs(self) -> Iterator[RunRecord]:
        """Every run that is there."""
        return (run for variant in self.trained for run in variant.runs)

    @property
    def trained(self) -> tuple[VariantSummary, ...]:
        """The variants without the lines of further ways of inference, for which nothing was trained."""
        return tuple(variant for variant in self.variants if not is_line(variant.variant))

    @property
    def cautions(self) -> tuple[str, ...]:
        """What limits the verdict, each once: it stands beside it, not among the notes."""
        fixed = fixed_sentence(self.vary)
        return tuple(dict.fromkeys([*self.limits, *([fixed] if fixed else []), *_gathered(self.runs)]))

    @property
    def notes(self) -> tuple[str, ...]:
        """The runs' notes, each once; the engines that trained the runs; how stacks share their seconds."""
        shared = (
            "Seeds trained in one stack share its time equally, so the spread of times over seeds excludes the noise "
            "of the measurement."
        )
        about_seconds = [shared] if any(map(shares_time, self.runs)) else []
        run_notes = (note for run in self.runs for note in run.notes)
        return tuple(dict.fromkeys([*run_notes, *how_trained(self.runs), *about_seconds]))


def _gathered(runs: Iterable[RunRecord]) -> Iterator[str]:
    """The cautions of runs, each text once, behind the names of the variants that it is about."""
    names: dict[str, dict[str, dict[str, None]]] = {}  # text -> variant -> its labels
    for run in runs:
        for caution in run.cautions:
            # a run that was copied from another study's folder still has the name of its variant there
            prefix = next((name for name in (run.label, run.variant) if caution.startswith(f"{name}: ")), "")
            variants = names.setdefault(caution.removeprefix(f"{prefix}: "), {})
            if prefix:
                variants.setdefault(run.variant, {})[run.label] = None
    for text, variants in names.items():
        subjects = [
            f"{variant} (at {len(labels)} settings)" if len(labels) > 1 else next(iter(labels))
            for variant, labels in variants.items()
        ]
        yield f"{', '.join(subjects)}: {text}" if subjects else text
