"""The layer that takes a normalization's place: what it keeps of the old one's settings, its layout, or why none can.

Which layout is right is tried and not looked up: a layer stands there as it is where it does what it does on (N, C) or
(N, C, H, W) after a change of shape; else `PlacedNorm` changes the shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bnbench.base.errors import BnbenchError
from bnbench.base.files import key_text
from bnbench.base.process_state import seed_streams, seeded
from bnbench.base.user_code import first_line, raise_interrupt
from bnbench.network.convert.keeping import assumed_shape, kept_options
from bnbench.network.convert.placed import Layout, PlacedNorm, arranged, arranged_shape, restored
from bnbench.network.sites.norm_site import NormSite
from bnbench.norms import behaviour
from bnbench.norms.norm_layer import NormLayer
from bnbench.norms.owner import mark
from bnbench.norms.place import Place, Role

#: Samples of a trial, and the most values of an axis that it needs.
_SAMPLES, _MOST = 4, 2


class CannotStandError(Exception):
    """Why a normalizer can't take the place of another. One sentence."""


@dataclass(frozen=True)
class Plan:
    """How a layer is made for a place. dim: for its factory."""

    dim: int
    layout: Layout
    role: Role = "trunk"


class Targets:
    """Makes the layers of one normalizer; what it found by trials for one kind of place holds for others like it."""

    def __init__(self, norm: NormLayer) -> None:
        self.norm = norm
        self._plans: dict[tuple[object, ...], Plan | str] = {}

    def make(
        self, site: NormSite, old: nn.Module, linear: bool = False
    ) -> tuple[nn.Module, Plan, dict[str, Any]]:
        """A fresh layer for the site, how it was made, and the options that it keeps of the old one.

        linear: no activation follows. Raises CannotStandError with the reason.
        """
        self._refuse_network()
        kept = kept_options(self.norm, site, old)
        options = {**kept, **self.norm.options}
        role: Role = "branch_end" if linear else "trunk"
        axis = site.behaviour.channel_axis
        shapes = sorted({small_shape(shape, axis) for shape in site.shapes or (assumed_shape(site, old),)})
        key = (key_text(options), site.behaviour.num_features, tuple(shapes), axis, role)
        if key not in self._plans:
            try:
                self._plans[key] = self._plan(options, shapes, axis, site.behaviour.num_features, role)
            except CannotStandError as error:
                self._plans[key] = str(error)
        plan = self._plans[key]
        if isinstance(plan, str):
            raise CannotStandError(plan)
        return self._fresh(options, site.behaviour.num_features, plan.dim, plan.role), plan, kept

    def _refuse_network(self) -> None:
        """Normalizers that need to know more of the network than where its norms are."""
        facts, name = self.norm.entry.facts, self.norm.entry.name
        if facts.residual_only:
            raise CannotStandError(
                f"{name} acts at the ends of residual branches, and where this network's branches end is not known"
            )
        if facts.queries_and_keys:
            raise CannotStandError(f"{name} normalizes queries and keys of attention, and nothing else")
        if facts.weights is not None:
            raise CannotStandError(
                f"{name} changes the layers of weights themselves, which stay as they are here"
            )

    def _plan(
        self,
        options: Mapping[str, Any],
        shapes: Sequence[tuple[int, ...]],
        axis: int,
        channels: int,
        role: Role,
    ) -> Plan:
        ranks = {len(shape) for shape in shapes}
        if len(ranks) > 1:
            raise CannotStandError(f"its inputs have {' and '.join(map(str, sorted(ranks)))} axes by turns")
        plans = [self._plan_for(options, shape, axis, channels, role) for shape in shapes]
        return plans[-1]  # of the largest maps

    def _plan_for(
        self, options: Mapping[str, Any], shape: tuple[int, ...], axis: int, channels: int, role: Role
    ) -> Plan:
        axis %= len(shape)
        if shape[axis] != channels:
            raise CannotStandError(f"its input {shape} has no {channels} channels on axis {axis}")
        layout, dim = self._layout(shape, axis)
        if (
            layout == "flat"
        ):  # maps of one position here are larger ones elsewhere: as it is, or as other maps
            try:
                plan = self._plan_in(options, shape, (layout, dim), (channels, axis, role))
                if plan.layout == "as_is":
                    return plan
            except CannotStandError:
                pass
            layout, dim = ("as_is", 2) if len(shape) == 4 else ("maps", 2)
        return self._plan_in(options, shape, (layout, dim), (channels, axis, role))

    def _plan_in(
        self,
        options: Mapping[str, Any],
        shape: tuple[int, ...],
        form: tuple[Layout, int],
        place: tuple[int, int, Role],
    ) -> Plan:
        (layout, dim), (channels, axis, role) = form, place
        reference = self._tried(options, channels, dim, role)
        self._check_values(reference, arranged_shape(shape, layout))
        natural = min(max(len(shape) - 2, 1), 3) if axis == 1 else 1
        for other in dict.fromkeys((natural, 1, 2, 3)):
            try:
                layer = self._tried(options, channels, other, role)
            except (CannotStandError, KeyError, ValueError, TypeError):
                continue
            if same(layer, reference, shape, layout):
                return Plan(other, "as_is", role)
        return Plan(dim, layout, role)

    def _layout(self, shape: tuple[int, ...], axis: int) -> tuple[Layout, int]:
        """In which (N, C) or (N, C, H, W) the normalizer is defined here, and the dim of that."""
        facts, name = self.norm.entry.facts, self.norm.entry.name
        if len(shape) == 2:
            return "as_is", 1
        if axis == len(shape) - 1 != 1:
            if facts.not_over_tokens:
                raise CannotStandError(f"{name}: {facts.not_over_tokens[0]}")
            return ("sequences", 1) if facts.whole_sequences and len(shape) == 3 else ("rows", 1)
        if axis != 1:
            raise CannotStandError(
                f"its channels are on axis {axis} of {len(shape)}, neither the second nor the last"
            )
        if all(size == 1 for size in shape[2:]):
            return "flat", 1
        return ("as_is", 2) if len(shape) == 4 else ("maps", 2)

    def _check_values(self, layer: nn.Module, shape: tuple[int, ...]) -> None:
        share = behaviour.values_alone(layer, shape)
        if share:
            name = self.norm.entry.name
            raise CannotStandError(
                f"{name} would normalize {'every value' if share == 1 else f'{share:.0%} of the values'} of its input "
                f"{shape} by itself alone: what comes in would not come out"
            )

    def _tried(self, options: Mapping[str, Any], channels: int, dim: int, role: Role) -> nn.Module:
        """A layer for trials. Raises CannotStandError where the factory refuses."""
        try:
            return self._fresh(options, channels, dim, role)
        except BnbenchError as error:
            raise CannotStandError(" ".join(part for part in (error.what, error.why) if part)) from error
        except BaseException as error:
            raise_interrupt(error)
            raise CannotStandError(f"{self.norm.entry.name} can't be made: {first_line(error)}") from error

    def _fresh(self, options: Mapping[str, Any], channels: int, dim: int, role: Role) -> nn.Module:
        typed = self.norm.entry.typed(options)
        layer = replace(self.norm, options=typed, place=Place(role=role))
        with seeded(0, behaviour.CPU):
            return layer(channels, dim)  # type: ignore[arg-type]


def same(layer: nn.Module, reference: nn.Module, shape: tuple[int, ...], layout: Layout) -> bool:
    """Whether a layer gives as it is what the reference gives after a change of layout, in training and inference."""
    if [tuple(p.shape) for p in layer.parameters()] != [tuple(p.shape) for p in reference.parameters()]:
        return False
    draw = torch.Generator().manual_seed(0)
    batches = [torch.randn(shape, generator=draw) * 2 + 1 for _ in range(3)]

    def outputs(module: nn.Module, layout: Layout) -> list[Tensor]:
        state = behaviour.ModuleState(module)
        values = torch.Generator().manual_seed(1)
        try:
            for parameter in module.parameters():
                parameter.add_(0.1 + 0.3 * torch.rand(parameter.shape, generator=values))
            given = [restored(module(arranged(x, layout)), x, layout) for x in batches[:2]]
            module.eval()
            return [*given, restored(module(arranged(batches[2], layout)), batches[2], layout)]
        finally:
            module.train()
            state.restore()

    with torch.no_grad(), seeded(0, behaviour.CPU):
        try:
            wanted = outputs(reference, layout)
            seed_streams(0, behaviour.CPU)
            given = outputs(layer, "as_is")
        except BaseException as error:  # it takes no such input
            raise_interrupt(error)
            return False
    return all(
        isinstance(a, Tensor) and a.shape == b.shape and torch.allclose(a, b, rtol=1e-5, atol=1e-5)
        for a, b in zip(given, wanted, strict=True)
    )


def small_shape(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    """A shape of the same kind, on which a trial is cheap: the channels stay, and so do axes of one value."""
    channels = axis % len(shape)
    most = [_SAMPLES, *[_MOST] * (len(shape) - 1)]
    return tuple(
        size if place == channels else min(size, limit)
        for place, (size, limit) in enumerate(zip(shape, most, strict=True))
    )


def placed(layer: nn.Module, plan: Plan, then: dict[str, nn.Module], copies: bool) -> nn.Module:
    """The layer in its layout, with what follows in the same module."""
    if plan.layout == "as_is" and not then and not copies:
        return layer
    outer = PlacedNorm(layer, plan.layout, then, copies)
    name = vars(layer).get("bnbench_norm")
    return mark(outer, name) if name else outer
