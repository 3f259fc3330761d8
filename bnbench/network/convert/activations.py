"""The activation after a normalization, where the new layer is its own activation, or gives its input back."""

from __future__ import annotations

import torch
from torch import nn

from bnbench.base.process_state import seeded
from bnbench.base.user_code import raise_interrupt
from bnbench.network.convert.targets import CannotStandError
from bnbench.network.sites.norm_site import Neighbour, NormSite
from bnbench.norms.behaviour import CPU
from bnbench.norms.norm_layer import NormLayer

#: torch's activations, value by value.
ACTIVATIONS = (
    *(
        nn.ReLU,
        nn.ReLU6,
        nn.LeakyReLU,
        nn.ELU,
        nn.SELU,
        nn.CELU,
        nn.GELU,
        nn.SiLU,
        nn.Mish,
        nn.PReLU,
        nn.RReLU,
    ),
    *(
        nn.Sigmoid,
        nn.Tanh,
        nn.Hardswish,
        nn.Hardsigmoid,
        nn.Hardtanh,
        nn.Softplus,
        nn.Softsign,
        nn.LogSigmoid,
        nn.Hardshrink,
        nn.Softshrink,
        nn.Tanhshrink,
        nn.Threshold,
    ),
)
#: Functions after which no second activation would stand.
_PLAIN = (
    "add",
    "iadd",
    "cat",
    "getitem",
    "mul",
    "sub",
    "output",
    "flatten",
    "reshape",
    "view",
    "permute",
    "mean",
)


def activation_to_remove(
    site: NormSite, norm: NormLayer, then: dict[str, nn.Module]
) -> Neighbour | str | None:
    """The activation whose place the new layer takes: a module behind the site, or one in it, by name.

    None where no activation follows, or where the new layer does not include one. Raises CannotStandError where the
    activation that follows can't be taken out.
    """
    if not norm.includes_activation:
        return None
    name = norm.entry.name
    if inside := [key for key, module in then.items() if is_activation(module)]:
        return inside[-1]
    followers = [consumer for consumer in site.consumers if not _is_plain(consumer)]
    if not site.consumers:
        raise CannotStandError(f"{name} is its own activation, and what follows is not known")
    if not followers:
        return None
    first = followers[0]
    if len(site.consumers) > 1 or first.kind != "module" or not is_activation(first.module):
        what = first.name or first.kind
        raise CannotStandError(f"{name} is its own activation, and {what} follows, which can't be taken out")
    if first.calls > max(site.calls, 1) or not first.only:
        raise CannotStandError(
            f"{name} is its own activation, and {first.name} after it is used elsewhere, too"
        )
    return first


def is_activation(module: nn.Module | None) -> bool:
    """Whether it works value by value and is not linear: one of torch's, or by its class's home."""
    if module is None or isinstance(module, ACTIVATIONS):
        return module is not None
    home = type(module).__module__
    if home.startswith("torch."):  # whose file of activations has attention, softmax and gates, too
        return False
    return "activation" in home and not any(module.children())


def _is_plain(consumer: Neighbour) -> bool:
    """Whether it is no activation for certain: a sum, a layer of weights, the output."""
    if consumer.kind == "output":
        return True
    if consumer.kind == "function":
        return consumer.name.strip("_").rpartition(".")[2].rstrip("_") in _PLAIN
    layers = nn.Linear | nn.MultiheadAttention | nn.modules.conv._ConvNd | nn.modules.pooling._MaxPoolNd
    return isinstance(consumer.module, layers)


def gives_input_back(layer: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether its output is its input itself, in the same memory."""
    with torch.no_grad(), seeded(0, CPU):
        x = torch.ones(shape)
        try:
            y = layer(x)
        except BaseException as error:
            raise_interrupt(error)
            return False
        return isinstance(y, torch.Tensor) and y.data_ptr() == x.data_ptr()


def must_copy(site: NormSite) -> bool:
    """Whether what follows may change its input in place, while the site's own input is read elsewhere, too."""
    if not site.consumers:
        return True
    harmless = all(
        (consumer.kind == "module" and not getattr(consumer.module, "inplace", False))
        or consumer.kind == "output"
        for consumer in site.consumers
    )
    return not harmless
