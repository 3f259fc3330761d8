"""An autoencoder: an image through a few numbers and back."""

from __future__ import annotations

from torch import nn

from bnbench.models import models
from bnbench.models.encoder_decoder import (
    Channels,
    Design,
    Hidden,
    Latent,
    Network,
    check_latent,
    decoder,
    encoder,
)
from bnbench.models.layers import Activation, Bias, NormLayer, NormPosition


@models.register("autoencoder", init="torch", tasks=("autoencoder",))
def autoencoder(
    input_shape: tuple[int, int, int],
    num_outputs: int,
    norm: NormLayer,
    *,
    latent: Latent = 8,
    network: Network = "conv",
    channels: Channels = [16, 32],  # noqa: B006
    hidden: Hidden = [128],  # noqa: B006
    activation: Activation = "relu",
    norm_position: NormPosition = "before",
    bias: Bias = "auto",
) -> nn.Module:
    """An encoder to `latent` numbers, and the same layers mirrored as decoder; no norm at the code and the output.

    latent: numbers in the code of an image
    channels: output channels of each convolution of the encoder, each with stride 2 (network: conv)
    hidden: units of each hidden layer of the encoder (network: mlp)
    """
    check_latent("an autoencoder", latent, input_shape)
    design = Design(network, channels, hidden, activation, norm_position, bias)
    model = nn.Sequential()
    model.add_module("encoder", encoder(input_shape, latent, norm, design))
    model.add_module("decoder", decoder(input_shape, latent, norm, design))
    return model
