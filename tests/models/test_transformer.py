"""The transformer against torch's own layer, and what its normalizers and its mask may change.

Oracles: torch.nn.TransformerEncoderLayer with the same weights, in float64; the same network without padding.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnbench.base.errors import BnbenchError
from bnbench.data import Sizes
from bnbench.engine.build import build_model, initialise
from bnbench.engine.private_copy import private_copy
from bnbench.engine.steppers.sequential import Sequential
from bnbench.models import models
from bnbench.models.layers import NormLayer
from bnbench.models.sequences import MeanOfPositions, SinusoidalPositions
from bnbench.models.transformer_block import TransformerBlock
from bnbench.network.sites.recorded import ignores_shift
from bnbench.norms import norms
from bnbench.norms.owner import weight_layers
from bnbench.norms.parameter_groups import groups_by_name, head_names
from bnbench.study import Vocabulary, load_study

WIDTH, LENGTH, LETTERS = 8, 7, 11
TEXT = Sizes((LENGTH,), LETTERS, vocabulary=LETTERS, per_position=True)
CLASSES = Sizes((LENGTH,), 3, vocabulary=LETTERS, masked=True)
NUMBERS = Sizes((LENGTH, 3), 3, masked=True)


def made(sizes: Sizes = TEXT, norm: str = "layer", seed: int = 0, **options: Any) -> nn.Module:
    options = {"width": WIDTH, "heads": 2, "depth": 2, **options}
    model: nn.Module = models.get("transformer").factory(sizes, NormLayer(norms.get(norm)), **options)
    initialise(model, seed, "torch")
    return model


def perturb(model: nn.Module) -> nn.Module:
    """No parameter at its default, so that each has a part in the output."""
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=draw).to(parameter))
    return model


def twins(block: Any) -> dict[str, nn.Module]:
    """The layers of a block by the names of torch's."""
    return {
        "linear1": block.feed_forward.branch.first,
        "linear2": block.feed_forward.branch.second,
        "self_attn.out_proj": block.attention.branch.out,
        "norm1": (block.attention.before or block.attention.post).layer,
        "norm2": (block.feed_forward.before or block.feed_forward.post).layer,
    }


def encoder_layer(block: Any, norm_first: bool, activation: str) -> nn.TransformerEncoderLayer:
    """torch's layer with the weights of a block; its key bias, which the softmax takes out, is 0."""
    layer = nn.TransformerEncoderLayer(
        WIDTH, 2, 4 * WIDTH, 0.0, activation, norm_first=norm_first, batch_first=True, dtype=torch.float64
    )
    attention = block.attention.branch
    with torch.no_grad():
        for name, module in twins(block).items():
            layer.get_submodule(name).load_state_dict(module.state_dict())
        queries = (attention.query, attention.key, attention.value)
        layer.self_attn.in_proj_weight.copy_(torch.cat([module.weight for module in queries]))
        zero = torch.zeros(WIDTH, dtype=torch.float64)
        layer.self_attn.in_proj_bias.copy_(torch.cat((attention.query.bias, zero, attention.value.bias)))
    return layer


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("position", ["pre", "post"])
def test_a_block_steps_as_torchs_encoder_layer(position: str, causal: bool, activation: str) -> None:
    """Loss, every gradient and the weights after a step of SGD, for three steps, in float64 to 1e-12."""
    model = made(norm_position=position, depth=1, causal=causal, activation=activation)
    block = perturb(model.double()).get_submodule("blocks.0")
    assert isinstance(block, TransformerBlock)
    theirs = encoder_layer(block, position == "pre", activation)
    draw = torch.Generator().manual_seed(0)
    hidden = nn.Transformer.generate_square_subsequent_mask(LENGTH, dtype=torch.float64) if causal else None
    for _ in range(3):
        x, target = torch.randn(2, 5, LENGTH, WIDTH, dtype=torch.float64, generator=draw)
        outputs = block(x), theirs(x, src_mask=hidden, is_causal=causal)
        losses = [(y - target).square().mean() for y in outputs]
        equal(losses[0], losses[1])
        for each, loss in zip((block, theirs), losses, strict=True):
            each.zero_grad()
            loss.backward()
        compare(block, theirs, lambda parameter: parameter.grad)
        with torch.no_grad():
            for parameter in (*block.parameters(), *theirs.parameters()):
                parameter -= 0.1 * parameter.grad
        compare(block, theirs, lambda parameter: parameter.detach())


def compare(block: Any, theirs: Any, value: Callable[[Tensor], Any]) -> None:
    """The gradients, or the weights, of a block and of torch's layer."""
    attention = block.attention.branch
    with_zero = [value(attention.query.bias), torch.zeros(WIDTH).double(), value(attention.value.bias)]
    queries = (attention.query, attention.key, attention.value)
    equal(torch.cat([value(m.weight) for m in queries]), value(theirs.self_attn.in_proj_weight))
    equal(torch.cat(with_zero), value(theirs.self_attn.in_proj_bias))
    for name, module in twins(block).items():
        for key, parameter in module.named_parameters():
            equal(value(parameter), value(theirs.get_parameter(f"{name}.{key}")))


def equal(one: Tensor | None, other: Tensor | None) -> None:
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def changed_by_a_later_token(model: nn.Module) -> Tensor:
    """(T,): by how much the outputs at each position move where the last token changes."""
    tokens = torch.randint(LETTERS, (6, LENGTH), generator=torch.Generator().manual_seed(1))
    other = tokens.clone()
    other[:, -1] = (other[:, -1] + 1) % LETTERS
    return (model(tokens) - model(other)).abs().amax((0, 2))


USUAL = ("none", "layer", "rms", "dyt", "batch", "masked_batch", "qk")
CASES = [
    pytest.param(norm, position, marks=[] if position == "pre" or norm in USUAL else pytest.mark.slow)
    for norm in norms.names()
    if norm not in ("instance", "evonorm_s0", "filter_response")
    for position in ("pre", "post", "sandwich")
]
#: Normalizers that compute statistics of the batch, in training; the first also at inference. `batch_virtual` does so
#: in its first batch alone.
AT_INFERENCE = {"batch_stats_at_inference"}
OVER_POSITIONS = {
    name
    for name in norms.names()
    if (name.startswith("batch") and name != "batch_virtual")
    or name in ("masked_batch", "ghost", "lp", "population", "renorm", "sync", "power")
}


@pytest.mark.parametrize(("norm", "position"), CASES)
def test_a_later_token_changes_no_earlier_output(norm: str, position: str) -> None:
    """In eval mode, bit for bit; in train mode only where no statistics are of the batch."""
    model = perturb(made(norm=norm, norm_position=position))
    changed_by_a_later_token(model.train())  # running statistics that are not 0 and 1
    changed = changed_by_a_later_token(model.eval())
    assert changed[-1] > 0
    assert bool(changed[:-1].any()) == (norm in AT_INFERENCE)
    in_training = changed_by_a_later_token(model.train())[:-1]
    assert bool(in_training.any()) == (norm in OVER_POSITIONS)


@pytest.mark.parametrize("qk_norm", ["rms", "layer", "norm"])
def test_normalized_queries_and_keys_are_causal_and_ignore_the_size_of_their_weights(qk_norm: str) -> None:
    model = perturb(made(qk_norm=qk_norm)).eval()
    assert not changed_by_a_later_token(model)[:-1].any()
    tokens = torch.randint(LETTERS, (4, LENGTH))
    before = model(tokens)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".query." in name or ".key." in name:
                parameter.mul_(100)
    torch.testing.assert_close(model(tokens), before, rtol=1e-3, atol=1e-3)


def test_without_a_mask_of_later_positions_a_later_token_is_seen() -> None:
    assert changed_by_a_later_token(perturb(made(causal=False)).eval())[:-1].all()


@pytest.mark.parametrize("pool", ["mean", "class_token"])
@pytest.mark.parametrize("norm", ["none", "layer", "rms", "dyt", "group", "qk"])
def test_padding_changes_nothing_where_each_position_is_normalized_alone(norm: str, pool: str) -> None:
    """A text of 4 letters gives the same in a batch of its own length and with 3 positions of padding."""
    model = perturb(made(CLASSES, norm, pool=pool)).double()
    tokens = torch.randint(1, LETTERS, (5, 4))
    padded = nn.functional.pad(tokens, (0, 3))
    equal(model(padded), model(tokens))
    assert not torch.allclose(model(padded), model(torch.randint(1, LETTERS, (5, 4))))


def test_a_batch_of_numbers_is_padded_as_one_of_tokens() -> None:
    model = perturb(made(NUMBERS)).double()
    x = torch.randn(5, 4, 3, dtype=torch.float64)
    x[..., -1] = 1
    padded = nn.functional.pad(x, (0, 0, 0, 3))
    padded[:, 4:, :2] = 9.0  # whatever stands there
    equal(model(padded), model(x))


def test_a_mask_of_zeros_gives_finite_outputs_and_gradients() -> None:
    model = made(CLASSES)
    model(torch.zeros(3, LENGTH, dtype=torch.int64)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_the_mean_is_over_valid_positions() -> None:
    x, mask = torch.randn(2, 4, 3), torch.tensor([[True, True, False, False], [True, False, True, True]])
    expected = torch.stack((x[0, :2].mean(0), x[1, [0, 2, 3]].mean(0)))
    torch.testing.assert_close(MeanOfPositions()(x, mask), expected)


def test_sinusoids_are_those_of_the_paper() -> None:
    """Vaswani et al. 2017, section 3.5, number by number."""
    table = SinusoidalPositions(5, 6)(torch.zeros(1, 5, 6))[0]
    for position in range(5):
        for index in range(3):
            angle = position / 10_000 ** (2 * index / 6)
            assert table[position, 2 * index] == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[position, 2 * index + 1] == pytest.approx(math.cos(angle), abs=1e-6)


def test_tied_embeddings_are_one_parameter_that_starts_as_an_embedding() -> None:
    tied, free = made(tied_embeddings=True), made()
    assert count(tied) == count(free) - LETTERS * WIDTH
    assert tied.get_parameter("head.weight") is tied.get_parameter("embedding.weight")
    assert torch.equal(tied.get_parameter("head.weight"), free.get_parameter("embedding.weight"))
    assert groups_by_name(tied)["embedding.weight"] == "weights"
    assert "head.weight" not in groups_by_name(tied)
    assert head_names(tied) == {"embedding.weight", "head.bias"}
    assert head_names(free) == {"head.weight", "head.bias"}
    twin = copy.deepcopy(tied)
    assert twin.get_parameter("head.weight") is twin.get_parameter("embedding.weight")
    assert twin.get_parameter("head.weight") is not tied.get_parameter("head.weight")


def test_what_variants_share_starts_equal_and_every_layer_has_a_stream_of_its_own() -> None:
    """Embeddings and weights depend on the seed and the layer's name alone; so do those of torch.nn.Conv1d."""
    layer, none = made(norm="layer"), dict(made(norm="none").named_parameters())
    shared = [name for name, _ in layer.named_parameters() if name in none]
    assert {"embedding.weight", "positions.weight", "blocks.1.attention.branch.key.weight"} <= {*shared}
    assert all(torch.equal(layer.get_parameter(name), none[name]) for name in shared)
    assert not torch.equal(made(seed=1).get_parameter("embedding.weight"), none["embedding.weight"])
    small, large = nn.ModuleDict({"b": nn.Conv1d(2, 3, 3)}), nn.ModuleDict({"a": nn.Linear(2, 2)})
    large["b"] = nn.Conv1d(2, 3, 3)
    for model in (small, large):
        initialise(model, 0, "torch")
    assert torch.equal(small.get_parameter("b.weight"), large.get_parameter("b.weight"))


def test_the_last_weights_of_each_branch_start_smaller_as_in_gpt2() -> None:
    scaled, plain = made(depth=3), made(depth=3, residual_scale="none")
    for (name, ours), theirs in zip(scaled.named_parameters(), plain.parameters(), strict=True):
        ends_branch = name.endswith(("out.weight", "second.weight"))
        torch.testing.assert_close(ours, theirs / math.sqrt(6) if ends_branch else theirs)


def test_a_factor_on_the_branches_works_in_training_too() -> None:
    """Oracle: x + 0.3 f(norm(x)), written out."""
    branch = perturb(made(residual_scale=0.3, depth=1)).get_submodule("blocks.0.feed_forward")
    x = torch.randn(2, LENGTH, WIDTH)
    torch.testing.assert_close(branch(x), x + 0.3 * branch.branch(branch.before(x)))


def test_sandwich_normalizes_before_and_after_each_branch() -> None:
    """Oracle: x + norm(f(norm(x))), written out (Ding et al. 2021, section 2.4)."""
    branch = perturb(made(norm_position="sandwich", depth=1)).get_submodule("blocks.0.attention")
    x = torch.randn(2, LENGTH, WIDTH)
    torch.testing.assert_close(branch(x), x + branch.after(branch.branch(branch.before(x))))


@pytest.mark.parametrize(("position", "has"), [("pre", True), ("post", False), ("sandwich", True)])
def test_the_final_norm_is_what_is_usual_with_the_position(position: str, has: bool) -> None:
    assert hasattr(made(norm_position=position), "norm") == has
    for chosen in (True, False):
        assert hasattr(made(norm_position=position, final_norm=chosen), "norm") == chosen


@pytest.mark.parametrize(
    ("position", "final_norm"),
    [
        ("pre", True),
        ("post", False),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("pre", False), ("post", True), ("sandwich", True), ("sandwich", False))
        ),
    ],
)
def test_every_bias_that_has_an_effect_is_there_and_no_other(position: str, final_norm: bool) -> None:
    """With batch norm, by trial: no bias without an effect, and none missing that would have one."""
    options: dict[str, Any] = {"norm_position": position, "final_norm": final_norm}
    for sizes in (TEXT, CLASSES, NUMBERS):
        model = perturb(made(sizes, "batch", **options)).double()
        for name, layer in weight_layers(model):
            moved = not ignores_shift(model, layer, lambda count, sizes=sizes: inputs(sizes, count))
            assert moved == (layer.bias is not None), name
        for name, layer in weight_layers(made(sizes, "none", **options)):
            assert (layer.bias is not None) != name.endswith(".key"), name


def inputs(sizes: Sizes, count: int) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    if sizes.vocabulary:
        return torch.randint(1, LETTERS, (count, LENGTH), generator=draw)
    x = torch.randn(count, *sizes.input_shape, dtype=torch.float64, generator=draw)
    x[..., -1] = 1
    return x


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"heads": 3}, "model.heads: 3 does not divide model.width: 8.(.|\n)*heads: 2, or width: 9"),
        ({"qk_norm": "rms", "norm": "qk"}, "normalized twice"),
        ({"heads": 8, "norm": "qk"}, "one value a head"),
        ({"norm": "filter_response"}, "its own activation"),
        ({"sizes": CLASSES, "tied_embeddings": True}, "outputs are not the tokens"),
        ({"pool": "class_token"}, "each position has an output of its own"),
        ({"sizes": NUMBERS, "tied_embeddings": True}, "numbers come in"),
    ],
)
def test_what_can_not_be_built_is_refused_with_the_fix(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BnbenchError, match=said):
        made(**options)


def test_a_normalizer_of_queries_and_keys_needs_attention() -> None:
    with pytest.raises(BnbenchError, match="normalizes the queries and keys of attention, and this network"):
        models.get("mlp").factory((1, 8, 8), 10, NormLayer(norms.get("qk")))


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    "optimizer", ["{name: sgd, lr: 0.1, momentum: 0.9}", "{name: adamw, lr: 0.01, weight_decay: 0.1}"]
)
def test_a_private_copy_of_a_run_with_tied_weights_steps_bit_for_bit(
    optimizer: str, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    """A tied weight has one state in the optimizer, and one decay; it stays tied in the copy."""
    path = tmp_path / "s.yaml"
    model = "{name: transformer, width: 8, heads: 2, depth: 1, tied_embeddings: true}"
    path.write_text(f"dataset: stdlib_text\nmodel: {model}\nnorm: layer\noptimizer: {optimizer}\nsteps: 5\n")
    (settings,) = load_study(path, [], vocabulary).variants.values()
    stepper = Sequential(build_model(settings, TEXT, 0), settings, torch.device("cpu"))
    parameters = [p for group in stepper.optimizer.param_groups for p in group["params"]]
    assert len(parameters) == len({id(p) for p in parameters}) == len(list(stepper.model.parameters()))
    tokens = torch.randint(LETTERS, (2, 4, LENGTH), generator=torch.Generator().manual_seed(0))
    stepper.step(tokens[:1], tokens[1:])
    twin = private_copy(stepper, 0, 1.0)
    for each in (stepper, twin):
        each.step(tokens[1:], tokens[:1])
    for name, value in stepper.model.state_dict().items():
        assert torch.equal(value, twin.model.state_dict()[name]), name
    assert twin.model.get_parameter("head.weight") is twin.model.get_parameter("embedding.weight")
