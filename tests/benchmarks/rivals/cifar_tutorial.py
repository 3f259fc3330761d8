"""Rival of workload B: the tutorial's loop on CIFAR-10, an image at a time.

Form: "Training a Classifier" and "Quickstart" (docs.pytorch.org/tutorials): a Dataset whose __getitem__ does
what torchvision.datasets.CIFAR10 does (Image.fromarray of the array in memory, then the transform),
ToTensor and Normalize, a DataLoader, loss.item() printed every 100 batches.
Tuned: num_workers=0 (on two cores, 2 workers took 1.4 times as long). Network and optimizer are bnbench's.
"""

from __future__ import annotations

import json
import sys
import time

import cifar_shared as shared
import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms


class Images(Dataset):
    def __init__(self, images: np.ndarray, labels: np.ndarray, transform) -> None:
        self.data, self.targets, self.transform = images, labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int):
        return self.transform(Image.fromarray(self.data[index])), self.targets[index]


def accuracy(model: nn.Module, loader: DataLoader) -> float:
    model.eval()
    correct = 0
    with torch.no_grad():
        for X, y in loader:
            correct += (model(X).argmax(1) == y).sum().item()
    return correct / len(loader.dataset)


def main() -> None:
    args = shared.arguments()
    torch.manual_seed(args.seed)
    train_images, train_labels, test_images, test_labels = shared.arrays(args.images)
    mean, std = (statistic(train_images / 255, axis=(0, 1, 2)).tolist() for statistic in (np.mean, np.std))
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
    train_loader = DataLoader(
        Images(train_images, train_labels, transform), batch_size=shared.BATCH_SIZE, shuffle=True
    )
    test_loader = DataLoader(Images(test_images, test_labels, transform), batch_size=1000)
    model, loss_fn = shared.cnn(), nn.CrossEntropyLoss()
    optimizer, schedule = shared.sgd(model, args.epochs * len(train_loader))
    seconds = []
    for _ in range(args.epochs):
        model.train()
        start = time.perf_counter()
        for batch, (X, y) in enumerate(train_loader):
            loss = loss_fn(model(X), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            if batch % 100 == 0:
                print(f"loss: {loss.item():>7f}", file=sys.stderr)
        seconds.append(time.perf_counter() - start)
    result = {
        "epoch_seconds": seconds,
        "images": len(train_images),
        "test_accuracy": accuracy(model, test_loader),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
