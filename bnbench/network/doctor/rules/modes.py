"""Training mode, eval mode and frozen parameters that do not fit together; normalizations that run several times."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from bnbench.network.doctor.patient import Patient
from bnbench.network.doctor.rules import Symptom, rules
from bnbench.network.doctor.trained import has_statistics
from bnbench.network.sites.norm_site import NormSite

#: Kinds that treat training and inference differently; instance norms where they keep running statistics.
_TWO_MODES = ("batch", "sync", "instance")


def _is_frozen(site: NormSite) -> bool:
    """Whether nothing of it is trained: gamma and beta, or without them the layer before it."""
    if site.module is None:
        return False
    parameters = list(site.module.parameters())
    if not parameters and site.producer is not None and site.producer.module is not None:
        parameters = list(site.producer.module.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


@rules.register(
    "D03",
    title="frozen parameters, moving statistics",
    cost="The layer is not frozen: each batch in training mode changes what inference computes, although nothing is "
    "trained.",
)
def frozen_but_moving(patient: Patient) -> Iterator[Symptom]:
    """Gamma and beta have `requires_grad=False`, and the layer is in training mode: its running statistics still move.

    `requires_grad_(False)` stops gradients alone. Running statistics are buffers: they are updated in each forward pass
    in training mode, also under torch.no_grad().

    Evidence: the momentum: the share of the statistics that each batch replaces.

    Meant: a layer that is frozen and in eval mode, as in most fine-tuning, and a layer of constants
    (FrozenBatchNorm2d), are no finding. Statistics that shall follow new data (AdaBN) are moved on purpose.

    Fix: call .eval() on the layer after each model.train().

    Threads: pytorch/pytorch#86590, pytorch/pytorch#66073, Lightning-AI/pytorch-lightning#15062,
    Lightning-AI/pytorch-lightning#15063, speediedan/finetuning-scheduler#13
    """
    for site in patient.norms:
        momentum = site.behaviour.momentum
        moves = site.training and has_statistics(site) and momentum != 0
        if moves and site.behaviour.kind in _TWO_MODES and _is_frozen(site):
            yield Symptom(
                place=site.name,
                evidence=1.0 if momentum is None else momentum,
                measure="of the running statistics replaced by each batch",
                message="Its parameters are frozen, and it is in training mode: its running statistics move.",
                fix=f"model.get_submodule({site.name!r}).eval() after each model.train()",
            )


@rules.register(
    "D04",
    title="eval mode in training",
    cost="The layer does not normalize by the batch in training, and its statistics stay those of the data that it "
    "last saw in training mode.",
)
def eval_in_training(patient: Patient) -> Iterator[Symptom]:
    """A normalization whose gamma and beta are trained stays in eval mode while the network trains.

    A class overrides `train()`, or `.eval()` was called on a part and nothing undid it. Fine-tuning detectors does so
    on purpose (`norm_eval=True`), and then usually freezes gamma and beta, too.

    Evidence: the number of parameters that are trained beside statistics that stand still.

    Meant: a layer that is frozen as a whole, and kinds that do the same in both modes (layer, group, RMS norm), are no
    finding.

    Fix: .train() on the layer, or freeze its gamma and beta, too.

    Threads: pytorch/pytorch#4741, pytorch/pytorch#5406, Lightning-AI/pytorch-lightning#19468
    """
    was_training = patient.model.training
    found = {site.name for site in patient.norms if was_training and not site.training}
    patient.model.train()
    for site in patient.norms:
        kind, module = site.behaviour.kind, site.module
        if module is None or kind not in (*_TWO_MODES, "frozen") or not has_statistics(site):
            continue
        trained = sum(one.numel() for one in module.parameters() if one.requires_grad)
        stays = not module.training
        if not trained or not (stays or site.name in found):
            continue
        culprit = _overrider(patient.model, site) if stays else ""
        cause = f"{culprit}.train() leaves it there." if culprit else "A call of .eval() put it there."
        wakes = (
            f"take .eval() out of {culprit}.train()"
            if culprit
            else f"model.get_submodule({site.name!r}).train() after model.train()"
        )
        yield Symptom(
            place=site.name,
            evidence=trained,
            measure="parameters trained beside statistics that stand still",
            message=f"It is in eval mode while the network trains. {cause}",
            fix=f"{wakes}; where it shall be frozen, model.get_submodule({site.name!r}).requires_grad_(False)",
        )


def _has_one_producer(patient: Patient, site: NormSite) -> bool:
    """Whether the same layer runs before each of its calls, as in a head that runs as a whole."""
    nodes = {node.index: node for node in patient.sites.nodes}
    before = [nodes[node.inputs[0]] for node in nodes.values() if node.module is site.module and node.inputs]
    return len({id(node.module) for node in before if node.module is not None}) <= 1


def _overrider(model: nn.Module, site: NormSite) -> str:
    """The class above the site that has a `train` of its own, the innermost."""
    parts = site.name.split(".") if site.name else []
    found = ""
    for depth in range(len(parts) + 1):
        module = model.get_submodule(".".join(parts[:depth]))
        if type(module).train is not nn.Module.train:
            found = type(module).__name__
    return found


@rules.register(
    "D05",
    title="one normalization at several places",
    cost="Its running statistics are updated several times in a step and mix what comes in at all places: inference at "
    "each place uses statistics of the others.",
)
def called_several_times(patient: Patient) -> Iterator[Symptom]:
    """A normalization with running statistics runs several times in a forward pass: it was made once and used again.

    Gamma and beta can be shared. A running mean is right for one place only.

    Evidence: the number of calls in a forward pass.

    Meant: layer, group, instance and RMS norms keep no statistics and are no finding. A head that detectors share as a
    whole over feature maps of several sizes is a note; so are several names of a layer that runs once.

    Fix: make one layer for each place.

    Threads: pytorch/pytorch#96136, carpedm20/DCGAN-tensorflow#266
    """
    for site in patient.norms:
        if site.behaviour.kind not in _TWO_MODES or not has_statistics(site):
            continue
        known = patient.sites.tracer != "none" and not patient.sites.error
        calls = site.calls if known else len(set(site.owners)) if len(site.names) > 1 else 1
        if calls < 2:
            continue
        sizes = len({shape[2:] for shape in site.shapes})
        shared = known and sizes == calls and _has_one_producer(patient, site)
        names = f" It has {len(site.names)} names." if len(site.names) > 1 else ""
        yield Symptom(
            place=site.name,
            evidence=calls,
            measure="calls in a forward pass" if known else "modules that hold it",
            message="It keeps running statistics and is used at several places."
            + (
                " Its inputs have different sizes, as in a head that is shared on purpose."
                if shared
                else names
            ),
            fix=f"one layer for each place in the module that holds {site.name!r}: "
            f"norms = nn.ModuleList(copy.deepcopy(norm) for _ in range({calls}))",
            severity="note" if shared or not known else "warning",
        )
