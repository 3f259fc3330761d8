"""What identifies settings: plain values without what changes no number, and as older results have them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from bnbench.study.same_network import one_form

#: Options of data sets that are places, not content.
DATA_PATHS = ("path", "groups")
#: Keys of settings that older results do not have.
ADDED_LATER = (
    "precision", "framework", "train", "clip", "batches", "probe", "evaluate", "test_sets", "steps",
)  # fmt: skip
#: Options that older results do not have, with what those had, by their section.
OPTIONS_ADDED_LATER: dict[str, dict[str, Any]] = {
    "optimizer": {"groups": None},
    "init": {"std": None},
    "norm": {"running": "each"},
}


def identifying(values: dict[str, Any], at_default: Collection[str]) -> dict[str, Any]:
    """The values that identify settings. Data is known by content, so not by its path.

    values: every setting, as JSON; changed in place. at_default: the keys that have their default: those that came
    later are left out, so that old runs stay known.
    """
    for key in ADDED_LATER:
        if key in at_default:
            del values[key]
    for section, options in OPTIONS_ADDED_LATER.items():
        kept = values[section].get("options", values[section])
        for option in [name for name, before in options.items() if kept.get(name, NotImplemented) == before]:
            del kept[option]
    model = values["model"]
    model["name"], model["options"] = one_form(model["name"], model["options"])
    further = [one["dataset"] for one in values.get("test_sets", ()) if one["dataset"]]
    for dataset in (values["dataset"], *further):
        for key in DATA_PATHS:
            dataset["options"].pop(key, None)
    return values
