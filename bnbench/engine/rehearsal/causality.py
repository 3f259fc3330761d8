"""Later tokens that an output depends on, in a network that predicts tokens: found by changing the last token."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bnbench.engine.rehearsal.case import Case
from bnbench.engine.rehearsal.trial_outputs import SAMPLES, UNCHANGED, ByMode, changed_outputs
from bnbench.tasks import task_of

#: A change of an output above this, relative to 1 + its size, is no rounding.
TOLERANCE = 1e-5


def leaks_of(case: Case, model: nn.Module) -> ByMode:
    """Change the last token of each sequence, and look at the outputs before it; the network is left as it is.

    A task without one output for each token has no leaks, and a network that raises is judged elsewhere.
    """
    sizes = case.sizes
    if not sizes.per_position or sizes.vocabulary is None or sizes.input_shape[0] < 2:
        return UNCHANGED
    tokens = case.inputs(SAMPLES)
    changed = tokens.clone()
    changed[:, -1] = (changed[:, -1] + 1) % sizes.vocabulary
    return changed_outputs(model, tokens, changed, slice(-1), TOLERANCE)


def why_reads_the_answer(case: Case, leaks: ByMode) -> str:
    """The mistake of a network that sees, at inference, the tokens that it must predict; "" of any other."""
    if not leaks.inference or not _predicts_the_next(case):
        return ""
    settings = case.settings
    fix = f"norm: layer, or another normalizer in place of {settings.norm.name}, that looks at each position by itself."
    if settings.model.options.get("causal") is False:
        fix = "leave model.causal out."
    return (
        f"model: {settings.model.name} with norm: {settings.norm.name}: at inference an output depends on later "
        f"tokens, and these are what task: {settings.task.name} asks for: every metric would be of a network that "
        f"reads the answer. Fix: {fix}"
    )


def why_sees_later_tokens(case: Case, leaks: ByMode, ways: tuple[str, ...]) -> str:
    """The caution on a network that sees later tokens in training alone; "" of any other. ways: of inference."""
    if not leaks.training or leaks.inference:
        return ""
    by_batch = (
        f" {case.label}@batch takes its statistics from the test batch, so there they have a part in the metrics, too."
        if "batch" in ways
        else ""
    )
    settings = case.settings
    owner = f"model: {settings.model.name}" if settings.norm.name == "none" else f"norm: {settings.norm.name}"
    return (
        f"{case.label}: in training, the output at a position depends on later tokens, which {owner} has in its "
        "statistics: the loss that it minimises is that of a network that sees some of what it must predict. At "
        f"inference no output depends on them, and all metrics are measured so.{by_batch}"
    )


def _predicts_the_next(case: Case) -> bool:
    """Whether the target of each position is the next token, in the batches that the task makes up."""
    make: Callable[..., tuple[Tensor, Tensor]] = task_of(case.settings.task).made_up
    inputs, targets = make(case.sizes, SAMPLES, torch.Generator().manual_seed(0))
    return targets.shape == inputs.shape and torch.equal(targets[:, :-1], inputs[:, 1:])
