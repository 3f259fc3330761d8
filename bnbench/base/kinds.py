"""The kinds of things that a study chooses by name: the one list of registries.

To add a kind: a `Registry` in the package of its own, a line here, and a field of the same key in
`bnbench.study.schema.Settings`. Everything else (the command line, the workers, `list`, the JSON Schema) goes by
this list.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bnbench.base.registry import Registry


@dataclass(frozen=True)
class Kind:
    """One kind of things.

    key: of a study (`norm: batch`). noun: in messages. title: in lists. package: the module that holds the registry;
    its files are the things. attribute: the registry's name in it. default: what a study that does not name one has.
    chosen: a study chooses one of them by the key; else it may name many (`probe: {what: [...]}`,
    `test_sets: {dark: {name: brightness}}`).
    """

    key: str
    noun: str
    title: str
    package: str
    attribute: str
    default: str | None = None
    chosen: bool = True

    def registry(self) -> Registry:
        """The registry of this kind, imported."""
        registry: Registry = getattr(importlib.import_module(self.package), self.attribute)
        return registry


KINDS = (
    Kind("task", "task", "Tasks", "bnbench.tasks", "tasks", default="auto"),
    Kind("dataset", "data set", "Data sets", "bnbench.data", "datasets"),
    Kind("model", "model", "Models", "bnbench.models", "models"),
    Kind("norm", "norm", "Normalizers", "bnbench.norms", "norms", default="none"),
    Kind("optimizer", "optimizer", "Optimizers", "bnbench.optim", "optimizers"),
    Kind("schedule", "schedule", "Schedules", "bnbench.optim", "schedules", default="constant"),
    Kind("loss", "loss", "Losses", "bnbench.optim", "losses", default="cross_entropy"),
    Kind(
        "augment",
        "augmentation",
        "Augmentations",
        "bnbench.data.augmentations",
        "augmentations",
        default="auto",
    ),
    Kind(
        "corruption",
        "corruption",
        "Corruptions of test sets",
        "bnbench.data.corruptions",
        "corruptions",
        chosen=False,
    ),
    Kind("probe", "measure", "Probes", "bnbench.probes", "probes", chosen=False),
)
#: By the key of a study.
KIND_OF = {kind.key: kind for kind in KINDS}
