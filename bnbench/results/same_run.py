"""Whether two results of one run are the same: every number, curve, weight and answer, but for seconds and machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any

from bnbench.base.files import key_text, value_text
from bnbench.results.files import CHECKPOINT
from bnbench.results.probes import PROBES
from bnbench.results.run_files import run_json
from bnbench.results.samples import SAMPLES
from bnbench.study.records import HistoryRow, RunRecord

#: What of a run.json depends on the machine, or is a remark.
_NOT_COMPARED = ("environment", "train_seconds", "probe_seconds", "notes", "cautions")
#: Files that are compared byte for byte where both runs have them, with their word in a message.
_FILES = {
    CHECKPOINT: "the weights",
    SAMPLES: "the answers on the test samples",
    PROBES: "what its probes measured",
}
#: So many differing numbers of a run are named.
_NAMED = 3


def run_differences(one: RunRecord, one_folder: Path, other: RunRecord, other_folder: Path) -> list[str]:
    """What differs, in words; empty where the two are the same. Files that only one of them has are no difference."""
    numbers = list(_record_differences(run_json(one), run_json(other)))
    more = len(numbers) - _NAMED
    lines = numbers[:_NAMED] + ([f"{more} more numbers"] if more > 0 else [])
    for before, after in zip_longest(one.history, other.history):
        if before is None or after is None or _row(before) != _row(after):
            lines.append(f"history.csv from step {(before or after).step} on")
            break
    steps = zip(one.step_losses, other.step_losses, strict=False)
    if (first := next((step for step, pair in enumerate(steps, 1) if _differ(*pair)), None)) is not None:
        lines.append(f"steps.csv from step {first} on")
    return lines + [
        word for name, word in _FILES.items() if _files_differ(one_folder / name, other_folder / name)
    ]


def _row(row: HistoryRow) -> str:
    values = asdict(row)
    del values["train_seconds"]
    return key_text(values)


def _differ(one: float, other: float) -> bool:
    return one != other and not (one != one and other != other)  # NaN is as good as NaN


def _record_differences(one: Mapping[str, Any], other: Mapping[str, Any], key: str = "") -> Iterator[str]:
    for name in dict.fromkeys([*one, *other]):
        if not key and name in _NOT_COMPARED:
            continue
        before, after = one.get(name), other.get(name)
        if key_text(before) == key_text(after):
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _record_differences(before, after, f"{key}{name} ")
        else:
            yield f"{key}{name} {_text(before)} and {_text(after)}"


def _text(value: Any) -> str:
    text = value_text(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _files_differ(one: Path, other: Path) -> bool:
    try:
        if one.samefile(other) or not (one.is_file() and other.is_file()):
            return False
        return one.stat().st_size != other.stat().st_size or one.read_bytes() != other.read_bytes()
    except OSError:  # one of them was left behind
        return False
