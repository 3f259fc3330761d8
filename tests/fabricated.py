"""Results made up for tests: every run, outcome and number as the test wants it, without any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bnbench.analysis.contents import Summary
from bnbench.analysis.summary import summarize
from bnbench.results import Cell, StudyResults
from bnbench.study import Target
from bnbench.study.records import HistoryRow, Outcome, RunRecord

EVALUATED_EVERY = 10


def record(
    variant: str,
    seed: int,
    losses: Sequence[float] = (2.3, 1.0, 0.5),
    outcome: Outcome = "finished",
    setting: Mapping[str, Any] | None = None,
    **fields: Any,
) -> RunRecord:
    """An evaluation every 10 steps (2 epochs, a second) with those val losses; the accuracy is 1 - loss / 10, or 0."""
    if outcome == "crashed":
        error = fields.get("error", "ValueError: no")
        return RunRecord(variant, setting or {}, seed, "c", variant, outcome, error=error)
    last = len(losses) - 1
    final = _metrics(losses[-1], ("train", "val", "test")) if losses else {}
    made: dict[str, Any] = {
        "steps": EVALUATED_EVERY * last,
        "planned_steps": EVALUATED_EVERY * last,
        "steps_per_epoch": 5,
        "train_seconds": float(last),
        "num_parameters": 7,
        "final": final,
        "best": final,
        "best_step": EVALUATED_EVERY * last,
        "history": tuple(
            HistoryRow(EVALUATED_EVERY * i, 2.0 * i, float(i), None, _metrics(loss, ("train", "val")))
            for i, loss in enumerate(losses)
        ),
        "layers": ("0: Linear",),
    }
    return RunRecord(variant, setting or {}, seed, "c", variant, outcome, **made | fields)


def _metrics(loss: float, splits: Sequence[str]) -> dict[str, float]:
    values = {"loss": loss, "accuracy": max(1 - loss / 10, 0.0)}
    return {f"{split}_{name}": value for split in splits for name, value in values.items()}


def cell(
    variant: str,
    runs: Sequence[RunRecord],
    setting: Mapping[str, Any] | None = None,
    seeds: int | None = None,
) -> Cell:
    """seeds: how many are planned, where they are not those of the runs."""
    planned = tuple(range(seeds)) if seeds is not None else tuple(run.seed for run in runs)
    return Cell(variant, setting or {}, "c", planned, tuple(runs))


def results(*cells: Cell, name: str = "demo", targets: Sequence[Target] = ()) -> StudyResults:
    """A folder's content; the first variant is the baseline."""
    return StudyResults(name, cells[0].variant, tuple(targets), cells, {"name": name}, {"python": "3"})


def study(*cells: Cell, targets: Sequence[Target] = (Target("val_loss", 0.9),)) -> Summary:
    return summarize(results(*cells, targets=targets))
