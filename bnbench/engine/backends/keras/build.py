"""A torch model becomes the same network in Keras, layer by layer, with the same weights.

What Keras lays out differently: kernels are (in, out) and (height, width, in, out), images are (N, H, W, C), and
"same" padding is lopsided where the stride is 2. Names, and the layout of what leaves this file, are torch's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bnbench.base.errors import BnbenchError
from bnbench.engine.backends.keras.loading import tensorflow
from bnbench.models.layers import Block, GlobalAveragePool
from bnbench.norms.owner import spared_names
from bnbench.study import Choice

#: The norms that Keras has, and bnbench's models that are a plain chain of its layers.
NORMS = ("none", "batch", "batch_keras")
MODELS = ("mlp", "cnn", "vgg", "vgg11")

#: From torch's layout to Keras's, by the number of axes; its inverse leads back.
_TO_KERAS = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}


@dataclass(frozen=True)
class Weight:
    """A variable of the Keras network, and the name of the torch parameter or buffer that it stands for.

    spared: whether `decay_norm_and_bias: false` spares it. learns: whether the optimizer moves it.
    """

    name: str
    variable: Any
    spared: bool
    learns: bool

    def get(self) -> np.ndarray[Any, Any]:
        """Its value in torch's layout."""
        value = self.variable.numpy()
        return np.ascontiguousarray(value.transpose(np.argsort(_TO_KERAS[value.ndim])))

    def set(self, value: np.ndarray[Any, Any]) -> None:
        """Give it a value in torch's layout."""
        self.variable.assign(value.transpose(_TO_KERAS[value.ndim]))


class KerasModel(nn.Module):
    """A Keras network that evaluates like a torch module: images (N, C, H, W) in, logits (N, classes) out."""

    def __init__(self, twin: nn.Module, input_shape: tuple[int, ...], norm: Choice) -> None:
        super().__init__()
        tf = tensorflow()
        self.flat, chain = _chain(twin)
        channels, height, width = input_shape
        shape = (channels * height * width,) if self.flat else (height, width, channels)
        self.network = tf.keras.Sequential([tf.keras.Input(shape)])
        self.weights: list[Weight] = []
        self.lines: list[str] = []
        spared = spared_names(twin)
        frozen = {name for name, parameter in twin.named_parameters() if not parameter.requires_grad}
        for name, module in chain:
            for layer in _layers(tf.keras.layers, module, norm):
                self.network.add(layer)
                self.weights += _weights(name, layer, spared, frozen)
                self.lines.append(f"{name}: {_line(layer)}")
        self._logits = tf.function(
            lambda inputs: self.network(inputs, training=False),
            input_signature=[tf.TensorSpec((None, *shape), tf.float32)],
            autograph=False,
        )
        self.load_state_dict(twin.state_dict())

    @property
    def trainable(self) -> list[Weight]:
        """The weights that learn, in the order in which Keras lists them."""
        return [weight for weight in self._all_weights() if weight.learns]

    def _all_weights(self) -> list[Weight]:
        by_variable = {id(weight.variable): weight for weight in self.weights}
        return [by_variable[id(variable)] for variable in self.network.trainable_variables]

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Copies of the weights, without running statistics; those that do not learn want no gradient."""
        for weight in self._all_weights():
            yield nn.Parameter(torch.from_numpy(weight.get()), requires_grad=weight.learns)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Copies of every weight under torch's name, in torch's layout."""
        return {weight.name: torch.from_numpy(weight.get()) for weight in self.weights}

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Set every weight from a `state_dict` of this network or of the torch model; other names are ignored."""
        for weight in self.weights:
            weight.set(state_dict[weight.name].numpy())

    def inputs(self, images: Tensor) -> np.ndarray[Any, Any]:
        """Images (N, C, H, W) as the network takes them: (N, C * H * W) in torch's order, or (N, H, W, C)."""
        return (images.flatten(1) if self.flat else images.permute(0, 2, 3, 1)).contiguous().numpy()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes), with the running statistics."""
        return torch.from_numpy(self._logits(self.inputs(images)).numpy())


def check_model(twin: nn.Module, norm: Choice) -> None:
    """Raises BnbenchError where Keras can't build this network. Needs no TensorFlow."""
    if norm.name not in NORMS:
        raise BnbenchError(
            f"framework: keras has no norm: {norm.name}.",
            "Its one normalizer is tf.keras.layers.BatchNormalization.",
            f"norm: {', '.join(NORMS)}; or framework: torch.",
        )
    if norm.options.get("track_running_stats") is False or norm.options.get("momentum", 0) is None:
        raise BnbenchError(
            "framework: keras: its BatchNormalization always keeps running statistics, with a fixed momentum.",
            fix="leave out norm.track_running_stats and give norm.momentum a number; or framework: torch.",
        )
    _chain(twin)


def _chain(twin: nn.Module) -> tuple[bool, list[tuple[str, nn.Module]]]:
    """Whether the images are flattened first, and the layers after that, in order, by their dotted names."""
    leaves = list(_leaves(twin))
    flat = isinstance(leaves[0][1], nn.Flatten)
    chain = leaves[1:] if flat else leaves
    for name, module in chain:
        if not _is_known(module):
            raise BnbenchError(
                f"framework: keras can't build this model: {f'its part {name}' if name else 'it'} is "
                f"{type(module).__name__}.",
                "It builds plain chains of linear layers, convolutions, norms, activations and pooling.",
                f"model: {', '.join(MODELS)}; or framework: torch.",
            )
    return flat, chain


def _leaves(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    if type(module) in (nn.Sequential, Block):
        for child_name, child in module.named_children():
            yield from _leaves(child, f"{name}.{child_name}" if name else child_name)
    elif type(module) is not nn.Identity:
        yield name, module


def _is_known(module: nn.Module) -> bool:
    """Whether `_layers` has Keras layers that do the same."""
    match module:
        case nn.Conv2d():
            return module.groups == 1 and module.dilation == (1, 1) and module.padding_mode == "zeros"
        case nn.MaxPool2d():
            return (module.kernel_size, module.stride, module.padding, module.ceil_mode) == (2, 2, 0, True)
        case nn.GELU():
            return module.approximate == "none"
    known = (nn.Linear, nn.ReLU, nn.Sigmoid, nn.Tanh, GlobalAveragePool)
    return type(module) in known or hasattr(module, "running_mean")


def _layers(layers: Any, module: nn.Module, norm: Choice) -> list[Any]:
    """The Keras layers that compute the same as this torch layer."""
    match module:
        case nn.Linear():
            return [layers.Dense(module.out_features, use_bias=module.bias is not None)]
        case nn.Conv2d():
            pad = [layers.ZeroPadding2D(module.padding)] if any(module.padding) else []
            bias = module.bias is not None
            conv = layers.Conv2D(module.out_channels, module.kernel_size, module.stride, use_bias=bias)
            return [*pad, conv]
        case GlobalAveragePool():
            return [layers.GlobalAveragePooling2D()]
        case nn.MaxPool2d():
            return [layers.MaxPooling2D(2, padding="same")]
        case nn.ReLU() | nn.Sigmoid() | nn.Tanh() | nn.GELU():
            return [layers.Activation(type(module).__name__.lower())]
    return [layers.BatchNormalization(**_norm_options(norm))]


def _norm_options(norm: Choice) -> dict[str, Any]:
    """Keras's words for the options; torch's momentum is the weight of the new value, Keras's of the old."""
    options = norm.options
    momentum = options["momentum"] if norm.name == "batch_keras" else 1 - options["momentum"]
    affine = options["affine"]
    return {"momentum": momentum, "epsilon": options["eps"], "center": affine, "scale": affine}


#: Keras's names of variables, and torch's.
_NAMES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def _weights(name: str, layer: Any, spared: Collection[str], frozen: Collection[str]) -> list[Weight]:
    names = [(f"{name}.{_NAMES[variable.name]}", variable) for variable in layer.variables]
    return [
        Weight(torch_name, variable, torch_name in spared, torch_name not in frozen)
        for torch_name, variable in names
    ]


def _line(layer: Any) -> str:
    """The layer with its relevant arguments: "Dense(units=64, use_bias=True)"."""
    arguments = (
        "units",
        "filters",
        "kernel_size",
        "strides",
        "padding",
        "use_bias",
        "activation",
        "momentum",
        "epsilon",
    )
    config = layer.get_config()
    parts = [f"{key}={config[key]}" for key in arguments if config.get(key) not in (None, "linear")]
    return f"{type(layer).__name__}({', '.join(parts)})"
