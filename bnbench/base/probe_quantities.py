"""The quantities that the measures of a probe give, by name, without computing them: see docs/probes.md.

A measure of a plugin is not here: what it gives shows when it has looked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_MOMENTS = ("mean", "std", "p5", "p15", "p50", "p85", "p95")
#: One number for each layer, or for the whole network, by measure.
NUMBERS: dict[str, tuple[str, ...]] = {
    "activations": (
        *(f"{side}_{moment}" for side in ("pre", "post") for moment in _MOMENTS),
        "dead_share",
        "saturated_share",
        "saturated_values",
        "units",
        "drift",
        "drift_floor",
    ),
    "gradients": ("gradient_norm", "pre_gradient_norm"),
    "weights": ("weight_norm", "update_ratio"),
    "gamma_beta": tuple(f"{name}_{moment}" for name in ("gamma", "beta") for moment in _MOMENTS),
    "effective_lr": ("effective_lr",),
    "gradient_shift": tuple(
        f"shift_{name}{floor}" for name in ("l2", "norm", "cosine") for floor in ("", "_floor")
    ),
    "landscape": tuple(
        f"{step}{name}"
        for step in ("", "update_")
        for name in ("loss_range", "gradient_change", "smoothness")
    ),
    "hessian": tuple(
        f"{name}_{mode}"
        for name in ("sharpness", "hessian_magnitude", "hessian_products", "hessian_converged")
        for mode in ("train", "eval")
    ),
}
#: Many numbers for a layer: one for each unit, bin or length of the step.
SERIES = frozenset(
    (
        *("pre_histogram", "post_histogram", "unit_p15", "unit_p50", "unit_p85", "unit_p50_other"),
        *("gamma", "beta", "loss_along", "update_loss_along"),
    )
)
#: Normalizers have parameters of further names, such as tau.
_OF_A_PARAMETER = re.compile(rf"(?!pre_|post_)\w+_(?:{'|'.join(_MOMENTS)})")


def numbers_of(measures: Iterable[str]) -> tuple[str, ...]:
    """The quantities of these measures with one number each; empty where one of the measures is a plugin's."""
    names = list(measures)
    if not all(name in NUMBERS for name in names):
        return ()
    return tuple(quantity for name in names for quantity in NUMBERS[name])


def may_be_measured(quantity: str, measures: Iterable[str]) -> bool:
    """Whether these measures can give this quantity.

    >>> may_be_measured("tau_mean", ["gamma_beta"]), may_be_measured("pre_sdt", ["activations"])
    (True, False)
    """
    known = numbers_of(measures := tuple(measures))
    of_a_parameter = "gamma_beta" in measures and bool(_OF_A_PARAMETER.fullmatch(quantity))
    return not known or quantity in known or of_a_parameter
