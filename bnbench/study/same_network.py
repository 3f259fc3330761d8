"""One network that a study can write in more than one way: its one form, so that its runs are known by either."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bnbench.base.attention_heads import equal_heads
from bnbench.study.sections import Choice
from bnbench.study.yaml_source import Path_

#: The factor on the branches of an nf block where a study has none.
_BRANCH_FACTOR = 0.2
#: Options of bnbench's own models that older results do not have, with what those had.
_ADDED_LATER: dict[str, dict[str, Any]] = {
    "mlp": {"depth": None, "dropout": None},
    "cnn": {"dropout": None},
    "vgg": {"dropout": None},
    "cnn1d": {"dropout": None},
    "resnet": {"block": "basic", "alpha": _BRANCH_FACTOR},
}
#: Models with attention.
_WITH_HEADS = ("transformer", "vit")
#: Names for a model at certain numbers: the other model's options, all of them.
_NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet20": ("resnet", {"depth": 20, "width": 16}),
    "resnet56": ("resnet", {"depth": 56, "width": 16}),
    "vgg11": (
        "vgg",
        {"width": 64, "activation": "relu", "norm_position": "before"},
    ),
}


def one_form(name: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name and the options of the same network as older results have it.

    `{name: resnet, depth: 20}` is `resnet20`; `{name: mlp, hidden: 128, depth: 2}` is `hidden: [128, 128]`.
    """
    values = dict(options)
    if values.get("bias") == "auto":
        del values["bias"]
    if name == "mlp" and isinstance(values.get("hidden"), int):
        values["hidden"] = [values["hidden"]] * (values.get("depth") or 1)
        values["depth"] = None
    if name in _ADDED_LATER and values.get("activation") == "linear":
        values["activation"] = "none"
    if name in _ADDED_LATER and (values.get("dropout") or {}).get("p") == 0:
        values["dropout"] = None
    for option, before in _ADDED_LATER.get(name, {}).items():
        if values.get(option) == before:
            values.pop(option, None)
    for short, long in _NAMES.items():
        if (name, values) == long:
            return short, {}
    return name, values


def model_faults(model: Choice) -> Iterator[tuple[tuple[Path_, ...], str]]:
    """Options of one model that do not go together: the keys at fault, and a message with the fix."""
    alpha = model.options.get("alpha")
    if model.name == "resnet" and model.options.get("block") == "basic" and alpha != _BRANCH_FACTOR:
        yield (
            (("model", "alpha"), ("model", "block")),
            f"model.alpha: {alpha:g} with model.block: basic, whose branch has no factor. Fix: model.block: nf, or "
            "leave alpha out.",
        )
    yield from _head_faults(model)
    hidden, depth = model.options.get("hidden"), model.options.get("depth")
    if model.name != "mlp":
        return
    if isinstance(hidden, list) and depth is not None:
        units = hidden[0] if hidden else 64
        yield (
            (("model", "depth"), ("model", "hidden")),
            f"model.depth: {depth} with model.hidden: {hidden}, which lists the layers itself. "
            f"Fix: model: {{name: mlp, hidden: {units}, depth: {depth}}}, or leave the depth out.",
        )
    elif isinstance(hidden, int) and depth is None:
        yield (
            (("model", "hidden"),),
            f"model.hidden: {hidden} has no depth. Fix: model: {{name: mlp, hidden: {hidden}, depth: 1}}, or a list "
            f"of layers, model.hidden: [{hidden}].",
        )


def _head_faults(model: Choice) -> Iterator[tuple[tuple[Path_, ...], str]]:
    """Heads of attention that do not divide the width, as `bnbench.models.transformer_block` refuses them, too."""
    heads, width = model.options.get("heads"), model.options.get("width")
    if model.name not in _WITH_HEADS or not isinstance(heads, int) or not isinstance(width, int):
        return
    if width % heads:
        yield (
            (("model", "heads"), ("model", "width")),
            f"model.heads: {heads} does not divide model.width: {width}, and each head has an equal part of it. "
            f"Fix: {equal_heads(heads, width)}",
        )
