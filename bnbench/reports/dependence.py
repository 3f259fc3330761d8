"""The answers of `bnbench verify --padding`, on a terminal, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console

from bnbench.base import files
from bnbench.reports.console import print_lines, print_table, print_text
from bnbench.reports.formats.escapes import markdown_text
from bnbench.reports.formats.markdown import markdown_table
from bnbench.reports.tables.table import Table
from bnbench.verification.dependence import Dependence, Dependences

_COLUMNS = ("normalizer", "mask", "padding", "other samples", "later positions")
_CAPTION = (
    "Whether an output at a valid position depends on these, for tokens (N, T, C): in training, at inference, in both, "
    "or not. With padding count gradients and what training keeps. mask: whether the layer takes one."
)

#: Relative changes below this are those of float32 sums in another order.
_ROUNDING = 1e-4


def print_dependences(console: Console, found: Dependences) -> None:
    """Print the table, what padding changes, the layers that are refused and, last, the answer."""
    print_table(console, dependence_table(found))
    for title, lines in sections(found):
        print_lines(console, title, lines)
    print_text(console, answer(found), style="bold")


def dependence_table(found: Dependences) -> Table:
    """One row a normalizer."""
    rows = tuple(_row(layer) for layer in found.layers)
    return Table("Normalizers over padded sequences", _CAPTION, _COLUMNS, rows, "l" * len(_COLUMNS))


def sections(found: Dependences) -> list[tuple[str, list[str]]]:
    """Titles and lines: what padding changes (of one layer; of several, where it should not), and refusals."""
    told = found.layers if len(found.layers) == 1 else [layer for layer in found.layers if not layer.passed]
    changes = [
        f"{line}." if len(found.layers) == 1 else f"{layer.layer}, {line}."
        for layer in told
        for line in layer.changes
    ]
    refused = [f"{layer.layer}: {layer.refused}" for layer in found.layers if layer.refused]
    return [(title, lines) for title, lines in (("Changes", changes), ("Refused", refused)) if lines]


def answer(found: Dependences) -> str:
    """The answer in a few sentences, on one line."""
    if len(found.layers) == 1:
        return _answer_of(found.layers[0])
    wrong = [layer.layer for layer in found.layers if not layer.passed]
    masked = [layer.layer for layer in found.layers if layer.takes_mask and layer.passed]
    dependent = [layer.layer for layer in found.layers if layer.padding and layer.passed]
    sentences = [f"FAILED: padding changes {', '.join(wrong)}, which take a mask."] if wrong else []
    if masked:
        sentences.append(f"With a mask, padding changes nothing in {', '.join(masked)}.")
    if dependent:
        sentences.append(f"Without one, it changes {', '.join(dependent)}.")
    return " ".join(sentences) or "Padding changes nothing in any of them."


def to_json(found: Dependences) -> str:
    """Strict JSON."""
    return files.to_json(found.to_json(), ascii=True)


def to_markdown(found: Dependences) -> str:
    """The answer, the table and the lines."""
    parts = [markdown_text(answer(found)), markdown_table(dependence_table(found))]
    for title, lines in sections(found):
        parts.append(f"## {title}\n\n" + "\n".join(f"- {markdown_text(line)}" for line in lines))
    return "\n\n".join(parts) + "\n"


#: Name -> function that writes the answers in that format.
FORMATS: dict[str, Callable[[Dependences], str]] = {"json": to_json, "markdown": to_markdown}


def _row(layer: Dependence) -> tuple[str, ...]:
    if layer.refused:
        return layer.layer, "-", "refused", "-", "-"
    padding = _modes(layer.padding) + ("" if layer.passed else " (FAILED)")
    return layer.layer, _yes(layer.takes_mask), padding, _modes(layer.samples), _modes(layer.later)


def _answer_of(layer: Dependence) -> str:
    if layer.refused:
        return f"{layer.layer} is refused over tokens."
    if not layer.passed:
        rounding = layer.largest < _ROUNDING
        why = (
            " By rounding alone: a sum in float32 depends on its length. Accumulate sums in float64."
            * rounding
        )
        return f"FAILED: {layer.layer} takes a mask, and padding still changes it ({_modes(layer.padding)}).{why}"
    if layer.padding:
        depends = f"{layer.layer} depends on padding ({_modes(layer.padding)}), as it"
        if layer.other_mask:
            fix = "bnbench gives a mask to an argument called `mask`, True at valid positions: give it that name."
            return f"{depends} got no mask. Its forward has `{layer.other_mask}`; {fix}"
        fix = "Give its forward an argument `mask`, True at valid positions, or use masked_batch."
        return f"{depends} takes no mask. {fix}"
    with_mask = " with a mask" if layer.takes_mask else ""
    return (
        f"{layer.layer}: padding changes nothing{with_mask} (float32 bit for bit, float64 to 1e-12 relative)."
    )


def _modes(modes: Sequence[str]) -> str:
    return "both" if len(modes) == 2 else modes[0] if modes else "no"


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"
