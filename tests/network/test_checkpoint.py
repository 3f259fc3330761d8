"""Checkpoints: wrappers' names, missing statistics, damaged and foreign files. Oracle: torch's own state_dict."""

import copy
import pickle
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bnbench.network.files.checkpoint import load_checkpoint
from bnbench.network.files.checkpoint_file import CheckpointError


def network(classes=3):
    net = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, 4, 3, bias=False),
            bn=nn.BatchNorm2d(4),
            flat=nn.Flatten(),
            fc=nn.Linear(144, classes),
        )
    )
    return net


def randomised(seed=0, classes=3):
    net, draw = network(classes), torch.Generator().manual_seed(seed)
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=draw) + 0.5)
        else:
            tensor.fill_(7)
    return net


def equal(one, other):
    return list(one) == list(other) and all(torch.equal(one[key], other[key]) for key in one)


def renamed(state, prefix):
    return {f"{prefix}{key}": value for key, value in state.items()}


def refused(net, path, *words, **options):
    """The error, with the network as it was before."""
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(net, path, **options)
    assert equal(before, net.state_dict())
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("file", ["w.safetensors", "w.pt", "w.pth"])
def test_every_tensor_is_loaded_bit_for_bit(tmp_path, file):
    saved, path = randomised().state_dict(), tmp_path / file
    (save_file if file.endswith("safetensors") else torch.save)(saved, path)
    net = network()
    report = load_checkpoint(net, path)
    assert equal(net.state_dict(), saved)
    assert (report.loaded, report.missing, report.extra, report.said) == (8, (), (), ())
    assert report.complete


@pytest.mark.parametrize(
    ("prefix", "stripped"),
    [
        ("module.", ("module.",)),
        ("_orig_mod.", ("_orig_mod.",)),
        ("model.", ("model.",)),
        ("module._orig_mod.", ("module.", "_orig_mod.")),
        ("model.module.", ("module.", "model.")),
    ],
)
def test_names_of_wrappers_are_taken_out_and_said(tmp_path, prefix, stripped):
    saved, path = randomised().state_dict(), tmp_path / "w.pt"
    torch.save(renamed(saved, prefix), path)
    net = network()
    report = load_checkpoint(net, path)
    assert equal(net.state_dict(), saved)
    assert set(report.stripped) == set(stripped)
    assert "taken out" in report.said[0]


def test_a_wrapper_of_a_part_is_taken_out(tmp_path):
    saved = randomised().state_dict()
    torch.save(
        {key.replace("bn.", "bn._orig_mod."): value for key, value in saved.items()}, tmp_path / "w.pt"
    )
    net = network()
    assert load_checkpoint(net, tmp_path / "w.pt").stripped == ("_orig_mod.",)
    assert equal(net.state_dict(), saved)


@pytest.mark.parametrize("nest", ["state_dict", "model", "model_state_dict", "ema", "ema.state_dict"])
def test_the_place_of_the_weights_in_the_file_is_said(tmp_path, nest):
    saved = randomised().state_dict()
    content = saved
    for key in reversed(nest.split(".")):
        content = {key: content, "epoch": 3}
    torch.save(content, tmp_path / "w.pt")
    net = network()
    report = load_checkpoint(net, tmp_path / "w.pt")
    assert (report.nest, report.said) == (nest, (f"the weights lie under {nest}",))
    assert equal(net.state_dict(), saved)


def test_of_two_sets_of_weights_the_one_that_is_read_is_said(tmp_path):
    saved = randomised().state_dict()
    torch.save({"ema": randomised(1).state_dict(), "state_dict": saved}, tmp_path / "w.pt")
    net = network()
    said = load_checkpoint(net, tmp_path / "w.pt").said
    assert "weights under state_dict are read, and not those under ema" in said
    assert equal(net.state_dict(), saved)


def test_statistics_that_were_not_saved_are_named(tmp_path):
    """The case of peft#1732: parameters without buffers."""
    source = randomised()
    torch.save(dict(source.named_parameters()), tmp_path / "w.pt")
    message = refused(
        network(), tmp_path / "w.pt", "running_mean and running_var are missing for 1 norm (bn)"
    )
    assert "inference would use 0 and 1" in message
    net = network()
    report = load_checkpoint(net, tmp_path / "w.pt", partial=True)
    (gap,) = report.gaps
    assert (gap.name, gap.present, gap.lacks_statistics) == ("bn", ("weight", "bias"), True)
    assert set(gap.missing) == {"running_mean", "running_var", "num_batches_tracked"}
    assert torch.equal(net.fc.weight, source.fc.weight)
    assert not report.complete


def test_statistics_without_gamma_are_named(tmp_path):
    state = randomised().state_dict()
    del state["bn.weight"], state["bn.bias"]
    torch.save(state, tmp_path / "w.pt")
    refused(
        network(), tmp_path / "w.pt", "gamma or beta is missing for 1 norm (bn), whose statistics are there"
    )


def test_counters_of_old_files_may_be_missing(tmp_path):
    state = randomised().state_dict()
    del state["bn.num_batches_tracked"]
    torch.save(state, tmp_path / "w.pt")
    report = load_checkpoint(network(), tmp_path / "w.pt")
    assert report.missing == ("bn.num_batches_tracked",)
    assert "before 0.4.1" in report.said[0]


def test_extra_tensors_are_listed(tmp_path):
    torch.save({**randomised().state_dict(), "bn2.weight": torch.ones(4)}, tmp_path / "w.pt")
    refused(network(), tmp_path / "w.pt", "not in the network: bn2.weight")
    assert load_checkpoint(network(), tmp_path / "w.pt", partial=True).extra == ("bn2.weight",)


def test_another_number_of_classes_has_its_fix(tmp_path):
    torch.save(randomised(classes=7).state_dict(), tmp_path / "w.pt")
    refused(network(), tmp_path / "w.pt", "fc.bias [7] in the file, [3] in the network", "--num-classes 7")
    refused(network(), tmp_path / "w.pt", "--num-classes 7", partial=True)


def test_the_checkpoint_of_another_network_is_refused(tmp_path):
    torch.save(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).state_dict(), tmp_path / "w.pt")
    refused(network(), tmp_path / "w.pt", "0 of this network's 8 tensors", "another network's", partial=True)


def test_the_checkpoint_of_a_part_is_recognised(tmp_path):
    torch.save(randomised().state_dict(), tmp_path / "w.pt")
    whole = nn.ModuleDict({"features": network()})
    refused(whole, tmp_path / "w.pt", '"features." stands before its names')


def test_a_tied_tensor_may_be_there_once(tmp_path):
    net = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    net["b"].weight = net["a"].weight
    state = {key: torch.rand_like(value) for key, value in net.state_dict().items() if key != "b.weight"}
    save_file(state, tmp_path / "w.safetensors")
    assert load_checkpoint(net, tmp_path / "w.safetensors").missing == ()
    assert torch.equal(net["b"].weight, state["a.weight"])


def test_numbers_that_are_not_finite_and_other_precisions_are_said(tmp_path):
    state = {k: v.half() if v.is_floating_point() else v for k, v in randomised().state_dict().items()}
    state["conv.weight"][0] = float("nan")
    torch.save(state, tmp_path / "w.pt")
    net = network()
    report = load_checkpoint(net, tmp_path / "w.pt")
    assert report.not_finite == ("conv.weight",)
    assert "float16 in the file becomes float32" in report.said
    assert torch.equal(net.fc.weight, state["fc.weight"].float())


class Trap:
    def __reduce__(self):
        return (print, ("CODE RAN",))


def test_a_pickled_network_is_refused_with_the_fix_and_runs_no_code(tmp_path, capfd):
    torch.save(network(), tmp_path / "whole.pt")
    refused(
        network(),
        tmp_path / "whole.pt",
        "torch.nn.modules.container.Sequential",
        "weights_only=False",
        "whole_weights.pt",
    )
    torch.save({"state_dict": network().state_dict(), "trap": Trap()}, tmp_path / "trap.pt")
    refused(network(), tmp_path / "trap.pt", "weights_only=True")
    (tmp_path / "old.pt").write_bytes(pickle.dumps(Trap()))
    refused(network(), tmp_path / "old.pt")
    assert "CODE RAN" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    "wrap", [lambda net: net, lambda net: {"model": net}, lambda net: {"epoch": 3, "state_dict": net}]
)
def test_the_fix_of_a_pickled_network_works(tmp_path, monkeypatch, wrap):
    monkeypatch.chdir(tmp_path)
    source, net = randomised(), network()
    torch.save(wrap(source), "whole.pt")
    message = refused(net, tmp_path / "whole.pt")
    exec(message.partition("can import it: ")[2], {"torch": torch})
    load_checkpoint(net, tmp_path / "whole_weights.pt")
    assert equal(net.state_dict(), source.state_dict())


def test_damaged_and_foreign_files_are_refused(tmp_path):
    torch.save(randomised().state_dict(), tmp_path / "w.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "w.pt").read_bytes()[:700])
    refused(network(), tmp_path / "cut.pt", "can't be read as a checkpoint")
    save_file(randomised().state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:-9])
    refused(network(), tmp_path / "cut.safetensors", "no whole .safetensors file")
    (tmp_path / "empty.pt").write_bytes(b"")
    refused(network(), tmp_path / "empty.pt", "the file is empty")
    (tmp_path / "text.pt").write_text("hello")
    refused(network(), tmp_path / "text.pt", "can't be read as a checkpoint")
    refused(network(), tmp_path / "none.pt", "No such file")
    refused(network(), tmp_path, "it is a folder", "cut.pt")
    torch.save({"state": {}, "param_groups": [{"lr": 0.1}]}, tmp_path / "sgd.pt")
    refused(network(), tmp_path / "sgd.pt", "an optimizer's state")
    torch.save([1, 2], tmp_path / "list.pt")
    refused(network(), tmp_path / "list.pt", "a list")


class Picky(nn.Module):
    """Its part of load_state_dict raises after others have taken theirs."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(2, 2), nn.Linear(2, 2)
        self.last.register_load_state_dict_pre_hook(self.refuse)

    def refuse(self, *arguments):
        raise ValueError("not today")


def test_a_network_is_never_half_loaded(tmp_path):
    torch.save(
        {key: torch.ones_like(value) for key, value in Picky().state_dict().items()}, tmp_path / "w.pt"
    )
    refused(Picky(), tmp_path / "w.pt", "does not take it: ValueError: not today")
