"""Tables of every metric on every split."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from bnbench.analysis.contents import Summary
from bnbench.analysis.pairs import PHASES
from bnbench.base.metrics import GAPS, METRICS, columns_of, metric_named, parted, value_of
from bnbench.reports.numbers import NOTHING, heading, spread_text, words
from bnbench.reports.sentences.inference import line_sentences, test_set_sentences
from bnbench.reports.tables.table import Table, baseline_first

PHASE_WORDS = {"final": "last step", "best": "lowest val loss"}


def metric_tables(summary: Summary) -> Iterator[Table]:
    """One table per metric of the study; per-class recall has its own table."""
    return (_metric_table(summary, name) for name in summary.metrics if name in METRICS)


def _metric_table(summary: Summary, name: str) -> Table:
    percent = METRICS[name].percent
    nowhere = unmeasured(summary)
    rows = [
        (
            variant.label,
            PHASE_WORDS[at],
            *(
                NOTHING
                if f"{part}_{name}" in nowhere
                else spread_text(variant.spreads[at, f"{part}_{name}"], len(variant.seeds), percent=percent)
                for part in summary.parts
            ),
        )
        for variant in baseline_first(summary)
        for at in PHASES
    ]
    caption = (
        f"{_seeds_caption(summary)} lowest val loss: "
        f"at the evaluation with the lowest validation loss. {METRICS[name].better.capitalize()} is better."
        f"{_meaning(summary, name)}{gap_words(summary.parts)}"
    )
    caption = " ".join([caption, *test_set_sentences(summary), *line_sentences(summary)])
    title = f"{heading(name)}{' (%)' if percent else ''}"
    return Table(
        title,
        caption,
        ("variant", "measured", *_headings(summary)),
        tuple(rows),
        "ll" + "r" * len(summary.parts),
    )


#: What the metrics of generated images are, after their names as a heading.
_FEATURES = "in the features of bnbench's own classifier of this data set"
_OF_IMAGES = {
    "frechet": f" It is the squared Fréchet distance of two Gaussians, of generated and of real images, {_FEATURES}. "
    "It is no FID. It falls with the number of images, which is the same for all variants.",
    "kernel": f" It is the unbiased squared maximum mean discrepancy of generated and real images (cubic kernel), "
    f"{_FEATURES}. It is negative at times where both are of one kind.",
    "image_precision": f" It is the share of generated images near a real one, {_FEATURES} (Kynkäänniemi et al. 2019).",
    "image_recall": f" It is the share of real images near a generated one, {_FEATURES} (Kynkäänniemi et al. 2019).",
    "coverage": " It is the share of the classes that bnbench's own classifier finds among the generated images: each "
    "has there at least a tenth of its share of the real ones.",
}


#: Metrics that this set of metrics together makes plain, and what each is.
_REGRESSION, _SEGMENTATION = {"r2", "mse", "mae"}, {"mean_iou", "pixel_accuracy"}
_OF_TASKS = {
    "r2": (
        _REGRESSION,
        " 1 - squared error / squared distance to the part's own mean, the mean over the columns.",
    ),
    "mse": (_REGRESSION, " In the square of the targets' own unit."),
    "mae": (_REGRESSION, " In the targets' own unit."),
    "mean_iou": (
        _SEGMENTATION,
        " Of a class: pixels of it that are taken for it, by the pixels of it or taken for it, in the whole part; the "
        "mean over the classes that the part has.",
    ),
    "pixel_accuracy": (_SEGMENTATION, " The share of all pixels of the part that count."),
}
#: What the metrics of two networks that train against each other are, in the same way.
_OF_NETWORKS = {
    "generator_loss": " It is -log D of generated images. It depends on the discriminator, and does not say how good "
    "the images are.",
    "discriminator_loss": " It is -log D of real images and -log(1 - D) of generated ones; 1.386 where it can't tell "
    "them apart. It depends on the generator.",
    "discriminator_accuracy": " It is the share of real and generated images that the discriminator judges right; 50% "
    "where it can't tell them apart.",
}


def _meaning(summary: Summary, name: str) -> str:
    """What a metric is that a name does not say; "" for any other: a plugin's may have one of these names."""
    names = set(summary.task.names)
    of_images = _OF_IMAGES.get(name, "") if _OF_IMAGES.keys() <= names else ""
    if name in _OF_TASKS and _OF_TASKS[name][0] <= names:
        return _OF_TASKS[name][1]
    if not _OF_NETWORKS.keys() <= names:
        return of_images
    same = " The loss of this task is the same number." if name == "frechet" else ""
    return f"{of_images}{_OF_NETWORKS.get(name, '')}{same}"


def class_table(summary: Summary) -> Table:
    """The recall of the classes that the study asks for."""
    names = [name for name in summary.metrics if name not in METRICS]
    rows = [
        (
            metric.class_name or "",
            variant.label,
            *(
                spread_text(
                    variant.spreads["final", f"{part}_{metric.name}"], len(variant.seeds), percent=True
                )
                for part in summary.parts
            ),
        )
        for metric in filter(None, map(metric_named, names))
        for variant in baseline_first(summary)
    ]
    counted = "pixels" if summary.task.per_position else "samples"
    meaning = f"Recall: the share of a class's {counted} that are taken for it."
    caption = f"{_seeds_caption(summary)} After the last step. {meaning}"
    columns = ("class", "variant", *_headings(summary))
    return Table("Recall by class (%)", caption, columns, tuple(rows), "ll" + "r" * len(summary.parts))


def _headings(summary: Summary) -> list[str]:
    return [part.replace("_", " ") for part in summary.parts]


def unmeasured(summary: Summary) -> list[str]:
    """The columns of the tables without a number in any run, such as "val_frechet"; none before a run finished.

    Such metrics are measured on another part alone, or not defined on this one: no run was lost.
    """
    runs = [run for variant in summary.variants for run in variant.runs if run.final]
    columns = columns_of(summary.metrics, summary.parts)
    lost = [
        column for column in columns if not any(math.isfinite(value_of(run.final, column)) for run in runs)
    ]
    return lost if len(lost) < len(columns) else []


def unmeasured_words(summary: Summary) -> str:
    """Which metrics of a variant have no row because no run has a number of them, as a sentence behind others."""
    names = [words(column) for column in unmeasured(summary) if parted(column)[0] not in ("train", *GAPS)]
    return f" No run has a number of: {', '.join(names)}." if names else ""


def gap_words(parts: Iterable[str]) -> str:
    """The definition of the gaps among these parts, as sentences behind others."""
    names = {"test": "test", "val": "validation"}
    gaps = [(gap, names[GAPS[gap][0]]) for gap in GAPS if gap in parts]
    return "".join(f" {gap.replace('_', ' ')}: {first} minus train, in the same run." for gap, first in gaps)


def _seeds_caption(summary: Summary) -> str:
    """The caption: the meaning of ±, and of "(4 of 5)" where the table contains it."""
    planned = sorted({len(variant.seeds) for variant in summary.variants})
    count = " or ".join(map(str, planned))
    if planned == [1]:
        return "One seed: no ± can be given."
    text = f"Mean ± standard deviation (n-1) over {count} seeds."
    nowhere = unmeasured(summary)
    if any(
        spread.n != len(variant.seeds)
        for variant in summary.variants
        for (_, column), spread in variant.spreads.items()
        if column not in nowhere
    ):
        text += " (k of n): only k of n runs have a finite number; the tables below list the outcomes of the rest."
    return text
