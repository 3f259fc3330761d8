"""What the networks that were not written for bnbench share: their options, and the call of their factory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace as with_changes
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from torch import nn

from bnbench.base.errors import BnbenchError
from bnbench.network.source.origin import Origin
from bnbench.network.source.records import Wanted

Replace = Annotated[
    Literal["auto", "batch", "all"],
    Field(
        description="the layers that the variant's normalizer replaces: batch norms, or all normalizers; auto: batch "
        "norms, and all where there are none"
    ),
]
ImageSize = Annotated[
    Annotated[int, Field(ge=1, le=4096)] | None,
    Field(
        description="height and width to which images are resized for the network; none: they stay as they are"
    ),
]


def known_by(find: Callable[[str], Origin]) -> AfterValidator:
    """A check that the package has a network of that name."""

    def check(name: str) -> str:
        try:
            find(name)
        except BnbenchError as error:
            raise ValueError(str(error).replace("\n", " ").rstrip(".")) from None
        return name

    return AfterValidator(check)


def _without_weights(options: Mapping[str, Any]) -> Mapping[str, Any]:
    from bnbench.network.source.packages import refuse_weights

    try:
        refuse_weights("options", options)
    except BnbenchError as error:
        raise ValueError(str(error).replace("\n", " ").rstrip(".")) from None
    return options


OwnOptions = Annotated[
    dict[str, Any],
    Field(description="further arguments of the network, such as {drop_rate: 0.1}"),
    AfterValidator(_without_weights),
]


def built_by(origin: Origin, wanted: Wanted, options: Mapping[str, Any]) -> nn.Module:
    """The network, with the facts of the data that it takes."""
    return origin.make(origin.arguments(with_changes(wanted, options=options)))
