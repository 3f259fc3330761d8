"""The floor of workload B: the three convolutions forward and backward, and nothing else.

No norm, no activation, no loss, no optimizer, no data: one batch that lies in memory, over and over; the
gradients of the images are not asked for, as in training. What a framework adds to this is its overhead
and the layers' own work. Freed memory is kept, as bnbench has it. --channels-last and --bf16 (autocast)
for the floors of those settings.
"""

from __future__ import annotations

import json
import time

import cifar_shared as shared
import torch
from torch import nn

from bnbench.engine.memory import keep_freed_memory


def main() -> None:
    args = shared.arguments()
    keep_freed_memory()
    torch.manual_seed(args.seed)
    count = len(shared.arrays(args.images)[0])
    form = torch.channels_last if args.channels_last else torch.contiguous_format
    model = nn.Sequential(*shared.convolutions()).to(memory_format=form)
    x = torch.randn(shared.BATCH_SIZE, 3, 32, 32).to(memory_format=form)
    dtype = torch.bfloat16 if args.bf16 else torch.float32
    dy = torch.randn(shared.BATCH_SIZE, shared.CHANNELS[-1], 8, 8, dtype=dtype).to(memory_format=form)
    seconds = []
    for _ in range(args.epochs):
        start = time.perf_counter()
        for _ in range(count // shared.BATCH_SIZE):
            model.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
                y = model(x)
            y.backward(dy)
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"epoch_seconds": seconds, "images": count // shared.BATCH_SIZE * shared.BATCH_SIZE}))


if __name__ == "__main__":
    main()
