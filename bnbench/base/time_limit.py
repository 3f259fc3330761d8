"""A limit of time for a command: how it is written, and the part of it that is left for tables and the report."""

from __future__ import annotations

import math
import re
import time
from typing import Any

from bnbench.base.owner import age_of_this_process

#: So much of a limit is left for what comes after the training, within these bounds in seconds.
SHARE_LEFT, LEAST_LEFT, MOST_LEFT = 0.1, 5.0, 30.0
#: Of a short limit, at most this share.
MOST_SHARE = 0.5
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_WRITTEN = re.compile(
    r"(?:(?P<d>\d+)d)?(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m(?:in)?)?(?:(?P<s>\d+(?:\.\d+)?)s?)?", re.IGNORECASE
)
_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d+):)(\d+(?:\.\d+)?)")


_began: float | None = None


def begin_command() -> None:
    """The command of this process began when the process did: its imports take a part of the limit, too."""
    global _began
    _began = time.monotonic() - age_of_this_process()


def command_began() -> float:
    """When it began, by the monotonic clock; now, where it is no command's process."""
    return time.monotonic() if _began is None else _began


def read_time(text: Any) -> float:
    """Seconds, from a number or from "90s", "10m", "1h30m", "2:30:00". Raises ValueError with a sentence."""
    seconds = _seconds(str(text).strip())
    if seconds is None or not math.isfinite(seconds):
        raise ValueError(
            f'"{text}" is not a duration: write 90s, 10m, 1h30m or 2:30:00; a number alone is seconds.'
        )
    if seconds <= 0:
        raise ValueError(f'"{text}" leaves no time to train: write more than 0, such as 10m.')
    return seconds


def _seconds(text: str) -> float | None:
    """None where the text is not a duration."""
    try:
        return float(text.replace("_", "x"))
    except ValueError:
        pass
    text = text.replace(" ", "")
    if match := _CLOCK.fullmatch(text):
        hours, minutes, seconds = match.groups()
        return int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds)
    match = _WRITTEN.fullmatch(text)
    if not text or not match:
        return None
    return sum(float(match[unit]) * seconds for unit, seconds in _UNITS.items() if match[unit])


def time_text(seconds: float) -> str:
    """As it is written: 600 is "10m", 5400 is "1h30m", 0.5 is "0.5s"."""
    whole, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(whole), 60)
    parts = [(hours, "h"), (minutes, "m"), (round(rest, 1), "s")]
    return "".join(f"{value:g}{unit}" for value, unit in parts if value) or "0s"


def left_for_the_report(limit: float) -> float:
    """Seconds of a limit in which nothing is trained: states are saved, tables are made, report.html is drawn.

    A tenth, at least 5 s and at most 30 s; of a limit below 10 s, half.
    """
    return min(max(SHARE_LEFT * limit, LEAST_LEFT), MOST_LEFT, MOST_SHARE * limit)
