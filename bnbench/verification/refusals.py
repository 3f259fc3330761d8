"""The inputs that a layer accepts: it is called once with each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from bnbench.base.errors import BnbenchError, LayerError
from bnbench.base.user_code import first_line
from bnbench.verification.cause_table import LAST_AXIS
from bnbench.verification.findings import Finding
from bnbench.verification.process import undisturbed
from bnbench.verification.rules import describe_tensor, is_ordinary
from bnbench.verification.subject import SHAPES
from bnbench.verification.wishes import Wishes

#: The check of a finding that stands for a whole column.
WHOLE = "any"
Makers = Mapping[str, Callable[[], nn.Module]]


def refusals(word: str, makers: Makers, wishes: Wishes) -> dict[str, Finding]:
    """Input -> the finding that the layer rejects it, with the reason; a failure where it must accept it.

    Raises LayerError if the layer rejects all inputs.
    """
    reasons = {name: why for name, maker in makers.items() if (why := _why_not(maker, name))}
    last = [name for name in reasons if len(SHAPES[name]) > 2 and _is_right_last(makers[name], name)]
    if len(reasons) == len(makers):
        raise _takes_none(word, reasons, last)
    findings = {}
    for name, why in reasons.items():
        failed = name == wishes.must or (name in last and wishes.dim == "all")
        causes = (LAST_AXIS + " (--dim 1 judges it on (N, C) alone)",) if name in last else ()
        words = f"the layer does not take it: {why}" + (f"; it takes {_moved(name)}" if name in last else "")
        findings[name] = Finding(WHOLE, name, "failed" if failed else "skipped", words, causes=causes)
    return findings


def _why_not(maker: Callable[[], nn.Module], name: str) -> str:
    """Half a sentence, or "" for an input that is taken: a tensor of the same shape comes out."""
    x = torch.randn(SHAPES[name], generator=torch.Generator().manual_seed(0))
    try:
        with undisturbed():
            y = maker()(x)
    except BnbenchError as error:
        return str(error).partition("\n")[0]
    except BaseException as error:
        return first_line(error)
    if not isinstance(y, Tensor):
        return f"forward returned {type(y).__name__}, not a tensor"
    if not is_ordinary(y):
        return f"forward returned {describe_tensor(y)}, not real numbers in memory"
    return "" if y.shape == x.shape else f"forward returned shape {tuple(y.shape)} for {tuple(x.shape)}"


def _is_right_last(maker: Callable[[], nn.Module], name: str) -> bool:
    """Whether the layer is batch norm for this input with its channels on the last axis."""
    x = torch.randn(SHAPES[name], generator=torch.Generator().manual_seed(0)).movedim(1, -1)
    try:
        with undisturbed():
            y = maker().train()(x)
    except BaseException:
        return False
    axes = tuple(range(x.dim() - 1))
    expected = (x - x.mean(axes)) / x.std(axes, unbiased=False)
    return isinstance(y, Tensor) and y.shape == x.shape and bool(torch.allclose(y, expected, atol=0.05))


def _moved(name: str) -> str:
    """For example "(N, C, H, W)" -> "(N, H, W, C)"."""
    return name.replace("C, ", "")[:-1] + ", C)"


def _takes_none(word: str, reasons: Mapping[str, str], last: list[str]) -> LayerError:
    texts = list(dict.fromkeys(reasons.values()))
    lines = [f"{', '.join(name for name, why in reasons.items() if why == text)}: {text}" for text in texts]
    if last:
        lines.append(f"It takes {', '.join(map(_moved, last))}: {LAST_AXIS}.")
    if any("positional argument" in text or "keyword-only argument" in text for text in texts):
        fix = "give forward's other arguments defaults, or verify a module with forward(self, x)."
    else:
        fix = "forward(self, x) must return a tensor of x's shape for one of these inputs, C = 5 channels at axis 1."
    return LayerError(f"{word} takes none of the inputs.", "\n".join(lines), fix)
