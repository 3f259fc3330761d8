"""A study for every extreme that a results folder can hold, by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from bnbench.results import Cell, StudyResults
from bnbench.study import Target
from tests.fabricated import cell, record, results

NAN, INF = math.nan, math.inf
TARGETS = (Target("val_loss", 0.9), Target("val_accuracy", 0.95))
ENVIRONMENT = {"device": "cpu", "threads": 1, "engine": "plain"}
SAMPLES = {"train": 1000, "val": 100, "test": 360}


def _seeds(variant: str, n: int, last: float, **fields: object) -> Cell:
    """n seeds that end near `last`, each a little elsewhere."""
    runs = [
        record(variant, seed, (2.3, 1.0 + seed / 50, last * (1 + seed / 20)), num_samples=SAMPLES, **fields)  # type: ignore[arg-type]
        for seed in range(n)
    ]
    return cell(variant, runs)


def _as(outcome: str, losses: tuple[float, ...], n: int = 3, **fields: object) -> StudyResults:
    """Every run of two variants with this outcome and these losses."""
    return results(
        *(cell(v, [record(v, s, losses, outcome, **fields) for s in range(n)]) for v in ("none", "batch")),  # type: ignore[arg-type]
        targets=TARGETS,
    )


def _swept(keys: dict[str, tuple[object, ...]], primary: str = "test_accuracy") -> StudyResults:
    settings: list[dict[str, object]] = [{}]
    for key, values in keys.items():
        settings = [{**setting, key: value} for setting in settings for value in values]
    cells = [
        cell(v, [record(v, s, (2.3, 1.0, 0.5 + i / 40 + s / 90), setting=setting) for s in range(3)], setting)
        for i, v in enumerate(("none", "batch"))
        for setting in settings
    ]
    return replace(results(*cells, targets=TARGETS), primary=primary)


def _nasty() -> StudyResults:
    names = [
        "[red]x[/red]",
        "a|b*c_d`e",
        "</script><b>&amp;",
        "=1+1",
        "x\x1b[31m\r\n",
        "\u202eevil",
        "größe 雪",
        "n" * 60,
    ]
    return results(*(_seeds(name, 3, 0.5 + i / 9) for i, name in enumerate(names)), targets=TARGETS)


def _test_set(value: float, n: int = 3) -> StudyResults:
    """Test metrics of this value: NaN as for a test set without samples."""
    cells = []
    for v in ("none", "batch"):
        runs = []
        for s in range(n):
            run = record(v, s, (2.3, 1.0, 0.5 + s / 20))
            final = {k: value if k.startswith("test") else x for k, x in run.final.items()}
            runs.append(replace(run, final=final, best=final, num_samples={**SAMPLES, "test": 0}))
        cells.append(cell(v, runs))
    return results(*cells, targets=TARGETS)


STUDIES: dict[str, Callable[[], StudyResults]] = {
    "one seed": lambda: results(_seeds("none", 1, 0.5), _seeds("batch", 1, 0.4), targets=TARGETS),
    "two seeds": lambda: results(_seeds("none", 2, 0.5), _seeds("batch", 2, 0.4), targets=TARGETS),
    "three seeds": lambda: results(_seeds("none", 3, 0.5), _seeds("batch", 3, 0.4), targets=TARGETS),
    "ten seeds": lambda: results(_seeds("none", 10, 0.5), _seeds("batch", 10, 0.4), targets=TARGETS),
    "one variant": lambda: results(_seeds("none", 5, 0.5), targets=TARGETS),
    "no target": lambda: results(_seeds("none", 5, 0.5), _seeds("batch", 5, 0.4)),
    "all crashed": lambda: _as("crashed", ()),
    "all not finite": lambda: _as("not_finite", (2.3, NAN)),
    "not finite from the start": lambda: _as("not_finite", (NAN, NAN)),
    "infinite": lambda: _as("not_finite", (2.3, INF)),
    "all stuck": lambda: _as("stuck_at_chance", (2.303, 2.302, 2.303)),
    "all worse than at the start": lambda: _as("worse_than_at_start", (2.3, 5.0, 9.0)),
    "none reaches the target": lambda: _as("finished", (2.3, 2.0, 1.5)),
    "target at step 0": lambda: _as("finished", (0.1, 0.05, 0.04)),
    "some reach it": lambda: results(
        cell("none", [record("none", s, (2.3, 1.5, 1.0 - s / 9)) for s in range(5)]),
        cell("batch", [record("batch", s, (2.3, 0.8 + s / 9, 0.7)) for s in range(5)]),
        targets=TARGETS,
    ),
    "all seeds equal": lambda: _as("finished", (2.3, 1.0, 0.5)),
    "loss of zero": lambda: _as("finished", (2.3, 0.1, 0.0)),
    "tiny loss": lambda: results(_seeds("none", 3, 3e-11), _seeds("batch", 3, 2e-11), targets=TARGETS),
    "huge loss": lambda: results(_seeds("none", 3, 3e30), _seeds("batch", 3, 2e30), targets=TARGETS),
    "no runs": lambda: results(cell("none", [], seeds=5), cell("batch", [], seeds=5), targets=TARGETS),
    "baseline missing": lambda: results(cell("none", [], seeds=5), _seeds("batch", 5, 0.4), targets=TARGETS),
    "some missing": lambda: results(
        cell("none", [record("none", s) for s in (0, 2)], seeds=5), _seeds("batch", 5, 0.4), targets=TARGETS
    ),
    "no time": lambda: _as("finished", (2.3, 1.0, 0.5), train_seconds=0.0),
    "no steps": lambda: _as("finished", (2.3,), steps_per_epoch=0),
    "other machine": lambda: results(
        _seeds("none", 5, 0.5, environment=ENVIRONMENT),
        _seeds("batch", 5, 0.4, environment={**ENVIRONMENT, "device": "cuda"}),
        targets=TARGETS,
    ),
    "no test samples": lambda: _test_set(NAN),
    "perfect": lambda: _test_set(1.0),
    "one key swept": lambda: _swept({"optimizer.lr": (0.001, 0.1, 10.0)}),
    "a loss over two keys": lambda: _swept({"optimizer.lr": (0.1, 0.2), "batch_size": (32, 64)}, "test_loss"),
    "names swept": lambda: _swept({"optimizer.name": ("sgd", "adam", "a_very_long_name_of_an_optimizer")}),
    "truth swept": lambda: _swept({"norm.affine": (True, False), "seed": (None, 1)}),
    "nasty names": _nasty,
}  # fmt: skip
