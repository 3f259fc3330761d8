"""`NormSite`: one normalization in a network, whoever wrote it. `convert`, `doctor`, `fold` and the probes read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

#: Functions that make Python's or NumPy's numbers of a tensor.
READS = frozenset("item tolist numpy bool float int complex index array format".split())
#: batch: statistics over the batch in training, running ones in inference (over one batch in both where
#: `running` is False). sync: the same over several processes. frozen: constants in both modes. instance, group,
#: layer, rms: of each sample. other: a normalization that is none of them.
Kind = Literal["batch", "sync", "frozen", "instance", "group", "layer", "rms", "other"]


@dataclass(frozen=True)
class NormBehaviour:
    """What a normalization computes, found by trials and not by the name of its class.

    axes: of the input, over which the statistics are taken in training. channel_axis: along which gamma and beta vary.
    num_features: the size of gamma, or of that axis. groups: of channels, None where it has none. centers: it
    subtracts a mean. running: inference uses running statistics. gamma, beta: the names of its parameters (or buffers),
    "" where it has none. gamma_offset: 1 where it multiplies by 1 + gamma. eps, momentum: None where none was found.
    values: how many values a statistic is of, for one sample of the observed shape. includes: what it does besides, in
    order, by the names of its submodules or functions, for example ("drop", "act"). mean, var: the names of the
    statistics that inference uses, "" where it has none.
    """

    kind: Kind
    axes: tuple[int, ...]
    channel_axis: int
    num_features: int
    groups: int | None = None
    centers: bool = True
    running: bool = False
    gamma: str = ""
    beta: str = ""
    gamma_offset: float = 0.0
    eps: float | None = None
    momentum: float | None = None
    values: int = 0
    includes: tuple[str, ...] = ()
    mean: str = ""
    var: str = ""


@dataclass(frozen=True)
class Neighbour:
    """What stands before or after a normalization in the flow of data.

    kind: a module, a function (then `name` is for example "add"), the network's input or its output. through: functions
    and modules between the two that keep every value as it is, or change only the shape, by name. only: nothing else
    reads (of a producer) or gives (of a consumer) what flows here. calls: of that module per forward pass.
    """

    name: str
    kind: Literal["module", "function", "input", "output"]
    module: nn.Module | None = None
    through: tuple[str, ...] = ()
    only: bool = True
    calls: int = 1


@dataclass(frozen=True)
class NormSite:
    """One normalization of a network.

    names: every qualified name; the first is `name`, "" for the root. owners: the qualified names of the modules that
    hold it, one for each name. shapes: of its input, one for each call of a forward pass. producer: None where it is
    not known. group: the index of the optimizer's group that has its parameters, None without one. refused: why nothing
    can be done with it (a function call, a parametrized, scripted, compiled or wrapped module); "" where it can.
    module: None for a function that was called, whose name is then its place, as "block.1: layer_norm". producers: one
    for each call; `producer` is the one that all calls share, None where they differ. tied: the qualified names of
    parameters elsewhere that are the same tensors as its own.
    """

    name: str
    names: tuple[str, ...]
    owners: tuple[str, ...]
    module: nn.Module | None
    behaviour: NormBehaviour
    shapes: tuple[tuple[int, ...], ...] = ()
    producer: Neighbour | None = None
    consumers: tuple[Neighbour, ...] = ()
    training: bool = True
    requires_grad: Mapping[str, bool] = field(default_factory=dict)
    group: int | None = None
    state: Mapping[str, Tensor] = field(default_factory=dict)
    refused: str = ""
    producers: tuple[Neighbour | None, ...] = ()
    tied: tuple[str, ...] = ()

    @property
    def calls(self) -> int:
        """How often a forward pass uses it."""
        return len(self.shapes)


@dataclass(frozen=True)
class Node:
    """A call in a forward pass. inputs: the nodes that gave its tensors. scope: the module in whose forward it stands.

    kind: an input of the network, a module (a leaf of torch's, or a normalization), a function, its output. name: a
    module's qualified name, or the function's. arguments: the other arguments of the call, by position and by name.
    """

    index: int
    kind: Literal["input", "module", "function", "output"]
    name: str
    module: nn.Module | None = None
    inputs: tuple[int, ...] = ()
    scope: str = ""
    shape: tuple[int, ...] = ()
    arguments: tuple[object, ...] = ()
    named_arguments: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class NormSites:
    """The normalizations of a network, the flow of its data, and who traced it.

    tracer: torch.fx, torch.export, or the execution of one forward pass. error: what the network raised on the
    input, "" without an error: then the sites have no shapes and no calls, and neighbours where torch.fx gives them.
    training: the mode of the recorded pass, None without one.
    """

    sites: tuple[NormSite, ...]
    nodes: tuple[Node, ...] = ()
    tracer: Literal["fx", "export", "execution", "none"] = "none"
    error: str = ""
    training: bool | None = None

    @property
    def reads_numbers(self) -> bool:
        """Whether the pass made Python's numbers of tensors: another input may then take another way."""
        read = {index for node in self.nodes for index in node.inputs}
        return any(
            node.name in READS and node.kind == "function" and node.index not in read for node in self.nodes
        )
