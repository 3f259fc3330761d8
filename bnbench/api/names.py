"""What has a name, for lists and for the JSON Schema: without torch, unless there are plugins to load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bnbench.base.listing import Described, load_listing


def described_names(plugins: Sequence[Path] = ()) -> Mapping[str, Mapping[str, Described]]:
    """By the key of each kind, everything that a study can name. Raises PluginError."""
    if not plugins:
        return load_listing()
    from bnbench.api.plugins import known_names

    return known_names(plugins).vocabulary
