"""X.safetensors and X.json: a changed network comes back bit for bit. Oracle: the network that was saved."""

import copy
import json
import os

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from bnbench.base.errors import ResultsError
from bnbench.base.network_records import Proof, SiteRecord
from bnbench.models.layers import NormLayer
from bnbench.network.convert import Choices, replace_norms
from bnbench.network.files import Origin, read_table, rebuild_in, save
from bnbench.network.fold.folding import fold_network
from bnbench.network.sites.find import find_norm_sites
from bnbench.norms import norms
from tests.network.file_networks import Done, converted, network, norm, randomise


def equal(one, other):
    one, other = one.state_dict(), other.state_dict()
    return list(one) == list(other) and all(
        one[key].dtype == other[key].dtype and torch.equal(one[key], other[key]) for key in one
    )


def round_trip(folder, changed, build=network, x=None):
    """Save a network and build it again; everything that can differ is compared."""
    save(Done(changed), folder / "x", build())
    table = read_table(folder / "x")
    again = rebuild_in(build(), table, folder / "x")
    assert equal(again, changed)
    names = list(dict(changed.named_modules(remove_duplicate=False)))
    assert list(dict(again.named_modules(remove_duplicate=False))) == names
    for name, module in changed.named_modules():
        assert type(again.get_submodule(name)) is type(module)
        assert again.get_submodule(name).training == module.training
    grads = [[p.requires_grad for p in model.parameters()] for model in (changed, again)]
    assert grads[0] == grads[1]
    if x is None:
        x = torch.randn(5, 3, 8, 8).to(next(changed.parameters()).dtype)
    assert torch.equal(again(x), changed(x))
    return again, table


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("name", "options"),
    [("group", {"groups": 2, "eps": 1e-3}), ("batch_custom", {}), ("none", {}), ("layer", {})],
)
def test_a_converted_network_comes_back_bit_for_bit(tmp_path, name, options, training):
    model = converted(norm(name, **options)).train(training)
    _, table = round_trip(tmp_path, model)
    changes = {(change["place"], key) for change in table.changes for key in change if key != "place"}
    assert {("block.conv", "parameter"), ("block.bn", "module")} <= changes


def test_a_folded_network_comes_back_bit_for_bit(tmp_path):
    model = network()
    model.block.bn, model.block.conv.bias = nn.Identity(), nn.Parameter(torch.zeros(4))
    _, table = round_trip(tmp_path, randomise(model).eval())
    assert [change for change in table.changes if change["place"] == "block.bn"] == [
        {"place": "block.bn", "module": {"torch": "Identity", "arguments": {}}}
    ]


class Fused(nn.BatchNorm2d):
    """A norm that drops and activates besides, as timm's do."""

    def __init__(self, features):
        super().__init__(features)
        self.drop, self.act = nn.Identity(), nn.SiLU()

    def forward(self, x):
        return self.act(self.drop(super().forward(x)))


class Rows(nn.Module):
    """A layer norm over tokens, a fused norm under two names, and a hook that the source itself sets."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, bias=False), Fused(4)
        self.also = nn.ModuleList([self.norm])
        self.tokens, self.fc = nn.LayerNorm(4), nn.Linear(4, 4)
        self.norm.register_forward_hook(lambda module, inputs, output: output * 2)
        self.norm.note = "kept"

    def forward(self, x):
        x = self.norm(self.conv(x)).flatten(2).transpose(1, 2)
        return self.fc(self.tokens(x))


@pytest.mark.parametrize("name", ["group", "batch", "none", "dyt"])
@pytest.mark.parametrize("training", [False, True])
def test_what_convert_puts_in_comes_back(tmp_path, name, training):
    model, inputs = randomise(Rows()), lambda n: torch.randn(n, 3, 6, 6)
    sites = find_norm_sites(model, inputs).sites
    done = replace_norms(copy.deepcopy(model), sites, NormLayer(norms.get(name)), Choices(source="all"))
    assert [site.action for site in done.sites] == ["converted", "converted"]
    changed = done.model.train(training)
    torch.manual_seed(0)
    x = torch.randn(5, 3, 6, 6)
    again, _ = round_trip(tmp_path, changed, Rows, x)
    assert again.norm is again.also[0]
    assert len(again.norm._forward_hooks) == 1
    assert again.norm.training is training
    assert str(again) == str(changed)


class Padded(nn.Module):
    """Norms before a convolution with padding, around attention, and with an activation inside."""

    def __init__(self):
        super().__init__()
        self.first, self.conv, self.norm = (
            nn.BatchNorm2d(3),
            nn.Conv2d(3, 4, 3, padding=1, bias=False),
            Fused(4),
        )
        self.tokens, self.fc = nn.LayerNorm(4), nn.Linear(4, 4, bias=False)

    def forward(self, x):
        x = self.norm(self.conv(self.first(x))).flatten(2).transpose(1, 2)
        return self.fc(self.tokens(x))


def test_what_fold_puts_in_comes_back(tmp_path):
    model, inputs = randomise(Padded()).eval(), lambda n: torch.randn(n, 3, 6, 6)
    done = fold_network(model, inputs)
    assert [site.action for site in done.sites] == ["folded"] * 3
    _, table = round_trip(tmp_path, done.model, Padded, inputs(5))
    assert {"place": "conv", "zero_point": True} in table.changes
    assert {"place": "tokens", "parameter": "weight", "shape": None} in table.changes


def test_a_network_without_changes_comes_back(tmp_path):
    _, table = round_trip(tmp_path, randomise(network()).eval())
    assert table.changes == []


def test_a_norm_that_is_the_whole_network_comes_back(tmp_path):
    changed = norm("group", groups=2)
    round_trip(tmp_path, randomise(changed), lambda: nn.BatchNorm2d(4), torch.randn(3, 4, 5, 5))


def test_plain_attributes_come_back(tmp_path):
    model = randomise(network()).eval()
    model.block.bn.eps, model.block.bn.momentum = 0.25, None
    again, table = round_trip(tmp_path, model)
    assert (again.block.bn.eps, again.block.bn.momentum, len(table.changes)) == (0.25, None, 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_precisions_come_back(tmp_path, dtype):
    again, _ = round_trip(tmp_path, converted(norm("group", groups=2)).to(dtype).eval())
    assert again.fc.weight.dtype == dtype


def test_layouts_in_memory_come_back(tmp_path):
    model = converted(norm("group", groups=2)).to(memory_format=torch.channels_last).eval()
    again, _ = round_trip(tmp_path, model)
    assert again.stem.weight.stride() == model.stem.weight.stride() != network().stem.weight.stride()


def test_frozen_parameters_and_modes_of_parts_come_back(tmp_path):
    model = randomise(network()).train()
    model.block.eval()
    model.stem.weight.requires_grad_(False)
    again, _ = round_trip(tmp_path, model)
    assert again.training
    assert not again.block.bn.training
    assert not again.stem.weight.requires_grad


class Tied(nn.Module):
    """One norm under two names, one weight in two layers, a view of it, and a buffer that is not in the state_dict."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.b.weight = self.a.weight
        self.norm = nn.BatchNorm1d(4)
        self.again = nn.ModuleList([self.norm])
        self.register_buffer("scale", torch.tensor(2.0))
        self.register_buffer("hidden", torch.tensor([3.0]), persistent=False)
        self.register_buffer("view", torch.arange(12.0).reshape(3, 4).t()[1])
        self.register_buffer("nothing", torch.empty(0))

    def forward(self, x):
        return self.again[0](self.b(self.norm(self.a(x)))) * self.scale * self.hidden + self.view.sum()


@pytest.mark.parametrize("shared", [True, False])
def test_ties_are_written_once_and_come_back(tmp_path, shared):
    model = Tied()
    if shared:
        model.norm = model.again[0] = norm("group", dim=1, groups=2)
    model = randomise(model).double()
    again, table = round_trip(tmp_path, model, Tied, torch.randn(5, 4).double())
    assert again.norm is again.again[0]
    assert again.a.weight is again.b.weight
    assert again.hidden.dtype == torch.float64
    assert table.tensors.aliases["b.weight"] == "a.weight"
    held = load_file(tmp_path / "x.safetensors")
    assert "b.weight" not in held
    assert held["view"].tolist() == model.view.tolist()


def test_what_was_tied_and_is_no_more_comes_back(tmp_path):
    model = randomise(Tied())
    model.b.weight = nn.Parameter(torch.randn(4, 4))
    again, _ = round_trip(tmp_path, model, Tied, torch.randn(5, 4))
    assert not torch.equal(again.a.weight, again.b.weight)


def test_the_table_has_sites_proofs_and_versions(tmp_path):
    site = SiteRecord("block.bn", ("block.bn", "also"), "batch", 1, "converted", "", {"after": "group"})
    done = Done(randomise(network()), (site,), (Proof("counts", True, 1, "found = converted + left"),))
    save(done, tmp_path / "x", network(), Origin("net.py:Net", "abc", 3))
    content = json.loads((tmp_path / "x.json").read_text())
    assert content["sites"] == [
        {
            **{"name": "block.bn", "names": ["block.bn", "also"], "kind": "batch", "calls": 1},
            **{"action": "converted", "reason": "", "after": "group"},
        }
    ]
    assert content["proofs"][0]["passed"] is True
    assert (content["model"], content["source_hash"], content["torch"]) == (
        "net.py:Net",
        "abc",
        torch.__version__,
    )
    assert content["dtypes"] == {"float32": 9, "int64": 1}
    assert content["parameters"] == sum(p.numel() for p in network().parameters())


def test_files_that_are_there_are_kept(tmp_path):
    save(Done(network()), tmp_path / "x", network())
    before = (tmp_path / "x.safetensors").read_bytes(), (tmp_path / "x.json").read_bytes()
    with pytest.raises(ResultsError, match="--force"):
        save(Done(converted(norm("group"))), tmp_path / "x.json", network())
    assert ((tmp_path / "x.safetensors").read_bytes(), (tmp_path / "x.json").read_bytes()) == before
    save(Done(converted(norm("group"))), tmp_path / "x", network(), force=True)
    assert read_table(tmp_path / "x").changes
    assert sorted(os.listdir(tmp_path)) == ["x.json", "x.safetensors"]


def test_what_no_file_can_hold_is_refused_before_anything_is_written(tmp_path):
    class Own(nn.Module):
        def forward(self, x):
            return x

    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"step": 3}

        def set_extra_state(self, state):
            pass

    unknown, meta, lazy = network(), network(), network()
    unknown.block.bn = Own()
    meta.fc.weight = nn.Parameter(torch.empty(3, 4, device="meta"))
    lazy.fc = nn.LazyLinear(3)
    for changed, original, words in (
        (unknown, network(), "block.bn: .*Own is no layer of torch or of bnbench"),
        (meta, network(), "fc.weight can't be saved: it is on the meta device"),
        (nn.Sequential(Extra(2, 2)), nn.Sequential(Extra(2, 2)), "get_extra_state"),
        (lazy, copy.deepcopy(lazy), "it has no shape yet"),
    ):
        with pytest.raises(ResultsError, match=words):
            save(Done(changed), tmp_path / "x", original)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_and_a_place_that_is_no_folder_give_one_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="can't be written"):
        save(Done(network()), tmp_path / "file" / "x", network())
