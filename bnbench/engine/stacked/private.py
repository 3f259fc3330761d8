"""A private copy of a whole stack, in which a probe makes one pass of all replicas at once."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bnbench.base.stacked import aligned
from bnbench.engine.build import make_objective, make_optimizer
from bnbench.engine.stacked.chain import chain, has_stacked_form
from bnbench.engine.stacked.stack import Stack
from bnbench.probes.inside import norms_of
from bnbench.probes.layers import Found
from bnbench.probes.together import Layer, PassOfAll
from bnbench.study import Settings


class PrivateStack:
    """The replicas of a stack, again: brought up to date for a look, and then used up.

    models: the replicas. found: the layers that are looked at. Raises ValueError for a network with layers that a
    stack calls one by one, or layers that are none of the chain's.
    """

    def __init__(self, stack: Stack, settings: Settings, found: Sequence[Found]) -> None:
        self.models = copy.deepcopy(list(stack.models))
        modules = chain(self.models[0])
        if not all(map(has_stacked_form, modules)):
            raise ValueError("a layer is called replica by replica")
        self._stack = Stack(self.models, make_optimizer(settings), make_objective(settings))
        self.layers: list[tuple[Layer, ...]] = [
            tuple(layer.of(model) for layer in found) for model in self.models
        ]
        places = {id(module): index for index, module in reversed([*enumerate(modules)])}
        #: By the layer's name, the place in the chain that its pre-activations and its activations leave.
        self._pre, self._post = dict[str, int](), dict[str, int]()
        for layer in self.layers[0]:
            if layer.norm_activates or id(layer.weights) not in places:
                raise ValueError("a layer stands outside of the chain")
            if layer.activation is not None:
                self._post[layer.name] = places[id(layer.activation)]
                self._pre[layer.name] = self._post[layer.name] - 1
            else:
                self._pre[layer.name] = places[id(layer.norm or layer.weights)]

    def update(self, stack: Stack) -> None:
        """Take the parameters and buffers of the replicas as they are now."""
        mine, theirs = self._stack.parameters, stack.parameters
        for of_mine, of_theirs in ((mine.flats, theirs.flats), (mine.buffers, theirs.buffers)):
            if of_mine:
                torch._foreach_copy_([t.detach() for t in of_mine], [t.detach() for t in of_theirs])

    def all(self, tensor: Tensor) -> Tensor:
        """The values (S, ...) of all replicas of a parameter of the first one."""
        return self._stack.parameters.of(tensor)

    @torch.no_grad()
    def passed(self, inputs: Tensor, targets: Tensor) -> PassOfAll:
        """Forward and backward of the probe batches (S, N, ...)."""
        stack, outputs = self._stack, self._outputs(inputs)
        losses, grad = stack.objective(outputs[-1], targets)
        wanted, norms = set(self._pre.values()), dict[int, list[float]]()
        for index in reversed(range(stack._first, len(stack.layers))):
            if index in wanted:
                norms[index] = norms_of(grad)
            grad = stack.layers[index].backward(grad, needed=index > stack._first)
        named = self.models[0].named_parameters()
        return PassOfAll(
            {layer: outputs[place] for layer, place in self._pre.items()},
            {layer: outputs[place] for layer, place in self._post.items()},
            {name: stack.parameters.grad(p) for name, p in named if p.requires_grad},
            {layer: norms[place] for layer, place in self._pre.items() if place in norms},
            losses.tolist(),
        )

    @torch.no_grad()
    def pre(self, inputs: Tensor) -> Mapping[str, Tensor]:
        """What enters the activations with other inputs."""
        outputs = self._outputs(inputs)
        return {layer: outputs[place] for layer, place in self._pre.items()}

    def _outputs(self, inputs: Tensor) -> list[Any]:
        outputs, x = [], inputs
        for layer in self._stack.layers:
            x = layer.forward(x)
            outputs.append(x)
        return outputs


def side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """The batches of S replicas as one, each replica's at an aligned place as in training."""
    return aligned((len(parts), *parts[0].shape), parts[0]).copy_(torch.stack(list(parts)))
