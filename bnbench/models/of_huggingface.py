"""The networks of transformers in a study."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import nn

from bnbench.models import models
from bnbench.models.own_options import ImageSize, OwnOptions, Replace, built_by, known_by
from bnbench.network.source.huggingface import of_huggingface
from bnbench.network.source.records import Wanted

Config = Annotated[
    str,
    Field(
        description="a configuration class of transformers, such as BertConfig, or a model_type, such as bert"
    ),
    known_by(of_huggingface),
]


@models.register("hf", init="own", whole=True, package="transformers")
def hf(
    wanted: Wanted,
    *,
    config: Config,
    options: OwnOptions = {},  # noqa: B006
    replace: Replace = "auto",
    image_size: ImageSize = None,
) -> nn.Module:
    """A network of transformers with random weights, with the study's norm in the place of its normalizers."""
    return built_by(of_huggingface(config), wanted, options)
