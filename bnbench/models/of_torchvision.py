"""The networks of torchvision.models in a study."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import nn

from bnbench.models import models
from bnbench.models.own_options import ImageSize, OwnOptions, Replace, built_by, known_by
from bnbench.network.source.packages import of_torchvision
from bnbench.network.source.records import Wanted

Arch = Annotated[str, Field(description="one of torchvision.models.list_models()"), known_by(of_torchvision)]


@models.register("torchvision", init="own", whole=True, package="torchvision")
def torchvision(
    wanted: Wanted,
    *,
    arch: Arch,
    options: OwnOptions = {},  # noqa: B006
    replace: Replace = "auto",
    image_size: ImageSize = None,
) -> nn.Module:
    """A network of torchvision with random weights, with the study's norm in the place of its batch norms."""
    return built_by(of_torchvision(arch), wanted, options)
