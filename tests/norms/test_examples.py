"""The examples in the docstrings of the layers give what they say."""

from __future__ import annotations

import doctest

from bnbench.norms import batch_norm


def test_the_examples_of_batch_norm() -> None:
    result = doctest.testmod(batch_norm, optionflags=doctest.ELLIPSIS)
    assert result.attempted >= 6
    assert result.failed == 0
