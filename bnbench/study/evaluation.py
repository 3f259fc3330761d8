"""`evaluate` and `test_sets`: how trained networks are measured, and on which further data. One for all variants.

A way of inference says which statistics a normalizer uses at inference. Each further way is a line of its own in the
tables, `batch@precise` beside `batch`. A further test set is a part of its own, as `dark` in `dark_accuracy`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from bnbench.study.sections import Choice, Section, Share, TwoOrMore

Way = Literal["running", "precise", "batch", "example_weighted"]
#: What stands between a variant and a way of inference in the name of a line; no variant's name has it.
AT = "@"
#: The defaults: training samples, samples of a test batch, weight of the example.
PRECISE_SAMPLES, TEST_BATCH, ALPHA = 10_000, 256, 0.1
#: Which options a way has, with their defaults.
OPTIONS: dict[str, dict[str, Any]] = {
    "running": {},
    "precise": {"samples": PRECISE_SAMPLES, "size": None},
    "batch": {"size": TEST_BATCH},
    "example_weighted": {"alpha": ALPHA},
}


class Inference(Section):
    """One way of inference with a trained network."""

    name: Way = Field(
        "running",
        description="running: the layer's own inference, always measured; precise: mean and variance of training "
        "samples, computed once the network is trained; batch: those of each test batch; example_weighted: the "
        "running ones, to which each example adds its own",
    )
    samples: TwoOrMore | None = Field(
        None, description="precise: training samples, all where there are fewer; default 10000"
    )
    size: TwoOrMore | None = Field(
        None, description="samples of a batch. batch: default 256; precise: default batch_size"
    )
    alpha: Share | None = Field(
        None, description="example_weighted: the weight of the example's own statistics; default 0.1"
    )

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, values: Any) -> Any:
        own = OPTIONS.get(values.get("name", "running")) if isinstance(values, dict) else None
        if own is None:
            return values
        if strange := [key for key in values if key in ("samples", "size", "alpha") and key not in own]:
            if values[strange[0]] is not None:
                has = f"its options: {', '.join(own)}" if own else "it has no options"
                raise ValueError(f"{strange[0]} is no option of {values.get('name', 'running')}; {has}")
        return {**own, **values}

    _place: str = PrivateAttr("evaluate")

    def written_at(self, place: str) -> Inference:
        """The same, which remembers where it was written: for mistakes that show when the networks are there."""
        self._place = place
        return self

    @property
    def place(self) -> str:
        """Where it was written."""
        return self._place

    @property
    def further(self) -> bool:
        """Whether it is another way than the layer's own."""
        return self.name != "running"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Inference) and self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        return hash((self.name, self.samples, self.size, self.alpha))

    def written(self) -> str | dict[str, Any]:
        """As a study writes it."""
        options = {key: getattr(self, key) for key in OPTIONS[self.name] if getattr(self, key) is not None}
        return {"name": self.name, **options} if options else self.name


RUNNING = Inference()


class TestSet(Section):
    """A further test set: the test part of a data set of one's own, or the study's own test part, corrupted."""

    __test__ = False  # no class of tests

    name: str
    dataset: Choice | None = None
    corruption: Choice | None = None

    _place: str = PrivateAttr("test_sets")

    def written_at(self, place: str) -> TestSet:
        """The same, which remembers where it was written: for mistakes that show when the data is there."""
        self._place = place
        return self

    @property
    def place(self) -> str:
        """Where it was written."""
        return self._place

    def written(self) -> dict[str, Any]:
        """As a study writes it."""
        if self.corruption:
            return {"name": self.corruption.name, **self.corruption.options}
        assert self.dataset is not None
        return {"dataset": {"name": self.dataset.name, **self.dataset.options}}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TestSet) and self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        return hash(self.name)


def line_name(variant: str, way: str) -> str:
    """The name of a variant's line for a way of inference, such as "batch@precise"."""
    return f"{variant}{AT}{way}"


def is_line(name: str) -> bool:
    """Whether that is the name of such a line: nothing was trained for it alone."""
    return AT in name
