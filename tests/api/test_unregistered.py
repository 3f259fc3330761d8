"""A plugin that registers nothing says what it defines, and gives the lines; a helper may register in its place."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from bnbench.api.plugins import forget_plugins, known_names
from bnbench.base.errors import PluginError


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    known_names()


def written(folder: Path, text: str, name: str = "my_model.py") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


NETWORK = """
    from torch import nn
    class TinyUNet(nn.Module):
        def __init__(self, in_channels=1):
            super().__init__()
"""
LAYER = """
    from torch import nn
    class MyBN(nn.BatchNorm1d):
        def __init__(self, num_features):
            super().__init__(num_features)
"""


@pytest.mark.parametrize(
    ("text", "defined", "kind"),
    [
        (NETWORK, "it defines TinyUNet(nn.Module).", "model"),
        (LAYER, "it defines MyBN(nn.BatchNorm1d).", "norm"),
        ("import torch\nclass Lookahead(torch.optim.SGD): ...", "it defines Lookahead(SGD).", "optimizer"),
        ("from torch import nn\nclass FocalLoss(nn.Module): ...", "it defines FocalLoss(nn.Module).", "loss"),
    ],
)
def test_it_names_what_it_defines_and_its_lines_can_be_pasted(
    folder: Path, text: str, defined: str, kind: str
) -> None:
    path = written(folder, text)
    with pytest.raises(PluginError) as caught:
        known_names([path])
    assert caught.value.what == f"--plugin {path}: it registers nothing; {defined}"
    lines = caught.value.fix.partition("add to my_model.py:\n")[2]
    path.write_text(f"{textwrap.dedent(text)}\n{lines}\n")
    before = set(known_names().vocabulary[kind])
    (name,) = set(known_names([path]).vocabulary[kind]) - before
    assert name in {"tiny_unet", "my_bn", "lookahead", "focal_loss"}


def test_a_layer_needs_no_registering(folder: Path) -> None:
    path = written(folder, LAYER, "layers.py")
    with pytest.raises(PluginError) as caught:
        known_names([path])
    assert caught.value.fix.startswith(
        f"variants.my_bn.norm={path}:MyBN in place of --plugin, or add to layers.py:"
    )
    known_names([path], [f"variants.my_bn.norm={path}:MyBN"])


def test_nothing_in_it(folder: Path) -> None:
    with pytest.raises(
        PluginError, match="it registers nothing, and it defines no layer, network, optimizer or loss"
    ):
        known_names([written(folder, "x = 1")])


def test_what_a_helper_registers_is_there_every_time(folder: Path) -> None:
    registers = (
        "from bnbench.norms import norms\n@norms.register('helped')\ndef helped(num_features, dim): ...\n"
    )
    written(folder, registers, "registers_helped.py")
    path = written(folder, "import registers_helped")
    for _ in range(3):
        assert known_names([path]).vocabulary["norm"]["helped"].plugin.startswith("bnbench_plugin_my_model")
        forget_plugins()  # as a call from Python does at its end
    assert "helped" not in known_names().vocabulary["norm"]


@pytest.mark.parametrize("end", ["KeyboardInterrupt", "SystemExit(2)", "ValueError", "GeneratorExit"])
def test_a_plugin_that_ends_after_registering_leaves_nothing(folder: Path, end: str) -> None:
    registers = "from bnbench.norms import norms\n@norms.register('half')\ndef half(num_features, dim): ...\n"
    path = written(folder, f"{registers}raise {end}\n")
    for _ in range(2):
        with pytest.raises((PluginError, KeyboardInterrupt)):
            known_names([path])
        assert "half" not in known_names().vocabulary["norm"]
    path.write_text(registers)
    assert "half" in known_names([path]).vocabulary["norm"]
    other = folder / "other"
    other.mkdir()
    twin = written(other, registers)
    with pytest.raises(PluginError, match='the norm "half" is registered already'):
        known_names([path, twin])
    assert "half" in known_names([twin]).vocabulary["norm"]


def test_two_plugins_of_one_name_in_two_folders(folder: Path) -> None:
    paths = []
    for name in ("one", "two"):
        (folder / name).mkdir()
        text = f"from bnbench.norms import norms\n@norms.register('of_{name}')\ndef make(num_features, dim): ...\n"
        paths.append(written(folder / name, text, "plug.py"))
    for _ in range(2):
        registered = known_names(paths).vocabulary["norm"]
        assert registered["of_one"].factory is not registered["of_two"].factory
        assert registered["of_one"].plugin != registered["of_two"].plugin


def test_what_a_thread_of_a_plugin_registers_is_the_plugin_s(folder: Path) -> None:
    text = """
        import threading
        from bnbench.norms import norms
        def register():
            @norms.register("threaded")
            def threaded(num_features, dim): ...
        thread = threading.Thread(target=register)
        thread.start()
        thread.join()
    """
    for _ in range(2):
        assert "threaded" in known_names([written(folder, text)]).vocabulary["norm"]
        assert "threaded" not in known_names().vocabulary["norm"]
