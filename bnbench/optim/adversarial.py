"""The losses of two networks that train against each other: of logits that an image is real."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus

from bnbench.optim import losses


class NonSaturating:
    """Binary cross-entropy for both networks, and the generator's loss in its non-saturating form.

    Goodfellow et al. 2014 (arXiv 1406.2661), section 3, as DCGAN minimises it. With D = sigmoid(logit), per image:
    the discriminator's loss is -log D(x) - log(1 - D(G(z))), the sum of two means as in the authors' code; the
    generator's is -log D(G(z)), not log(1 - D(G(z))), whose gradient vanishes where the discriminator is sure.
    """

    def discriminator(self, real: Tensor, made: Tensor) -> Tensor:
        """Of the logits (N,) for real and for made images. 2 log 2 where it can't tell them apart."""
        return softplus(-real).mean() + softplus(made).mean()

    def generator(self, made: Tensor) -> Tensor:
        """Of the logits (N,) for made images."""
        return softplus(-made).mean()

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The sum of both, of the outputs (N, 3 + ...) of `bnbench.models.adversaries.Adversaries`."""
        real, made, seen = outputs[:, :3].unbind(1)
        return self.discriminator(real, made) + self.generator(seen)


@losses.register("non_saturating", tasks=("gan",))
def non_saturating() -> NonSaturating:
    """Binary cross-entropy of both networks; the generator's as -log D(G(z))."""
    return NonSaturating()
