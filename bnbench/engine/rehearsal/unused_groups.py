"""Groups of the optimizer that no network of a study has a learning parameter for: their rules change nothing."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from bnbench.base.errors import Mistake
from bnbench.engine.rehearsal.case import Case
from bnbench.norms.parameter_groups import groups_by_name


class UsedGroups:
    """The groups that the cells of a study name, and those that one of their networks has."""

    def __init__(self) -> None:
        self._named: dict[str, str] = {}
        self._found: set[str] = set()

    def look_at(self, case: Case, model: nn.Module) -> None:
        """Remember which groups this cell's optimizer names, and which of them its network has."""
        rules = case.settings.optimizer.options.get("groups")
        if not isinstance(rules, dict):
            return
        for group in rules:
            self._named.setdefault(group, case.label)
        groups = groups_by_name(model)
        self._found |= {groups[name] for name, p in model.named_parameters() if p.requires_grad}

    def mistakes(self) -> Iterator[Mistake]:
        """One for each group that is named and that no network has."""
        for group, label in self._named.items():
            if group not in self._found:
                yield Mistake(
                    f"variant {label}",
                    f"optimizer.groups.{group}: no variant with it has a parameter of this group that learns, so it "
                    "changes nothing. Fix: leave it out, or a norm with gamma and beta, such as batch.",
                )
