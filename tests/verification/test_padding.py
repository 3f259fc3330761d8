"""`verify --padding`. Oracle: layers whose dependence on padding is known, right ones and ones with a planted bug."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from bnbench.base.errors import LayerError
from bnbench.base.listing import load_listing
from bnbench.cli.app import app
from bnbench.norms import norms
from bnbench.norms.named import NamedLayer
from bnbench.reports.dependence import answer, dependence_table, to_json, to_markdown
from bnbench.verification.dependence import Dependence, Dependences
from bnbench.verification.padding import judge, judge_layer
from bnbench.verification.target import Target

#: Statistics over the batch, without a mask: in training alone.
OVER_BATCH = {
    "batch", "batch_custom", "batch_group", "batch_keras", "batch_mean_only", "batch_no_beta", "batch_no_gamma",
    "batch_noisy", "batch_var_only", "ghost", "lp", "renorm", "sync",
}  # fmt: skip


def judged(factory: Callable[..., nn.Module]) -> Dependence:
    return judge_layer(Target(NamedLayer("Mine", factory)), {})


@pytest.fixture(scope="module")
def table() -> dict[str, Dependence]:
    return {layer.layer: layer for layer in judge().layers}


@pytest.mark.slow
def test_every_registered_normalizer_keeps_padding_out_or_is_reported(table: dict[str, Dependence]) -> None:
    assert set(table) == set(norms.names())
    assert all(layer.passed for layer in table.values())
    assert {name for name, layer in table.items() if layer.refused} == {"instance"}
    masked = {name for name, layer in table.items() if layer.takes_mask}
    assert masked == {"masked_batch", "power"}
    assert all(table[name].padding == () for name in masked)
    for name, layer in table.items():
        if name in OVER_BATCH:
            assert (layer.padding, layer.samples, layer.later) == (("training",),) * 3, name
        elif name == "population":  # its batch moves the statistics of later ones
            assert (layer.padding, layer.samples, layer.later) == (("training",), (), ())
        elif name == "batch_stats_at_inference":
            assert layer.padding == layer.samples == layer.later == ("training", "inference")
        elif name in masked:
            assert layer.samples == layer.later == ("training",)
        else:
            assert layer.padding == layer.samples == layer.later == (), name


class Masked(nn.Module):
    """A batch norm over valid positions with float64 sums, right; each method is one place for a mistake."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        mask = torch.ones(len(x), dtype=torch.bool) if mask is None else mask
        wide, mean, var = x.double(), self.running_mean.double(), self.running_var.double()
        if self.training:
            keep = self.keep(mask)[:, None].double()
            mean = (wide * keep).sum(0) / self.count(keep)
            var = self.variance(wide, mean, keep)
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(x.dtype), 0.1)
                self.running_var.lerp_((var * self.unbiased(keep)).to(x.dtype), 0.1)
        return self.out((wide - mean) / (var + 1e-5).sqrt() * self.weight.double(), mask).to(x.dtype)

    def keep(self, mask: Tensor) -> Tensor:
        return mask

    def count(self, keep: Tensor) -> Tensor | int:
        return keep.sum()

    def variance(self, x: Tensor, mean: Tensor, keep: Tensor) -> Tensor:
        return ((x - mean).square() * keep).sum(0) / keep.sum()

    def unbiased(self, keep: Tensor) -> Tensor | float:
        return keep.sum() / (keep.sum() - 1)

    def out(self, y: Tensor, mask: Tensor) -> Tensor:
        return torch.where(mask[:, None], y, 0)


class CountsAll(Masked):
    def count(self, keep: Tensor) -> Tensor | int:
        return len(keep)


class VarianceOfAll(Masked):
    def variance(self, x: Tensor, mean: Tensor, keep: Tensor) -> Tensor:
        return (x - mean).square().mean(0)


class UnbiasedByAll(Masked):
    def unbiased(self, keep: Tensor) -> Tensor | float:
        return len(keep) / (len(keep) - 1)


class UpsideDown(Masked):
    def keep(self, mask: Tensor) -> Tensor:
        return ~mask


class Averages(Masked):
    def out(self, y: Tensor, mask: Tensor) -> Tensor:
        return y if self.training else y - y.mean(0)


class Gathers(nn.Module):
    """Torch's layer on the valid rows."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.inner = nn.BatchNorm1d(num_features)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        y[mask] = self.inner(x[mask])
        return y


class SumsInFloat32(Masked):
    """Rounded as such a sum may be, where it is long."""

    def variance(self, x: Tensor, mean: Tensor, keep: Tensor) -> Tensor:
        lost = 2e-7 * (len(keep) > 40 and self.weight.dtype == torch.float32)
        return super().variance(x, mean, keep) * (1 + lost)


@pytest.mark.parametrize("layer", [Masked, Gathers])
def test_right_layers_of_a_user_pass(layer: type[nn.Module]) -> None:
    found = judged(layer)
    assert (found.takes_mask, found.padding, found.changes) == (True, (), ())
    assert found.samples == found.later == ("training",)
    assert "padding changes nothing with a mask" in answer(Dependences((found,)))


@pytest.mark.parametrize(
    ("layer", "modes", "word"),
    [
        (CountsAll, ("training",), "valid outputs"),
        (VarianceOfAll, ("training",), "valid outputs"),
        (UnbiasedByAll, ("training",), "what training keeps in running_var"),
        (UpsideDown, ("training",), "valid outputs"),
        (Averages, ("inference",), "valid outputs"),
        (SumsInFloat32, ("training",), "(float32)"),
    ],
)
def test_a_layer_with_a_mask_that_padding_still_changes_fails(
    layer: type[nn.Module], modes: tuple[str, ...], word: str
) -> None:
    found = judged(layer)
    assert not found.passed
    assert found.padding == modes
    assert any(word in line for line in found.changes)
    said = answer(Dependences((found,)))
    assert said.startswith("FAILED: Mine takes a mask")
    assert ("rounding" in said) == (layer is SumsInFloat32)


def test_a_layer_without_a_mask_is_reported_and_does_not_fail() -> None:
    found = judged(nn.BatchNorm1d)
    assert (found.takes_mask, found.padding, found.passed, found.strictly_passed) == (
        False, ("training",), True, False,
    )  # fmt: skip
    assert "Mine depends on padding (training), as it takes no mask" in answer(Dependences((found,)))


class OtherName(nn.BatchNorm1d):
    def forward(self, x: Tensor, pad_mask: Tensor | None = None) -> Tensor:
        return super().forward(x)


def test_a_mask_under_another_name_is_named() -> None:
    said = answer(Dependences((judged(OtherName),)))
    assert "Its forward has `pad_mask`; bnbench gives a mask to an argument called `mask`" in said


@pytest.mark.parametrize(
    ("option", "word"), [("--dim", "2"), ("--running-var", "biased"), ("--momentum-convention", "old")]
)
def test_options_of_the_other_question_are_refused(option: str, word: str) -> None:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["verify", "batch", "--padding", option, word])
    assert result.exit_code == 2
    assert f"Invalid value for {option}: it does not go with --padding" in result.stderr


class OverTime(nn.Module):
    """Takes (N, T, C) alone, and every position sees the mean of its own sequence."""

    def __init__(self, num_features: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 3:
            raise ValueError("give it (N, T, C)")
        return x - x.mean(1, keepdim=True)


def test_a_layer_for_sequences_is_called_with_them_and_sees_later_positions() -> None:
    found = judged(OverTime)
    assert found.called == "forward((N, T, C))"
    assert (found.padding, found.samples, found.later) == (
        ("training", "inference"),
        (),
        ("training", "inference"),
    )


def test_a_layer_that_takes_no_tokens_is_an_error_that_says_how_it_was_called() -> None:
    with pytest.raises(LayerError, match="Mine does not take tokens in any form") as caught:
        judged(nn.BatchNorm3d)
    assert "(N, T, C): ValueError" in str(caught.value)


def test_the_formats_agree(table: dict[str, Dependence]) -> None:
    found = Dependences((table["batch"], table["masked_batch"], table["instance"]))
    rows = {row[0]: row[1:] for row in dependence_table(found).rows}
    assert rows["batch"] == ("no", "training", "training", "training")
    assert rows["masked_batch"] == ("yes", "no", "training", "training")
    assert rows["instance"] == ("-", "refused", "-", "-")
    assert Dependences.from_json(json.loads(to_json(found))) == found
    assert r"| masked\_batch | yes | no |" in to_markdown(found)
    assert answer(found) == (
        "With a mask, padding changes nothing in masked_batch. Without one, it changes batch."
    )


def test_the_table_of_the_documentation_is_that_of_the_command(table: dict[str, Dependence]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "padding.md").read_text(encoding="utf-8")
    own = load_listing()["norm"]  # other tests register normalizers too
    ours = [dependence for name, dependence in table.items() if name in own]
    found = dependence_table(Dependences(tuple(ours)))
    rows = ["| " + " | ".join(row) + " |" for row in (found.columns, ("---",) * 5, *found.rows)]
    assert "\n".join(rows) in page, "python -m bnbench verify --padding --format markdown"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["batch"], 0, "batch depends on padding (training)"),
        (["batch", "--strict"], 4, "batch depends on padding (training)"),
        (["masked_batch", "--strict"], 0, "padding changes nothing with a mask"),
        (["instance"], 0, "instance is refused over tokens"),
        (["{wrong}"], 4, "FAILED: Wrong takes a mask"),
        ([], 0, "With a mask, padding changes nothing in masked_batch, power."),
        (["masked_batches"], 1, 'Did you mean "masked_batch"?'),
    ],
)
def test_the_command(words: list[str], code: int, said: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\n"
        "class Wrong(nn.BatchNorm1d):\n"
        "    def forward(self, x, mask=None):\n"
        "        return super().forward(x)\n"
    )
    words = [word.format(wrong=f"{file}:Wrong") for word in words]
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["verify", *words, "--padding"])
    assert (result.exit_code, said in result.output + result.stderr) == (code, True), result.output


def test_without_padding_a_layer_has_to_be_named() -> None:
    result = CliRunner().invoke(app, ["verify"])
    assert result.exit_code == 2
    assert "LAYER" in result.stderr
