"""What stands before and after a normalization: biases that it takes out, and another normalization."""

from __future__ import annotations

from collections.abc import Iterator

from bnbench.network.doctor.absorbed import absorbed_biases
from bnbench.network.doctor.patient import Patient
from bnbench.network.doctor.rules import Symptom, rules


@rules.register(
    "D06",
    title="useless bias",
    needs=("forward",),
    cost="These parameters take memory, an optimizer's state and time, and do nothing: their gradient is rounding.",
)
def useless_bias(patient: Patient) -> Iterator[Symptom]:
    """A layer's bias goes out with the mean that the normalization behind it subtracts.

    Which biases these are follows from the flow of data, in any order of the forward pass, also through additions,
    concatenations and pooling. Then it is proved: all of them are moved by random numbers, and what leaves the
    normalizations stays the same in training, and in inference with the running statistics of the same batch.

    Evidence: the largest change of the outputs where the biases move, relative to the largest output: rounding.

    Meant: before a layer norm or an RMS norm a bias is needed, before a group norm with several channels in a group,
    too, and before a batch norm that is frozen: they do not take it out, and are no finding.

    Fix: bias=False; in a trained network the running mean takes the bias over, exactly.

    Threads: allenai/allennlp#4990
    """
    for found in absorbed_biases(patient):
        module = f"model.get_submodule({found.name!r})"
        direct = len(found.norms) == 1 and found.norms[0].behaviour.running
        norm = f"model.get_submodule({found.norms[0].name!r})"
        exact = f"{norm}.running_mean -= {module}.bias.data; " if direct and patient.was_trained else ""
        yield Symptom(
            place=found.name,
            evidence=found.change,
            measure="relative change of the outputs where the bias moves",
            message="The normalization behind it takes the bias out, in training and in inference.",
            fix=f'bias=False; in a network that is built already: {exact}{module}.register_parameter("bias", None)',
        )


@rules.register(
    "D07",
    title="two normalizations in a row",
    needs=("forward",),
    cost="The second one undoes the scale that the first one gives: the first one's gamma and beta work against it, "
    "and both take time.",
)
def norm_after_norm(patient: Patient) -> Iterator[Symptom]:
    """A normalization reads nothing but the output of another one.

    Typical causes: a block that ends with a norm before a block that begins with one, or a norm that was added to a
    block that has one inside.

    Evidence: the number of normalizations in a row.

    Meant: where something else reads the first one's output as well (a shortcut), both are needed: no finding. So is an
    activation between them.

    Fix: leave one of them out: nn.Identity().

    Threads: none is known.
    """
    by_module = {id(site.module): site for site in patient.norms}
    following = {}
    for site in patient.norms:
        if len(site.consumers) != 1 or site.behaviour.includes or site.calls > 1:
            continue
        after = by_module.get(id(site.consumers[0].module))
        if after is not None and after is not site and site.consumers[0].only:
            following[site.name] = after
    for name, after in following.items():
        if name in {second.name for second in following.values()}:
            continue
        row = [name, after.name]
        while row[-1] in following:
            row.append(following[row[-1]].name)
        yield Symptom(
            place=name,
            evidence=len(row),
            measure="normalizations in a row",
            message="Another normalization reads its output, and nothing else does.",
            fix=f"leave {row[0]!r} or {row[1]!r} out: put nn.Identity() in its place",
        )
