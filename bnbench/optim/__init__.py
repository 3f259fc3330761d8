"""Optimizers, learning-rate schedules and losses. To add one: a factory in the file of its kind.

optimizer: `factory(model, **options) -> torch.optim.Optimizer`.
schedule: `factory(total_steps, steps_per_epoch, **options) -> Callable[[int], float]`, the factor on the
    learning rate at each step, counted from 0.
loss: `factory(**options) -> Callable[[logits, labels], scalar]`, the objective of training. The loss that is
    *reported* is always the plain cross-entropy (bnbench/base/metrics.py), so variants stay comparable.
"""

from dataclasses import dataclass

from bnbench.base.registry import Registry


@dataclass(frozen=True)
class LossFacts:
    """tasks: those that it is for; a task may also name losses of others that fit."""

    tasks: tuple[str, ...] = ("image_classification",)


optimizers = Registry("optimizer", __name__)
schedules = Registry("schedule", __name__)
losses = Registry("loss", __name__, LossFacts)
