"""Images as a network takes them: gray ones in three channels, of its `image_size`. No layer of it changes."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


def fit_of(model: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """From images (N, C, H, W) of a data set to what the network takes; None where it has no 2-D convolution."""
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None:
        return None
    channels, size = first.in_channels, getattr(model, "image_size", None)

    def fit(images: Tensor) -> Tensor:
        if images.shape[1] == 1 and channels == 3:
            images = images.expand(-1, 3, -1, -1)
        if isinstance(size, int) and images.shape[-1] != size:
            images = nn.functional.interpolate(images, (size, size), mode="bilinear", antialias=True)
        return images

    return fit


class Fitted(nn.Module):
    """A network that takes the images of a data set."""

    def __init__(self, network: nn.Module, fit: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.fit = network, fit

    def forward(self, x: Tensor) -> Tensor:
        """Of images (N, C, H, W) the network's output."""
        output: Tensor = self.network(self.fit(x) if x.ndim == 4 else x)
        return output

    @classmethod
    def of(cls, network: nn.Module) -> nn.Module:
        """The network itself where it takes everything as it is."""
        fit = fit_of(network)
        return network if fit is None else cls(network, fit)
