"""Networks as users write them: a file of its own, which tests copy beside their study, and name by its place."""

from __future__ import annotations

import torch
from torch import Tensor, nn

print("a user's file may print")


class Net(nn.Module):
    """Draws its weights by a rule of its own, and starts the last gamma at zero."""

    def __init__(self, num_classes: int, in_channels: int = 3, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width * 4, num_classes)
        nn.init.normal_(self.conv.weight, 0.3, 0.05)
        nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.conv(x)))
        x = torch.relu(x + self.bn2(self.conv2(x)))
        x = nn.functional.adaptive_avg_pool2d(x, 2)
        return self.fc(x.view(x.size(0), -1))  # wants its inputs in one piece


class Rgb(Net):
    """Takes three channels, whatever the data have."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(num_classes, 3)


class Seven(Net):
    def __init__(self) -> None:
        super().__init__(7, 1)


class Needs(Net):
    def __init__(self, depth: int, num_classes: int = 10) -> None:
        super().__init__(num_classes, 1)


class Sized(Rgb):
    """Takes images of 16 x 16 alone."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.fc = nn.Linear(4 * 16 * 16, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.bn(self.conv(x))).flatten(1))


class Pair(Rgb):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().forward(x), x


class Auxiliary(Rgb):
    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        y = super().forward(x)
        return {"out": y, "aux": y} if self.training else {"out": y}


class Named(Rgb):
    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return {"logits": super().forward(x), "hidden": x}


class Functional(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(nn.functional.layer_norm(x.flatten(1), (64,)))


class Bare(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


class TwoArguments(Rgb):
    def forward(self, x: Tensor, other: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)


class Ends(Rgb):
    def forward(self, x: Tensor) -> Tensor:
        raise SystemExit(3)


class OnlyAtInference(Rgb):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            raise ValueError("not today")
        return super().forward(x)


class Seeds(Rgb):
    def __init__(self, num_classes: int) -> None:
        torch.manual_seed(7)
        super().__init__(num_classes)


class Double(Net):
    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__(num_classes, in_channels)
        self.double()


def compiled(num_classes: int) -> nn.Module:
    return torch.compile(mlp(num_classes))  # type: ignore[return-value]


def scripted(num_classes: int) -> nn.Module:
    return torch.jit.script(mlp(num_classes))


class Raises(Rgb):
    def __init__(self) -> None:
        raise ValueError("no luck")


class LayerNormed(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(64, 8, bias=False), nn.LayerNorm(8)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.norm(self.first(x.flatten(1)))))


def mlp(num_classes: int) -> nn.Module:
    """Like bnbench's own mlp with hidden: [8]: it stacks."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, num_classes)
    )


def pair(num_classes: int) -> tuple[nn.Module, int]:
    return Rgb(num_classes), num_classes


class UNet(nn.Module):
    """Noisy images and their step, or images alone."""

    def __init__(self, n_channels: int, n_classes: int, width: int = 4) -> None:
        super().__init__()
        self.steps = nn.Embedding(1000, width)
        self.down = nn.Sequential(
            nn.Conv2d(n_channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.up = nn.Conv2d(2 * width, n_classes, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        y = self.down(x)
        low = nn.functional.interpolate(nn.functional.avg_pool2d(y, 2), size=y.shape[2:])
        return self.up(torch.cat([y, low + self.steps(t)[:, :, None, None]], 1))


class OptionalStep(UNet):
    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        return super().forward(x, torch.zeros(len(x)).long() if t is None else t)


class OtherStep(UNet):
    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return super().forward(x, sigma)


class PlainUNet(UNet):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        y = self.down(x)
        return self.up(torch.cat([y, y], 1))


class Features(nn.Module):
    def __init__(self, in_features: int, num_outputs: int = 1) -> None:
        super().__init__()
        self.first, self.norm, self.fc = (
            nn.Linear(in_features, 8),
            nn.BatchNorm1d(8),
            nn.Linear(8, num_outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.norm(self.first(x))))


class Squeezed(Features):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).squeeze(-1)


class Words(nn.Module):
    """A class of each text; the mask says what is no padding."""

    def __init__(self, vocab_size: int, num_classes: int) -> None:
        super().__init__()
        self.embedding, self.norm, self.fc = (
            nn.Embedding(vocab_size, 8),
            nn.LayerNorm(8),
            nn.Linear(8, num_classes),
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        assert mask.dtype == torch.bool
        y = self.norm(self.embedding(x)) * mask[..., None]
        return self.fc(y.sum(1) / mask.sum(1, keepdim=True))


class Letters(nn.Module):
    """The next token at every position."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.embedding, self.norm, self.fc = (
            nn.Embedding(vocab_size, 8),
            nn.LayerNorm(8),
            nn.Linear(8, vocab_size),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.embedding(x)))


ready = Rgb()
number = 3
