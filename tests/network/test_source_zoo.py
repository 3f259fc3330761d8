"""Networks of timm and transformers by their names. Oracle: those packages' own constructors."""

from __future__ import annotations

import pytest
import torch

from bnbench.api.plugins import forget_plugins, known_names
from bnbench.base.errors import BnbenchError
from bnbench.data import Sizes
from bnbench.engine.build import build_model
from bnbench.engine.own import said_of
from bnbench.network.source import Wanted, call, load_model
from bnbench.study import load_study

pytestmark = pytest.mark.zoo
SMALL = "hidden_size=16,intermediate_size=16,num_hidden_layers=1,num_attention_heads=2"


def test_timm_with_random_weights() -> None:
    timm = pytest.importorskip("timm")
    loaded = load_model("timm:resnet10t", Wanted(num_classes=3, in_channels=1))
    own = timm.create_model("resnet10t", num_classes=3, in_chans=1)
    shapes = {key: value.shape for key, value in own.state_dict().items()}
    assert {key: value.shape for key, value in loaded.model.state_dict().items()} == shapes
    assert call(loaded.model.eval(), loaded.inputs(2)).shape == (2, 3)
    with pytest.raises(BnbenchError, match='Did you mean "resnet10t"'):
        load_model("timm:resnt10t")


@pytest.mark.parametrize(
    ("word", "wanted", "names"),
    [
        (f"hf:BertConfig,{SMALL}", Wanted(), ["input_ids"]),
        (f"hf:bert,{SMALL}", Wanted(num_classes=3), ["input_ids"]),
        (f"hf:ViTConfig,{SMALL},image_size=32", Wanted(num_classes=3), ["pixel_values"]),
        (
            "hf:T5Config,d_model=16,d_kv=8,d_ff=16,num_layers=1,num_heads=2",
            Wanted(),
            ["input_ids", "decoder_input_ids"],
        ),
    ],
)
def test_transformers_with_named_inputs(word: str, wanted: Wanted, names: list[str]) -> None:
    pytest.importorskip("transformers")
    loaded = load_model(word, wanted)
    inputs = loaded.inputs(2)
    assert list(inputs) == names
    with torch.no_grad():
        outputs = call(loaded.model.eval(), inputs)
    if wanted.num_classes:
        assert outputs.logits.shape == (2, 3)


def test_a_language_model_keeps_no_cache() -> None:
    """A cache hides steps from the trace: 1 of 9 gammas of Gemma 2 could be folded with it, 4 without."""
    pytest.importorskip("transformers")
    word = f"hf:Gemma2Config,num_key_value_heads=1,head_dim=8,{SMALL}"
    assert not load_model(word).model.config.use_cache
    assert load_model(f"{word},use_cache=true").model.config.use_cache


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("hf:BrtConfig", 'Did you mean "BertConfig"'),
        ("hf:BertConfig,hiden_size=3", 'Did you mean "hidden_size"'),
        ("hf:LlamaConfig", "GiB of weights"),
        (f"hf:BertConfig,{SMALL},head=AutoModelForCake", "no automatic class"),
    ],
)
def test_a_wrong_configuration_is_one_message(word: str, says: str) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(BnbenchError) as caught:
        load_model(word)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("task", "word", "sizes", "shape"),
    [
        ("language_model", f"hf:LlamaConfig,{SMALL}", Sizes((6,), 11, 11, per_position=True), (2, 6, 11)),
        ("text_classification", f"hf:BertConfig,{SMALL}", Sizes((6,), 3, 11, masked=True), (2, 3)),
    ],
)
def test_a_network_of_transformers_in_a_study(task: str, word: str, sizes: Sizes, shape: tuple) -> None:
    pytest.importorskip("transformers")
    data = "stdlib_text" if task == "language_model" else "text_topics"
    given = {
        "dataset": data,
        "optimizer": {"name": "sgd", "lr": 0.1},
        "batch_size": 8,
        "steps": 1,
        "seeds": 1,
    }
    try:
        names = known_names((), [f"model={word}"])
        study = load_study({**given, "variants": ["layer", "rms"]}, names.overrides, names.vocabulary)
        model = build_model(study.variants["layer"], sizes, 0).eval()
        assert model(torch.randint(1, 11, (2, 6))).shape == shape
        assert "it has no batch norm" in said_of(model)
    finally:
        forget_plugins()
