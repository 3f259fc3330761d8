"""The label of a variant at a setting of the sweep: in every table, figure, message and file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


def setting_text(setting: Mapping[str, Any]) -> str:
    """For example "optimizer.lr=0.1, batch_size=32"; "" where nothing is swept."""
    return ", ".join(f"{key}={value}" for key, value in setting.items())


def cell_label(variant: str, setting: Mapping[str, Any]) -> str:
    """For example "batch", or "batch @ optimizer.lr=0.1" in a sweep."""
    swept = setting_text(setting)
    return f"{variant} @ {swept}" if swept else variant


@dataclass(frozen=True)
class Labelled:
    """What belongs to one variant at one setting of the sweep. setting: empty where nothing is swept."""

    variant: str
    setting: Mapping[str, Any]

    @property
    def label(self) -> str:
        """For example "batch", or "batch @ optimizer.lr=0.1" in a sweep."""
        return cell_label(self.variant, self.setting)
