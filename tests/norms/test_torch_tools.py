"""What torch's own tools make of our batch norm and its relatives, held against what they make of torch's class."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from torch.optim.swa_utils import update_bn

from bnbench.norms import BatchNorm1d, BatchNorm2d, BatchNorm3d, norms

TORCH_BATCH_NORM = nn.modules.batchnorm._BatchNorm
OURS = {1: BatchNorm1d, 2: BatchNorm2d, 3: BatchNorm3d}
THEIRS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
SHAPES = {1: (16, 3), 2: (8, 3, 4, 5), 3: (4, 3, 2, 3, 4)}
BEFORE: dict[int, Any] = {
    1: lambda: nn.Linear(3, 4),
    2: lambda: nn.Conv2d(3, 4, 1),
    3: lambda: nn.Conv3d(3, 4, 1),
}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"momentum": None},
    {"affine": False},
    {"bias": False},
    {"track_running_stats": False},
    {"eps": 1e-2, "momentum": 0.7},
]
RELATIVES = ["batch_keras", "batch_noisy", "batch_no_gamma", "batch_mean_only", "batch_var_only", "ghost"]
RELATIVES += ["renorm", "frozen"]


class _NormsAreLeaves(torch.fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


dims = pytest.mark.parametrize("dim", [1, 2, 3])
both_modes = pytest.mark.parametrize("training", [True, False])
options = pytest.mark.parametrize("options", OPTIONS, ids=str)


def data(dim: int, seed: int = 0) -> Tensor:
    return torch.randn(SHAPES[dim], generator=torch.Generator().manual_seed(seed)) * 2 + 1


def networks(dim: int, **options: Any) -> tuple[nn.Sequential, nn.Sequential]:
    """A layer of weights and a batch norm that has seen two batches: with ours, and with torch's."""
    torch.manual_seed(0)
    ours = nn.Sequential(BEFORE[dim](), OURS[dim](4, **options))
    for parameter in ours[1].parameters():
        nn.init.uniform_(parameter, 0.5, 2)
    theirs = nn.Sequential(copy.deepcopy(ours[0]), THEIRS[dim](4, **options))
    theirs.load_state_dict(ours.state_dict())
    for model in (ours, theirs):
        model(data(dim, 1)), model(data(dim, 2))
    return ours, theirs


def assert_alike(ours: nn.Module, theirs: nn.Module, *inputs: Tensor) -> None:
    for x in inputs:
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-6, atol=2e-6)
    state = theirs.state_dict()
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=1e-6, atol=1e-6)


@dims
def test_ours_and_only_ours_are_torchs_class(dim: int) -> None:
    assert issubclass(OURS[dim], TORCH_BATCH_NORM)
    layer = norms.get("batch_custom").factory(3, dim)
    assert type(layer) is OURS[dim]


@pytest.mark.parametrize("name", RELATIVES)
def test_a_relative_is_not_a_torch_batch_norm(name: str) -> None:
    assert not isinstance(norms.get(name).factory(3, 2), TORCH_BATCH_NORM)


@dims
@options
def test_update_bn_against_torch(dim: int, options: dict[str, Any]) -> None:
    ours, theirs = networks(dim, **options)
    batches = [data(dim, seed) for seed in range(3)]
    for model in (ours, theirs):
        update_bn(batches, model)
    assert ours[1].momentum == theirs[1].momentum == options.get("momentum", 0.1)
    assert_alike(ours.eval(), theirs.eval(), data(dim, 9))


@dims
@pytest.mark.parametrize("options", [o for o in OPTIONS if o.get("track_running_stats", True)], ids=str)
def test_fusion_against_torch(dim: int, options: dict[str, Any]) -> None:
    if dim == 1 and ("affine" in options or "bias" in options):
        pytest.skip("torch's fuse_linear_bn_eval raises TypeError for a layer without gamma and beta")
    fuse = fuse_linear_bn_eval if dim == 1 else fuse_conv_bn_eval
    ours, theirs = (fuse(*model.eval()) for model in networks(dim, **options))
    assert_alike(ours, theirs, data(dim, 9))
    unfused, _ = networks(dim, **options)
    torch.testing.assert_close(ours(data(dim, 9)), unfused.eval()(data(dim, 9)), rtol=1e-5, atol=1e-5)


@dims
@both_modes
@options
def test_export_against_torch(dim: int, training: bool, options: dict[str, Any]) -> None:
    """torch's own can't be exported in training with momentum None (a counter as a number): there, it runs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, theirs = (model.train(training) for model in networks(dim, **options))
        ours = torch.export.export(ours, (data(dim),)).module()
        if not (training and "momentum" in options and options["momentum"] is None):
            theirs = torch.export.export(theirs, (data(dim),)).module()
        assert_alike(ours, theirs, data(dim, 5), data(dim, 6))


@dims
@both_modes
@options
def test_symbolic_trace_is_one_call_and_gives_equal_results(
    dim: int, training: bool, options: dict[str, Any]
) -> None:
    ours, theirs = networks(dim, **options)
    traced = torch.fx.symbolic_trace(copy.deepcopy(ours).train(training))
    calls = [node for node in traced.graph.nodes if node.op == "call_function"]
    assert [node.target.__name__ for node in calls] == ["batch_norm"]
    assert_alike(traced, theirs.train(training), data(dim, 5), data(dim, 6))
    traced.graph.lint()
    again = copy.deepcopy(traced)
    again.recompile()
    assert torch.equal(again(data(dim)), copy.deepcopy(traced)(data(dim)))


@dims
@both_modes
@options
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_script_against_eager(dim: int, training: bool, options: dict[str, Any]) -> None:
    ours, _ = networks(dim, **options)
    eager = copy.deepcopy(ours)
    scripted = torch.jit.script(ours)
    assert_alike(scripted.train(training), eager.train(training), data(dim, 5), data(dim, 6))
    assert_alike(scripted.eval(), eager.eval(), data(dim, 7))
    with pytest.raises(torch.jit.Error, match="expected"):
        torch.jit.script(OURS[dim](4))(torch.zeros(4))


@dims
@options
def test_convert_sync_batchnorm_gives_torchs_layer_with_the_same_state(
    dim: int, options: dict[str, Any]
) -> None:
    ours, theirs = networks(dim, **options)
    ours, theirs = (nn.SyncBatchNorm.convert_sync_batchnorm(model) for model in (ours, theirs))
    assert type(ours[1]) is nn.SyncBatchNorm
    for name in ("num_features", "eps", "momentum", "affine", "track_running_stats"):
        assert getattr(ours[1], name) == getattr(theirs[1], name)
    assert_alike(ours.eval(), theirs.eval(), data(dim, 9))


@pytest.mark.parametrize("name", RELATIVES)
def test_torchs_tools_leave_the_relatives_what_they_are(name: str) -> None:
    """By class, they would be converted to plain batch norm, or re-estimated with its rule."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), norms.get(name).factory(4, 2))
    model(data(2, 1))
    before = copy.deepcopy(model)
    assert type(nn.SyncBatchNorm.convert_sync_batchnorm(model)[1]) is type(before[1])
    update_bn([data(2, 5)], model)
    for key, value in before.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)
    tracer = _NormsAreLeaves()
    graph = tracer.trace(model.eval())
    folded = fuse(torch.fx.GraphModule(model, graph), no_trace=True)
    torch.testing.assert_close(folded(data(2, 7)), before.eval()(data(2, 7)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(0, 3), (4, 3, 0)])
@pytest.mark.parametrize("name", ["batch", "batch_custom", *RELATIVES[:-1]])
def test_an_empty_batch_is_counted_by_all_as_by_torch(name: str, shape: tuple[int, ...]) -> None:
    layer = norms.get(name).factory(3, 1)
    layer(torch.empty(shape))
    assert layer.num_batches_tracked.item() == 1
    layer.eval()(torch.empty(shape))
    assert layer.num_batches_tracked.item() == 1


@pytest.mark.parametrize("name", ["batch_mean_only", "batch_var_only"])
def test_one_statistic_at_an_offset_of_a_million_against_float64(name: str) -> None:
    torch.manual_seed(0)
    x = (torch.randn(256, 3, dtype=torch.float64) + 1e6).float()
    layer = norms.get(name).factory(3, 1)
    exact = copy.deepcopy(layer).double()
    torch.testing.assert_close(layer(x).double(), exact(x.double()), rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(layer.running_var.double(), exact.running_var, rtol=1e-6, atol=0)


@dims
def test_meta_device_skip_init_and_lazy_materialization(dim: int) -> None:
    layer = torch.nn.utils.skip_init(OURS[dim], 4)
    layer.reset_parameters()
    assert all(torch.equal(v, THEIRS[dim](4).state_dict()[k]) for k, v in layer.state_dict().items())
    with torch.device("meta"):
        made = OURS[dim](4)
    assert {value.device.type for value in made.state_dict().values()} == {"meta"}
    made.load_state_dict(THEIRS[dim](4).state_dict(), assign=True)
    assert made(data(dim)[:, :1].repeat(1, 4, *[1] * (len(SHAPES[dim]) - 2))).isfinite().all()


def test_parametrized_and_pruned_layers_work() -> None:
    layer = BatchNorm2d(3)
    nn.utils.parametrize.register_parametrization(layer, "weight", nn.Softplus(), unsafe=True)
    peer = nn.BatchNorm2d(3)
    nn.utils.parametrize.register_parametrization(peer, "weight", nn.Softplus(), unsafe=True)
    assert_alike(layer, peer, data(2))
