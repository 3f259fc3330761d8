"""The architectures of the census: torchvision's classification list, timm by family, transformers' configurations."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

#: Small configurations: what is not named is the class's default.
_DECODER = "hidden_size=32,intermediate_size=64,num_hidden_layers=2,num_attention_heads=4,vocab_size=99"
_GROUPED = f"{_DECODER},num_key_value_heads=2"
HF = {
    "AlbertConfig": f"{_DECODER},embedding_size=16",
    "BartConfig": "d_model=32,encoder_layers=2,decoder_layers=2,encoder_attention_heads=4,decoder_attention_heads=4,"
    "encoder_ffn_dim=64,decoder_ffn_dim=64,vocab_size=99",
    "BertConfig": _DECODER,
    "BloomConfig": "hidden_size=32,n_layer=2,n_head=4,vocab_size=99",
    "CohereConfig": _GROUPED,
    "ConvNextConfig": "",
    "ConvNextV2Config": "",
    "DeiTConfig": "hidden_size=32,intermediate_size=64,num_hidden_layers=2,num_attention_heads=4",
    "Dinov2Config": "hidden_size=32,num_hidden_layers=2,num_attention_heads=4",
    "DistilBertConfig": "dim=32,hidden_dim=64,n_layers=2,n_heads=4,vocab_size=99",
    "ElectraConfig": f"{_DECODER},embedding_size=16",
    "FalconConfig": "hidden_size=32,num_hidden_layers=2,num_attention_heads=4,vocab_size=99",
    "Gemma2Config": f"{_GROUPED},head_dim=8",
    "GemmaConfig": f"{_GROUPED},head_dim=8",
    "GPT2Config": "n_embd=32,n_layer=2,n_head=4,vocab_size=99",
    "GPTNeoXConfig": _DECODER,
    "LlamaConfig": _GROUPED,
    "MistralConfig": _GROUPED,
    "MobileNetV1Config": "",
    "MobileNetV2Config": "",
    "MobileViTConfig": "",
    "Olmo2Config": _GROUPED,
    "OPTConfig": "hidden_size=32,ffn_dim=64,num_hidden_layers=2,num_attention_heads=4,vocab_size=99,"
    "word_embed_proj_dim=32",
    "Phi3Config": f"{_GROUPED},pad_token_id=0",
    "PoolFormerConfig": "",
    "Qwen2Config": _GROUPED,
    "Qwen3Config": f"{_GROUPED},head_dim=8",
    "RegNetConfig": "",
    "ResNetConfig": "",
    "RobertaConfig": _DECODER,
    "SegformerConfig": "",
    "SwinConfig": "",
    "T5Config": "d_model=32,d_kv=8,d_ff=64,num_layers=2,num_heads=4,vocab_size=99",
    "ViTConfig": "hidden_size=32,intermediate_size=64,num_hidden_layers=2,num_attention_heads=4",
}
#: Of the names of large architectures, whose layers are those of their small relatives, only more of them.
_LARGE = re.compile(
    r"large|huge|giant|xxl|(?<![a-z])x?l(?![a-z])|so400m|\db(?!\w)|(?<!\d)(101|152|169|201|264)(?!\d)"
)


@dataclass(frozen=True)
class Architecture:
    """family: the module that defines it. build: makes it on the current device. size: of an image, None where inputs
    are not images (then `inputs` makes them). word: the MODEL of the commands.
    """

    zoo: str
    name: str
    family: str
    build: Callable[[], nn.Module]
    size: tuple[int, ...] | None = None

    @property
    def word(self) -> str:
        """As `bnbench convert` takes it."""
        return f"{self.zoo}:{self.name}"


def torchvision_zoo() -> Iterator[Architecture]:
    """All classification architectures."""
    import torchvision

    for name in torchvision.models.list_models(module=torchvision.models):
        builder = torchvision.models.get_model_builder(name)
        options: dict[str, Any] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        yield Architecture(
            "torchvision",
            name,
            builder.__module__.rpartition(".")[2],
            partial(builder, weights=None, **options),
            (3, 299, 299) if name == "inception_v3" else (3, 224, 224),
        )


def timm_zoo(limit: int) -> Iterator[Architecture]:
    """One of each family first, then the second of each, until there are enough; those with large names last."""
    import timm

    def order(name: str) -> tuple[bool, str]:
        return bool(_LARGE.search(name)), name

    families = {family: timm.list_models(module=family) for family in sorted(timm.list_modules())}
    lists = [
        [(family, name) for name in sorted(names, key=order)] for family, names in families.items() if names
    ]
    rounds = zip_longest(*lists)
    chosen = [one for group in rounds for one in group if one is not None][:limit]
    for family, name in chosen:
        size = timm.get_pretrained_cfg(name)
        yield Architecture(
            "timm",
            name,
            family,
            partial(timm.create_model, name, pretrained=False),
            tuple(size.input_size) if size is not None else (3, 224, 224),
        )


def hf_zoo() -> Iterator[Architecture]:
    """Small configurations, built as `hf:CONFIG` of the commands builds them."""
    for name, options in HF.items():
        word = f"hf:{name}" + (f",{options}" if options else "")
        yield Architecture("hf", name, name.removesuffix("Config").lower(), partial(_loaded, word))


def _loaded(word: str) -> nn.Module:
    from bnbench.network.source import load_model

    loaded = load_model(word)
    vars(loaded.model)["census_inputs"] = loaded.inputs
    return loaded.model


def zoo(name: str, limit: int) -> list[Architecture]:
    """The architectures of one zoo. limit: of timm's."""
    makers = {"torchvision": torchvision_zoo, "timm": lambda: timm_zoo(limit), "hf": hf_zoo}
    return list(makers[name]())


class _EmptyOnMeta(TorchFunctionMode):
    """Parameters begin without memory; numbers that a constructor computes with have values."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def on_meta(architecture: Architecture) -> nn.Module:
    """Its structure, without memory."""
    try:
        with torch.device("meta"):
            return architecture.build()
    except (NotImplementedError, RuntimeError):  # its constructor reads values, as RegNet's does
        with _EmptyOnMeta():
            return architecture.build().to("meta")
