"""Networks of transformers from a configuration, with random weights: nothing is downloaded."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from bnbench.base.errors import BnbenchError
from bnbench.network.source.arguments import CHANNELS, SIZE, Signature, known_values
from bnbench.network.source.origin import Origin
from bnbench.network.source.packages import package, unknown, version_of
from bnbench.network.source.records import Wanted

#: The head of each task; a network without a task and classes has none.
HEADS = {
    "image_classification": "AutoModelForImageClassification",
    "text_classification": "AutoModelForSequenceClassification",
    "language_model": "AutoModelForCausalLM",
}
#: Most bytes of weights: a configuration's defaults are often those of a published network.
MOST_BYTES = 4 * 2**30


def of_huggingface(name: str) -> Origin:
    """A configuration class (BertConfig) or a model_type (bert). Raises BnbenchError for an unknown one."""
    transformers = package("transformers")
    known = {config.__name__: config for config in transformers.CONFIG_MAPPING.values()}
    if name in transformers.CONFIG_MAPPING:
        config_class = transformers.CONFIG_MAPPING[name]
    elif name in known:
        config_class = known[name]
    else:
        raise unknown("hf", name, [*known, *transformers.CONFIG_MAPPING])
    signature = Signature(config_class.__name__, _fields(config_class))

    def make(head: str | None = None, **options: Any) -> nn.Module:
        return _built(transformers, config_class, head or "AutoModel", options)

    def adapt(wanted: Wanted) -> dict[str, Any]:
        return _adapted(config_class, wanted)

    content = version_of("transformers", config_class.__name__)
    return Origin("transformers", config_class.__name__, make, signature, content, f"hf:{name},{{}}", adapt)


def _fields(config_class: type) -> dict[str, inspect.Parameter]:
    """Every option of a configuration, which itself would take any name."""
    names = dict.fromkeys(("head", "num_labels", "vocab_size"))
    names |= {
        name: None for name in inspect.signature(config_class).parameters if name not in ("self", "kwargs")
    }
    names |= {name: None for name in vars(config_class()) if not name.startswith("_")}
    names |= dict.fromkeys(getattr(config_class, "attribute_map", {}))
    return {name: inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in names}


def _built(transformers: Any, config_class: type, head: str, options: Mapping[str, Any]) -> nn.Module:
    config = config_class(**options)
    if "use_cache" not in options and hasattr(config, "use_cache"):
        # one pass reads no keys of earlier ones, and what a cache hands on is no step that a trace sees
        config.use_cache = False
    auto = getattr(transformers, head, None)
    if auto is None or not hasattr(auto, "from_config"):
        raise BnbenchError(
            f'hf: head: "{head}" is no automatic class of transformers.',
            fix=f"head=AutoModel, or one of {', '.join(HEADS.values())}.",
        )
    if type(config) not in auto._model_mapping:
        raise BnbenchError(
            f"hf:{config_class.__name__}: transformers has no {head} for it.",
            "That head is what the task needs.",
            "another configuration, or another task.",
        )
    with torch.device("meta"):
        size = sum(p.numel() * p.element_size() for p in auto.from_config(config).parameters())
    if size > MOST_BYTES:
        raise BnbenchError(
            f"hf:{config_class.__name__}: its default configuration has {size / 2**30:.0f} GiB of weights.",
            f"At most {MOST_BYTES // 2**30} GiB are built.",
            f"a smaller one: hf:{config_class.__name__},hidden_size=64,intermediate_size=128,num_hidden_layers=2,"
            "num_attention_heads=4.",
        )
    model: nn.Module = auto.from_config(config)
    return model


def _adapted(config_class: type, wanted: Wanted) -> dict[str, Any]:
    """The head for the task, and the facts of the data under the names that a configuration of images has."""
    adapted: dict[str, Any] = {}
    if head := HEADS.get(wanted.task):
        adapted["head"] = head
    elif wanted.num_classes is not None:
        adapted["head"] = (
            HEADS["image_classification"] if _is_for_images(config_class) else HEADS["text_classification"]
        )
    values = known_values(wanted)
    fields = vars(config_class()) if _is_for_images(config_class) else {}
    adapted |= {name: values[name] for name in (*CHANNELS, *SIZE) if name in fields and name in values}
    return adapted


def _is_for_images(config_class: type) -> bool:
    default = config_class()
    return hasattr(default, "num_channels") or hasattr(default, "image_size")
