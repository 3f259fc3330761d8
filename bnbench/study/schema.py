"""The typed, frozen form of a study. Plain values only; free of torch.

A `Choice` names one entry of a registry (`model: mlp`) with its options (`model: {name: mlp,
hidden: [64]}`); the options are checked against the entry's own signature (see `check.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from bnbench.base.kinds import KINDS
from bnbench.base.metrics import GAPS, RECALL
from bnbench.base.options import means_none
from bnbench.base.task_facts import IMAGE_CLASSIFICATION, TaskFacts, gap_asked
from bnbench.study.evaluation import RUNNING, Inference, TestSet, line_name
from bnbench.study.expressions import Expectation
from bnbench.study.identity import identifying
from bnbench.study.probe import Probe
from bnbench.study.sections import (
    Batches,
    Choice,
    Clip,
    Count,
    Epochs,
    Init,
    Int,
    Positive,
    Section,
    Steps,
    Validation,
)
from bnbench.study.vary import DEFAULT_VARY, Source


def _epoch_or_steps(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value != "epoch" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ValueError("it should be epoch, or a number of steps from 1")
    return value


class Settings(Section):
    """Everything of one variant that can change its numbers, but the seed."""

    task: Choice
    dataset: Choice
    model: Choice
    norm: Choice
    optimizer: Choice
    schedule: Choice
    loss: Choice
    framework: Literal["torch", "keras"] = Field(
        "torch", description="keras: the same run in TensorFlow/Keras, from the same weights and batches"
    )
    normalize: Literal["standard", "unit", "signed"] = Field(
        "standard",
        description="standard: the training part's mean and std per channel are taken out; "
        "unit: divided by its largest absolute value, zeros stay zero; signed: its smallest value becomes -1 and its "
        "largest 1, as a tanh gives them. A task may have another default",
    )
    batch_size: Int = Field(32, ge=1, description="samples a step")
    last_batch: Literal["merge", "keep", "drop"] = Field(
        "merge",
        description="merge: a last batch of one joins the batch before it; keep; drop: only full batches",
    )
    epochs: Epochs | None = Field(
        5, description="passes over the training part; 0: the networks are evaluated as they start"
    )
    steps: Steps | None = Field(
        None, description="optimizer steps, in place of epochs; the last epoch need not be whole"
    )
    clip_norm: Positive | None = Field(None, description="largest L2 norm of the gradient of all parameters")
    clip: Clip = Clip()
    augment: Choice
    batches: Batches = Batches()
    train: Literal["all", "norm", "head"] = Field(
        "all",
        description="which parameters learn. norm: gamma and beta of the normalizers; head: the last layer. The others "
        "keep their initial values; running statistics move",
    )
    evaluate_every: Annotated[Literal["epoch"] | int, BeforeValidator(_epoch_or_steps)] = Field(
        "epoch", description="a number of steps, or 'epoch'"
    )
    init: Init = Init()
    validation: Validation = Validation()
    max_train_samples: Count | None = Field(
        None, description="train on this many samples only, after the validation part is taken"
    )
    max_eval_samples: Count | None = Field(
        None, description="evaluate on this many samples of each part only, always the same random ones"
    )
    precision: Literal["float32", "bf16"] = Field(
        "float32", description="bf16: torch.autocast around the network; weights stay float32"
    )
    vary: tuple[Source, ...] = Field(
        DEFAULT_VARY,
        min_length=1,
        description="which sources of randomness a seed changes; the others are those of seed 0. split: each seed "
        "holds out another validation part",
    )
    evaluate: tuple[Inference, ...] = Field(
        (RUNNING,),
        description="ways of inference with the trained networks, each a line of its own in the tables",
    )
    test_sets: tuple[TestSet, ...] = Field(
        (), description="further test sets by name: a corruption of the test set, or {dataset: ...}"
    )
    probe: Probe | None = Field(
        None, description="what is measured inside the networks; nothing where left out"
    )
    engine: Literal["auto", "stacked", "sequential", "compiled"] = Field(
        "auto",
        description="how runs are trained; it changes last bits and speed, so it is not part of a run's identity",
    )

    @model_validator(mode="before")
    @classmethod
    def _steps_replace_epochs(cls, values: Any) -> Any:
        """With steps alone there is no default for the epochs."""
        if not isinstance(values, dict) or "epochs" in values or means_none(values.get("steps")):
            return values
        return values | {"epochs": None}

    def total_steps(self, steps_per_epoch: int) -> int:
        """The optimizer steps of a run, whose epochs have that many."""
        return self.steps if self.steps is not None else (self.epochs or 0) * steps_per_epoch

    @property
    def is_only_a_look(self) -> bool:
        """Whether no step is planned."""
        return self.total_steps(1) == 0

    def seed_of(self, source: Source, seed: int) -> int:
        """The seed of that source of randomness in a run of this seed."""
        return seed if source in self.vary else 0

    def for_seed(self, seed: int) -> Settings:
        """The settings whose data a run of this seed has: of another split, where seeds vary it."""
        if "split" not in self.vary:
            return self
        split = self.validation.model_copy(update={"split_seed": self.validation.split_seed + seed})
        return self.model_copy(update={"validation": split})

    def identity(self) -> dict[str, Any]:
        """Plain values that stand for these settings. Data is known by content, so not by its path.

        Keys that came later are left out while they have their default: old runs stay known.
        """
        fields = type(self).model_fields
        at_default = {key for key, field in fields.items() if getattr(self, key) == field.default}
        return identifying(self.model_dump(mode="json", exclude={"engine"}), at_default)


#: The word for the task that a data set is for, and for the augmentation that is usual for it.
AUTO = "auto"
#: The two settings that say how long a run is: a level has one of them.
LENGTHS = ("epochs", "steps")
#: The settings that choose from a registry.
CHOICES = tuple(kind.key for kind in KINDS if kind.chosen)
#: What those that may be left out are then.
DEFAULT_CHOICES = {kind.key: kind.default for kind in KINDS if kind.default}
#: Those that follow from others where a study does not name one: from its data set, loss and model from its task.
OPEN = ("task", "model", "loss", "augment")
#: Those for which a word such as "no" means "none".
CAN_BE_NONE = ("norm", "augment")
#: The settings that are sections with fixed keys.
SECTIONS: dict[str, type[Section]] = {
    "init": Init,
    "validation": Validation,
    "clip": Clip,
    "batches": Batches,
}
#: Keys of a study that are not settings: no variant may change them.
STUDY_KEYS = (
    "name",
    "description",
    "seeds",
    "variants",
    "baseline",
    "target",
    "primary",
    "margin",
    "metrics",
    "sweep",
    "vary",
    "probe",
    "expect",
    "evaluate",
    "test_sets",
)
#: The word in place of a target's value that means: what the baseline reaches.
MATCH_BASELINE = "match_baseline"
#: The metric that the sentences speak of, where a study of the first task declares none.
DEFAULT_PRIMARY = IMAGE_CLASSIFICATION.default_primary


@dataclass(frozen=True)
class Target:
    """A metric and the value that counts as reached.

    match_baseline: the value is what the baseline reaches at the end, mean over its seeds; it is
    NaN until the runs are there.
    """

    metric: str
    value: float
    match_baseline: bool = False


@dataclass(frozen=True)
class Margin:
    """The largest difference in that metric that makes no difference to the user, in the metric's unit."""

    metric: str
    value: float


@dataclass(frozen=True)
class StudyCell:
    """One variant at one setting of the sweep."""

    variant: str
    setting: Mapping[str, Any]
    settings: Settings


@dataclass(frozen=True)
class Study:
    """A resolved study: fixed settings, variants, seeds.

    sweep: as a study writes it. cells: variants (the study's order) at each setting of it. warnings: what the user
    should know although it is not a mistake. primary: the metric that the verdict is about. margin:
    how much of a difference counts as none. looks: of `seeds: auto`, at how many of the seeds the
    result is looked at; empty where their number is fixed. metrics: those in the tables next to the task's own.
    task: facts about the task that all variants have. checks: the variants with `role: check`, and which
    variant each of them checks. None of them can change a run. changes: what the command line changes of the
    study's question (see `changes.py`): they name the results folder. home: the results folder
    that it was read from. added: variants that the command line adds to the study's own. expect: its claims.
    collection: the folder of studies that it was read from, by its name.
    """

    name: str
    description: str
    seeds: tuple[int, ...]
    variants: Mapping[str, Settings]
    baseline: str
    targets: tuple[Target, ...]
    sweep: Any
    cells: tuple[StudyCell, ...]
    warnings: tuple[str, ...] = ()
    primary: str = DEFAULT_PRIMARY
    margin: Margin | None = None
    looks: tuple[int, ...] = ()
    metrics: tuple[str, ...] = ()
    task: TaskFacts = IMAGE_CLASSIFICATION
    checks: Mapping[str, str] = field(default_factory=dict)
    changes: tuple[tuple[str, Any], ...] = ()
    home: Path | None = field(default=None, compare=False)
    added: tuple[str, ...] = field(default=(), compare=False)
    expect: tuple[Expectation, ...] = ()
    collection: str = field(default="", compare=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """The metrics that its questions are about, by split."""
        columns = [self.primary, *(target.metric for target in self.targets)]
        return tuple(dict.fromkeys([*columns, self.margin.metric] if self.margin else columns))

    @property
    def line_names(self) -> tuple[str, ...]:
        """The variants, and the lines that each can have for further ways of inference, such as "batch@precise"."""
        lines = [
            line_name(name, way.name)
            for name, settings in self.variants.items()
            for way in settings.evaluate
            if way.further and name not in self.checks
        ]
        return (*self.variants, *lines)

    @property
    def asked_columns(self) -> tuple[str, ...]:
        """The columns of its questions, of further metrics on the test part, and of single classes in its claims."""
        names = (name for name in self.metrics if name != RECALL and name not in GAPS)
        expressions = (expression for claim in self.expect for expression in claim.expressions)
        claimed = (q.name for each in expressions for q in each.quantities if f"{RECALL}:" in q.name)
        return (
            *self.columns,
            *(name if gap_asked(name) else f"test_{name}" for name in names),
            *dict.fromkeys(claimed),
        )
