"""Settings that are right one by one and can't have their meaning together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from bnbench.base.parameter_groups import GROUPS
from bnbench.study.same_network import model_faults
from bnbench.study.schema import Settings
from bnbench.study.yaml_source import Path_


def faults_of(settings: Settings) -> Iterator[tuple[tuple[Path_, ...], str]]:
    """The faults that `check` refuses: the keys at fault, and a message with the fix."""
    if settings.epochs is None and settings.steps is None:
        yield (("epochs",), ("steps",)), "a run has no length. Fix: epochs: 5, or steps: 1000."
    warmup = settings.schedule.options.get("warmup_epochs", 0)
    if _is_number(warmup) and settings.epochs and warmup >= settings.epochs:
        yield (
            (("schedule", "warmup_epochs"), ("epochs",)),
            f"schedule.warmup_epochs: {warmup:g} with epochs: {settings.epochs}: the run would end before its warm-up, "
            f"and never have its learning rate. Fix: a shorter warm-up, such as schedule.warmup_epochs: "
            f"{settings.epochs / 10:g}, or more epochs.",
        )
    yield from model_faults(settings.model)
    init = settings.init
    if init.name == "normal" and init.std is None:
        yield (
            (("init", "name"),),
            "init: normal has no standard deviation. Fix: init: {name: normal, std: 0.05}.",
        )
    if init.name != "normal" and init.std is not None:
        yield (
            (("init", "std"), ("init", "name")),
            f"init.std: {init.std:g} with init.name: {init.name}, which has a spread of its own. "
            f"Fix: init: {{name: normal, std: {init.std:g}}}, or init.scale, which multiplies the weights.",
        )
    options = settings.optimizer.options
    if options.get("nesterov") is True and options.get("momentum") == 0:
        yield (
            (("optimizer", "nesterov"),),
            "optimizer.nesterov: true without a momentum: Nesterov's step looks ahead along the momentum. "
            "Fix: optimizer.momentum: 0.9, or optimizer.nesterov: false.",
        )
    yield from _group_faults(settings)
    yield from _clipping_faults(settings)
    classes = settings.batches.classes
    if classes is not None and classes > settings.batch_size:
        yield (
            (("batches", "classes"), ("batch_size",)),
            f"batches.classes: {classes} with batch_size: {settings.batch_size}: a batch has too few samples. "
            f"Fix: batch_size: {classes} or more, or fewer classes.",
        )


def _clipping_faults(settings: Settings) -> Iterator[tuple[tuple[Path_, ...], str]]:
    """Clipping twice, and clipping of nothing."""
    if settings.clip.name == "none":
        return
    if settings.clip_norm is not None:
        yield (
            (("clip", "name"), ("clip_norm",)),
            f"clip: {settings.clip.name} with clip_norm: {settings.clip_norm:g}: the gradient would be clipped twice. "
            "Fix: leave one of them out, such as clip_norm: none.",
        )
    if settings.train == "head":
        yield (
            (("clip", "name"), ("train",)),
            f"clip: {settings.clip.name} with train: head: this clipping leaves the last layer out, and nothing else "
            "learns. Fix: clip_norm: 1, or train: all.",
        )


def _group_faults(settings: Settings) -> Iterator[tuple[tuple[Path_, ...], str]]:
    """Groups of the optimizer that contradict its switch, or that ask for nothing."""
    options = settings.optimizer.options
    rules = options.get("groups")
    if not isinstance(rules, Mapping) or options.get("decay_norm_and_bias") is not False:
        return
    for group in GROUPS:
        decay = rules.get(group, {}).get("weight_decay", 0)
        if group != "weights" and decay:
            yield (
                (("optimizer", "groups", group, "weight_decay"), ("optimizer", "decay_norm_and_bias")),
                f"optimizer.groups.{group}.weight_decay: {decay:g} with optimizer.decay_norm_and_bias: false, which "
                f"keeps weight decay from {group}. Fix: leave one of them out.",
            )


def cautions_of(settings: Settings, steps_per_epoch: int | None = None) -> tuple[str, ...]:
    """What limits the answer of a run with these settings: `check` warns of it, and the verdict has it beside it.

    steps_per_epoch: None where the data are not known yet.
    """
    steps = () if steps_per_epoch is None else step_cautions(settings, steps_per_epoch)
    return (*_schedule_cautions(settings), *steps)


def never_steps(settings: Settings) -> bool:
    """Whether a schedule of steps is constant: its factor is 1, or every milestone comes after the end."""
    options = settings.schedule.options
    milestones = options.get("milestones", [])
    if options.get("gamma") == 1:
        return True
    return settings.epochs is not None and all(milestone >= settings.epochs for milestone in milestones)


def _schedule_cautions(settings: Settings) -> Iterator[str]:
    options: Mapping[str, Any] = settings.schedule.options
    epochs = settings.epochs or math.inf  # of steps, when their number in an epoch is known
    milestones = options.get("milestones", [])
    if isinstance(milestones, list) and milestones and all(map(_is_number, milestones)):
        late = [milestone for milestone in milestones if milestone >= epochs]
        if late:
            listed = ", ".join(f"{milestone:g}" for milestone in late)
            has = "has" if len(late) == 1 else "have"
            yield (f"schedule.milestones: {listed} {has} no effect: the run ends after epoch {epochs}.")
    gamma = options.get("gamma", 0)
    if _is_number(gamma) and gamma == 1:
        yield "schedule.gamma: 1 leaves the learning rate as it is at every milestone; 0.1 would lower it by 10."
    if _is_number(gamma) and gamma > 1:
        yield f"schedule.gamma: {gamma:g} raises the learning rate at every milestone; 0.1 would lower it by 10."


def step_cautions(settings: Settings, steps_per_epoch: int) -> Iterator[str]:
    """Those that the number of steps makes, and so the size of the data."""
    if settings.is_only_a_look:
        return
    warmup = settings.schedule.options.get("warmup_epochs", 0)
    if _is_number(warmup) and 0 < warmup * steps_per_epoch < 1:
        yield (
            f"schedule.warmup_epochs: {warmup:g} is less than one step ({steps_per_epoch} steps an epoch): "
            "there is no warm-up."
        )
    steps = settings.total_steps(steps_per_epoch)
    if _is_number(warmup) and 0 < steps - warmup * steps_per_epoch < 1 <= warmup * steps_per_epoch:
        yield (
            f"schedule.warmup_epochs: {warmup:g} ends within the last of {steps} steps: only that one has the whole "
            "learning rate."
        )
    milestones = settings.schedule.options.get("milestones", [])
    if isinstance(milestones, list) and all(map(_is_number, milestones)):
        known = settings.epochs or math.inf  # those after the last epoch are said already
        late = [each for each in milestones if each < known and each * steps_per_epoch > steps - 1]
        if late:
            yield (
                f"schedule.milestones: {', '.join(f'{each:g}' for each in late)} comes after the last of {steps} steps "
                "began, and has no effect."
            )
    if settings.evaluate_every != "epoch" and settings.evaluate_every > steps:
        yield (
            f"evaluate_every: {settings.evaluate_every} is more than the {steps} steps of the run: it is evaluated "
            "at its start and its end alone."
        )


def warm_up_fault(settings: Settings, steps_per_epoch: int) -> str:
    """Of a run whose length is given in steps: as `faults_of` has it for epochs; "" where there is none."""
    warmup, steps = settings.schedule.options.get("warmup_epochs", 0), settings.steps
    if not steps or not _is_number(warmup) or warmup * steps_per_epoch < steps:
        return ""
    return (
        f"schedule.warmup_epochs: {warmup:g} is {warmup * steps_per_epoch:g} steps, and the run has steps: {steps}: it "
        "would end before its warm-up, and never have its learning rate."
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
