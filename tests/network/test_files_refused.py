"""Files that `rebuild` refuses: cut, mixed, of another network, or made to run code or to take memory."""

import json

import pytest
from torch import nn

from bnbench.base.errors import BnbenchError, ResultsError
from bnbench.network.files import Origin, check_source, read_table, rebuild_in, save
from tests.network.file_networks import Done, converted, network, norm


@pytest.fixture
def saved(tmp_path):
    save(Done(converted(norm("group", groups=2))), tmp_path / "x", network(), Origin("net.py:Net", "abc"))
    return tmp_path


def edited(folder, **values):
    """The table with other values; its tensors stay."""
    content = json.loads((folder / "x.json").read_text())
    (folder / "x.json").write_text(json.dumps({**content, **values}))


def refused(folder, model=None):
    with pytest.raises(BnbenchError) as caught:
        rebuild_in(model or network(), read_table(folder / "x"), folder / "x")
    return str(caught.value)


def test_another_source_is_refused(saved):
    table = read_table(saved / "x")
    check_source(table, "abc", saved / "x", "net.py:Net")
    with pytest.raises(ResultsError, match="allow_changed=True"):
        check_source(table, "def", saved / "x", "net.py:Net")


def test_another_network_is_refused(saved):
    other = network()
    other.fc = nn.Linear(4, 5)
    message = refused(saved, other)
    assert r"fc.weight: (3, 4) in the file, (5, 4) in the network" in message
    other = network()
    del other.block.bn
    assert "block.bn: the network has no such module" in refused(saved, other)


def test_cut_missing_and_mixed_files_are_refused(saved):
    tensors, table = saved / "x.safetensors", saved / "x.json"
    content, text = tensors.read_bytes(), table.read_text()
    tensors.write_bytes(content[:-5])
    assert "no whole .safetensors file" in refused(saved)
    tensors.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "SHA-256" in refused(saved)
    tensors.write_bytes(content)
    table.write_text(text[: len(text) // 2])
    assert "no whole JSON file" in refused(saved)
    table.write_text("[]")
    assert "no bnbench wrote it" in refused(saved)
    table.write_text("[" * 100_000)
    assert "no whole JSON file" in refused(saved)
    table.unlink()
    assert "No such file" in refused(saved)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"place": "block.bn", "module": {"norm": "no_such"}}, 'unknown norm "no_such"'),
        (
            {"place": "block.bn", "module": {"norm": "evil.py:Norm", "num_features": 4, "dim": 2}},
            "unknown norm",
        ),
        ({"place": "block.bn", "same_as": ""}, "would hold itself"),
        ({"place": "block.bn", "module": {"torch": "Module"}}, "no layer that a file may name"),
        ({"place": "block.bn", "module": {"torch": "hub.load"}}, "no layer that a file may name"),
        (
            {"place": "block.bn", "module": {"torch": "Linear", "arguments": {"in_features": "x"}}},
            "can't be built",
        ),
        (
            {
                "place": "a",
                "module": {"torch": "Linear", "arguments": {"in_features": 10**6, "out_features": 10**6}},
            },
            "asks for",
        ),
        (
            {
                "place": "block.bn",
                "module": {"norm": "group", "num_features": 4, "dim": 2, "options": {"x": 1}},
            },
            "x",
        ),
        ({"place": "block", "attribute": "forward", "value": "x"}, "its attribute forward can't be set"),
        ({"place": "block", "attribute": "_modules", "value": {}}, "its attribute _modules can't be set"),
        ({"place": "no.such", "removed": True}, "no.such"),
        ({"place": "fc", "parameter": "weight", "shape": [10**9, 10**9, 10**9]}, "no shape"),
        ({"place": "fc", "parameter": "weight", "shape": "x"}, "no shape"),
        ({"place": "fc", "parameter": "a.b", "shape": [1]}, "no name"),
        ({"place": "fc"}, "no change of a network"),
        ({"place": 3}, "no change of a network"),
    ],
)
def test_nothing_in_a_table_builds_more_than_layers(saved, change, words):
    edited(saved, changes=[change])
    assert words in refused(saved)


def test_wrong_types_and_another_form_are_refused(saved):
    edited(saved, changes=3)
    assert "changes" in refused(saved)
    edited(saved, changes=[], modes=None)
    assert "modes" in refused(saved)
    edited(saved, format=99)
    assert "its form is 99" in refused(saved)
