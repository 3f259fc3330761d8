"""The types of the options that several normalizers share, with the ranges that make sense."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Eps = Annotated[float, Field(gt=0)]
"""Added to the variance under the root; at zero, a constant feature would divide by zero."""

Momentum = Annotated[float, Field(ge=0, le=1)]
"""Weight of the *new* value in the running statistics, as in torch."""

Axes = Literal["all", "channels"]
"""What one sample is normalized over: all its values, or the channels at each position."""
