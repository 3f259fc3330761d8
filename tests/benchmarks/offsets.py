"""How far off batch norm's float32 output is when the input sits on a large offset.

usage: python tests/benchmarks/offsets.py

Standard normal input of shape (32, 5) plus the offset, worst of 20 seeds, against float64.
"""

from __future__ import annotations

import torch

from bnbench.norms import BatchNorm1d


def reference(x: torch.Tensor) -> torch.Tensor:
    """The paper's equation in float64, on the same float32 numbers."""
    x = x.double()
    return (x - x.mean(0)) / torch.sqrt(x.var(0, unbiased=False) + 1e-5)


def worst(layer: torch.nn.Module, offset: float) -> float:
    """Largest absolute error over 20 seeds."""
    errors = []
    for seed in range(20):
        x = torch.randn(32, 5, generator=torch.Generator().manual_seed(seed)) + offset
        errors.append(float((layer(x).detach().double() - reference(x)).abs().max()))
    return max(errors)


if __name__ == "__main__":
    print("| offset | ours, fast | ours, plain | torch.nn |\n| --- | --- | --- | --- |")
    for offset in (0.0, 1e2, 1e4, 1e6):
        layers = (BatchNorm1d(5), BatchNorm1d(5, reading="plain"), torch.nn.BatchNorm1d(5))
        print(f"| {offset:g} | " + " | ".join(f"{worst(layer, offset):.0e}" for layer in layers) + " |")
