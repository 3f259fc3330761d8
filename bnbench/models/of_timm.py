"""The networks of timm in a study."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import nn

from bnbench.models import models
from bnbench.models.own_options import ImageSize, OwnOptions, Replace, built_by, known_by
from bnbench.network.source.packages import of_timm
from bnbench.network.source.records import Wanted

Arch = Annotated[str, Field(description="one of timm.list_models()"), known_by(of_timm)]


@models.register("timm", init="own", whole=True, package="timm")
def timm(
    wanted: Wanted,
    *,
    arch: Arch,
    options: OwnOptions = {},  # noqa: B006
    replace: Replace = "auto",
    image_size: ImageSize = None,
) -> nn.Module:
    """A network of timm with random weights, with the study's norm in the place of its batch norms."""
    return built_by(of_timm(arch), wanted, options)
