"""Layers that end, hang, crash or disturb the process that judges them. Never import this to call them."""

from __future__ import annotations

import builtins
import ctypes
import importlib
import json
import os
import signal
import sys
import threading
import time
import warnings

import torch
from torch import nn


class Base(nn.BatchNorm1d):
    """Right, but for what `harm` does in each forward pass."""

    def forward(self, x):
        self.harm()
        return super().forward(x)

    def harm(self):
        pass


class Loop(Base):
    def harm(self):
        while True:
            pass


class Sleeps(Base):
    def harm(self):
        time.sleep(10_000)


class LoopInEval(Base):
    def harm(self):
        while not self.training:
            pass


class LoopWhenMade(Base):
    def __init__(self, num_features):
        while True:
            pass


class LeavesHard(Base):
    def harm(self):
        os._exit(0)


class Exits(Base):
    def harm(self):
        sys.exit(3)


class ExitsInEval(Base):
    def harm(self):
        if not self.training:
            sys.exit(0)


class Quits(Base):
    def harm(self):
        raise KeyboardInterrupt


class Strange(BaseException):
    def __str__(self):
        raise RuntimeError("no words")


class RaisesStrange(Base):
    def harm(self):
        raise Strange


class Segfault(Base):
    def harm(self):
        ctypes.string_at(0)


class Aborts(Base):
    def harm(self):
        os.abort()


class KillsItself(Base):
    def harm(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Recursion(Base):
    def harm(self):
        self.harm()


class Memory(Base):
    def harm(self):
        torch.empty(2**50)


class MemorySlowly(Base):
    def harm(self):
        held = []
        while True:
            held.append(bytearray(2**28))


class Threads(Base):
    """Threads that never end, and are no daemons."""

    def harm(self):
        for _ in range(3):
            threading.Thread(target=time.sleep, args=(10_000,)).start()


class Forks(Base):
    def harm(self):
        os.fork()


class Prints(Base):
    def harm(self):
        print("to stdout")
        print("to stderr", file=sys.stderr)
        os.write(1, b"to file descriptor 1\n")
        os.system("echo from a shell")


class ClosesStdout(Base):
    def harm(self):
        sys.stdout.close()
        os.close(1)


class Reads(Base):
    def harm(self):
        input("> ")


class Signals(Base):
    def harm(self):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)


class Alarm(Base):
    def harm(self):
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        time.sleep(1)


class Warns(Base):
    def harm(self):
        warnings.simplefilter("error")
        warnings.warn("now an error", stacklevel=1)


class Chdir(Base):
    def harm(self):
        os.chdir("/")


class Patches(Base):
    """Patches torch for everyone."""

    def harm(self):
        torch.Tensor.abs = lambda self: 1 / 0
        torch.autograd.grad = None


class NoGrad(Base):
    def harm(self):
        torch.set_grad_enabled(False)


class Meta(Base):
    def harm(self):
        torch.set_default_device("meta")


class WantsMask(nn.Module):
    def __init__(self, num_features):
        super().__init__()

    def forward(self, x, mask):
        return x


class TakesNone(nn.Module):
    def __init__(self, num_features):
        super().__init__()

    def forward(self, x):
        raise RuntimeError("shapes don't match\nand a second line")


class WantsPictures(nn.Module):
    """6-D alone: each input has a reason of its own."""

    def __init__(self, num_features):
        super().__init__()

    def forward(self, x):
        raise ValueError(f"wanted 6 axes, got {x.dim()}")


class ReturnsNone(Base):
    def forward(self, x):
        return None


class GetattrRaises(nn.Module):
    """Every unknown attribute raises something strange."""

    def __init__(self, num_features):
        super().__init__()
        self.inner = nn.BatchNorm1d(num_features)

    def __getattr__(self, name):
        if name in ("eps", "momentum", "epsilon"):
            raise ZeroDivisionError(name)
        return super().__getattr__(name)

    def forward(self, x):
        return self.inner(x)


class NoSuper(nn.Module):
    """Forgets super().__init__()."""

    def __init__(self, num_features):
        self.size = num_features

    def forward(self, x):
        return x


class TrainsToNone(Base):
    def train(self, mode=True):
        super().train(mode)


class InsideItself(Base):
    def __init__(self, num_features):
        super().__init__(num_features)
        self.me = self


class ReplacesAllclose(Base):
    def harm(self):
        torch.allclose = lambda *rest, **options: True


class ReplacesDumps(Base):
    def harm(self):
        json.dumps = lambda *rest, **options: '{"found": 1}'


class BreaksLists(Base):
    def harm(self):
        builtins.open = builtins.isinstance = None


class WantsDynamo(Base):
    """Importing torch's compiler wraps functions of torch's: that is torch's own doing."""

    def harm(self):
        importlib.import_module("torch._dynamo")


class Forges(Base):
    """Writes a false answer to whoever asked, and leaves."""

    answer = b'{"found": {"passed": true}}\n'

    def harm(self):
        for number in os.listdir("/proc/self/fd"):
            if os.path.realpath(f"/proc/self/fd/{number}").endswith("report.jsonl"):
                os.write(int(number), self.answer)
                os._exit(96)


class ForgesAnError(Forges):
    answer = b'{"error": 3}\n'
