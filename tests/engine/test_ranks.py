"""One run on several processes equals one process: gradients, 100 steps of every optimizer, losses of every kind.

The oracle is the sequential stepper in one process, in float64. Gradients are also compared with torch's own.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import FileStore

from bnbench.base.ranks import Rows
from bnbench.data import Sizes
from bnbench.engine.build import build_model
from bnbench.engine.ranks.draws import rows_of
from bnbench.engine.ranks.group import Group, connected
from bnbench.engine.ranks.plan import changes_with_ranks
from bnbench.norms import norms
from bnbench.optim import optimizers
from bnbench.study import Vocabulary
from tests.ranked import Case, furthest, in_ranks, settings_of

IMAGES = Sizes((1, 8, 8), 10)
MLP, CNN = {"name": "mlp", "hidden": [7, 6]}, {"name": "cnn", "channels": [4, 4]}
#: Normalizers that take statistics of a batch, or of what came before it: other numbers where it is split.
BY_PROCESS = {
    "batch", "batch_custom", "batch_group", "batch_keras", "batch_mean_only", "batch_no_beta", "batch_no_gamma",
    "batch_noisy", "batch_stats_at_inference", "batch_var_only", "batch_virtual", "ghost", "lp", "masked_batch",
    "population", "power", "renorm",
}  # fmt: skip
#: Those that stand in no plain convolution network.
ELSEWHERE = {"fixup", "skipinit", "qk"}
EQUAL = sorted({*norms.names()} - BY_PROCESS - ELSEWHERE)
RATES = {"adam_keras": 0.001, "adam": 0.001, "adamw": 0.001}


def cnn(vocabulary: Vocabulary, norm: Any = "layer", **changes: Any) -> Case:
    return Case(settings_of(vocabulary, norm=norm, model=CNN, **changes), IMAGES)


def trained(cases: Mapping[str, Case], steps: int) -> Callable[[Group], dict[str, dict[str, Tensor]]]:
    return lambda group: {name: case.trained(steps, group) for name, case in cases.items()}


def assert_equal(cases: Mapping[str, Case], size: int, steps: int, most: float = 1e-12) -> None:
    """Every case has the same numbers in one process as in each of `size`."""
    ranks = in_ranks(size, trained(cases, steps))
    for name, case in cases.items():
        one = case.trained(steps)
        gaps = [furthest(one, rank[name]) for rank in ranks]
        assert max(gaps) < most, (name, gaps)
        assert furthest(ranks[0][name], ranks[-1][name]) == 0, f"{name}: the processes went apart"


def of_tasks(vocabulary: Vocabulary) -> dict[str, Case]:
    """One case of every kind of objective and output."""
    unet, vae = {"name": "unet", "width": 4, "depth": 1}, {"name": "vae", "latent": 3, "channels": [4]}
    masks = Case(
        settings_of(vocabulary, task="segmentation", dataset="shapes", model=unet, norm="group"),
        Sizes((1, 8, 8), 3),
    )
    for place, (_, targets) in enumerate(masks.pairs):  # other shares of pixels count in each sample
        for sample, target in enumerate(targets):
            target[: (sample + place) % 7] = 255
    text = {"task": "language_model", "dataset": "tiny_shakespeare"}
    transformer = {"name": "transformer", "depth": 1, "width": 8, "heads": 2}
    tokens = Sizes((5,), 11, vocabulary=11, per_position=True)
    return {
        "segmentation": masks,
        "language model": Case(settings_of(vocabulary, **text, model=transformer, norm="layer"), tokens),
        "vae": Case(settings_of(vocabulary, task="vae", model=vae, norm="group"), Sizes((1, 8, 8), 64)),
        "denoising": Case(
            settings_of(vocabulary, task="denoising", model=unet, norm="group"), Sizes((1, 8, 8), 1)
        ),
        "regression": Case(
            settings_of(vocabulary, task="tabular_regression", dataset="diabetes", model=MLP, norm="rms"),
            Sizes((10, 1, 1), 1),
        ),
    }


def test_two_processes_equal_one(vocabulary: Vocabulary) -> None:
    """Uneven and empty parts, clipping, masks of dropout, means over what counts, a learnt noise; 4 steps."""
    cases = {
        **{norm: cnn(vocabulary, norm) for norm in ("sync", "group", "none")},
        "clipped": cnn(vocabulary, "sync", clip_norm=0.1),
        "dropout": Case(
            settings_of(
                vocabulary, norm="layer", model={**MLP, "dropout": {"p": 0.4, "place": "after_norm"}}
            ),
            IMAGES,
        ),
        "one sample": Case(settings_of(vocabulary, norm="layer", model=MLP), IMAGES, (3, 1)),
        "one image": Case(settings_of(vocabulary, norm="sync", model=CNN), IMAGES, (3, 1)),
        **of_tasks(vocabulary),
    }
    assert_equal(cases, 2, 4)


def test_a_bug_is_seen(vocabulary: Vocabulary) -> None:
    """The mean of the parts' means, as DistributedDataParallel takes it, is not the mean of 7 and 6 samples."""
    case = cnn(vocabulary, "group")

    def averaged(group: Group) -> Tensor:
        model = build_model(case.settings, IMAGES, 0).double()
        inputs, targets = case.pairs[0]
        rows = group.rows(len(inputs))
        part = slice(rows.start, rows.stop)
        nn.functional.cross_entropy(model(inputs[part].double()), targets[part]).backward()
        group.add_gradients(list(model.parameters()))
        return torch.cat([p.grad.flatten() / group.size for p in model.parameters() if p.grad is not None])

    model = build_model(case.settings, IMAGES, 0).double()
    nn.functional.cross_entropy(model(case.pairs[0][0].double()), case.pairs[0][1]).backward()
    whole = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert float((in_ranks(2, averaged)[0] - whole).abs().max()) > 1e-5


def test_batch_by_process_is_ghost_in_one(vocabulary: Vocabulary) -> None:
    """Parts of the same samples; running statistics of the first part alone, as rank 0's."""
    sizes = (16, 14, 16)
    ranks = Case(settings_of(vocabulary, norm="batch", model=CNN), IMAGES, sizes)
    ghost = {"name": "ghost", "ghost_size": 7, "running": "first"}
    one = Case(settings_of(vocabulary, norm=ghost, model=CNN), IMAGES, sizes).trained(9)
    two = in_ranks(2, trained({"batch": ranks}, 9))
    assert max(furthest(one, rank["batch"]) for rank in two) < 1e-12
    each = {"name": "ghost", "ghost_size": 7}
    every = Case(settings_of(vocabulary, norm=each, model=CNN), IMAGES, sizes).trained(9)
    assert furthest(one, every, only="running") > 1e-3


@pytest.mark.parametrize("name", sorted({*norms.names()} - ELSEWHERE))
def test_what_the_number_of_processes_changes_is_known(name: str, vocabulary: Vocabulary) -> None:
    settings = settings_of(vocabulary, norm=name, model=CNN)
    assert changes_with_ranks(build_model(settings, IMAGES, 0), settings, IMAGES) == (name in BY_PROCESS)


@pytest.mark.parametrize("layer", [nn.Dropout(0.3), nn.Dropout2d(0.3)])
def test_masks_are_those_of_one_process(layer: nn.Module) -> None:
    x = torch.randn(6, 4, 3, 3)
    torch.manual_seed(1)
    whole = layer(x)
    parts = []
    for start, stop in ((0, 4), (4, 6)):
        torch.manual_seed(1)
        with rows_of(Rows(start, stop, 6)):
            parts.append(layer(x[start:stop]))
    assert torch.equal(torch.cat(parts), whole)


def test_noise_of_another_kind_counts_as_a_change(vocabulary: Vocabulary) -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.randn_like(x) if self.training else x

    settings = settings_of(vocabulary, norm="none", model=MLP)
    plain = build_model(settings, IMAGES, 0)
    assert not changes_with_ranks(plain, settings, IMAGES)
    assert changes_with_ranks(nn.Sequential(plain, Noisy()), settings, IMAGES)


def test_who_leaves_is_noticed_at_once(tmp_path: Path) -> None:
    """Even where something still refers to the group, whose connections gloo then keeps open."""
    noticed = tmp_path / "noticed"

    def work(ended: Group) -> str:
        dist.destroy_process_group()
        said, seen, kept = "", False, None
        try:
            with connected(ended.world, ended.device, FileStore(str(tmp_path / "store"), 2)):
                kept = dist.group.WORLD
                if ended.rank == 0:
                    dist.all_reduce(torch.zeros(1))
        except RuntimeError as error:
            said = str(error)
            noticed.touch()
        end = time.monotonic() + 20
        while ended.rank and not seen and time.monotonic() < end:  # alive, and its group too
            seen = noticed.exists()
            time.sleep(0.01)
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        return said or f"{seen} {kept is not None}"

    first, other = in_ranks(2, work)
    assert "closed by peer" in first
    assert other == "True True"


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3, 4])
def test_every_optimizer_makes_the_same_steps(size: int, vocabulary: Vocabulary) -> None:
    """100 steps of each; on networks without a bias whose gradient is zero in theory."""
    cases = {
        f"{optimizer} {norm}": Case(
            settings_of(
                vocabulary,
                norm=norm,
                model=MLP,
                optimizer={"name": optimizer, "lr": RATES.get(optimizer, 0.05)},
            ),
            IMAGES,
        )
        for optimizer, norm in itertools.product(optimizers.names(), ("sync", "rms"))
    }
    assert_equal(cases, size, 100)


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
def test_every_normalizer_without_batch_statistics_is_equal(size: int, vocabulary: Vocabulary) -> None:
    """At a small rate: where training is unstable, as of evonorm_s0 at 0.1, each step multiplies rounding."""
    optimizer = {"name": "sgd", "lr": 0.02}
    assert_equal({norm: cnn(vocabulary, norm, optimizer=optimizer) for norm in EQUAL}, size, 100)
