"""MODEL words. Oracle: the networks of `own_networks.py`, and torchvision's own constructors."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
import torchvision

from bnbench.base.errors import BnbenchError
from bnbench.network.source import Wanted, call, load_model
from bnbench.network.source.words import read_word

FILE = Path(__file__).with_name("own_networks.py")


@pytest.mark.parametrize(
    ("word", "place", "name", "options"),
    [
        ("a/b.py:Net", "a/b.py", "Net", {}),
        ("b.py", "b.py", "", {}),
        ("b.py:Net,width=8,rate=1e-3,kind=x", "b.py", "Net", {"width": 8, "rate": 1e-3, "kind": "x"}),
        ("b.py:Net,sizes=[1, 2],last=true", "b.py", "Net", {"sizes": [1, 2], "last": True}),
        ("torchvision:resnet18", "", "resnet18", {}),
        ("hf:LlamaConfig,hidden_size=64", "", "LlamaConfig", {"hidden_size": 64}),
    ],
)
def test_a_word_is_read(word: str, place: str, name: str, options: dict) -> None:
    read = read_word(word)
    assert (read.place, read.name, dict(read.options)) == (place, name, options)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("torchvison:resnet18", 'Did you mean "torchvision:resnet18"'),
        ("resnet18", "names no network"),
        ("timm:", "the name is missing"),
        ("a.py:Net,width", 'width" is not of the form option=value'),
        ("a.py:Net,width=1,width=2", "given twice"),
        ("nowhere/a.py:Net", "no such file"),
        (f"{FILE}:Nett", 'Did you mean "Net"'),
        (f"{FILE}:number", "of type int, not a network"),
        (f"{FILE}", "which of its networks"),
        (f"{FILE}:Net", "needs num_classes"),
        (f"{FILE}:Needs", "needs depth, which nothing gives"),
        (f"{FILE}:Rgb,widht=3", "has no argument widht"),
        (f"{FILE}:Raises", "own_networks.py:"),
        (f"{FILE}:pair,num_classes=3", "returned a tuple of 2"),
        (f"{FILE}:TwoArguments", "its forward takes x, other"),
        ("torchvision:resnet81", 'Did you mean "resnet18"'),
        ("torchvision:resnet18,weights=DEFAULT", "nothing is downloaded"),
        ("torchvision:resnet18,num_clases=3", "num_clases"),
    ],
)
def test_a_wrong_word_is_one_message(word: str, says: str) -> None:
    with pytest.raises(BnbenchError) as caught:
        load_model(word)
    assert says in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_weights_follow_from_the_seed_alone_and_the_process_stays_as_it_was() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (load_model(f"{FILE}:Rgb", Wanted(seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, same.model.state_dict()[name])
    assert not torch.equal(one.model.conv2.weight, other.model.conv2.weight)


def test_a_factory_is_called_with_the_facts_that_its_signature_has() -> None:
    loaded = load_model(f"{FILE}:Net", Wanted(num_classes=4, in_channels=2, options={"width": 6}))
    assert loaded.model.fc.out_features == 4
    assert loaded.model.conv.weight.shape == (6, 2, 3, 3)
    assert loaded.said[0] == "built as Net(num_classes=4, in_channels=2, width=6)"
    unet = load_model(f"{FILE}:UNet", Wanted(in_channels=2, outputs=5))  # n_channels, n_classes
    assert unet.model.down[0].in_channels == 2
    assert unet.model.up.out_channels == 5


@pytest.mark.parametrize(
    ("name", "given", "shapes", "text"),
    [
        ("Rgb", None, [(2, 3, 64, 64)], "3 x 64 x 64"),
        ("Rgb", "3x8x8", [(2, 3, 8, 8)], "3 x 8 x 8"),
        ("LayerNormed,num_classes=2", None, [(2, 64)], "64"),
        ("Letters,vocab_size=7", None, [(2, 16)], "16 tokens of 7"),
        ("Letters,vocab_size=7", "tokens:5", [(2, 5)], "5 tokens of 7"),
        ("UNet,n_channels=1,n_classes=1", None, [(2, 1, 64, 64), (2,)], "1 x 64 x 64 and steps"),
        ("UNet,n_channels=1,n_classes=1", "1x8x8,steps", [(2, 1, 8, 8), (2,)], "1 x 8 x 8 and steps"),
    ],
)
def test_inputs_are_what_the_first_layer_takes_or_what_the_user_says(name, given, shapes, text) -> None:
    loaded = load_model(f"{FILE}:{name}", Wanted(input=given))
    made = loaded.inputs(2)
    assert [tuple(one.shape) for one in (made if isinstance(made, tuple) else (made,))] == shapes
    assert loaded.input_text == text
    assert len(call(loaded.model.eval(), made)) == 2


def test_an_input_that_the_network_does_not_take_names_the_layer_and_both_shapes() -> None:
    with pytest.raises(BnbenchError) as caught:
        load_model(f"{FILE}:Rgb", Wanted(input="1x8x8"))
    assert "layer conv (Conv2d) got (2, 1, 8, 8), and takes (N, 3, H, W)" in str(caught.value)
    with pytest.raises(BnbenchError, match='"8 by 8" is no shape'):
        load_model(f"{FILE}:Rgb", Wanted(input="8 by 8"))


def test_the_source_is_identified_with_what_the_file_imports_beside_it(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from part import width\nfrom torch import nn\nnet = nn.BatchNorm1d(width)\n"
    )
    (tmp_path / "part.py").write_text("width = 3\n")
    hashes = [load_model(f"{tmp_path / 'net.py'}:net").source_hash]
    (tmp_path / "part.py").write_text("width = 4\n")
    loaded = load_model(f"{tmp_path / 'net.py'}:net")
    assert loaded.model.num_features == 4
    assert loaded.input_text == "4"  # a root that is a normalizer
    assert loaded.source_hash != hashes[0]


def test_torchvision_with_random_weights() -> None:
    loaded = load_model("torchvision:squeezenet1_1", Wanted(num_classes=3))
    own = torchvision.models.squeezenet1_1(num_classes=3)
    assert {k: v.shape for k, v in loaded.model.state_dict().items()} == {
        k: v.shape for k, v in own.state_dict().items()
    }
    assert loaded.source_hash == f"torchvision {version('torchvision')}: squeezenet1_1"


@pytest.mark.slow
def test_torchvision_comes_without_the_compiler_and_can_still_ask_for_it():
    """In a process of its own: this one may have imported it."""
    script = """
import sys
from bnbench.network.source.packages import of_torchvision
of_torchvision("resnet18")
assert not {"torch._dynamo", "torch._dynamo.utils"} & set(sys.modules)
from torchvision.ops import roi_align
asked = roi_align.__globals__["is_compile_supported"]
given = asked("cpu"), asked("cuda")
from torch._dynamo.utils import is_compile_supported
assert is_compile_supported is not asked
assert given == (is_compile_supported("cpu"), is_compile_supported("cuda"))
"""
    subprocess.run([sys.executable, "-c", script], check=True)
