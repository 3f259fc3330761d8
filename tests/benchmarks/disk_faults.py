"""Every call of a small study that changes a file meets a fault, one after the other.

    python tests/benchmarks/disk_faults.py [--every N] [--first N]

The disk is full from that call on, or fails at it. Nothing that was finished may be lost, the message has to name the
folder and the fix, and a rerun has to end with the results of a disk that works, bit for bit. Exit code 1 where
anything else happens.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.disk_trial import Tried, faults_of, study_in, tried, undisturbed  # noqa: E402

KINDS = ("full", "eio")


def main() -> int:
    """Print what became of each kind of call."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--first", type=int, default=1)
    given = parser.parse_args()
    outcomes: Counter[str] = Counter()
    wrong = 0
    with tempfile.TemporaryDirectory(dir=".") as folder:
        root = Path(folder).resolve()
        study_in(root)
        _, count = undisturbed(root)
        for kind in KINDS:
            for at in range(given.first, count + 1, given.every):
                try:
                    one = tried(root, kind, at)
                    faults = faults_of(one, root / f"{kind}-{at}")
                except AssertionError as error:
                    one, faults = Tried(-1, "", "", "", ()), [str(error)[:600]]
                outcomes[f"{kind}: exit {one.code}"] += 1
                wrong += bool(faults)
                for fault in faults:
                    print(f"{kind} at call {at} ({one.call}): {fault}", flush=True)
    for outcome, number in sorted(outcomes.items()):
        print(f"{outcome}: {number}")
    print(f"{sum(outcomes.values())} faults at {count} calls, {wrong} of them not as they should be")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
