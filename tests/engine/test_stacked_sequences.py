"""Transformers as a stack: the gradients of single models in float64, and no bit that depends on the neighbours."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnbench.data import Sizes
from bnbench.engine.build import build_model, make_objective, make_optimizer
from bnbench.engine.choose import EngineChoice
from bnbench.engine.device import all_threads
from bnbench.engine.stacked.chain import chain, has_stacked_form
from bnbench.engine.stacked.layers import OneByOne
from bnbench.engine.stacked.objective import stacked_objective
from bnbench.engine.stacked.stack import Stack
from bnbench.optim.text_objectives import NextToken
from bnbench.study import Settings, Vocabulary, load_study
from tests.training import chosen_for

#: No multiple of a vector's length anywhere.
WINDOW, WIDTH, TOKENS, WINDOWS = 7, 10, 11, 5
#: Those with a stacked form over positions, one that is called replica by replica, and one that is nothing.
NORMS = ("none", "layer", "rms", "dyt", "batch", "batch_custom", "group")


def settings_of(vocabulary: Vocabulary, tmp_path: Path, **changes: Any) -> Settings:
    path = tmp_path / "s.yaml"
    path.write_text(
        "dataset: {name: stdlib_text, window: 16}\nmodel: {name: transformer, depth: 2, width: 10, heads: 2}\n"
        "optimizer: {name: adamw, lr: 0.003}\nbatch_size: 5\nsteps: 40\nseeds: 3\n"
    )
    overrides = [f"{key.replace('__', '.')}={value}" for key, value in changes.items()]
    (variant,) = load_study(path, overrides, vocabulary).variants.values()
    return variant


def sizes_of(window: int = WINDOW, tokens: int = TOKENS) -> Sizes:
    return Sizes((window,), tokens, vocabulary=tokens, per_position=True)


def models_of(settings: Settings, seeds: Sequence[int], sizes: Sizes, dtype: torch.dtype) -> list[nn.Module]:
    """No weight, bias, gamma or beta at its default."""
    models = [build_model(settings, sizes, seed).to(dtype) for seed in seeds]
    for seed, model in zip(seeds, models, strict=True):
        draw = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=draw, dtype=dtype)
    return models


def windows(seeds: Sequence[int], sizes: Sizes, step: int = 0) -> tuple[Tensor, Tensor]:
    """Tokens (S, N, T) and the next ones; a seed's own, whoever is beside it."""
    shape = WINDOWS, sizes.input_shape[0] + 1
    draws = [torch.Generator().manual_seed(100 * step + seed) for seed in seeds]
    text = torch.stack([torch.randint(sizes.num_outputs, shape, generator=draw) for draw in draws])
    return text[..., :-1].contiguous(), text[..., 1:].contiguous()


def same_gradients(settings: Settings) -> Stack:
    """Whether a stack of three has the objectives, gradients and buffers of three models, to 1e-12 in float64."""
    sizes = sizes_of()
    alone = models_of(settings, range(3), sizes, torch.float64)
    together = copy.deepcopy(alone)
    objective = make_objective(settings)
    stack = Stack(together, make_optimizer(settings), objective)
    inputs, targets = windows(range(3), sizes)
    losses = stack.gradients(inputs, targets)
    named = dict(together[0].named_parameters())
    for index, model in enumerate(alone):
        loss = objective(model(inputs[index]), targets[index])
        loss.backward()  # type: ignore[no-untyped-call]
        assert losses[index].item() == pytest.approx(loss.item(), abs=1e-12)
        for name, parameter in model.named_parameters():
            mine = stack.parameters.grad(named[name])[index]
            torch.testing.assert_close(mine, parameter.grad, rtol=0, atol=1e-12, msg=name)
        for mine, other in zip(together[index].buffers(), model.buffers(), strict=True):
            torch.testing.assert_close(mine, other, rtol=0, atol=1e-12)
    return stack


@pytest.mark.parametrize(
    ("norm", "position"),
    [*((norm, "pre") for norm in NORMS), ("layer", "post"), ("batch", "post"), ("layer", "sandwich")],
)
def test_gradients_are_those_of_single_models(
    norm: str, position: str, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    stack = same_gradients(settings_of(vocabulary, tmp_path, norm=norm, model__norm_position=position))
    assert all(map(has_stacked_form, chain(stack.models[0]))) is (norm != "group" or position == "post")


@pytest.mark.parametrize(
    "changes",
    [
        {"model__qk_norm": "rms"},
        {"model__qk_norm": "norm", "norm": "layer"},
        {"norm": "{name: qk, kind: layer}"},
        {"model__residual_scale": 0.5, "norm": "rms"},
        {"model__activation": "relu", "model__positions": "sinusoidal"},
        {"norm": "{name: layer, affine: false}", "model__final_norm": "false"},
        {"norm": "{name: dyt, affine: false}", "loss": "{name: next_token, label_smoothing: 0.1}"},
        {"norm": "power"},
    ],
    ids=str,
)
def test_options_change_nothing_of_that(
    changes: dict[str, Any], vocabulary: Vocabulary, tmp_path: Path
) -> None:
    same_gradients(settings_of(vocabulary, tmp_path, **changes))


def test_a_part_that_is_not_plain_is_called_as_it_is(vocabulary: Vocabulary, tmp_path: Path) -> None:
    model = build_model(settings_of(vocabulary, tmp_path, norm="layer"), sizes_of(), 0)
    block = chain(model)[2]
    assert has_stacked_form(block)
    linear = block.get_submodule("feed_forward.branch.first")
    linear.register_forward_hook(lambda module, args, out: out * 2)
    assert not has_stacked_form(block)


def trained(settings: Settings, seeds: Sequence[int], sizes: Sizes) -> tuple[Tensor, list[Tensor]]:
    """The objectives of five steps of seed 5, and its weights after them."""
    models = models_of(settings, seeds, sizes, torch.float32)
    stack = Stack(models, make_optimizer(settings), make_objective(settings))
    place = list(seeds).index(5)
    losses = [stack.step(*windows(seeds, sizes, step))[place] for step in range(5)]
    return torch.stack(losses), [parameter.detach() for parameter in models[place].parameters()]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("window", [pytest.param(WINDOW, marks=pytest.mark.slow), 16])
def test_no_bit_depends_on_the_neighbours(
    norm: str, window: int, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    """Not on their number either, where a window fills whole vectors: then a run alone needs no double."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        settings = settings_of(vocabulary, tmp_path, norm=norm)
        losses, weights = trained(settings, [5] if window == 16 else [5, 0], sizes_of(window))
        for seeds in ([1, 5], [2, 5, 3, 1, 0]):
            others, theirs = trained(settings, seeds, sizes_of(window))
            assert torch.equal(losses, others)
            assert all(map(torch.equal, weights, theirs))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_objective_of_text_and_its_gradient(smoothing: float) -> None:
    """Against torch's own cross-entropy and autograd, in float64."""
    torch.manual_seed(0)
    logits = torch.randn(3, 4, 5, 7, dtype=torch.float64)
    tokens = torch.randint(7, (3, 4, 5))
    losses, grad = stacked_objective(NextToken(smoothing))(logits, tokens)
    for index in range(3):
        x = logits[index].clone().requires_grad_()
        loss = nn.functional.cross_entropy(x.transpose(1, 2), tokens[index], label_smoothing=smoothing)
        (wanted,) = torch.autograd.grad(loss, x)
        torch.testing.assert_close(losses[index], loss.detach(), rtol=0, atol=1e-13)
        torch.testing.assert_close(grad[index], wanted, rtol=0, atol=1e-13)


def test_the_choice_follows_the_size_of_a_step(vocabulary: Vocabulary, tmp_path: Path) -> None:
    def chosen(sizes: Sizes, **changes: Any) -> EngineChoice:
        return chosen_for(settings_of(vocabulary, tmp_path, **changes), sizes)

    assert chosen(sizes_of(16)) == EngineChoice("stacked", 1, doubles=False)
    assert chosen(sizes_of()) == EngineChoice("stacked", 1)  # a run alone gets a double
    large = {"model__width": 64, "batch_size": 32}
    wide = chosen(sizes_of(64, 100), **large)
    assert (wide.engine, wide.threads) == ("sequential", 1)
    assert wide.reason == "its steps are large enough to keep a core busy without a stack"
    assert chosen(sizes_of(64, 100), **large, engine="stacked").engine == "stacked"
    huge = chosen(sizes_of(1024, 100), model__width=64, batch_size=256)
    assert huge.threads == all_threads()


@pytest.mark.parametrize(
    ("changes", "masked", "why"),
    [
        ({"model__tied_embeddings": "true"}, False, "share parameters"),
        ({}, True, "MaskedSequential is not a plain Sequential"),
    ],
)
def test_what_does_not_stack_says_why(
    changes: dict[str, Any], masked: bool, why: str, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    sizes = Sizes((16,), TOKENS, vocabulary=TOKENS, per_position=True, masked=masked)
    choice = chosen_for(settings_of(vocabulary, tmp_path, **changes), sizes)
    assert choice.engine == "sequential"
    assert why in choice.reason


def test_group_norm_is_called_replica_by_replica_inside_a_stacked_block(
    vocabulary: Vocabulary, tmp_path: Path
) -> None:
    models = models_of(settings_of(vocabulary, tmp_path, norm="group"), [0, 1], sizes_of(), torch.float32)
    settings = settings_of(vocabulary, tmp_path, norm="group")
    stack = Stack(models, make_optimizer(settings), make_objective(settings))
    block: Any = stack.layers[2]
    assert isinstance(block.layers[0].branch.layers[0], OneByOne)
