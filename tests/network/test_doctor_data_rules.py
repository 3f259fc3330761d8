"""Rules of doctor that run or need data: each fires with its number, and is silent where all is well."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils.checkpoint import checkpoint
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, TensorDataset

import bnbench
from bnbench.base.network_records import Finding
from bnbench.data import Sizes
from bnbench.models import models
from bnbench.models.layers import NormLayer
from bnbench.network.doctor.data import DataBatch, PatientData, padded_pair
from bnbench.network.doctor.rules.outputs import form_of, loss_form
from bnbench.norms import norms


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def findings(model: nn.Module, rule: str, data: Any = None, **options: Any) -> tuple[Finding, ...]:
    diagnosis = bnbench.doctor(model, rules=rule, data=data, **options)
    assert not diagnosis.idle, diagnosis.idle
    return diagnosis.findings


IMAGES = normal(256, 3, 8, 8)


def images(size: int, count: int = 256, **options: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(IMAGES[:count], torch.arange(count) % 4), batch_size=size, **options)


def net(*middle: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        *middle,
        nn.Conv2d(8, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )


# --- D15


def loss_data(objective: Any, targets: Tensor | None = None) -> PatientData:
    labels = torch.arange(32) % 4 if targets is None else targets
    return PatientData("made up", (DataBatch(IMAGES[:32], labels, 32),), objective=objective)


CROSS = functional.cross_entropy


@pytest.mark.parametrize(
    ("layer", "loss", "severity"),
    [
        (nn.Softmax(1), CROSS, "error"),
        (nn.Softmax(1), None, "warning"),
        (nn.Softmax(1), functional.nll_loss, "error"),
        (nn.LogSoftmax(1), CROSS, "note"),
        (nn.Identity(), functional.nll_loss, "error"),
        (nn.Softmax(1), lambda p, y: functional.nll_loss(p.log(), y), ""),
        (nn.LogSoftmax(1), functional.nll_loss, ""),
        (nn.LogSoftmax(1), None, ""),
        (nn.Identity(), CROSS, ""),
        (nn.Identity(), None, ""),
        (nn.Softmax(1), lambda p, y: ((p - functional.one_hot(y, 4)) ** 2).sum(1).mean(), ""),
    ],
)
def test_d15_softmax_before_the_loss(layer: nn.Module, loss: Any, severity: str) -> None:
    found = findings(nn.Sequential(*net(), layer), "D15", loss_data(loss))
    assert [finding.severity for finding in found] == ([severity] if severity else [])
    if severity in ("error", "warning") and isinstance(layer, nn.Softmax):
        assert found[0].evidence < 1e-5  # the sums are one
        assert (
            f"{math.log(1 + 3 / math.e):.2f}" in found[0].cost
        )  # the least cross-entropy of four probabilities


def test_d15_least_cross_entropy_of_probabilities() -> None:
    """Oracle: a network that is sure and right."""
    sure = torch.eye(4)
    assert float(CROSS(sure, torch.arange(4))) == pytest.approx(math.log(1 + 3 / math.e), rel=1e-6)


def test_d15_sigmoid_before_the_cross_entropy_of_logits() -> None:
    targets = (normal(32, 4) > 0).float()
    data = loss_data(functional.binary_cross_entropy_with_logits, targets)
    (finding,) = findings(nn.Sequential(*net(), nn.Sigmoid()), "D15", data)
    assert finding.severity == "error"
    assert 0 < finding.evidence < 1
    assert not findings(net(), "D15", data)
    of_probabilities = loss_data(functional.binary_cross_entropy, targets)
    assert not findings(nn.Sequential(*net(), nn.Sigmoid()), "D15", of_probabilities)


def test_d15_softmax_inside_is_none() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head = nn.LayerNorm(6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.norm(x).softmax(-1))

    assert not findings(Attends(), "D15", normal(64, 6))


def test_d15_softmax_in_eval_mode_alone_is_none() -> None:
    class Shows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def forward(self, x: Tensor) -> Tensor:
            y = self.net(x)
            return y if self.training else y.softmax(1)

    assert not findings(Shows(), "D15", loss_data(CROSS))
    assert not findings(Shows().eval(), "D15", loss_data(CROSS))


def test_forms_of_losses_and_outputs() -> None:
    outputs, labels = normal(16, 5), torch.arange(16) % 5
    smoothed = nn.CrossEntropyLoss(label_smoothing=0.1)
    assert loss_form(CROSS, outputs, labels) == loss_form(smoothed, outputs, labels) == "softmax"
    assert loss_form(functional.nll_loss, outputs, labels) == "nll"
    assert loss_form(functional.mse_loss, outputs, outputs) == "other"
    assert form_of(normal(4, 3, 5, 5).softmax(1)) == ("softmax", 1)
    assert form_of(normal(4, 7, 3).log_softmax(-1)) == ("log_softmax", 2)
    assert form_of(normal(4, 3))[0] == "other"


# --- D16


def test_d16_variance_shift_of_dropout() -> None:
    """Oracle: (v + p m²) / ((1 - p) v) for inputs of mean m and variance v (Li et al. 2019)."""
    rate = 0.3
    model = nn.Sequential(nn.Dropout(rate), nn.BatchNorm1d(6))
    (finding,) = findings(model, "D16", 1 + normal(1024, 6))
    assert finding.evidence == pytest.approx((1 + rate) / (1 - rate), rel=0.05)
    assert (finding.place, finding.severity) == ("1", "warning")


def test_d16_names_the_dropout() -> None:
    class Function(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.second = nn.BatchNorm1d(6), nn.BatchNorm1d(6)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(functional.dropout(self.norm(x).relu(), 0.5, self.training))

    (finding,) = findings(Function(), "D16", normal(256, 6))
    assert finding.place == "second"
    assert "dropout in the network itself" in finding.fix
    (finding,) = findings(net(nn.Dropout(0.5)), "D16", inputs="3x8x8")
    assert finding.place == "5"
    assert "Dropout 3" in finding.fix


def test_d16_stochastic_depth_is_a_note() -> None:
    class StochasticDepth(nn.Module):
        p = 0.5

        def forward(self, x: Tensor) -> Tensor:
            kept = x.new_empty(len(x), 1, 1, 1).bernoulli_(1 - self.p) / (1 - self.p)
            return x * kept if self.training else x

    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.drop = nn.BatchNorm2d(3), StochasticDepth()
            self.second = nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.drop(self.norm(x)))

    (finding,) = findings(Branch(), "D16", images(32))
    assert finding.severity == "note"
    assert finding.evidence == pytest.approx(
        2.0, rel=0.1
    )  # values of variance 1, doubled in half of the samples


class OwnDropout(nn.Module):
    """Values, each by itself, with a rate under a name of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand_like(x) > 0.4) / 0.6 if self.training else x


class Reads(nn.Module):
    def __init__(self, rate: float) -> None:
        super().__init__()
        self.lstm, self.norm = nn.LSTM(6, 8, num_layers=2, dropout=rate, batch_first=True), nn.BatchNorm1d(8)
        with torch.no_grad():
            for parameter in self.lstm.parameters():
                parameter.mul_(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.lstm(x)[0][:, -1])


def test_d16_own_classes_and_recurrent_layers() -> None:
    (finding,) = findings(net(OwnDropout()), "D16", images(32))
    assert finding.severity == "warning"
    assert "OwnDropout 3" in finding.fix
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        found = [findings(Reads(rate), "D16", normal(256, 5, 6)) for rate in (0.7, 0.0)]
    assert [len(each) for each in found] == [1, 0]
    assert "LSTM lstm" in found[0][0].fix


class Noisy(nn.Module):
    """Noise in the forward of the network, in training or always."""

    def __init__(self, always: bool) -> None:
        super().__init__()
        self.always, self.norm = always, nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        if self.training or self.always:
            x = x * torch.bernoulli(torch.full_like(x, 0.5)) / 0.5
        return self.norm(x)


def test_d16_noise_of_ones_own() -> None:
    """Oracle: values of mean 0, doubled or dropped, have twice the variance."""
    (finding,) = findings(Noisy(always=False), "D16", normal(1024, 6))
    assert finding.evidence == pytest.approx(2, rel=0.05)
    assert "the noise in the network itself" in finding.fix
    assert not findings(Noisy(always=True), "D16", normal(1024, 6))  # as in a variational autoencoder


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(*net()[:-1], nn.Dropout(0.5), nn.Linear(8, 4)),
        net(nn.Dropout(0.0)),
        net(nn.Dropout(0.01)),
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.Dropout(0.5), nn.GroupNorm(2, 8)),
    ],
    ids=["after the last", "rate 0", "rate 0.01", "group norm"],
)
def test_d16_is_silent(model: nn.Module) -> None:
    assert not findings(model, "D16", images(32))


# --- D17, D18, D24


def test_d17_batches_of_two() -> None:
    found = findings(net(), "D17", images(2))
    assert [finding.place for finding in found] == ["1", "4"]
    assert not findings(net(), "D17", images(32))
    assert not findings(net(), "D17", inputs="3x8x8")  # without data the batch size is not known


def test_d17_independent_values_of_a_batch() -> None:
    """Oracle: of n independent values the variance of a mean is 1 / n of theirs."""
    data = DataLoader(TensorDataset(normal(1024, 6)), batch_size=8)
    (finding,) = findings(nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 2)), "D17", data)
    assert finding.evidence == pytest.approx(8, rel=0.4)
    twice = normal(768, 6).repeat_interleave(2, 0)  # 24 samples, of which 12 are independent
    (finding,) = findings(nn.BatchNorm1d(6), "D17", list(twice.split(24)))
    assert finding.evidence == pytest.approx(12, rel=0.3)
    assert not findings(nn.BatchNorm1d(6), "D17", list(normal(1536, 6).split(48)))


def test_d17_few_values_of_a_group() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(8, 8), nn.Flatten(), nn.Linear(32, 2))
    (finding,) = findings(model, "D17", normal(64, 3, 4, 4))
    assert (finding.place, finding.evidence, finding.severity) == ("1", 4, "warning")
    model[1] = nn.GroupNorm(2, 8)
    assert not findings(model, "D17", normal(64, 3, 4, 4))
    pairs = nn.Sequential(nn.Linear(6, 32), nn.GroupNorm(16, 32))  # two values become plus and minus one
    (finding,) = findings(pairs, "D17", normal(64, 6))
    assert finding.evidence == 2


def test_d17_a_batch_norm_before_hides_no_small_batch() -> None:
    """Oracle: 8 samples of one position are 8 values, however alike the layer before makes the batches."""
    model = nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 6, bias=False), nn.BatchNorm1d(6))
    found = findings(model, "D17", list(normal(256, 6).split(8)))
    assert [(one.place, one.evidence <= 8) for one in found] == [("0", True), ("2", True)]


def test_d18_last_batch_of_one() -> None:
    (finding,) = findings(net(), "D18", images(16, 65))
    assert (finding.evidence, finding.severity) == (65, "warning")
    flat = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8))
    (finding,) = findings(flat, "D18", images(16, 65))
    assert (finding.severity, finding.place) == ("error", "2")
    with pytest.raises(ValueError, match="more than 1 value"):  # what training does there
        flat(IMAGES[:1])


@pytest.mark.parametrize(("count", "options"), [(64, {}), (66, {}), (65, {"drop_last": True})])
def test_d18_is_silent(count: int, options: dict[str, Any]) -> None:
    assert not findings(net(), "D18", images(16, count, **options))


def test_d18_of_a_batch_sampler() -> None:
    data = TensorDataset(IMAGES[:65])
    for drop_last in (False, True):
        sampler = BatchSampler(SequentialSampler(data), 16, drop_last)
        assert len(findings(net(), "D18", DataLoader(data, batch_sampler=sampler))) == (not drop_last)


def test_d18_of_a_list_of_batches() -> None:
    (finding,) = findings(net(), "D18", list(IMAGES[:65].split(16)))
    assert finding.evidence == 65
    assert not findings(net(), "D18", list(IMAGES[:66].split(16)))


@pytest.mark.slow
def test_d18_of_a_study() -> None:
    odd = ["max_train_samples=129", "batch_size=32"]
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    (finding,) = findings(model, "D18", "quickstart", overrides=[*odd, "last_batch=keep"])
    assert finding.evidence == 129
    assert not findings(model, "D18", "quickstart", overrides=odd)  # merge


@pytest.fixture
def four_processes() -> Iterator[None]:
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=4)
    yield
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.usefixtures("four_processes")
def test_d24_without_sync() -> None:
    (finding,) = findings(net(), "D24", images(4))
    assert (finding.evidence, finding.severity, finding.place) == (4, "warning", "1")
    (finding,) = findings(net(), "D24")
    assert (finding.evidence, finding.severity) == (4, "note")
    assert not findings(net(), "D24", images(32))
    assert not findings(nn.SyncBatchNorm.convert_sync_batchnorm(net()), "D24")
    wrapped = nn.parallel.DistributedDataParallel(net())
    assert [finding.place for finding in findings(wrapped, "D24", images(4))] == ["1"]
    assert findings(nn.DataParallel(net()), "D24", images(4))


def test_d24_devices_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.DataParallel(net())
    monkeypatch.setattr(model, "device_ids", [0, 1])
    (finding,) = findings(model, "D24", images(8))
    assert finding.evidence == 4


def test_d24_one_process() -> None:
    assert not findings(net(), "D24", images(4))


# --- D21, D26


class Recurrent(nn.Module):
    """h = tanh(norm(W h + x)), for some steps; the input grows from step to step."""

    def __init__(self, norm: nn.Module, steps: int = 4) -> None:
        super().__init__()
        self.hidden, self.norm, self.steps = nn.Linear(6, 6), norm, steps

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros_like(x)
        for step in range(self.steps):
            h = self.norm(self.hidden(h) + (1 + step) * x).tanh()
        return h


class Branches(nn.Module):
    """One layer at two places, without a path from one to the other."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x) + self.norm(2 * x)


def test_d21_batch_norm_in_a_recursion() -> None:
    (finding,) = findings(Recurrent(nn.BatchNorm1d(6)), "D21", normal(64, 6))
    assert finding.place == "norm"
    assert finding.evidence > 0.5  # the inputs of the last step are about four times as large
    assert "4 calls" in finding.measure
    for model in (Recurrent(nn.LayerNorm(6)), Recurrent(nn.BatchNorm1d(6), steps=1), Branches()):
        assert not findings(model, "D21", normal(64, 6))


class Checkpointed(nn.Module):
    def __init__(self, use: bool, **options: Any) -> None:
        super().__init__()
        self.block, self.use, self.options = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)), use, options

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.block, x, **self.options) if self.use else self.block(x)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_d26_activation_checkpointing(reentrant: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.rest = nn.Linear(6, 6), Checkpointed(True, use_reentrant=reentrant)

        def forward(self, x: Tensor) -> Tensor:
            return self.rest(self.first(x))

    model = Net()
    (finding,) = findings(model, "D26", normal(64, 6))
    assert (finding.place, finding.evidence) == ("rest.block.1", 2)
    model.train()(normal(8, 6)).sum().backward()
    assert model.rest.block[1].num_batches_tracked == 2  # the oracle: torch's own counter after one step


def test_d26_second_forward() -> None:
    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head = nn.BatchNorm1d(6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.norm(x)) + self.head(self.norm(x).detach())

    (finding,) = findings(Again(), "D26", normal(64, 6))
    assert finding.evidence == 2
    for model in (Checkpointed(False), Branches(), net()):
        data = normal(64, 3, 8, 8) if isinstance(model, nn.Sequential) else normal(64, 6)
        assert not findings(model, "D26", data)


# --- D23


def test_d23_checkpoint_without_buffers(tmp_path: Path) -> None:
    state = net().state_dict()
    file = tmp_path / "weights.pt"
    torch.save({key: value for key, value in state.items() if not key.startswith("4.running")}, file)
    (finding,) = findings(net(), "D23", checkpoint=file)
    assert (finding.place, finding.evidence, finding.severity) == ("4", 2, "error")
    torch.save({key: value for key, value in state.items() if key not in ("1.weight", "1.bias")}, file)
    (finding,) = findings(net(), "D23", checkpoint=file)
    assert (finding.place, finding.evidence) == ("1", 2)
    assert "has its statistics, and lacks its gamma or beta" in finding.message


def test_d23_wrapped_network_and_other_norms(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save({f"module.{key}": value for key, value in net().state_dict().items()}, file)
    (finding,) = findings(net(), "D23", checkpoint=file)
    assert finding.severity == "note"
    assert "module." in finding.measure
    group = net()
    group[1] = nn.GroupNorm(2, 8)
    torch.save(net().state_dict(), file)
    (finding,) = findings(group, "D23", checkpoint=file)
    assert (finding.place, finding.severity, finding.evidence) == ("1", "warning", 3)
    assert not findings(net(), "D23", checkpoint=file)
    old = {key: value for key, value in net().state_dict().items() if "num_batches" not in key}
    torch.save(old, file)
    assert not findings(net(), "D23", checkpoint=file)


# --- D25


class Tagger(nn.Module):
    """Tokens to an output at each position; a normalizer of (N, C, T) or (N, T, C) in between."""

    def __init__(self, norm: nn.Module, last: bool) -> None:
        super().__init__()
        self.embedding, self.norm, self.head, self.last = nn.Embedding(20, 6), norm, nn.Linear(6, 3), last

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        x = self.norm(x) if self.last else self.norm(x.transpose(1, 2)).transpose(1, 2)
        return self.head(x)


def padded_data() -> PatientData:
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 20, (16, 12), generator=draw)
    for row, length in enumerate(torch.randint(3, 13, (16,), generator=draw)):
        tokens[row, length:] = 0
    return PatientData("made up", (DataBatch(tokens, None, 16),), padded=padded_pair(tokens))


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(6), nn.GroupNorm(2, 6), nn.InstanceNorm1d(6)])
def test_d25_padding_inside(norm: nn.Module) -> None:
    (finding,) = findings(Tagger(norm, last=False), "D25", padded_data())
    assert finding.place == "norm"
    assert finding.evidence > 0.1


def test_d25_each_position_by_itself() -> None:
    assert not findings(Tagger(nn.LayerNorm(6), last=True), "D25", padded_data())


@pytest.mark.parametrize(("name", "count"), [("batch", 1), ("masked_batch", 0), ("layer", 0)])
def test_d25_in_a_network_of_bnbench(name: str, count: int) -> None:
    """It passes the mask to a normalizer that takes one."""
    entry = norms.get(name)
    sizes = Sizes((12,), 3, vocabulary=20, masked=True)
    norm = NormLayer(entry, entry.typed({}))
    model = models.get("textcnn").factory(sizes, norm, width=6, channels=8, kernels=[3])
    assert len(findings(model, "D25", padded_data())) == count


def test_padded_pair_adds_padding_alone() -> None:
    tokens = torch.tensor([[3, 4, 0, 0, 0, 0, 0, 0], [5, 0, 0, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6, 7, 8]])
    pair = padded_pair(tokens)
    assert pair is not None
    short, long = pair
    assert short.tolist() == [[5, 0], [3, 4]]
    assert long[:, :2].tolist() == short.tolist()
    assert not long[:, 2:].any()
    assert long.shape[1] == 8
