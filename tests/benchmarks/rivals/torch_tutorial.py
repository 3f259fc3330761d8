"""Rival: the training loop of PyTorch's own tutorial.

Form: "Learn the Basics", pages "Quickstart" and "Optimizing Model Parameters"
(docs.pytorch.org/tutorials/beginner/basics): torchvision's data set with ToTensor, a DataLoader,
train_loop and test_loop as printed there, with the print of loss.item() every 100 batches.
Changed to the workload: MNIST, the network, batches of 32 in random order, Adam 1e-3, a Subset for training,
validation and probe (the same samples for everybody), test_loop on validation and probe each epoch.
Tuned: num_workers=0 (the default; on two cores, 2 workers took twice as long), evaluation in batches of
1000 rather than 32, as in pytorch/examples/mnist. The tutorial's Adam has no options, so neither has this one.
"""

from __future__ import annotations

import shared
import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader, Subset
from torch_model import mlp
from torchvision import datasets
from torchvision.transforms import ToTensor


def train_loop(
    dataloader: DataLoader, model: nn.Module, loss_fn: nn.Module, optimizer: torch.optim.Optimizer
):
    size = len(dataloader.dataset)
    model.train()
    for batch, (X, y) in enumerate(dataloader):
        pred = model(X)
        loss = loss_fn(pred, y)

        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

        if batch % 100 == 0:
            loss, current = loss.item(), batch * shared.BATCH_SIZE + len(X)
            print(f"loss: {loss:>7f}  [{current:>5d}/{size:>5d}]")
    return len(dataloader)


def test_loop(dataloader: DataLoader, model: nn.Module, loss_fn: nn.Module) -> float:
    model.eval()
    size, num_batches = len(dataloader.dataset), len(dataloader)
    test_loss, correct = 0, 0
    with torch.no_grad():
        for X, y in dataloader:
            pred = model(X)
            test_loss += loss_fn(pred, y).item()
            correct += (pred.argmax(1) == y).type(torch.float).sum().item()
    test_loss /= num_batches
    correct /= size
    print(f"Test Error: \n Accuracy: {(100 * correct):>0.1f}%, Avg loss: {test_loss:>8f} \n")
    return correct


def main() -> None:
    args = shared.arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    training_data = datasets.MNIST(root=args.data_dir, train=True, download=False, transform=ToTensor())
    test_data = datasets.MNIST(root=args.data_dir, train=False, download=False, transform=ToTensor())
    where = shared.split(args)
    train_data, val_data, probe_data = (
        Subset(training_data, index.tolist()) for index in (where.train, where.val, where.probe)
    )
    train_dataloader = DataLoader(train_data, batch_size=shared.BATCH_SIZE, shuffle=True)
    val_dataloader = DataLoader(val_data, batch_size=shared.EVAL_BATCH)
    probe_dataloader = DataLoader(probe_data, batch_size=shared.EVAL_BATCH)
    test_dataloader = DataLoader(test_data, batch_size=shared.EVAL_BATCH)

    def train(variant: str, seed: int) -> shared.Run:
        torch.manual_seed(seed)
        model = mlp(variant)
        loss_fn = nn.CrossEntropyLoss()
        optimizer = torch.optim.Adam(model.parameters(), lr=shared.LEARNING_RATE)
        steps, val, probe = 0, [], []
        for t in range(args.epochs):
            print(f"Epoch {t + 1}\n-------------------------------")
            steps += train_loop(train_dataloader, model, loss_fn, optimizer)
            val.append(test_loop(val_dataloader, model, loss_fn))
            probe.append(test_loop(probe_dataloader, model, loss_fn))
        print("Done!")
        return shared.Run(steps, val, probe, test_loop(test_dataloader, model, loss_fn))

    runs = shared.each_run(args, train)
    shared.report(runs, torch=str(torch.__version__), torchvision=str(torchvision.__version__))


if __name__ == "__main__":
    main()
