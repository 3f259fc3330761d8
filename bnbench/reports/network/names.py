"""Names of modules, short enough for a table."""

from __future__ import annotations


def shortened(name: str, limit: int) -> str:
    """The name with its middle left out, where it is longer than the limit: "layer1….bn2"."""
    if len(name) <= limit:
        return name
    head = (limit - 1) // 2
    return f"{name[:head]}…{name[len(name) - (limit - 1 - head) :]}"
