"""The networks that a study is checked with before it trains: each is built once."""

from __future__ import annotations

from typing import Any

from torch import nn

from bnbench.base.user_code import raise_interrupt
from bnbench.data import Sizes
from bnbench.engine.build import build_model, make_objective, make_optimizer
from bnbench.study import Settings

#: The settings that a network and its initial weights follow from, apart from its data and its seed.
_OF_THE_NETWORK = {"task", "model", "norm", "init", "vary", "train"}


class Networks:
    """Builds the network of each cell when it is first needed. Callers leave it as it is."""

    def __init__(self) -> None:
        self._built: dict[str, nn.Module | BaseException] = {}

    def network(self, settings: Settings, sizes: Sizes, seed: int) -> nn.Module:
        """The network of these settings; raises again whatever its factory has raised."""
        made_of = settings.model_dump_json(include=_OF_THE_NETWORK)
        key = f"{made_of} {sizes} {seed}"
        if key not in self._built:
            try:
                self._built[key] = build_model(settings, sizes, seed)
            except BaseException as error:
                raise_interrupt(error)
                self._built[key] = error
        built = self._built[key]
        if isinstance(built, BaseException):
            raise built
        return built

    def objects(self, settings: Settings, sizes: Sizes, seed: int) -> list[Any]:
        """The layers, optimizer and loss of these settings; those that can't be built are left out."""
        objects: list[Any] = []
        try:
            model = self.network(settings, sizes, seed)
            objects += model.modules()
            objects.append(make_optimizer(settings)(model))
            objects.append(make_objective(settings))
        except BaseException as error:  # the rehearsal will say what is wrong
            raise_interrupt(error)
        return objects
