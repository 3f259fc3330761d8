"""Which parameters of a network learn: all, gamma and beta of its normalizers, or its last layer."""

from __future__ import annotations

from typing import Literal

from torch import nn

from bnbench.base.errors import BnbenchError
from bnbench.norms.parameter_groups import groups_by_name, head_names

Trained = Literal["all", "norm", "head"]


def freeze(model: nn.Module, trained: Trained, norm: str) -> None:
    """Take the gradient from the parameters that do not learn, so that no optimizer moves or decays them.

    norm: gamma and beta of every normalizer learn, and nothing else (Frankle, Schwab & Morcos 2021, arXiv
    2003.00152, section 3). head: the last layer. all: the network is left as it is. Buffers such as running
    statistics are no parameters, and move. `norm` is the name of the study's normalizer, for the message.
    Raises BnbenchError where nothing would learn.
    """
    if trained == "all":
        return
    learn = _names(model, trained)
    if not learn:
        raise _nothing(trained, norm)
    for name, parameter in model.named_parameters():
        if name not in learn:
            parameter.requires_grad_(False)


def count_trained(model: nn.Module) -> int:
    """How many numbers learn."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _names(model: nn.Module, trained: Trained) -> set[str]:
    if trained == "head":
        return head_names(model)
    return {name for name, group in groups_by_name(model).items() if group in ("gamma", "beta")}


def _nothing(trained: Trained, norm: str) -> BnbenchError:
    if trained == "head":
        return BnbenchError(
            "train: head: this network has no linear and no convolution layer that could be its last.",
            fix="train: all, or a model with a layer called head.",
        )
    why = (
        "the network has no normalizer"
        if norm == "none"
        else "its layers have no gamma and no beta here (affine: false, or layers without any)"
    )
    return BnbenchError(
        f"train: norm with norm: {norm}: {why}, so no parameter would learn.",
        fix="norm: batch with its gamma and beta, or train: all (or head).",
    )
