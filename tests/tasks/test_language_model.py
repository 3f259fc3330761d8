"""The task language_model. Oracles: a Markov source of known entropy rate, its true transition matrix, sums by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from bnbench.base.errors import DataError
from bnbench.base.metrics import METRICS
from bnbench.cli.app import app
from bnbench.data import Dataset, datasets
from bnbench.data.prepared import Preparation, Prepared
from bnbench.data.split import Sampling, SplitBy
from bnbench.data.text.units import unit_of
from bnbench.data.text.windows import Remarks, cut, encoded_windows
from bnbench.engine.evaluate import evaluate
from bnbench.engine.workers.shared import SharedData, _open
from bnbench.study import Choice
from bnbench.tasks import task_of
from bnbench.tasks.language_model import chance_loss

LM = Choice(name="language_model")
#: From each of the letters a, b, c to each of them.
P = np.array([[0.1, 0.6, 0.3], [0.5, 0.0, 0.5], [0.25, 0.25, 0.5]])


def entropy_rate() -> float:
    """Bits a letter: Σ_i π_i H(P_i), with π the stationary distribution (Cover & Thomas 2006, theorem 4.2.4)."""
    values, vectors = np.linalg.eig(P.T)
    pi = np.real(vectors[:, np.argmax(np.real(values))])
    pi /= pi.sum()
    logs = np.log2(P, where=P > 0, out=np.zeros_like(P))
    return float(-(pi[:, None] * P * logs).sum())


def markov_text(length: int, seed: int = 0) -> str:
    draw = np.random.default_rng(seed)
    state, letters = 0, []
    for number in draw.random(length):
        state = int(np.searchsorted(P[state].cumsum(), number))
        letters.append("abc"[state])
    return "".join(letters)


def windows(text: str, window: int = 16, unit: str = "characters") -> Dataset:
    parts = cut(text)
    encoder = unit_of(unit, [parts["train"]], padded=False, size=300)
    return encoded_windows("t", parts, encoder, window, Remarks())


def prepared(dataset: Dataset, *, max_eval: int | None = None, by: SplitBy = "auto") -> Prepared:
    preparation = Preparation(Sampling(by, 0.1, 0, None, max_eval), LM)
    return task_of(LM).prepare(dataset, preparation, torch.device("cpu"))


class Table(nn.Module):
    """The logits of the next token from this one alone."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(size, size))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.table[tokens]


def true_table() -> Table:
    """Tokens 1, 2, 3 are a, b, c; 0 is what the training text lacks."""
    model = Table(4)
    with torch.no_grad():
        model.table.fill_(-1e9)
        model.table[1:, 1:] = torch.from_numpy(P).log().clamp_min(-1e9).float()
    return model


def test_the_true_transition_matrix_has_the_entropy_rate() -> None:
    """To within four standard errors over windows, which the test samples give."""
    found = evaluate(true_table(), prepared(windows(markov_text(40_000))), ["test"])
    assert found.samples is not None
    bits = found.samples.further["bits_per_character"].astype(float)
    error = bits.std(ddof=1) / math.sqrt(len(bits))
    assert found["test_bits_per_character"] == pytest.approx(bits.mean(), rel=1e-6)
    assert abs(found["test_bits_per_character"] - entropy_rate()) < 4 * error
    assert error < 0.02


@pytest.mark.slow
def test_a_trained_table_comes_down_to_the_entropy_rate_and_not_below_it() -> None:
    data = prepared(windows(markov_text(60_000)))
    model = Table(4)
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    draw = torch.Generator().manual_seed(0)
    for _ in range(300):
        index = torch.randint(len(data.train_inputs), (64,), generator=draw)
        logits = model(data.train_batch(index)).flatten(0, 1)
        loss = nn.functional.cross_entropy(logits, data.train_targets[index].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    at_best = evaluate(true_table(), data, ["test"])["test_bits_per_character"]
    trained = evaluate(model, data, ["test"])["test_bits_per_character"]
    assert at_best - 0.002 < trained < at_best + 0.01
    assert trained < 0.9 * math.log2(3)


def test_the_metrics_by_hand() -> None:
    """Two windows of two tokens with logits of one number: -log softmax, nats to bits, the share of right tokens."""
    task = task_of(LM)
    logits = torch.tensor([[[0.0, 2.0], [1.0, 0.0]], [[0.0, 0.0], [3.0, 0.0]]])
    targets = torch.tensor([[1, 1], [0, 0]])
    losses = [math.log(1 + math.exp(-2)), math.log(1 + math.e), math.log(2), math.log(1 + math.exp(-3))]
    found = dict(task.measure(task.kept(logits, targets), targets, ()))
    assert found["loss"] == pytest.approx(sum(losses) / 4, rel=1e-6)
    assert found["bits_per_character"] == pytest.approx(sum(losses) / 4 / math.log(2), rel=1e-6)
    assert found["token_accuracy"] == 0.75


@pytest.mark.parametrize("unit", ["bytes", "words"])
def test_bits_are_counted_by_characters(unit: str) -> None:
    """A network that gives every token the same probability needs log2(tokens) bits for each."""
    data = prepared(windows("größer the the größer cat " * 300, unit=unit))
    size = data.sizes.num_outputs
    found = evaluate(Table(size), data, ["test"])
    tokens = data.test_targets.flatten().tolist()
    aid: Any = data.aid
    characters = sum(aid.characters[token] for token in tokens)
    assert characters != len(tokens)
    assert found["test_bits_per_character"] == pytest.approx(
        math.log2(size) * len(tokens) / characters, rel=1e-6
    )


def test_chance_is_the_cross_entropy_of_the_training_shares() -> None:
    """Counts 3 and 1 of two tokens, each one more: 4/6 and 2/6."""
    counts, val = torch.tensor([3, 1]), torch.tensor([[0, 1]])
    assert chance_loss(counts, val) == pytest.approx(-(math.log(4 / 6) + math.log(2 / 6)) / 2)


def test_chance_is_that_of_the_windows_that_are_measured() -> None:
    """Few windows have another cross-entropy than the whole part: a run at chance on them has learnt nothing."""
    text = markov_text(5000)
    task, few, all_of_it = task_of(LM), prepared(windows(text), max_eval=2), prepared(windows(text))
    counts = torch.bincount(torch.tensor([ord(each) for each in text[:4000]]), minlength=128) + 1
    names = sorted(set(text[:4000]))
    size = 1 + len(names)  # with the unknown token
    shares = [1 / (4000 + size), *(float(counts[ord(name)]) / (4000 + size) for name in names)]
    chance = -sum(math.log(shares[token]) for token in few.val_targets.flatten().tolist())
    chance /= few.val_targets.numel()
    aid: Any = all_of_it.aid
    assert abs(chance / chance_loss(aid.counts, all_of_it.val_targets) - 1) > 0.011
    assert task.learnt({}, {"val_loss": 0.985 * chance}, few)
    assert not task.learnt({}, {"val_loss": 0.995 * chance}, few)


def test_parts_of_the_text_are_evaluated_and_its_windows_are_never_split() -> None:
    data = prepared(windows(markov_text(5000)), max_eval=7)
    assert data.part_sizes() == (7, 7, 7)
    assert not data.train_inputs.is_contiguous()
    with pytest.raises(DataError, match="a stretch of text of its own"):
        prepared(windows(markov_text(5000)), by="sample")


def test_workers_read_the_windows_from_one_text() -> None:
    """The memory that they share has the text once, not every window of it."""
    data = prepared(windows(markov_text(5000), window=64))
    shared = SharedData({"key": data})
    function, (file, parts) = shared.__reduce__()
    assert function is _open
    size = shared._file.seek(0, 2)
    assert size < 3 * data.train_inputs.numel()
    place = parts["key"]["train_inputs"]
    shared._file.seek(0)
    content = bytearray(shared._file.read())
    assert torch.equal(place.read(content), data.train_inputs)
    shared.close()
    del file


TRAINED = """
dataset: {{name: text, path: {path}, window: 16}}
model: {{name: transformer, width: 16, depth: 1, heads: 2}}
optimizer: {{name: adam, lr: 0.01}}
steps: 60
evaluate_every: 30
seeds: 3
variants: [none, layer]
target: {{metric: val_bits_per_character, value: 1.5}}
"""


@pytest.fixture
def as_found() -> Iterator[None]:
    before = dict(METRICS)
    yield
    METRICS.clear()
    METRICS.update(before)


@pytest.mark.slow
@pytest.mark.usefixtures("as_found")
def test_a_study_of_a_text_from_file_to_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Path("t.txt").write_text(markov_text(8000))
    Path("s.yaml").write_text(TRAINED.format(path="t.txt"))
    result = CliRunner().invoke(app, ["compare", "s.yaml", "--tables", "scatter"])
    text = " ".join(result.output.split())
    assert result.exit_code == 0, text
    summary = json.loads(Path("results/s/summary.json").read_text())
    assert summary["primary"] == "test_bits_per_character"
    runs = [run for variant in summary["variants"] for run in variant["runs"]]
    assert all(entropy_rate() - 0.1 < run["final"]["test_bits_per_character"] < 1.6 for run in runs)
    assert "test bits per character" in text
    assert "standard error of the mean over this many samples, such as the windows of a text" in text
    (floor, _) = summary["noise"]
    assert floor["metric"] == "test_bits_per_character"
    assert floor["num_samples"] == (800 - 1) // 16
    assert 0.01 < floor["sampling_error"] < 0.1
    (comparison,) = [
        c for c in summary["comparisons"] if (c["metric"], c["at"]) == ("test_bits_per_character", "final")
    ]
    assert comparison["new_low"] <= comparison["ci_low"]


def test_a_table_is_no_text_for_a_language_model(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("text,label\n" + "".join(f"word {n},{n % 2}\n" for n in range(20)))
    with pytest.raises(DataError, match="task: text_classification"):
        prepared(datasets.get("text").factory(tmp_path, path=path))
