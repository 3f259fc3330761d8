"""A verdict about a gap. Oracle: differences that are written out."""

from types import SimpleNamespace

from bnbench.analysis.gap_caution import gap_caution


def _difference(metric: str, low: float, high: float, verdict: str | None = None) -> SimpleNamespace:
    return SimpleNamespace(
        label="batch", metric=metric, at="final", verdict=verdict,
        difference=(low + high) / 2, ci_low=low, ci_high=high,
    )  # fmt: skip


def test_a_larger_gap_beside_a_lower_test_loss() -> None:
    worse = _difference("gap_loss", 0.02, 0.04, "worse")
    (text,) = gap_caution([worse, _difference("test_loss", -0.4, -0.3)], "gap_loss")  # type: ignore[list-item]
    assert text.endswith("test_loss differs from the baseline's in the other direction: batch -0.35.")
    for low, high in ((0.3, 0.4), (-0.4, 0.1)):  # the same direction; not sure
        assert not [*gap_caution([worse, _difference("test_loss", low, high)], "gap_loss")]  # type: ignore[list-item]
    assert not [*gap_caution([_difference("test_loss", -0.4, -0.3, "better")], "test_loss")]  # type: ignore[list-item]
