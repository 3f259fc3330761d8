"""What every registered name must tell of itself: a line, and typed options with help."""

from __future__ import annotations

import pytest

from bnbench.base.kinds import KINDS
from bnbench.base.registry import Entry

ENTRIES = [
    pytest.param(entry, id=f"{kind.key}-{entry.name}")
    for kind in KINDS
    for entry in kind.registry().entries()
]


@pytest.mark.parametrize("entry", ENTRIES)
def test_it_has_a_line_and_every_option_has_help(entry: Entry) -> None:
    assert entry.summary
    fields = entry.options().model_fields
    properties = entry.schema()["properties"]
    assert list(properties) == list(fields) == entry.option_names()
    for option, field in fields.items():
        assert field.description, (
            f"{entry.name}.{option} has no help: a line `{option}: ...` in the docstring"
        )
        assert len(field.description) < 200
        assert not field.description.endswith(".")
        assert properties[option]["description"] == field.description
