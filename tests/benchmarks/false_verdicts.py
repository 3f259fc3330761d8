"""Does the comparison cry wolf? A against A, many times, through the code that judges real studies.

    python tests/benchmarks/false_verdicts.py                    every table: minutes on one core
    python tests/benchmarks/false_verdicts.py --table looks      one of them
    python tests/benchmarks/false_verdicts.py --quick            a few studies a row
    python tests/benchmarks/false_verdicts.py --real 30          real studies: digits, an MLP, 3 seeds, 20 variants

Both sides are drawn from one distribution, so every "better" or "worse" is false. Many studies at once are judged by
`many_studies.py`, after the package itself has judged a sample of them alike.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
from interval_tables import cell, intervals, times_and_shares
from many_studies import holm, p_values
from range_tables import usable_settings
from spot_check import spot_check
from verdict_tables import TABLES, Table, header, row

from bnbench.analysis.family import corrected
from bnbench.analysis.methods.intervals import ALPHA
from bnbench.analysis.paired import compare
from bnbench.study.records import RunRecord

ALL: dict[str, Table] = {
    **TABLES,
    "usable settings": usable_settings,
    "intervals": intervals,
    "times and shares": times_and_shares,
}
STUDY = """
dataset: digits
model: {name: mlp, hidden: [64, 64]}
norm: batch
optimizer: {name: adam, lr: 0.01}
batch_size: 64
epochs: 10
"""


def simulated(studies: int, names: list[str]) -> Iterator[str]:
    """The tables of these names, in Markdown; first the sample that the package judges too."""
    yield spot_check(np.random.default_rng(1), max(2, min(20, studies // 100)))
    for name in names:
        yield f"\n{name}: {(ALL[name].__doc__ or '').strip()}\n"
        started = time.perf_counter()
        yield from ALL[name](studies, np.random.default_rng(0))
        yield f"\n({time.perf_counter() - started:.0f} s)"


def real(studies: int, n: int, resampled: int = 4_000) -> Iterator[str]:
    """One variant under k + 1 names, each with n seeds of its own, through the real engine.

    The package judges disjoint families of the runs; `many_studies` judges families that are drawn from all of them.
    """
    runs = list(_train(studies * 21 * n))
    accuracy = [run.final["test_accuracy"] for run in runs]
    samples = runs[0].num_samples["test"]
    yield f"{len(runs)} runs: test accuracy {np.mean(accuracy):.2%} ± {np.std(accuracy, ddof=1):.2%}, "
    yield f"{len(set(accuracy))} different ones on {samples} samples.\n"
    columns = ("studies", "before (no floor)", "now", "drawn", "before", "now")
    yield from header("metric", "variants", *columns)
    random = np.random.default_rng(0)
    for metric, share in (("test_accuracy", samples), ("test_loss", None)):
        values = np.array([run.final[metric] for run in runs])
        for variants in (1, 5, 20):
            size = (variants + 1) * n
            parts = [values[i : i + size].reshape(-1, n) for i in range(0, len(values) - size + 1, size)]
            judged = [np.mean([_any_false(part, metric, s) for part in parts]) for s in (None, share)]
            drawn = np.stack(
                [random.choice(values, (variants + 1, n), replace=False) for _ in range(resampled)]
            )
            p = [p_values(drawn[:, 1:] - drawn[:, :1], grain) for grain in (0.0, 1 / share if share else 0.0)]
            fast = [np.mean((holm(found) <= ALPHA).any(-1)) for found in p]
            shares = (f"{100 * x:.1f}" for x in (*judged, *fast))
            before, now, *rest = shares
            yield row(metric, variants, len(parts), before, now, resampled, *rest)


def _any_false(values: np.ndarray, metric: str, samples: int | None) -> bool:
    baseline, *others = (cell(f"v{i}", side, metric, samples) for i, side in enumerate(values))
    found = corrected(compare(other, baseline, metric, "final") for other in others)
    return any(comparison.verdict in ("better", "worse") for comparison in found)


def _train(count: int) -> Iterator[RunRecord]:
    """So many runs of the study, each with a seed of its own."""
    from bnbench.api.plugins import known_names
    from bnbench.engine.device import pick_device
    from bnbench.engine.library import Library
    from bnbench.engine.rehearsal.rehearse import rehearse
    from bnbench.engine.schedule import Options, Scheduler
    from bnbench.study import load_study
    from bnbench.study.events import RunEnded
    from bnbench.study.plan import make_plan

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "real.yaml"
        path.write_text(textwrap.dedent(STUDY))
        study = load_study(path, [f"seeds={count}"], known_names().vocabulary)
        device = pick_device("cpu")
        runs = make_plan(study, lambda settings: {})
        library = Library(Path(folder), device)
        cells = rehearse(runs, library, device).cells
        for event in Scheduler(cells, library, device, Options(workers=1, debug=True)).train(runs):
            if isinstance(event, RunEnded):
                yield event.record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="100 studies a row")
    parser.add_argument("--studies", type=int, default=10_000, help="studies a row (default: %(default)s)")
    parser.add_argument("--table", choices=ALL, action="append", help="this table alone; may be repeated")
    parser.add_argument("--real", type=int, metavar="N", help="N real studies of 20 variants instead")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of a real study (default: %(default)s)")
    options = parser.parse_args()
    studies = 100 if options.quick else options.studies
    lines = (
        real(options.real, options.seeds) if options.real else simulated(studies, options.table or list(ALL))
    )
    for line in lines:
        print(line, flush=True)
    print(f"\nStudies a row: {options.real or studies}; numbers in %. {' '.join(sys.argv)}")
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "torch"))
    print(f"Python {platform.python_version()}, {versions}, {platform.machine()}")


if __name__ == "__main__":
    main()
