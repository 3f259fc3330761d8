"""Rival: what an experienced PyTorch user writes for `char_lm`: the text in memory, one run after the other.

Form: nanoGPT's, with the modules of torch.nn: random windows of one tensor of tokens, a GPT of pre- or post-norm
blocks with torch's attention kernel, AdamW, a cosine. It uses nothing of bnbench. text_speed.py starts two of these
processes side by side, each with its share of the runs, on one thread each.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention


class DyT(nn.Module):
    """gamma tanh(alpha x) + beta, as in the paper's listing."""

    def __init__(self, width: int, alpha: float) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((1,), alpha))
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Value by value."""
        return torch.tanh(self.alpha * x) * self.weight + self.bias


class BatchNorm(nn.BatchNorm1d):
    """torch's layer over all positions."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, C) to the same."""
        return super().forward(x.flatten(0, 1)).view(x.shape)


NORMS: dict[str, Any] = {
    "none": nn.Identity,
    "layer": nn.LayerNorm,
    "rms": lambda width: nn.RMSNorm(width, eps=1e-5),
    "dyt": lambda width, alpha=0.5: DyT(width, alpha),
    "batch": BatchNorm,
}


class Attention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, width: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.value, self.out = nn.Linear(width, width, bias=bias), nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, C) to the same."""
        shape = (*x.shape[:2], self.heads, -1)
        q, k, v = (layer(x).view(shape).transpose(1, 2) for layer in (self.query, self.key, self.value))
        y = scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(x.shape))


class Block(nn.Module):
    """Attention and a feed-forward network, each on a residual branch."""

    def __init__(self, norm: Any, width: int, heads: int, pre: bool, bias: bool) -> None:
        super().__init__()
        self.pre = pre
        self.norm1, self.norm2 = norm(width), norm(width)
        self.attention = Attention(width, heads, bias)
        last = nn.Linear(4 * width, width, bias=bias)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), last)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, C) to the same."""
        if self.pre:
            x = x + self.attention(self.norm1(x))
            return x + self.feed_forward(self.norm2(x))
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.feed_forward(x))


class GPT(nn.Module):
    """Embedding, learnt positions, blocks, the last norm where norms come first, a linear layer."""

    def __init__(self, task: dict[str, Any], variant: dict[str, Any]) -> None:
        super().__init__()
        width, heads, depth = task["width"], task["heads"], task["depth"]
        norm, pre = partial(NORMS[variant["norm"]], **variant["options"]), variant["position"] != "post"
        self.embedding = nn.Embedding(task["tokens"], width)
        self.positions = nn.Parameter(torch.empty(task["window"], width))
        bias = variant["norm"] != "batch"  # bnbench leaves out what batch norm takes out
        self.blocks = nn.Sequential(*[Block(norm, width, heads, pre, bias) for _ in range(depth)])
        self.norm = norm(width) if pre else nn.Identity()
        self.head = nn.Linear(width, task["tokens"])
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.02)
        with torch.no_grad():
            for block in self.blocks:
                for last in (block.attention.out, block.feed_forward[2]):
                    last.weight /= math.sqrt(2 * depth)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T) to logits (N, T, tokens)."""
        x = self.blocks(self.embedding(tokens) + self.positions)
        return self.head(self.norm(x))


@torch.inference_mode()
def bits_per_character(model: nn.Module, windows: Tensor) -> float:
    """Over windows (N, T + 1) of the text, each with the character after it."""
    model.eval()
    inputs, targets = windows[:, :-1], windows[:, 1:]
    total = 0.0
    for x, y in zip(inputs.split(256), targets.split(256), strict=True):
        total += cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="sum").item()
    model.train()
    return total / targets.numel() / math.log(2)


def train(
    task: dict[str, Any], texts: dict[str, Tensor], variant: dict[str, Any], seed: int
) -> dict[str, Any]:
    """One run."""
    torch.manual_seed(seed)
    model = GPT(task, variant)
    optimizer = torch.optim.AdamW(model.parameters(), lr=task["lr"], weight_decay=task["weight_decay"])
    text, window, steps = texts["train"], task["window"], task["steps"]
    probe = text.unfold(0, window + 1, window)[: len(texts["val"])]
    offsets, val = torch.arange(window + 1), [bits_per_character(model, texts["val"])]
    for step in range(steps):
        warm = min(1.0, (step + 1) / task["warm_up"])
        done = max(0.0, (step - task["warm_up"]) / (steps - task["warm_up"]))
        for group in optimizer.param_groups:
            group["lr"] = task["lr"] * warm * (1 + math.cos(math.pi * done)) / 2
        starts = torch.randint(len(text) - window, (task["batch_size"], 1))
        batch = text[starts + offsets]
        loss = cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % task["evaluate_every"] == 0:
            val.append(bits_per_character(model, texts["val"]))
            bits_per_character(model, probe)
    test = bits_per_character(model, texts["test"])
    return {"steps": steps, "evaluations": len(val), "val": val[-1], "test": test}


def main() -> None:
    """Train the runs of this process's share; one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", type=Path, required=True, help="JSON that text_speed.py writes")
    parser.add_argument("--share", type=int, required=True, help="this process's number")
    parser.add_argument("--of", type=int, default=2, help="processes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    task = json.loads(options.task.read_text())
    with np.load(task["texts"]) as parts:
        texts = {part: torch.from_numpy(parts[part]) for part in ("train", "val", "test")}
    # seed by seed, so that both processes have as many runs of each variant, or one more
    runs = [(name, seed) for seed in range(task["seeds"]) for name in task["variants"]]
    records = []
    for name, seed in runs[options.share :: options.of]:
        start = time.perf_counter()
        record = train(task, texts, task["variants"][name], seed)
        records.append({"variant": name, "seed": seed, "seconds": time.perf_counter() - start, **record})
    print(json.dumps({"runs": records}))


if __name__ == "__main__":
    main()
