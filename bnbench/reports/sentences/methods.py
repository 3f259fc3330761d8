"""The methods of a study as a paragraph for a paper, filled with its own numbers."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bnbench.analysis.contents import Summary
from bnbench.analysis.resumed import was_moved
from bnbench.reports.sentences.inference import line_sentences, test_set_sentences
from bnbench.reports.sentences.listing import counted, listed
from bnbench.reports.sentences.methods_analysis import analysis_sentences
from bnbench.study.evaluation import is_line
from bnbench.study.vary import SOURCES

CITATION = "To cite bnbench, use the entry in the file CITATION.cff of its repository."

#: Settings that have a place of their own in the paragraph, or that change no number.
_ELSEWHERE = (
    "name", "description", "task", "dataset", "model", "norm", "optimizer", "schedule", "loss", "batch_size", "epochs",
    "steps", "seeds", "variants", "baseline", "target", "primary", "margin", "metrics", "sweep", "vary", "engine",
    "validation", "evaluate_every", "framework", "precision", "normalize", "augment", "clip_norm",
)  # fmt: skip
_INPUTS = {
    "unit": "divided by their largest absolute value",
    "standard": "standardised per channel",
    "signed": "scaled to -1..1",
}
#: The name stands before its options; a path is a place on one machine; a role is not a setting.
_LEFT_OUT = ("name", "path", "role", "check_of")
_SWEPT = "swept"
#: The task that goes without saying.
FIRST_TASK = "image_classification"


def methods_paragraph(summary: Summary) -> str:
    """Training, data, repetitions and comparison of a study, as sentences for a paper."""
    study = _with_swept(summary.study)
    sentences = [
        *_data(summary, study),
        *_variants(summary),
        *_training(summary, study),
        *_sweep(summary),
        *_seeds(summary),
        *analysis_sentences(summary),
        *_software(summary),
        *_moved(summary),
    ]
    return " ".join(sentences)


def methods_lines(summary: Summary) -> list[str]:
    """The paragraph, and how to cite the tool."""
    return [methods_paragraph(summary), CITATION]


def _with_swept(study: Mapping[str, Any]) -> dict[str, Any]:
    """The study with the word "swept" in place of each value that the sweep changes."""
    values = copy.deepcopy(dict(study))
    for key in _mapping(values.get("sweep")):
        *sections, last = str(key).split(".")
        place: dict[str, Any] = values
        for section in sections:
            inner = place.get(section)
            place = inner if isinstance(inner, dict) else {}
        place[last] = _SWEPT
    return values


def _data(summary: Summary, study: Mapping[str, Any]) -> Iterator[str]:
    unit = summary.task.unit or "samples"
    sizes = listed(
        f"{counts} {name}"
        for part, name in (("train", "training"), ("val", "validation"), ("test", "test"))
        if (counts := _sample_counts(summary, part))
    )
    if "model" in study and "dataset" in study:
        samples = f" ({sizes} {unit})" if sizes else ""
        did = "evaluated" if summary.only_looked_at else "trained"
        task = _mapping(study.get("task")).get("name", FIRST_TASK)
        of = "" if task == FIRST_TASK else f" for the task {_text(study['task'])}"
        yield f"We {did} the network {_text(study['model'])}{of} on the data set {_text(study['dataset'])}{samples}."
    elif sizes:
        yield f"The data set has {sizes} {unit}."
    if sizes:
        yield "Every choice was made on the validation samples; the test samples were evaluated once, after training."
    yield from test_set_sentences(summary)


def _sample_counts(summary: Summary, part: str) -> str:
    counts = sorted({run.num_samples[part] for run in summary.runs if part in run.num_samples}, reverse=True)
    return " or ".join(f"{count:,}" for count in counts)


def _variants(summary: Summary) -> Iterator[str]:
    names = sorted({v.variant: None for v in summary.trained}, key=lambda name: name != summary.baseline)
    others = [name for name in names if name != summary.baseline]
    if not others:
        yield f"The only variant is {names[0] if names else summary.baseline}."
        return
    settings = "; ".join(filter(None, (_variant_settings(summary, name) for name in names)))
    details = f" ({settings})" if settings else ""
    yield f"We compared {listed(others)} with the baseline {summary.baseline}{details}."
    if sentences := list(line_sentences(summary)):
        yield f"Further lines are the same trained networks with other statistics at inference. {' '.join(sentences)}"
    for check, original in summary.checks.items():
        if is_line(check):
            continue
        yield (
            f"{check} is a check of {original}, declared before training: it should give the same results, and it is "
            "not one of the comparisons."
        )


def _variant_settings(summary: Summary, name: str) -> str:
    """For example "batch: norm batch (eps 1e-05, momentum 0.1)"."""
    own = _mapping(_mapping(summary.study.get("variants")).get(name))
    values = [f"{key} {_text(value)}" for key, value in own.items() if key not in _LEFT_OUT]
    return f"{name}: {', '.join(values)}" if values else ""


def _training(summary: Summary, study: Mapping[str, Any]) -> Iterator[str]:
    if summary.only_looked_at:
        yield "No network was trained: every number describes the initial weights."
        return
    steps = sorted({run.planned_steps for run in summary.runs if run.planned_steps})
    length = f"{_either_number(steps)} steps" if steps else ""
    epochs = study.get("epochs")
    if isinstance(epochs, int):
        length = f"{counted(epochs, 'epoch')} ({length})" if length else counted(epochs, "epoch")
    words = {"optimizer": "the optimizer", "schedule": "the learning-rate schedule", "loss": "the loss"}
    means = [f"{word} {_text(study[key])}" for key, word in words.items() if key in study]
    if "batch_size" in study:
        means.insert(0, f"batch size {study['batch_size']}")
    if length:
        yield f"Each run took {length}{f' with {listed(means)}' if means else ''}."
    if not study:
        return
    details = [
        *_inputs(summary, study),
        *(
            [f"augmentation was {_text(study['augment'])}"]
            if _mapping(study.get("augment")).get("name", "none") != "none"
            else []
        ),
        *([f"gradients were clipped to norm {study['clip_norm']}"] if study.get("clip_norm") else []),
        f"the precision was {study.get('precision', 'float32')}",
    ]
    others = [
        f"{key} {_text(value)}" for key, value in study.items() if key not in _ELSEWHERE and value is not None
    ]
    text = listed(details)
    yield f"{text[:1].upper()}{text[1:]}{f' (other settings: {listed(others)})' if others else ''}."


def _inputs(summary: Summary, study: Mapping[str, Any]) -> Iterator[str]:
    """What was done to inputs that are numbers; sequences of a file are, in a task of texts."""
    tokens = summary.task.tokens and _mapping(study.get("dataset")).get("name") != "sequences"
    if study.get("normalize") in _INPUTS and not tokens:
        yield f"inputs were {_INPUTS[study['normalize']]}"


def _sweep(summary: Summary) -> Iterator[str]:
    if not summary.best_settings:
        return
    if swept := _mapping(summary.study.get("sweep")):
        keys = listed(f"{key} in {_text(values)}" for key, values in swept.items())
        yield f"Every variant was trained at each setting of the sweep ({keys})."
    best = summary.best_settings[0]
    chosen = "The best setting of a variant is the one with the lowest mean final validation loss"
    if best.parted:
        yield (
            f"{chosen}; {counted(len(best.choosing), 'seed')} chose it, and the {len(best.comparing)} others compared "
            "the variants at their best settings."
        )
    else:
        yield f"{chosen}; the same seeds chose and compared, so variants at their best settings have no verdict."


def _seeds(summary: Summary) -> Iterator[str]:
    planned = sorted({len(variant.seeds) for variant in summary.variants})
    setting = " at every setting" if summary.best_settings else ""
    if summary.looks:
        used = sorted({stop.seeds for stop in summary.stops})
        stopped = (
            f"; they stand at {' to '.join(map(str, (used[0], used[-1])[: len(used)]))} seeds" if used else ""
        )
        yield (
            f"The number of seeds was sequential: up to {summary.looks[-1]} for each variant{setting}, with looks at "
            f"{listed(map(str, summary.looks))} seeds fixed before the first run{stopped}."
        )
    else:
        many = "s" * (planned != [1])
        has = "has" if summary.only_looked_at else "was trained with"
        yield f"Each variant {has} {_either_number(planned)} seed{many}{setting}."
    if planned == [1] and not summary.looks:
        return
    sources = listed(text for source, text in SOURCES.items() if source in summary.vary)
    yield (
        f"A seed sets {sources}; with the same seed every variant has the same order of the data and, in the layers "
        "that they share, the same initial weights, so differences are paired by seed."
    )


def _software(summary: Summary) -> Iterator[str]:
    environments = [run.environment for run in summary.runs if run.environment]
    packages = {
        "bnbench": "bnbench", "torch": "PyTorch", "keras": "Keras", "tensorflow": "TensorFlow", "numpy": "NumPy",
        "python": "Python",
    }  # fmt: skip
    known = {word: _either(environments, key) for key, word in packages.items()}
    if any(known.values()):
        yield f"Software: {', '.join(f'{word} {text}' for word, text in known.items() if text)}."
    devices = dict.fromkeys(str(e.get("device_name") or e["device"]) for e in environments if e.get("device"))
    if devices:
        threads = _either(environments, "num_threads")
        on_cpu = all(e.get("device") == "cpu" for e in environments)
        with_threads = f" ({threads} thread{'s' * (threads != '1')})" if threads and on_cpu else ""
        yield f"Hardware: {' or '.join(devices)}{with_threads}."


def _moved(summary: Summary) -> Iterator[str]:
    """Runs that stopped in one place and went on in another."""
    if count := sum(was_moved(run) for run in summary.runs):
        runs, their = ("run was", "its") if count == 1 else ("runs were", "their")
        yield (
            f"{count} {runs} interrupted and resumed elsewhere, so {their} last bits may differ from those of an "
            "undisturbed run."
        )


def _either(environments: Sequence[Mapping[str, Any]], key: str) -> str:
    return " or ".join(dict.fromkeys(str(e[key]) for e in environments if e.get(key) is not None))


def _either_number(values: Sequence[int]) -> str:
    """For example "96, 375 or 1,500"."""
    texts = [f"{value:,}" for value in values]
    return listed(texts).replace(" and ", " or ")


def _text(value: Any) -> str:
    """For example "mlp (hidden [64], activation relu)" of a choice and its options; "[0.001, 0.1]" of a list."""
    if isinstance(value, Mapping):
        options = ", ".join(
            f"{key} {_text(item)}" for key, item in value.items() if key not in _LEFT_OUT and item is not None
        )
        name = str(value.get("name", ""))
        return f"{name} ({options})" if name and options else name or options
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
