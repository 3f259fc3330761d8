"""A small U-Net of one's own: noisy images and their step in, the noise out."""

import torch
from torch import nn


def block(channels_in: int, channels_out: int) -> nn.Sequential:
    """Two convolutions, each with a batch norm behind it."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
        nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class UNet(nn.Module):
    """Two levels down, and back up beside them."""

    def __init__(self, in_channels: int, out_channels: int, width: int = 8) -> None:
        super().__init__()
        self.steps = nn.Sequential(nn.Embedding(1000, width), nn.Linear(width, 4 * width))
        self.first, self.second = block(in_channels, width), block(width, 2 * width)
        self.bottom = block(2 * width, 4 * width)
        self.up2, self.up1 = (
            nn.ConvTranspose2d(4 * width, 2 * width, 2, 2),
            nn.ConvTranspose2d(2 * width, width, 2, 2),
        )
        self.back2, self.back1 = block(4 * width, 2 * width), block(2 * width, width)
        self.head = nn.Conv2d(width, out_channels, 1)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Images (N, C, H, W) and steps (N,) to the noise (N, C, H, W)."""
        one = self.first(x)
        two = self.second(nn.functional.max_pool2d(one, 2))
        low = self.bottom(nn.functional.max_pool2d(two, 2)) + self.steps(t)[:, :, None, None]
        two = self.back2(torch.cat([self.up2(low), two], 1))
        return self.head(self.back1(torch.cat([self.up1(two), one], 1)))
