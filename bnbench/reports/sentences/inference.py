"""Sentences on further ways of inference and further test sets: what a line such as batch@precise shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bnbench.analysis.contents import Summary
from bnbench.study.evaluation import ALPHA, AT, OPTIONS, PRECISE_SAMPLES, TEST_BATCH


def ways_of(summary: Summary) -> list[str]:
    """The further ways of inference that the lines have, each once."""
    names = {variant.variant.partition(AT)[2] for variant in summary.variants}
    return [way for way in OPTIONS if way in names]


def line_words(summary: Summary) -> str:
    """One sentence on the lines; "" where there are none."""
    if not ways_of(summary):
        return ""
    return f"{AT}: the same trained runs, measured with other statistics at inference."


def line_sentences(summary: Summary) -> Iterator[str]:
    """What each way of inference does, with its options."""
    for way in ways_of(summary):
        yield f"{AT}{way}: {_words(way, _options(summary.study, way))}."


def _words(way: str, options: Mapping[str, Any]) -> str:
    match way:
        case "precise":
            samples = f"{options.get('samples', PRECISE_SAMPLES):,}"
            size = options.get("size") or "the training batch size"
            return (
                f"mean and variance of {samples} training samples at most, in batches of {size}, after training (total "
                "variance, each batch weighted by its samples)"
            )
        case "batch":
            return (
                f"mean and variance of each test batch; a part is cut into near-equal batches of at most "
                f"{options.get('size', TEST_BATCH)} samples"
            )
        case _:
            return (
                "the running statistics, into which each example's own mean and variance enter with the weight "
                f"{options.get('alpha', ALPHA):g}"
            )


def _options(study: Mapping[str, Any], way: str) -> Mapping[str, Any]:
    """Those that study.yaml writes; none where it can't be read."""
    written = study.get("evaluate")
    for item in written if isinstance(written, list) else []:
        if isinstance(item, Mapping) and item.get("name") == way:
            return item
    return {}


def test_set_sentences(summary: Summary) -> Iterator[str]:
    """What each further test set is."""
    written = summary.study.get("test_sets")
    for name in summary.task.test_sets:
        item = written.get(name) if isinstance(written, Mapping) else None
        if not isinstance(item, Mapping):
            continue
        if isinstance(item.get("dataset"), Mapping):
            yield f"Test set {name}: the test part of the data set {item['dataset'].get('name')}."
        else:
            options = [f"{key} {value:g}" for key, value in item.items() if isinstance(value, int | float)]
            text = f" ({', '.join(options)})" if options else ""
            yield f"Test set {name}: the test samples with the corruption {item.get('name')}{text}."
