"""What stands before and after a normalization, read from the nodes of a forward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from torch import nn

from bnbench.network.sites.norm_site import Neighbour, Node

#: Functions that keep every value, or change only the shape or the number format.
_SHAPES = frozenset(
    "view reshape view_as reshape_as flatten unflatten ravel permute transpose t T mT H mH adjoint swapaxes swapdims "
    "movedim moveaxis squeeze unsqueeze contiguous clone detach to type type_as float double half bfloat16 cpu cuda "
    "alias identity requires_grad".split()
)
_SHAPE_MODULES = (nn.Identity, nn.Flatten, nn.Unflatten)
_DROPOUTS = frozenset("dropout dropout1d dropout2d dropout3d feature_dropout alpha_dropout".split())
_DROPOUT_MODULES = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)


def is_transparent(node: Node) -> bool:
    """Whether every value leaves the node as it came; a dropout does so in inference, or where it drops nothing."""
    if node.kind == "module":
        module = node.module
        if isinstance(module, _DROPOUT_MODULES):
            return not module.training or module.p == 0
        return isinstance(module, _SHAPE_MODULES)
    if node.kind != "function" or len(node.inputs) != 1:
        return False
    if node.name in _DROPOUTS:
        return _drops_nothing(node)
    return node.name in _SHAPES


def _drops_nothing(node: Node) -> bool:
    """dropout(input, p, training): by position or by name."""
    given = dict(zip(("p", "training"), node.arguments, strict=False)) | dict(node.named_arguments)
    return given.get("training", True) is False or given.get("p", 0.5) == 0


class Flow:
    """The nodes of one forward pass, and who reads each of them."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        self.readers: dict[int, list[int]] = {node.index: [] for node in nodes}
        for node in nodes:
            for index in node.inputs:
                self.readers[index].append(node.index)
        self._of: dict[int, list[Node]] = {}
        for node in nodes:
            if node.module is not None:
                self._of.setdefault(id(node.module), []).append(node)
        self.calls = Counter(id(node.module) for node in nodes if node.module is not None)

    def calls_of_id(self, identity: int) -> list[Node]:
        """The nodes in which the module of this identity is called."""
        return self._of.get(identity, [])

    def producer(self, node: Node) -> Neighbour | None:
        """What gives this node its input; None where it has several inputs or an unknown one."""
        through: list[str] = []
        only = True
        while len(node.inputs) == 1:
            node = self.nodes[node.inputs[0]]
            only = only and len(self.readers[node.index]) == 1
            if not is_transparent(node):
                return self._neighbour(node, tuple(reversed(through)), only)
            through.append(node.name)
        return None

    def consumers(self, node: Node) -> Iterator[Neighbour]:
        """What reads this node's output, each behind what is transparent."""
        for index in self.readers[node.index]:
            reader = self.nodes[index]
            if is_transparent(reader):
                for neighbour in self.consumers(reader):
                    through = (reader.name, *neighbour.through)
                    yield Neighbour(
                        neighbour.name,
                        neighbour.kind,
                        neighbour.module,
                        through,
                        neighbour.only,
                        neighbour.calls,
                    )
            else:
                yield self._neighbour(reader, (), len(reader.inputs) == 1)

    def reached(self, node: Node) -> Iterator[Node]:
        """The nodes that read this node's output, each behind what is transparent."""
        for index in self.readers[node.index]:
            reader = self.nodes[index]
            if is_transparent(reader):
                yield from self.reached(reader)
            else:
                yield reader

    def _neighbour(self, node: Node, through: tuple[str, ...], only: bool) -> Neighbour:
        if node.kind == "function" and node.name == "unknown":
            return Neighbour("unknown", "function", None, through, False)
        calls = self.calls[id(node.module)] if node.module is not None else 1
        return Neighbour(node.name, node.kind, node.module, through, only, calls)
