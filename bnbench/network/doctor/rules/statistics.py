"""Running statistics that were never updated, that are almost zero, or that are kept in half precision."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bnbench.network.doctor.input_variance import shares_below_eps
from bnbench.network.doctor.measures import has_inputs
from bnbench.network.doctor.patient import Patient
from bnbench.network.doctor.rules import Symptom, rules
from bnbench.network.doctor.trained import (
    batches_of,
    eps_of,
    has_own_beta,
    has_statistics,
    is_initial,
    running_mean,
    running_var,
)
from bnbench.network.sites.norm_site import NormSite

#: sqrt(var / (var + eps)) up to this, a variance of a thousandth of eps: the channel is constant to a few hundredths.
DEAD = 1001**-0.5 * (1 + 1e-9)
#: The same at var = eps.
SMALL = 0.5**0.5
#: Ten times the largest usual eps.
LARGE_EPS = 1e-2


@rules.register(
    "D02",
    title="statistics never updated",
    severity="error",
    cost="Inference uses a mean of 0 and a variance of 1, which have nothing to do with the data: outputs differ from "
    "those of training.",
)
def never_updated(patient: Patient) -> Iterator[Symptom]:
    """A normalization of a trained network has a running mean of 0 and a running variance of 1, exactly.

    Checkpoints of fine-tuned parameters often lack buffers; some training loops keep the layers in eval mode from the
    first step; and `reset_running_stats()` was called and no batch followed.

    Evidence: the number of channels with exactly these values, which no batch of data leaves.

    Meant: a network that was never trained has no finding; where betas alone hint at training, a note (RepVGG starts
    them at random). A layer that shows no training itself may be new, and one in eval mode may have been trained with
    these very statistics: both are a warning. So is a layer that the forward pass does not call.

    Fix: load a checkpoint that holds the buffers, or send training batches through the network in train() mode.

    Threads: huggingface/peft#1732, huggingface/peft#3481, pytorch/vision#5443, pytorch/pytorch#37823
    """
    for site in patient.norms:
        if not patient.was_trained and not has_own_beta(site):
            continue
        variance = running_var(site)
        if not has_statistics(site) or variance is None or variance.is_meta or not is_initial(site):
            continue
        counted = batches_of(site)
        said = (
            f"It counted {counted} batches, and none of them moved them."
            if counted
            else "It counted no batch."
        )
        meant = not site.training and patient.model.training
        runs = site.calls > 0 or not has_inputs(patient)
        certain = runs and not meant and (counted > 0 or has_own_beta(site))
        yield Symptom(
            place=site.name,
            evidence=variance.numel(),
            measure="channels with mean 0 and variance 1 exactly",
            message=f"The running statistics are still the initial ones. {said}"
            if patient.was_trained
            else "The running statistics are the initial ones, and the betas are not: was it trained?",
            fix="load a checkpoint that holds the buffers, or estimate them: model.train(), then "
            "`with torch.no_grad():` some batches of training data",
            severity="note" if not patient.was_trained else "error" if certain else "warning",
        )


def gains(site: NormSite) -> Tensor | None:
    """sqrt(var / (var + eps)) of every channel: 1 where the output has the variance that it should have."""
    variance = running_var(site)
    if not has_statistics(site) or variance is None or variance.is_meta:
        return None
    variance = variance.detach().double().clamp_min(0)
    return (variance / (variance + max(eps_of(site), torch.finfo(torch.float64).tiny))).sqrt()


@rules.register(
    "D08",
    title="dead channel",
    cost="The channel is the constant beta in inference: its weights cost memory and time, and do nothing.",
)
def dead_channel(patient: Patient) -> Iterator[Symptom]:
    """A channel's running variance is almost zero: nothing but a constant reached the normalization in training.

    The layer before it died in training (weight decay on a layer that ReLU cut off, a learning rate that was too high).
    torchvision's official MobileNetV2 has such channels, with a running variance of 5.6e-45. Where the variance of
    inference is larger than that, eps alone decides, and the output is multiplied by up to 1/sqrt(eps).

    Evidence: the number of channels whose running variance is at most a thousandth of eps.

    Meant: a variance that is small beside eps, but not that small, is D12.

    Fix: remove the channels (they are exact constants), or train again from a checkpoint where they lived.

    Threads: pytorch/vision#8250
    """
    for site in patient.norms:
        gain = gains(site)
        if gain is None or not (dead := int((gain <= DEAD).sum())):
            continue
        variance = running_var(site)
        least = 0.0 if variance is None else float(variance.double().min())
        yield Symptom(
            place=site.name,
            evidence=dead,
            measure="dead channels",
            message="The running variance of some channels is zero beside eps: they are constants in inference.",
            fix=f"prune them: model.get_submodule({site.name!r}).running_var <= {eps_of(site) / 1000:.1g} "
            f"(the least is {least:.2g})",
        )


@rules.register(
    "D12",
    title="eps not below the variance",
    severity="note",
    cost="eps decides the scale in place of the data: the channel's output is smaller than one standard deviation.",
)
def eps_above_variance(patient: Patient) -> Iterator[Symptom]:
    """The running variance of a channel is at most eps: the division is by the root of eps as much as of the variance.

    Activations were tiny (inputs that are not scaled, a small initialization), or eps is large (1e-3 in TensorFlow).

    Running variances are those of the training. Of norms that have none, and of a network that was not trained, the
    variance of a forward pass is taken, where eps is at least 0.01 (a typing mistake in 1e-5, for example).

    Evidence: the share of channels (or of samples) with a variance of at most eps, in percent.

    Meant: a note where less than half of the channels have it; a warning else. Constant channels are D08.

    Fix: scale the inputs, or use a smaller eps while training from the start: a trained network needs the eps it has.

    Threads: pytorch/vision#2169, pytorch/vision#2933
    """
    running = {site.name: gains(site) for site in patient.norms} if patient.was_trained else {}
    for site in patient.norms:
        gain = running.get(site.name)
        share = 0.0 if gain is None else float(((gain > DEAD) & (gain <= SMALL)).double().mean())
        if share > 0:
            message = "The running variance of these channels is at most eps."
            yield _small_variance(site, 100 * share, "% of the channels", message)
    large = [site for site in patient.norms if running.get(site.name) is None and eps_of(site) >= LARGE_EPS]
    for site, share in shares_below_eps(patient, large):
        if share > 0:
            message = "The variance of its inputs is at most eps."
            yield _small_variance(site, 100 * share, "% of the variances", message)


def _small_variance(site: NormSite, share: float, measure: str, message: str) -> Symptom:
    fix = f"scale what comes in, or train with an eps below {eps_of(site):g}"
    return Symptom(site.name, share, measure, message, fix, severity="warning" if share >= 50 else "note")


@rules.register(
    "D22",
    title="statistics in half precision",
    cost="Each update is rounded to a few digits, and float16 ends at 65504: the statistics stand still or become "
    "infinite.",
)
def half_precision(patient: Patient) -> Iterator[Symptom]:
    """Running statistics are kept in float16 or bfloat16, or they are not finite.

    `model.half()` converts buffers, too. With momentum 0.1, a batch mean that is 1 % away changes the statistics by
    0.1 %, which bfloat16 (3 digits) loses.

    Evidence: the relative rounding of the type, as a number; or the number of values that are not finite.

    Meant: a network that is in eval mode as a whole, for inference: a note.

    Fix: keep the layers in float32 under torch.autocast: `model.get_submodule(name).float()`.

    Threads: pytorch/pytorch#90342, pytorch/pytorch#115500, pytorch/pytorch#70901
    """
    for site in patient.norms:
        mean, variance = running_mean(site), running_var(site)
        if not has_statistics(site) or mean is None or variance is None or variance.is_meta:
            continue
        wrong = int((~mean.isfinite()).sum() + (~variance.isfinite()).sum() + (variance < 0).sum())
        name = f"model.get_submodule({site.name!r})"
        if wrong:
            yield Symptom(
                place=site.name,
                evidence=wrong,
                measure="running statistics that are infinite, NaN or a negative variance",
                message="The running statistics are no numbers that inference can use.",
                fix=f"{name}.float().reset_running_stats(), then batches in train() mode; and skip steps whose loss is "
                "not finite",
                severity="error",
                cost="Every output of inference is NaN or wrong.",
            )
        dtype = variance.dtype
        if dtype in (torch.float16, torch.bfloat16):
            yield Symptom(
                place=site.name,
                evidence=torch.finfo(dtype).eps,
                measure=f"relative rounding of {str(dtype).removeprefix('torch.')}",
                message="The running statistics are kept in half precision.",
                fix=f"{name}.float(), and torch.autocast for the rest",
                severity="warning" if patient.model.training else "note",
            )
