"""The studies of docs/studies.md are what they say."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bnbench.study import Vocabulary, load_study

DOCS = Path(__file__).parents[2] / "docs" / "studies.md"
BLOCKS = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
MINIMAL = "dataset: digits\nmodel: mlp\noptimizer: {name: sgd, lr: 1e-2}\n"


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_is_a_study(block: str, write_study: Callable[..., Path], vocabulary: Vocabulary) -> None:
    study = load_study(write_study(MINIMAL + block), [], vocabulary)
    assert len(study.cells) > 1
    assert not study.warnings
