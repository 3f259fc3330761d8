"""`--save`, `--export`, `--checkpoint` and `bnbench.rebuild`, from the command line and Python."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from typer.testing import CliRunner

import bnbench
from bnbench.base.errors import BnbenchError
from bnbench.cli.app import app
from bnbench.network.files import read_table
from bnbench.network.files.export import export
from bnbench.network.source import Wanted, load_model

SOURCE = """
from torch import nn
class Net(nn.Sequential):
    def __init__(self, num_classes=3, width=4):
        super().__init__(nn.Conv2d(3, width, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(),
                         nn.Linear(width * 16, num_classes))
"""
MODEL = "net.py:Net,width=2"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(SOURCE)
    return tmp_path


def run(*arguments):
    result = CliRunner().invoke(app, [*map(str, arguments)])
    return result.exit_code, " ".join(result.output.split())


def folded(*arguments, model=MODEL):
    return run("fold", model, "--input", "3x6x6", *arguments)


def test_the_command_saves_and_python_builds_the_same_again(folder):
    code, output = folded("--save", "x", "--num-classes", 5)
    assert code == 0
    assert "x.safetensors and x.json are written" in output
    again = bnbench.rebuild("net.py:Net", "x")
    assert again[4].out_features == 5  # what the command was given
    assert [type(module).__name__ for module in again][:2] == ["Conv2d", "Identity"]
    held = load_file("x.safetensors")
    assert sorted(held) == sorted(again.state_dict())
    assert all(torch.equal(held[key], value) for key, value in again.state_dict().items())
    assert not again.training
    # the oracle: the network itself, in inference
    x = torch.randn(4, 3, 6, 6)
    own = load_model(MODEL, Wanted(num_classes=5, input="3x6x6")).model.eval()
    assert (own.double()(x.double()) - again.double()(x.double())).abs().max() < 1e-6
    content = json.loads((folder / "x.json").read_text())
    assert content["sites"][0]["action"] == "folded"
    assert {proof["passed"] for proof in content["proofs"]} == {True}


def test_files_that_are_there_stop_the_command_before_the_work(folder):
    (folder / "x.json").write_text("mine")
    code, output = folded("--save", "x")
    assert (code, "x.json: there is such a file" in output, "--force" in output) == (1, True, True)
    assert (folder / "x.json").read_text() == "mine"
    assert folded("--save", "x", "--force")[0] == 0
    code, output = folded("--export", "x.onnx")
    assert (code, "--export x.pt2" in output) == (1, True)


def test_a_changed_source_is_refused_unless_it_is_allowed(folder):
    folded("--save", "x")
    (folder / "net.py").write_text(SOURCE + "# a comment\n")
    with pytest.raises(BnbenchError, match="allow_changed=True"):
        bnbench.rebuild("net.py:Net", "x")
    assert isinstance(bnbench.rebuild("net.py:Net", "x", allow_changed=True), nn.Module)
    (folder / "net.py").write_text(SOURCE.replace("width, 3", "width, 2"))
    with pytest.raises(
        BnbenchError, match=r"0.weight: \(2, 3, 3, 3\) in the file, \(2, 3, 2, 2\) in the network"
    ):
        bnbench.rebuild("net.py:Net", "x", allow_changed=True)


def test_networks_of_a_program_are_saved_and_built_again():
    def make():
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

    own, x = make().eval(), torch.randn(2, 3, 6, 6)
    own[1].running_mean.uniform_()
    done = bnbench.fold(own, inputs=(3, 6, 6))
    done.save("y")
    assert read_table("y").model == ""
    for source in (make, make(), own):
        assert torch.equal(bnbench.rebuild(source, "y")(x), done.model(x))
    with pytest.raises(BnbenchError, match="is not a network"):
        bnbench.rebuild(3, "y")


class Listed(nn.Module):
    """It runs its layers from a plain list and a dictionary, which hold them beside their names."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.order, self.also = [self.conv, self.bn], {"again": (self.bn,)}

    def forward(self, x):
        for layer in self.order:
            x = layer(x)
        return x + self.also["again"][0](x)


def test_modules_in_plain_lists_come_back():
    done = bnbench.convert(Listed(), "group", inputs=(3, 8, 8))
    assert done.passed
    done.save("y")
    again, x = bnbench.rebuild(Listed, "y"), torch.randn(2, 3, 8, 8)
    assert again.also["again"][0] is again.order[1] is again.bn
    assert torch.equal(again(x), done.model(x))
    done.model.order[1] = nn.BatchNorm2d(4)  # without a name: no tensor of it is in the state_dict
    with pytest.raises(BnbenchError, match="'order'} is lost when it is built again"):
        done.save("z")


def test_a_table_can_not_ask_for_weights_or_code(folder):
    folded("--save", "x")
    content = json.loads((folder / "x.json").read_text())
    content["model"] = "net.py:Net,width=2,weights=DEFAULT"
    (folder / "x.json").write_text(json.dumps(content))
    with pytest.raises(BnbenchError, match="weights"):
        bnbench.rebuild("net.py:Net", "x")


def test_a_checkpoint_is_loaded_before_the_work(folder):
    source = load_model(MODEL, Wanted(input="3x6x6")).model
    state = {
        f"module.{key}": torch.rand_like(value) + 0.5 if value.is_floating_point() else value
        for key, value in source.state_dict().items()
    }
    torch.save({"state_dict": state}, "w.pt")
    code, output = folded("--checkpoint", "w.pt", "--save", "x")
    assert code == 0
    assert "the weights lie under state_dict" in output
    assert "module. taken out of the names" in output
    assert torch.equal(bnbench.rebuild("net.py:Net", "x")[4].weight, state["module.4.weight"])
    torch.save({key: value for key, value in state.items() if "running" not in key}, "lost.pt")
    code, output = folded("--checkpoint", "lost.pt")
    assert (code, "running_mean and running_var are missing for 1 norm (1)" in output) == (1, True)
    assert folded("--checkpoint", folder)[0] == 1
    assert folded("--checkpoint", "none.pt")[0] == 1


@pytest.mark.slow
def test_an_export_is_loaded_again_and_compared(folder):
    code, output = folded("--export", "x.pt2", "--save", "x")
    assert code == 0
    assert "holds: exported: 0: ulp" in output
    x = torch.randn(5, 3, 6, 6)
    program = torch.export.load("x.pt2").module()
    assert torch.equal(program(x), bnbench.rebuild("net.py:Net", "x")(x))
    code = "import torch; torch.export.load('x.pt2').module()(torch.randn(2, 3, 6, 6))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Branches(nn.Module):
    """It asks a value which way to go."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x):
        return self.fc(x) if x.sum().item() > 0 else x


class Fixed(nn.Linear):
    """It takes two samples alone."""

    def forward(self, x):
        return super().forward(x).reshape(2, -1)


@pytest.mark.slow
def test_what_torch_can_not_export_has_its_reason_and_no_file(folder, capfd):
    proof = export(Branches(), lambda n: torch.randn(n, 3), "b.pt2")
    assert (proof.passed, "data-dependent" in proof.explanation, (folder / "b.pt2").exists()) == (
        False,
        True,
        False,
    )
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.slow
def test_a_program_that_computes_something_else_has_no_file(folder, monkeypatch):
    load = torch.export.load

    def wrong(file):
        program = load(file)
        program.state_dict["fc.weight" if "fc.weight" in program.state_dict else "weight"].add_(1e-3)
        return program

    monkeypatch.setattr(torch.export, "load", wrong)
    proof = export(nn.Linear(3, 3), lambda n: torch.randn(n, 3), "w.pt2")
    assert proof.passed is False
    assert proof.value > 100
    assert not (folder / "w.pt2").exists()


NORM = """
import torch
class Half(torch.nn.Module):
    def __init__(self, num_features, *, eps: float = 1e-5):
        super().__init__()
        self.weight, self.eps = torch.nn.Parameter(torch.ones(num_features)), eps
    def forward(self, x):
        return self.weight.reshape(-1, *[1] * (x.dim() - 2)) * x / 2
"""


def test_convert_saves_and_a_normalizer_of_ones_own_is_named_again(folder):
    (folder / "mine.py").write_text(NORM)
    command = ["convert", MODEL, "--input", "3x6x6", "--save", "x"]
    assert run(*command, "--to", "group", "--option", "groups=1")[0] == 0
    again = bnbench.rebuild("net.py:Net", "x")
    assert isinstance(again[1], nn.GroupNorm)
    assert again[0].bias is not None
    assert run(*command, "--to", "mine.py:Half", "--force")[0] == 0
    again = bnbench.rebuild("net.py:Net", "x", norm="mine.py:Half")
    assert type(again[1]).__name__ == "Half"
    x = torch.randn(2, 3, 6, 6)
    done = bnbench.convert(MODEL, "mine.py:Half", inputs=(3, 6, 6))
    assert torch.equal(again(x), done.model(x))
