"""The sections of a study's settings: mappings with fixed keys. Plain values only; free of torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from bnbench.base.options import is_optional_number, means_none, no_bool

Int = Annotated[int, BeforeValidator(no_bool)]
Float = Annotated[float, BeforeValidator(no_bool)]
#: Bounds of an optional number stand inside its type, before the validator: else the JSON Schema has no minimum.
Count = Annotated[int, Field(ge=1), BeforeValidator(no_bool)]
TwoOrMore = Annotated[int, Field(ge=2), BeforeValidator(no_bool)]
Epochs = Annotated[int, Field(ge=0, le=1_000_000), BeforeValidator(no_bool)]
Steps = Annotated[int, Field(ge=0, le=100_000_000), BeforeValidator(no_bool)]
Share = Annotated[float, Field(gt=0, le=1), BeforeValidator(no_bool)]
Positive = Annotated[float, Field(gt=0), BeforeValidator(no_bool)]


class Section(BaseModel):
    """A mapping of a study: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _words_for_none(cls, values: Any) -> Any:
        """`clip_norm: none` is `clip_norm: null`, as `norm: none` is."""
        if not isinstance(values, dict):
            return values
        fields = {key for key, field in cls.model_fields.items() if is_optional_number(field.annotation)}
        off = {key for key in fields & set(values) if values[key] is not False and means_none(values[key])}
        return values | dict.fromkeys(off)


class Choice(Section):
    """A registered name and its options, every default written out."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class Init(Section):
    """How linear and convolution weights start."""

    name: Literal["auto", "torch", "he", "glorot", "normal", "orthogonal"] = Field(
        "auto",
        description="auto: what the model's paper uses; torch: U(±1/√fan_in); he: N(0, 2/fan_in); "
        "glorot, as Keras: U(±√(6/(fan_in + fan_out))); normal: N(0, std²); orthogonal: rows or columns at right "
        "angles, of length scale (Saxe et al. 2014). Biases start at 0 with all but torch",
    )
    scale: Float = Field(1.0, gt=0, description="multiplies the initial weights, not the biases")
    std: Positive | None = Field(
        None, description="standard deviation of the initial weights, with the name normal"
    )


class Validation(Section):
    """The part of the training set on which every decision is made."""

    fraction: Float = Field(0.1, gt=0, lt=1, description="share of the training set that is held out")
    by: Literal["auto", "sample", "class", "group"] = Field(
        "auto",
        description="auto: the data's own validation part where it has one, else single samples; sample; class: the "
        "same share of every class; group: whole groups (npz: groups, imagefolder: groups: file.csv)",
    )
    split_seed: Int = Field(
        0, ge=0, description="which samples are held out; the same for every run, but where seeds vary it"
    )


#: The ratio of adaptive gradient clipping that its paper recommends for batches of 4096; smaller batches want more.
AGC_RATIO = 0.01


class Clip(Section):
    """How the gradient of each unit is clipped before the optimizer's step."""

    name: Literal["none", "agc"] = Field(
        "none",
        description="agc: adaptive gradient clipping (Brock et al. 2021, arXiv 2102.06171, equation 3); the last layer "
        "is left out",
    )
    ratio: Positive | None = Field(
        None,
        description=f"largest norm of a unit's gradient, in norms of the unit's weights; agc: {AGC_RATIO}",
    )

    @model_validator(mode="before")
    @classmethod
    def _ratio_belongs_to_agc(cls, values: Any) -> Any:
        """agc has a ratio; `clip: none` drops the ratio of a shared section. A ratio without a name is refused."""
        if not isinstance(values, dict):
            return values
        if "name" in values and means_none(values["name"]):
            return values | {"name": "none", "ratio": None}
        ratio = values.get("ratio")
        if "name" not in values and ratio is not None:
            raise ValueError(
                f"a ratio clips nothing without a name. Fix: clip: {{name: agc, ratio: {ratio}}}"
            )
        return values | {"ratio": AGC_RATIO} if values.get("name") == "agc" and ratio is None else values


class Batches(Section):
    """Which samples come together in a batch."""

    classes: Count | None = Field(
        None, description="classes in each batch: the batches are not independent draws; none: any, at random"
    )

    @model_validator(mode="before")
    @classmethod
    def _word_for_none(cls, values: Any) -> Any:
        """`batches: none` is `batches: {}`."""
        return {} if means_none(values) else values
