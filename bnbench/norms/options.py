"""The types of the options that several normalizers share, with the ranges that make sense and their help."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Eps = Annotated[float, Field(gt=0, description="added to the variance (or mean square) under the root")]
"""At zero, a constant feature would divide by zero."""

Momentum = Annotated[
    float, Field(ge=0, le=1, description="weight of the new value in the running statistics, as in torch")
]

MomentumOrAverage = Annotated[
    Momentum | None,
    Field(
        description="weight of the new value in the running statistics; none: the average over all batches"
    ),
]

Affine = Annotated[bool, Field(description="learn a scale gamma and a shift beta, one of each a channel")]

TrackRunningStats = Annotated[
    bool, Field(description="keep running statistics for inference; false: use the batch's own there, too")
]

Axes = Annotated[
    Literal["all", "channels"],
    Field(description="what a sample is normalized over: all its values, or the channels at each position"),
]
