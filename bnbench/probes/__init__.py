"""The probes: what is measured inside a network at a step of its training. To add one: one file here.

A measure is a function that is registered by name and yields rows:

    @probes.register("weights")
    def weights(inside: Inside) -> Iterator[Row]:
        for layer in inside.layers:
            yield Row(layer.name, "weight_norm", float(layer.weight.norm()))

`Inside` (inside.py) is one replica at one step: its layers, the probe batch and the pass over it. Facts given to
`register`: see `ProbeFacts`. A probe changes no bit of training: it works on a private copy, in random streams of
its own.
"""

from collections.abc import Callable
from dataclasses import dataclass

from bnbench.base.registry import Registry


@dataclass(frozen=True)
class ProbeFacts:
    """Facts on a measure that are needed before it is called.

    costly: it looks at fewer steps (`Probe.costly_steps`), and only where a study names it. passes: from the number
    of layers to the forward and backward passes over the probe batch that one call makes, beside the one that all
    measures share; `check` shows it.
    """

    costly: bool = False
    passes: Callable[[int], float] | None = None


probes = Registry("measure", __name__, ProbeFacts)
