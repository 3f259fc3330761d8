"""Training objectives: the outputs for a batch and its targets in, a scalar out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from bnbench.base.time_channel import split_time
from bnbench.base.variational import Variational
from bnbench.optim import losses

#: The class of pixels that count nowhere.
_IGNORED = 255
Loss = Callable[[Tensor, Tensor], Tensor]
Smoothing = Annotated[
    float, Field(ge=0, lt=1, description="share of the target that is spread over all classes")
]


@losses.register("cross_entropy")
def cross_entropy(*, label_smoothing: Smoothing = 0.0) -> Loss:
    """Cross-entropy of the softmax of the logits."""
    return nn.CrossEntropyLoss(label_smoothing=label_smoothing)


class OneHotSquares(nn.Module):
    """L = 1/(N K) Σ_n Σ_k (z_nk - [y_n = k])², as torch.nn.MSELoss between the outputs and one-hot targets."""

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Outputs z (N, K), labels y (N,); or numbers y (N, K), which are compared as they are."""
        if labels.is_floating_point():
            return nn.functional.mse_loss(outputs, labels)
        targets = nn.functional.one_hot(labels, outputs.shape[-1]).to(outputs.dtype)
        return nn.functional.mse_loss(outputs, targets)


@losses.register("mse")
def mse() -> Loss:
    """Mean squared error: against numbers, or against one-hot classes; the mean over samples and outputs."""
    return OneHotSquares()


@losses.register("mae", tasks=("tabular_regression",))
def mae() -> Loss:
    """Mean absolute error against numbers: the mean over samples and outputs."""
    return nn.L1Loss()


@losses.register("huber", tasks=("tabular_regression",))
def huber(*, delta: Annotated[float, Field(gt=0)] = 1.0) -> Loss:
    """Huber's loss: squared up to delta, linear beyond it (Huber 1964), in the targets' standard deviations.

    delta: where it turns linear
    """
    return nn.HuberLoss(delta=delta)


class PixelCrossEntropy(nn.Module):
    """The mean over all pixels of a batch that count of -log softmax(outputs)[class]; 255 counts nowhere."""

    def forward(self, outputs: Tensor, masks: Tensor) -> Tensor:
        """Outputs (N, K, H, W), masks (N, H, W). 0 for a batch in which no pixel counts."""
        total = nn.functional.cross_entropy(outputs, masks, ignore_index=_IGNORED, reduction="sum")
        return total / (masks != _IGNORED).sum().clamp(min=1)


@losses.register("pixel_cross_entropy", tasks=("segmentation",))
def pixel_cross_entropy() -> Loss:
    """Cross-entropy of the softmax at every pixel: the mean over the pixels of a batch, without those of 255."""
    return PixelCrossEntropy()


@losses.register("double_softmax")
def double_softmax(*, label_smoothing: Smoothing = 0.0) -> Loss:
    """The common mistake: a softmax, then a cross-entropy that takes the softmax again."""
    criterion = nn.CrossEntropyLoss(label_smoothing=label_smoothing)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        out: Tensor = criterion(logits.softmax(-1), labels)
        return out

    return loss


@losses.register("pixel_mse", tasks=("autoencoder",))
def pixel_mse() -> Loss:
    """Mean squared error of the reconstruction, over samples and values."""
    return nn.functional.mse_loss


Beta = Annotated[float, Field(ge=0, description="factor on the KL divergence; 1: the evidence lower bound")]


@losses.register("elbo", tasks=("vae",))
def elbo(*, beta: Beta = 1.0) -> Callable[[Variational, Tensor], Tensor]:
    """Negative evidence lower bound of a sample in nats (Kingma & Welling 2014); beta: Higgins et al. 2017, β-VAE.

    The loss that is reported has β = 1, whatever trains: variants of several β stay comparable.
    """

    def loss(outputs: Variational, images: Tensor) -> Tensor:
        return (outputs.reconstruction(images) + beta * outputs.kl().sum(1)).mean()

    return loss


@losses.register("noise_prediction", tasks=("denoising",))
def noise_prediction() -> Loss:
    """Mean squared error of the predicted noise (Ho et al. 2020, equation 14); the targets carry their step as well."""
    return lambda outputs, targets: nn.functional.mse_loss(outputs, split_time(targets)[0])
