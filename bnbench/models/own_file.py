"""A network of the user's as a registered model: what its factory takes beside the data's facts are its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace as with_changes
from typing import Annotated, Any

from pydantic import Field
from torch import nn

from bnbench.models.own_options import ImageSize, Replace
from bnbench.network.source.arguments import KNOWN
from bnbench.network.source.origin import Origin
from bnbench.network.source.records import Wanted
from bnbench.norms.named_factory import documentation, study_options

_SHARED = {"replace": (Replace, "auto"), "image_size": (ImageSize, None)}
FromData = Annotated[Any, Field(description="of the network; none: as the data have it")]


def factory_of(origin: Origin) -> Callable[..., nn.Module]:
    """`factory(wanted, *, options)` for the registry of models."""
    parameters = origin.signature.parameters.values()
    options = {
        option.name: option
        for option in study_options(origin.factory, [p for p in parameters if p.name not in KNOWN])
    }
    keyword = inspect.Parameter.KEYWORD_ONLY
    from_data = [p for p in parameters if p.name in KNOWN and p.name not in _SHARED]
    options |= {
        p.name: inspect.Parameter(p.name, keyword, default=None, annotation=FromData) for p in from_data
    }
    for name, (hint, default) in _SHARED.items():
        options.pop(name, None)
        options[name] = inspect.Parameter(name, keyword, default=default, annotation=hint)

    def make(wanted: Wanted, **values: Any) -> nn.Module:
        given = {name: value for name, value in values.items() if value is not None or name not in KNOWN}
        return origin.make(origin.arguments(with_changes(wanted, options=given)))

    wanted = inspect.Parameter("wanted", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    make.__signature__ = inspect.Signature([wanted, *options.values()])  # type: ignore[attr-defined]
    make.__annotations__ = {option.name: option.annotation for option in options.values()}
    make.__name__ = make.__qualname__ = origin.name
    make.__doc__ = documentation(origin.factory)
    make.ready = origin.ready  # type: ignore[attr-defined]
    return make
