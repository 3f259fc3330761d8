"""Normalizations of which a checkpoint has only a part."""

from __future__ import annotations

from collections.abc import Iterator

from bnbench.network.doctor.patient import Patient
from bnbench.network.doctor.rules import Symptom, rules


@rules.register(
    "D23",
    title="checkpoint with a part of a normalization",
    cost="What is missing stays as a fresh network has it: mean 0, variance 1, gamma 1, beta 0.",
    needs=("checkpoint",),
)
def part_of_a_norm(patient: Patient) -> Iterator[Symptom]:
    """The checkpoint lacks running statistics, gamma or beta of a normalization, or has more than the network.

    A file of parameters alone (`model.parameters()`, adapters such as LoRA) has no buffers. Names with `module.` in
    front come from a network that was wrapped: they are loaded without it, and noted.

    Evidence: the number of tensors that are missing, or too many.

    Meant: a missing `num_batches_tracked` alone is a file of torch before 0.4.1, and no finding.

    Fix: save `model.state_dict()` (of `model.module`, where it is wrapped), and load it with strict=True.

    Threads: huggingface/peft#1732, huggingface/peft#3481
    """
    report = patient.checkpoint
    for gap in report.gaps:
        statistics = gap.lacks_statistics
        kept = bool({"running_mean", "running_var"} & set(gap.present))
        message = (
            "The checkpoint lacks its running statistics."
            if statistics
            else "The checkpoint has its statistics, and lacks its gamma or beta."
            if kept
            else "The checkpoint lacks its gamma or beta."
        )
        yield Symptom(
            place=gap.name,
            evidence=len(gap.missing),
            measure="missing tensors",
            message=message,
            fix="torch.save(model.state_dict(), FILE) of the trained network, with its buffers",
            severity="error",
        )
    norms = {name for site in patient.norms for name in site.names}
    extra = [key for key in report.extra if key.rpartition(".")[0] in norms or _is_statistic(key)]
    if extra:
        yield Symptom(
            place=extra[0].rpartition(".")[0],
            evidence=len(extra),
            measure="tensors of normalizations that the network does not have",
            message="The checkpoint has statistics, gamma or beta for which the network has no place: another "
            "normalization was trained.",
            fix="build the network as it was trained (norm layer, affine, track_running_stats), load with strict=True",
        )
    if report.stripped:
        yield Symptom(
            place="",
            evidence=len(report.stripped),
            measure=f"prefixes taken out of the names ({', '.join(report.stripped)})",
            message="The checkpoint's names are those of a wrapped network.",
            fix="torch.save(model.module.state_dict(), FILE)",
            severity="note",
            cost="load_state_dict with strict=False would load nothing, and say nothing.",
        )


def _is_statistic(key: str) -> bool:
    return key.rpartition(".")[2] in ("running_mean", "running_var")
