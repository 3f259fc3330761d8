"""Help for options: from the type, or from the docstring in any of the usual styles."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import Field

from bnbench.base.options import description_of, documented
from bnbench.base.registry import Entry

NAMES = {"eps", "momentum", "act"}


GOOGLE = """One.

Args:
    eps (float): added
        under the root
    other: not a parameter
"""
NUMPY = """One.

Parameters
----------
eps : float, optional
    Added.
momentum: float
"""
OURS = """One line.

eps: added
momentum: of the new value
    which is mixed in
"""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (OURS, {"eps": "added", "momentum": "of the new value which is mixed in"}),
        (GOOGLE, {"eps": "added under the root"}),
        (NUMPY, {"eps": "Added.", "momentum": "float"}),
        ("One.\n\n:param eps: added\n:returns: nothing\n", {"eps": "added"}),
        ("eps, momentum: both\n", {"eps": "both", "momentum": "both"}),
        ("One.\n\nNote that eps: is not at the beginning.", {}),
        ("", {}),
    ],
)
def test_a_docstring_says_what_a_parameter_is(text: str, found: dict[str, str]) -> None:
    assert documented(text, NAMES) == found


def test_a_type_says_it_first() -> None:
    Positive = Annotated[float, Field(gt=0, description="above 0")]
    assert description_of(Positive) == "above 0"
    assert description_of(Positive | None) == "above 0"
    assert description_of(Annotated[Positive | None, Field(description="or none")]) == "or none"
    assert description_of(float) is None

    def make(*, eps: Annotated[float, Field(description="of the type")], act: str = "relu") -> None:
        """Make.

        eps: of the docstring
        act: which activation
        """

    entry = Entry("made", make, None)
    helps = {name: field["description"] for name, field in entry.schema()["properties"].items()}
    assert helps == {"eps": "of the type", "act": "which activation"}
