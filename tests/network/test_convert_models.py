"""`convert` on published networks with random weights: every proof holds."""

from __future__ import annotations

import pytest

from bnbench.network.convert import Conversion, convert
from bnbench.network.source import Wanted, load_model

SMALL = "hidden_size=32,intermediate_size=48,num_hidden_layers=2,num_attention_heads=4,vocab_size=50"


def converted(word: str, to: str, source, size: str | None = None) -> Conversion:
    loaded = load_model(word, Wanted(num_classes=10 if word.startswith("torchvision") else None, input=size))
    conversion = convert(loaded.model, to, source=source, inputs=loaded.inputs)
    assert conversion.error == ""
    assert [proof for proof in conversion.proofs if proof.passed is False] == []
    return conversion


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "to", "source", "size", "count"),
    [
        ("torchvision:resnet18", "group", "batch", "3x32x32", 20),
        ("torchvision:densenet121", "layer", "batch", "3x32x32", 121),
        ("torchvision:mobilenet_v2", "batch_custom", "batch", "3x32x32", 52),
        ("torchvision:convnext_tiny", "batch", "all", "3x32x32", 23),
        ("torchvision:vit_b_32", "rms", "all", "3x224x224", 25),
        ("torchvision:swin_t", "group", "all", "3x64x64", 29),
    ],
)
def test_torchvision(word, to, source, size, count):
    conversion = converted(word, to, source, size)
    assert [site.action for site in conversion.sites] == ["converted"] * count
    if source == "batch":
        assert conversion.proofs[1].value <= 1e-12
        left = [m for m in conversion.model.modules() if type(m).__module__ == "torch.nn.modules.batchnorm"]
        assert left == []


@pytest.mark.slow
def test_parameters_of_resnet18_by_hand():
    """torchvision gives 11,689,512; its 20 convolutions before a batch norm have 4,800 outputs together."""
    conversion = converted("torchvision:resnet18,num_classes=1000", "none", "batch", "3x32x32")
    assert conversion.proofs[3].value == (
        "11,689,512 + 4,800 biases given back - 4,800 gamma - 4,800 beta = 11,684,712"
    )


@pytest.mark.zoo
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("word", "to", "source", "count"),
    [
        ("timm:efficientnet_lite0", "group", "batch", 49),
        ("timm:convnext_atto", "batch", "all", 17),
        (f"hf:LlamaConfig,num_key_value_heads=4,{SMALL}", "layer", "all", 5),
        (f"hf:GemmaConfig,num_key_value_heads=4,head_dim=8,{SMALL}", "rms", "all", 5),
        (f"hf:BertConfig,{SMALL}", "rms", "all", 5),
    ],
)
def test_timm_and_transformers(word, to, source, count):
    pytest.importorskip({"timm": "timm", "hf": "transformers"}[word.partition(":")[0]])
    conversion = converted(word, to, source, "3x64x64" if word.startswith("timm") else None)
    assert [site.action for site in conversion.sites] == ["converted"] * count
