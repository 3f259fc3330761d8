"""Kill studies by SIGKILL at random instants, let them go on, and compare with studies that nothing disturbed.

    python tests/benchmarks/kills.py --kills 300 --seed 1 --write

Every trial kills a command four to eight times in a row: at a random time, or in place of a random call that changes a
file, inside the write of a state most of all; the command itself, one of its workers or all of its processes. Then the
same command runs to its end, perhaps with other `--jobs`. Its results must equal those of the undisturbed study in
every bit, a kill may lose the interval (1 s), one step and one save, and no process, temporary file or shared memory
may be left. The campaign goes on where it stopped. --write puts its table into docs/resume.md.
Exit code 1 where anything was wrong.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from kill_cases import CASES  # noqa: E402
from kill_table import write_table  # noqa: E402
from kill_trial import MOST_KILLS, Outcome, Place, Trial, trials  # noqa: E402


def main(words: Sequence[str] | None = None) -> int:
    """Run the campaign, or go on with it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--in-a-row", type=int, default=MOST_KILLS, help="At most so many kills a trial.")
    parser.add_argument("--only", default="", help="Names of cases, with commas between them. Default: all.")
    parser.add_argument(
        "--minutes", type=float, default=1e9, help="Stop after so long; the next call goes on."
    )
    parser.add_argument(
        "--part", default="1/1", help="K/N: every N-th trial alone, beside other such processes."
    )
    parser.add_argument("--work", type=Path, default=Path("kills"), help="Where studies are trained.")
    parser.add_argument(
        "--keras-python", default="", help="A Python with TensorFlow, where this one has none."
    )
    parser.add_argument("--write", action="store_true", help="Write the table into docs/resume.md.")
    given = parser.parse_args(words)
    os.environ["OMP_NUM_THREADS"] = "1"
    folder = given.work.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"kills-{given.seed}.jsonl"
    place = Place(folder, {False: sys.executable, True: given.keras_python or sys.executable}, given.in_a_row)
    only = given.only.split(",") if given.only else [case.name for case in CASES]
    _import_all(folder)
    part, parts = map(int, given.part.split("/"))
    end = time.monotonic() + 60 * given.minutes
    for number, case in trials(CASES, given.seed):
        done = _done(kept)
        if sum(len(outcome["kills"]) for outcome in done) >= given.kills or time.monotonic() > end:
            break
        known = {outcome["number"] for outcome in done}
        if number in known or number % parts != part - 1 or case.name not in only:
            continue
        outcome = Trial(number, given.seed, case, place).run()
        with kept.open("a") as file:
            file.write(json.dumps(outcome.plain()) + "\n")
        _show(outcome, sum(len(each["kills"]) for each in _done(kept)))
    done = _done(kept)
    if given.write:
        write_table(ROOT / "docs" / "resume.md", done)
    faults = [fault for outcome in done for fault in outcome["faults"]]
    print(f"{sum(len(each['kills']) for each in done)} kills in {len(done)} trials, {len(faults)} faults")
    return 1 if faults else 0


def _done(kept: Path) -> list[dict[str, Any]]:
    """The outcomes so far, in the order of their numbers."""
    lines = kept.read_text().splitlines() if kept.exists() else []
    return sorted(map(json.loads, lines), key=lambda outcome: outcome["number"])


def _import_all(folder: Path) -> None:
    """What a command imports: it is forked from here, and a fork must not find threads."""
    import torch

    names = folder / "modules.txt"
    if not names.exists():
        words = [
            "compare",
            "smoke",
            "engine=sequential",
            "--output",
            str(folder / "smoke"),
            "--quiet",
            "--jobs",
            "1",
        ]
        program = (
            "import sys, pathlib, bnbench.cli.app as app\n"
            f"sys.argv = ['bnbench', *{words!r}]\n"
            "try: app.main()\n"
            f"finally: pathlib.Path({str(names)!r}).write_text('\\n'.join(sorted(sys.modules)))\n"
        )
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True)
    for name in names.read_text().split():
        if name.partition(".")[0] != "__main__":
            with suppress(Exception):
                importlib.import_module(name)
    torch.set_num_threads(1)


def _show(outcome: Outcome, total: int) -> None:
    stages = ", ".join(f"{kill.stage} ({kill.target})" for kill in outcome.kills) or "none"
    print(
        f"{total:4d}  trial {outcome.number}  {outcome.case}: {stages}  {outcome.seconds:.0f} s", flush=True
    )
    for fault in outcome.faults:
        print(f"      FAULT {fault}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
