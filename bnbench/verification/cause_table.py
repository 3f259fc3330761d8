"""The usual mistakes that have no number in them: the table."""

from __future__ import annotations

from bnbench.verification.cause import BACKWARD, FORWARD, cause
from bnbench.verification.formulas import ACTIVATIONS, SCALES

RUNNING = ("running_mean", "running_var")


LAST_AXIS = (
    "features are expected on the last axis: statistics go over every axis but that one, and torch's channels "
    "are axis 1"
)


_AVERAGED = "the gradients of gamma and beta are averaged over the batch: they are sums"


FIXED = (
    cause(
        ("forward", "dx", "dgamma"),
        "normalized with the unbiased variance in training: the batch's variance divides by n "
        "(unbiased=False); n - 1 is for running_var alone",
        divisor="n - 1",
    ),
    cause(FORWARD, "eps outside the root: sqrt(var) + eps, where it is sqrt(var + eps)", root="outside"),
    cause(FORWARD, "divided by var + eps: the square root is missing", root="variance"),
    cause(
        FORWARD,
        "divided by rsqrt(var + eps), which is 1 / sqrt(var + eps) already: multiply by it",
        root="rsqrt",
    ),
    cause(
        FORWARD,
        "the variance is raised to eps where it is less, sqrt(max(var, eps)): it is sqrt(var + eps)",
        root="clamped",
    ),
    cause(FORWARD, "not divided by the standard deviation", root="none"),
    cause(FORWARD, "the mean is not subtracted", centred=False),
    cause(
        (*FORWARD, *RUNNING),
        "statistics over the wrong axes: over the batch alone, per position; they go over every axis but "
        "the channels', (0, 2) of 3-D, (0, 2, 3) of 4-D and (0, 2, 3, 4) of 5-D inputs",
        (3, 4, 5),
        axes="position",
    ),
    cause(
        (*FORWARD, *RUNNING),
        "statistics over each sample's own values: that is layer normalization",
        axes="sample",
    ),
    cause(
        (*FORWARD, *RUNNING),
        "statistics over each channel of each sample: that is instance normalization",
        (3, 4, 5),
        axes="instance",
    ),
    cause(
        (*FORWARD, *RUNNING),
        "statistics over the channels (axis 1) at each position, instead of per channel",
        (3, 4, 5),
        axes="feature",
    ),
    cause((*FORWARD, *RUNNING), "one mean and variance for all channels together", axes="all"),
    cause((*FORWARD, *RUNNING), "statistics leave out the last axis (width)", (4, 5), axes="not the last"),
    cause((*FORWARD, *RUNNING), "statistics leave out axis 2", (4, 5), axes="not axis 2"),
    cause((*FORWARD, *RUNNING), "statistics leave out axis 3 (height)", (5,), axes="not axis 3"),
    cause((*FORWARD, *RUNNING), LAST_AXIS, (3, 4, 5), axes="last"),
    cause(
        ("forward", *BACKWARD),
        "the running statistics are used in training, where the batch's belong",
        in_training="running",
    ),
    cause(FORWARD, "gamma and beta are swapped", affine="swapped"),
    cause(FORWARD, "gamma is not applied", affine="no gamma"),
    cause(FORWARD, "beta is not applied", affine="no beta"),
    cause(FORWARD, "neither gamma nor beta is applied", affine="none"),
    cause(FORWARD, "beta is added before gamma multiplies", affine="beta first"),
    cause(FORWARD, "beta is subtracted, where it is added", affine="minus beta"),
    *(
        cause(FORWARD, f"the scale is {name}, where it is gamma", pairs=name == "1 + gamma", scale=name)
        for name in SCALES
    ),
    cause(
        ("dx",),
        "the mean is treated as a constant in the backward pass: dx lacks exactly the term of dL/dmean",
        constants="mean",
    ),
    cause(
        ("dx",),
        "the variance is treated as a constant in the backward pass: dx lacks exactly the term of dL/dvar",
        constants="var",
    ),
    cause(
        ("dx",),
        "mean and variance are treated as constants in the backward pass (detached, or taken under "
        "no_grad): dx lacks exactly those two terms",
        constants="both",
    ),
    cause(("dx",), "dx is not multiplied by gamma", gradient="no gamma in dx"),
    cause(
        ("dgamma", "dbeta"),
        _AVERAGED,
        gradient="mean over n",
    ),
    cause(
        ("dgamma", "dbeta"),
        _AVERAGED,
        (3, 4, 5),
        gradient="mean over N",
    ),
    cause(("dgamma",), "dgamma uses x - mean, without the division by the deviation", gradient="centred"),
    cause(("dgamma",), "dgamma uses x, where it is the normalized x", gradient="raw"),
    cause(("dgamma", "dbeta"), "the gradients of gamma and beta are swapped", gradient="swapped"),
    cause(RUNNING, "the running statistics are summed up: the old value is not decayed", update="sum"),
    cause(
        RUNNING,
        "the running statistics are the plain average over all batches (--momentum none, if it is meant)",
        update="cumulative",
    ),
    cause(
        RUNNING,
        "the first batch's statistics replace the initial ones: the first batch has momentum's weight, too",
        update="first replaces",
    ),
    cause(
        RUNNING,
        "the running statistics are debiased, as Adam's averages are (divided by 1 - (1 - momentum)^t): batch "
        "norm's start at 0 and 1, and are not corrected",
        update="debiased",
    ),
    cause(RUNNING, "the running statistics are updated twice a step", update="twice"),
    cause(
        ("running_var",),
        "running_var is corrected by N/(N-1) of the batch size: n counts the positions too, N*H*W",
        (3, 4, 5),
        kept="by samples",
    ),
    cause(("running_var",), "running_var is multiplied by n/(n-1) twice", kept="unbiased twice"),
    cause(("running_var",), "running_var holds the standard deviation, not the variance", kept="deviation"),
    cause(
        ("running_var",),
        "running_var holds the standard deviation (biased), not the variance",
        kept="biased deviation",
    ),
    cause(
        ("running_var",), "running_var holds 1 / sqrt(var + eps), not the variance", kept="inverse deviation"
    ),
    cause(
        ("running_var",), "running_var holds var + eps (and biased): eps belongs to its use", kept="with eps"
    ),
    cause(
        ("eval output",), "batch statistics are used in eval, where the running ones belong", in_eval="batch"
    ),
    cause(
        ("eval output",),
        "the batch's mean is used in eval, where the running mean belongs",
        in_eval="batch mean",
    ),
    cause(
        ("eval output",),
        "the batch's variance is used in eval, where the running variance belongs",
        in_eval="batch variance",
    ),
    cause(
        ("eval output",),
        "running_var is multiplied by n/(n-1) once more in eval",
        in_eval="corrected",
    ),
    cause(
        ("eval output",),
        "in eval the running statistics are debiased, as Adam's averages are (divided by 1 - (1 - momentum)^t)",
        in_eval="debiased",
    ),
    cause(
        ("eval output",),
        "in eval running_var is taken for the standard deviation: sqrt(running_var + eps) is missing",
        in_eval="deviation",
    ),
    cause(
        ("eval output",),
        "in eval running_var is taken for 1 / sqrt(var + eps): sqrt(running_var + eps) is missing",
        in_eval="inverse",
    ),
)


ACTIVATED = tuple(
    cause(
        FORWARD,
        f"an activation is inside the layer ({name}): batch norm ends with gamma * x + beta",
        pairs=False,
        activation=name,
    )
    for name in ACTIVATIONS
)
