"""A small diffusion model: a network says which noise was added to an image (Ho et al. 2020, arXiv 2006.11239)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from bnbench.base.metrics import Metric
from bnbench.base.time_channel import Timed, split_time, with_time
from bnbench.data import Dataset, Sizes
from bnbench.data.pixels import to_unit
from bnbench.data.prepared import Prepared
from bnbench.tasks import Task, tasks
from bnbench.tasks.image_quality import IMAGE_QUALITY, FeatureNetwork, feature_network
from bnbench.tasks.images import SAMPLES, check_images, not_yet, quality_of

#: A loss that is not below the best guess from each pixel alone by this share of it has learnt nothing of images.
BETTER = 0.05
Schedule = Literal["linear", "cosine"]


def kept_signal(steps: int, schedule: Schedule) -> Tensor:
    """ᾱ_t for t = 1 to `steps`, (steps,) float64: the share of an image's variance that is left in x_t.

    linear: β from 1e-4 to 0.02 (Ho et al. 2020, section 4), times 1000 / steps where there are not 1000 of them.
    cosine: Nichol & Dhariwal 2021 (arXiv 2102.09672), equation 17, with s = 0.008. No β is above 0.999.
    """
    if schedule == "linear":
        betas = torch.linspace(1e-4, 0.02, steps, dtype=torch.float64) * (1000 / steps)
    else:
        place = torch.arange(steps + 1, dtype=torch.float64) / steps
        squares = ((place + 0.008) / 1.008 * math.pi / 2).cos().square()
        betas = 1 - squares[1:] / squares[:-1]
    return (1 - betas.clamp(max=0.999)).cumprod(0)


@tasks.register(
    "denoising",
    metrics=(
        Metric("loss", "lower"),
        Metric("loss_little_noise", "lower"),
        Metric("loss_middle", "lower"),
        Metric("loss_much_noise", "lower"),
        *IMAGE_QUALITY,
    ),
    losses=("noise_prediction",),
    models=("unet",),
    dataset="digits",
    primary="loss",
    shown=("loss",),
    chance="the loss on the validation part is not 5% below that of the best guess from each pixel alone, the mean of "
    "ᾱ",
)
class Denoising(Task):
    """Noise from noisy images: the simple loss of DDPM (Ho et al. 2020, equation 14), by level of noise too.

    A sample is x_t = √ᾱ_t x + √(1 - ᾱ_t) ε, with t uniform in 1..steps and ε ~ N(0, I); the network sees x_t and t - 1
    and gives ε. loss: mean of (ε - ε̂)² over values and samples, of which 1 is no prediction at all. loss_little_noise,
    loss_middle, loss_much_noise: of the samples in the first, second and last third of the steps.

    steps: T, the steps of the diffusion process
    noise_schedule: linear (Ho et al. 2020) or cosine (Nichol & Dhariwal 2021)
    sampling_steps: network calls for a sample, by DDIM (Song et al. 2021, arXiv 2010.02502, equation 12, η = 0)
    """

    def __init__(
        self,
        *,
        steps: Annotated[int, Field(ge=3, le=100_000)] = 100,
        noise_schedule: Schedule = "linear",
        sampling_steps: Annotated[int, Field(ge=1, le=100_000)] = 20,
    ) -> None:
        self.steps, self.sampling_steps = steps, min(sampling_steps, steps)
        self.kept_signal = kept_signal(steps, noise_schedule)

    def check(self, dataset: Dataset) -> None:
        """Images."""
        check_images("denoising", dataset, features=False)

    def aid(self, dataset: Dataset, device: torch.device) -> FeatureNetwork:
        """The features in which images from noise are measured."""
        return feature_network(dataset)

    def sizes(self, dataset: Dataset) -> Sizes:
        """One output at every pixel for each channel."""
        shape = tuple(dataset.train_inputs.shape[1:])
        return Sizes(shape, shape[0], per_position=True)

    def network_arguments(self, sizes: Sizes) -> tuple[Any, ...]:
        """The shape, with a sign that the step comes with the images."""
        return Timed(sizes.input_shape), sizes.num_outputs

    def batch(self, inputs: Tensor, targets: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noisy images with their step, (N, C + 1, H, W), and the noise with the step, of the same shape."""
        steps = torch.randint(self.steps, (len(inputs),), generator=draw)
        noise = torch.randn(inputs.shape, generator=draw).to(inputs.device)
        signal = self.kept_signal[steps].reshape(-1, 1, 1, 1)
        of_image, of_noise = (part.sqrt().float().to(inputs.device) for part in (signal, 1 - signal))
        noisy = of_image * inputs + of_noise * noise
        steps = steps.to(inputs.device)
        return with_time(noisy, steps), with_time(noise, steps)

    def made_up_data(self, sizes: Sizes, count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise for images."""
        images = torch.randn((count, *sizes.input_shape), generator=draw)
        return images, images

    def kept(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """A row a sample, float64: its mean squared error, its step."""
        noise, steps = split_time(targets.cpu())
        errors = (outputs.cpu().double() - noise.double()).square().flatten(1).mean(1)
        return torch.stack([errors, steps.double()], 1)

    def measured(self, outputs: Tensor, targets: Tensor, data: Prepared) -> Iterator[tuple[str, float]]:
        """Of the `kept` rows of a part. NaN for a third of the steps without a sample."""
        errors, steps = outputs.unbind(1)
        yield "loss", float(errors.mean())
        third = (steps * 3 / self.steps).floor()
        for index, name in enumerate(("loss_little_noise", "loss_middle", "loss_much_noise")):
            yield name, float(errors[third == index].mean())

        yield from not_yet()

    def at_end(self, model: nn.Module, data: Prepared, draw: torch.Generator) -> dict[str, float]:
        """The quality of images from noise."""
        return quality_of(lambda count: self._made(model, data, draw, count), data)

    def samples(self, model: nn.Module, data: Prepared, draw: torch.Generator) -> Tensor | None:
        """Images from noise, by DDIM."""
        return to_unit(self._made(model, data, draw, SAMPLES), data)

    def _made(self, model: nn.Module, data: Prepared, draw: torch.Generator, count: int) -> Tensor:
        noise = torch.randn((count, *data.input_shape), generator=draw).to(data.val_inputs.device)
        return self.denoised(model, noise, limits_of(data))

    def denoised(self, model: nn.Module, noise: Tensor, limits: tuple[Tensor, Tensor]) -> Tensor:
        """x_0 from x_T = noise (N, C, H, W), in `sampling_steps` near-equal steps; each x̂_0 is cut to the limits."""
        times = torch.linspace(self.steps - 1, 0, self.sampling_steps).round().long()
        signals = [float(self.kept_signal[int(time)]) for time in times] + [1.0]
        x = noise
        for time, signal, after in zip(times, signals, signals[1:], strict=False):
            guess: Tensor = model(with_time(x, time.expand(len(x)).to(x.device)))
            clean = ((x - math.sqrt(1 - signal) * guess) / math.sqrt(signal)).clamp(*limits)
            guess = (x - math.sqrt(signal) * clean) / math.sqrt(1 - signal)
            x = math.sqrt(after) * clean + math.sqrt(1 - after) * guess
        return x

    def has_learnt(self, first: Mapping[str, float], last: Mapping[str, float], targets: Tensor) -> bool:
        """Whether it sees more than each pixel's own value.

        For a pixel of mean 0 and variance 1 the best linear guess is ε̂ = √(1 - ᾱ) x_t, whose mean squared error is ᾱ.
        """
        return last["val_loss"] < (1 - BETTER) * float(self.kept_signal.mean())


def limits_of(data: Prepared) -> tuple[Tensor, Tensor]:
    """The smallest and largest pixel of the training part, normalised, (C, 1, 1) each."""
    pixels = data.train_inputs
    axes = (0, 2, 3)
    low, high = (pixels.amin(axes, keepdim=True)[0].float(), pixels.amax(axes, keepdim=True)[0].float())
    return data.normalise_(low), data.normalise_(high)
