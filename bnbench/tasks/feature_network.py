"""A small classifier that bnbench trains on a data set: its features are what generated images are measured in.

No network is downloaded. So distances in these features are not comparable to an FID, which takes those of an
Inception network trained on ImageNet, and only runs on the same data set can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bnbench.base.process_state import left_as_found, seeded
from bnbench.base.seeding import generator
from bnbench.data import Dataset
from bnbench.data.prepared import Prepared

#: Numbers in a vector of features.
FEATURES = 32
#: Training of the classifier: steps, images in each, and the first learning rate of Adam, which falls to 0.
STEPS, BATCH, RATE = 400, 64, 5e-3
#: Images of more pixels a side are averaged down to so many before the classifier sees them.
LARGEST_SIDE = 32
#: Test images at most whose share of right answers is named.
TESTED = 2000
#: Images that go through the network at once.
_CHUNK = 500
_CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class FeatureNetwork:
    """A trained classifier of the images of one data set. It stays on the CPU.

    body: images (N, C, H, W) in 0..1 to features (N, FEATURES); head: those to logits. scale: what features are
    divided by. low, high: the pixel values that are shown as 0 and 1, those of the data set's training images.
    classes: how many the data set has; 0 where images are not of one class of two or more, and the network tells by
    how much an image was turned.
    accuracy: its share of right answers on test images. trained, tested: how many images.
    """

    body: nn.Module = field(repr=False)
    head: nn.Module = field(repr=False)
    scale: float
    low: float
    high: float
    classes: int
    accuracy: float
    trained: int
    tested: int

    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, FEATURES) and probabilities (N, classes), float64 on the CPU.

        images: (N, C, H, W) in 0..1 on any device; values outside are cut off, as they would be in a picture. On one
        thread and in chunks of a fixed size, so that the numbers do not depend on how many cores there are.
        """
        features, logits = [], []
        with left_as_found(_CPU), torch.inference_mode():
            torch.set_num_threads(1)
            for chunk in torch.split(images, _CHUNK):
                found = self.body(chunk.detach().cpu().float().clamp(0, 1))
                features.append(found.double() / self.scale)
                logits.append(self.head(found).double())
        return torch.cat(features), torch.cat(logits).softmax(1)

    def unit(self, inputs: Tensor, data: Prepared | None = None) -> Tensor:
        """Pixel values in 0..1, float32. inputs: as the data set has them, or as normalised by `data`."""
        if data is not None and data.center is not None and data.scale is not None:
            inputs = inputs * data.scale + data.center
        return ((inputs.float() - self.low) / (self.high - self.low)).clamp(0, 1)

    @property
    def note(self) -> str:
        """What the metrics of generated images are measured with, for the user."""
        what = (
            "the classes"
            if self.classes
            else "by how much an image was turned (there are no two classes of images)"
        )
        return (
            f"frechet, kernel, image_precision and image_recall are measured in the {FEATURES} features of a small "
            f"classifier that bnbench trains on this data set with a fixed seed ({STEPS} steps on {self.trained:,} "
            f"images). It learns {what}, and is right on {self.accuracy:.1%} of {self.tested:,} test images. They are "
            "no FID, and can be compared on the same data and with the same number of images only"
        )


#: The last networks of this process, by the fingerprint of their data sets.
_made: dict[str, FeatureNetwork] = {}
_MOST_KEPT = 4


def feature_network(dataset: Dataset) -> FeatureNetwork:
    """The classifier of this data set's images; trained at the first call, in a second or a few.

    dataset: with training and test images (N, C, H, W), uint8 or float32. The same data give the same network, bit
    for bit; the process's random streams and threads stay as they are. With fewer than two classes, or classes of
    pixels, it learns by how many quarter turns an image was rotated (Gidaris et al. 2018, "Unsupervised representation
    learning by predicting image rotations"; half turns where images are not square).
    """
    key = dataset.fingerprint
    if key not in _made:
        made = _train(dataset)
        while len(_made) >= _MOST_KEPT:
            _made.pop(next(iter(_made)), None)
        _made[key] = made
    return _made[key]


def _train(dataset: Dataset) -> FeatureNetwork:
    inputs, test_inputs = dataset.train_inputs.cpu(), dataset.test_inputs.cpu()
    low, high = float(inputs.min()), float(inputs.max())
    high = high if high > low else low + 1
    # masks have a class at every pixel, and no image is of one
    classes = (
        len(dataset.class_names) if len(dataset.class_names) > 1 and dataset.train_targets.ndim == 1 else 0
    )

    def examples(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        shown = ((images.float() - low) / (high - low)).clamp(0, 1)
        return (shown, labels.cpu().long()) if classes else _turned(shown)

    with seeded(0, _CPU), torch.inference_mode(False), torch.enable_grad():
        torch.set_num_threads(1)
        body, head = _layers(tuple(inputs.shape[1:]), classes or 4)
        optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=RATE)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / STEPS)
        draw = generator(0, "feature network", "order")
        order = torch.randperm(len(inputs), generator=draw)
        while len(order) < STEPS * BATCH:
            order = torch.cat([order, torch.randperm(len(inputs), generator=draw)])
        for index in torch.split(order[: STEPS * BATCH], BATCH):
            images, labels = examples(inputs[index], dataset.train_targets[index])
            optimizer.zero_grad()
            nn.functional.cross_entropy(head(body(images)), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        body.eval().requires_grad_(False)
        head.eval().requires_grad_(False)
        seen, tested = evenly(len(inputs), TESTED), evenly(len(test_inputs), TESTED)
        features = body(examples(inputs[seen], dataset.train_targets[seen])[0]).double()
        scale = float(features.var(0, correction=0).mean().sqrt())
        images, labels = examples(test_inputs[tested], dataset.test_targets[tested])
        right = float((head(body(images)).argmax(1) == labels).double().mean())
    trained = len(set(order[: STEPS * BATCH].tolist()))
    return FeatureNetwork(body, head, scale or 1.0, low, high, classes, right, trained, len(tested))


def _layers(shape: tuple[int, ...], outputs: int) -> tuple[nn.Module, nn.Module]:
    """Two convolutions and a linear layer to the features; one to the outputs. No normalization: it favours none."""
    channels, height, width = (shape[0], *(min(side, LARGEST_SIDE) for side in shape[1:]))
    stride = 2 if min(height, width) >= 16 else 1
    convolutions = nn.Sequential(
        nn.AdaptiveAvgPool2d((height, width)),
        nn.Conv2d(channels, 16, 3, stride=stride, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
    )
    flat = convolutions(torch.zeros(1, *shape)).shape[1]
    return nn.Sequential(convolutions, nn.Linear(flat, FEATURES), nn.ReLU()), nn.Linear(FEATURES, outputs)


def _turned(images: Tensor) -> tuple[Tensor, Tensor]:
    """Every image turned by as many quarters as its place says, and by how many."""
    square = images.shape[-1] == images.shape[-2]
    turns = torch.arange(len(images)) % 4 if square else 2 * (torch.arange(len(images)) % 2)
    turned = [torch.rot90(image, int(turn), (-2, -1)) for image, turn in zip(images, turns, strict=True)]
    return torch.stack(turned), turns


def evenly(count: int, most: int) -> Tensor:
    """At most so many indices, spread evenly over 0..count-1: files are often sorted by class."""
    if count <= most:
        return torch.arange(count)
    return torch.arange(most) * count // most
