"""What executors cost: a sweep of 200 short runs on 1 and 2 local workers, and jobs of SLURM.

    python tests/benchmarks/executors.py [--rounds 3] [--runs 200] [--workers 1 2] [--only jobs loky ...] [--write]

Each round trains the sweep by every executor in turn, on one thread a run, so that load from elsewhere meets all of
them. Every run is a job of its own. `start-up` lasts from the call until the first run has ended, less that run's
training. `overhead a run` is what a run costs a worker more than by --jobs with as many workers in the same round,
between the first and the last end of a run, and `efficiency` is the rate of runs over that of --jobs. Of SLURM and of
submitit's own processes, the cost of a job is measured that imports bnbench and torch and trains nothing.
--write puts the table into docs/machines.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from measuring import Spread

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "machines.md"
BEGIN, END = "<!-- python tests/benchmarks/executors.py --write -->", "<!-- end of the measured table -->"
LOCAL = ("jobs", "loky", "dask", "ray")
QUEUES = ("slurm", "local")
WORKERS = (1, 2)
#: Jobs that train nothing, on two workers.
EMPTY_JOBS = 8


class Trained(NamedTuple):
    """One sweep. seconds: of the whole call. start: until the first end. rate: seconds a run and worker after that."""

    contender: str
    workers: int
    round: int
    seconds: float
    start: float
    each: float
    training: float


def study(runs: int) -> dict[str, Any]:
    """A sweep that does not stack: one seed, half the runs without and half with batch normalization."""
    return {
        "name": "sweep",
        "dataset": "digits",
        "model": {"name": "mlp", "hidden": [128]},
        "optimizer": {"name": "sgd", "lr": 0.1},
        "batch_size": 32,
        "steps": 250,
        "evaluate_every": 250,
        "engine": "sequential",
        "seeds": 1,
        "variants": ["none", "batch"],
        "sweep": {"optimizer.lr": [round(0.001 * (index + 1), 4) for index in range(runs // 2)]},
    }


class Clock:
    """Hears when runs end."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.training: list[float] = []

    def on(self, event: Any) -> None:
        """Note the end of a run."""
        if type(event).__name__ == "RunEnded":
            assert event.record.outcome == "finished", event.record
            self.ends.append(time.perf_counter())
            self.training.append(event.record.train_seconds)


def train(contender: str, workers: int, runs: int) -> dict[str, float]:
    """In this process: the numbers of one sweep."""
    import bnbench

    running = bnbench.Running(executor="local" if contender == "jobs" else contender)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        bnbench.compare(
            study(runs), output=f"{folder}/results", jobs=workers, listeners=clock, running=running
        )
        seconds = time.perf_counter() - began
    assert len(clock.ends) == runs
    skip = runs // 20  # until every worker has begun
    counted = runs - 1 - skip
    return {
        "seconds": seconds,
        "start": clock.ends[0] - began - clock.training[0],
        "each": (clock.ends[-1] - clock.ends[skip]) / counted * workers,
        "training": statistics.mean(clock.training[skip:]),
    }


def jobs_of(queue: str) -> float:
    """Seconds that a job without runs costs a worker of SLURM, or of submitit's local processes."""
    sys.path.insert(0, str(ROOT))
    from bnbench.api.worker import do_job
    from bnbench.executors.words import open_executor
    from tests.slurm_cluster import slurm

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        if queue == "slurm":
            os.environ.update(stack.enter_context(slurm()))
        file = Path(folder) / "cluster.yaml"
        file.write_text(f"cluster: {queue}\nmax_jobs: 2\npoll_seconds: 0.5\n")
        executors = stack.enter_context(open_executor(f"slurm:{file}", 2))
        executors.submit(do_job, b"").result(120)  # files come from the disk once
        began = time.perf_counter()
        calls = [executors.submit(do_job, b"%d" % number) for number in range(EMPTY_JOBS)]
        for call in calls:
            call.result(300)
        return (time.perf_counter() - began) * 2 / EMPTY_JOBS


def measure(options: argparse.Namespace) -> tuple[list[Trained], dict[str, list[float]]]:
    """Everything, each in a process of its own."""
    trained: list[Trained] = []
    queues: dict[str, list[float]] = {}
    for round_ in range(options.rounds):
        for workers in options.workers:
            for contender in (name for name in LOCAL if name in options.only):
                numbers = _alone("--train", contender, str(workers), "--runs", str(options.runs))
                trained.append(Trained(contender, workers, round_, **numbers))
                print(trained[-1], flush=True)
        for queue in (name for name in QUEUES if name in options.only):
            queues.setdefault(queue, []).append(_alone("--queue", queue)["each"])
            print(queue, queues[queue][-1], flush=True)
    return trained, queues


def _alone(*words: str) -> dict[str, float]:
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, __file__, *words], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{words}: {done.stderr[-3000:]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def table(trained: Sequence[Trained], queues: dict[str, list[float]]) -> str:
    """In Markdown: medians over the rounds, with least and most."""
    lines = [
        "| executor | workers | start-up | seconds in all | overhead a run | efficiency |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    jobs = {(one.workers, one.round): one.each for one in trained if one.contender == "jobs"}
    for contender in LOCAL:
        for workers in WORKERS:
            ours = [one for one in trained if (one.contender, one.workers) == (contender, workers)]
            if not ours:
                continue
            usual = [(one.each, jobs[workers, one.round]) for one in ours if (workers, one.round) in jobs]
            cells = (
                f"`--jobs {workers}`" if contender == "jobs" else contender,
                str(workers),
                Spread.of(one.start for one in ours).text(1, " s"),
                Spread.of(one.seconds for one in ours).text(1, " s"),
                Spread.of(each - other for each, other in usual).text(3, " s") if usual else "",
                Spread.of(other / each for each, other in usual).text(2) if usual else "",
            )
            lines.append(f"| {' | '.join(cells)} |")
    if queues:
        lines += ["", "| queue | cost of a job without runs |", "| --- | --- |"]
        names = {"slurm": "a real SLURM on this machine", "local": "submitit's processes (`cluster: local`)"}
        lines += [f"| {names[queue]} | {Spread.of(each).text(1, ' s')} |" for queue, each in queues.items()]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--workers", type=int, nargs="*", default=WORKERS)
    parser.add_argument("--only", nargs="*", default=[*LOCAL, *QUEUES])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--train", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--queue", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        print(json.dumps(train(options.train[0], int(options.train[1]), options.runs)))
        return
    if options.queue:
        print(json.dumps({"each": jobs_of(options.queue)}))
        return
    load = os.getloadavg()[0]
    trained, queues = measure(options)
    each = statistics.median(one.training for one in trained) if trained else 0.0
    shared = f" The machine was shared: its load was {load:.0f} before." if load > 0.5 else ""
    text = (
        f"{options.runs} runs of {each:.2f} s each, {options.rounds} rounds, {len(os.sched_getaffinity(0))} cores."
        f"{shared} Median [least-most].\n\n{table(trained, queues)}"
    )
    print(text)
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        after = rest.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
