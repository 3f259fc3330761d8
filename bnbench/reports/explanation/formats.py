"""The blocks of an explanation as text for a terminal, as Markdown and as LaTeX that compiles by itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from rich.cells import cell_len

from bnbench.base.terminal import encodable, one_line
from bnbench.base.words import ENGLISH
from bnbench.base.worked_steps import WorkedSteps
from bnbench.reports.explanation.blocks import Block, Numbers, blocks, number_texts, title_of
from bnbench.reports.explanation.formulas import Formula
from bnbench.reports.formats.escapes import latex_text, markdown_text
from bnbench.reports.tables.layout import wrapped

#: Columns of a terminal that is not known.
WIDTH = 80


def as_text(worked: WorkedSteps, language: str = ENGLISH, width: int = WIDTH, encoding: str = "utf-8") -> str:
    """For a terminal of that width, 40 columns or more. Letters that its encoding lacks are words: mu, x_hat."""
    lines = wrapped(encodable(title_of(worked, language), encoding), width)
    for number, whole in enumerate(blocks(worked, language), start=1):
        block = _encodable(whole, encoding)
        if block.part:
            lines += ["", *wrapped(block.part.upper(), width)]
        lines += ["", *_hanging(f"{number}. ", block.title, width)]
        lines += [line for formula in block.formulas for line in _formula(formula, width)]
        lines += _rows(block.numbers, width, encodable("−", encoding)) if block.numbers else []
        lines += _hanging("   ", block.note, width) if block.note else []
    return "\n".join(lines) + "\n"


def as_markdown(worked: WorkedSteps, language: str = ENGLISH) -> str:
    """For CommonMark with the mathematics of GitHub; a table for the numbers of each step."""
    done = [f"# {markdown_text(title_of(worked, language))}"]
    for number, block in enumerate(blocks(worked, language), start=1):
        if block.part:
            done.append(f"## {markdown_text(block.part)}")
        done.append(f"**{number}. {markdown_text(block.title)}**")
        done += [f"$${formula.latex}$$" for formula in block.formulas]
        if block.numbers:
            done.append(_markdown_table(block.numbers))
        if block.note:
            done.append(markdown_text(block.note))
    return "\n\n".join(done) + "\n"


def as_latex(worked: WorkedSteps, language: str = ENGLISH) -> str:
    """A document in ASCII alone, one page a part; amsmath is all it needs. A part fits a slide."""
    done = [
        r"\documentclass{article}",
        r"\usepackage{amsmath}",
        r"\pagestyle{empty}\setlength{\parindent}{0pt}\setlength{\parskip}{2pt}",
        r"\begin{document}",
        rf"{{\Large {latex_text(title_of(worked, language))}\par}}",
    ]
    for number, block in enumerate(blocks(worked, language), start=1):
        if block.part:
            done += [r"\newpage"] * (number > 1)
            done.append(rf"\section*{{{latex_text(block.part)}}}")
        done += _latex_block(number, block)
    return "\n".join([*done, r"\end{document}"]) + "\n"


def _encodable(block: Block, encoding: str) -> Block:
    """The same block in signs that the encoding has."""

    def written(formulas: Iterable[Formula]) -> tuple[Formula, ...]:
        return tuple(replace(formula, text=encodable(formula.text, encoding)) for formula in formulas)

    return Block(
        encodable(block.title, encoding),
        written(block.formulas),
        block.numbers and replace(block.numbers, labels=written(block.numbers.labels)),
        encodable(block.note, encoding),
        encodable(block.part, encoding),
    )


def _hanging(start: str, text: str, width: int) -> list[str]:
    first, *rest = wrapped(one_line(text), width - len(start)) or [""]
    return [f"{start}{first}", *(f"{' ' * len(start)}{line}" for line in rest)]


def _formula(formula: Formula, width: int) -> list[str]:
    """On one line where it fits, else with the root, or the last summand, below."""
    sign = next((sign for sign in (" / ", " + ") if sign in formula.text), "")
    if cell_len(formula.text) <= width - 3 or not sign:
        return [f"   {formula.text}"]
    above, _, below = formula.text.rpartition(sign)
    return [f"   {above}", f"    {sign}{below}"]


def _rows(numbers: Numbers, width: int, minus: str) -> list[str]:
    """Letters, and numbers in columns at the right; closer together where they do not fit."""
    texts = number_texts(numbers.rows)
    labels = max(cell_len(label.text) for label in numbers.labels)
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    room = width - labels - sum(widths)
    gap = "  " if room >= 5 + 2 * len(widths) else " "
    indent = " " * max(1, min(5, room - len(gap) * len(widths)))
    return [
        f"{indent}{label.text}{' ' * (labels - cell_len(label.text))}"
        + "".join(f"{gap}{text:>{size}}" for text, size in zip(row, widths, strict=True)).replace("-", minus)
        for label, row in zip(numbers.labels, texts, strict=True)
    ]


def _markdown_table(numbers: Numbers) -> str:
    texts = number_texts(numbers.rows)
    head = ["", *(str(n) for n in range(1, len(texts[0]) + 1))]
    marks = ["---", *("---:" for _ in texts[0])]
    rows = [[f"${label.latex}$", *row] for label, row in zip(numbers.labels, texts, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, marks, *rows))


def _latex_block(number: int, block: Block) -> list[str]:
    lines = [rf"\textbf{{{number}. {latex_text(block.title)}}}"]
    if block.formulas:
        together = r" \\ ".join(formula.latex for formula in block.formulas)
        lines.append(rf"\begin{{gather*}} {together} \end{{gather*}}")
    if block.numbers:
        texts = number_texts(block.numbers.rows)
        rows = r" \\ ".join(
            f"{label.latex} & {' & '.join(map(_in_math, row))}"
            for label, row in zip(block.numbers.labels, texts, strict=True)
        )
        columns = "l" + "r" * len(texts[0])
        lines.append(rf"\[ \begin{{array}}{{{columns}}} {rows} \end{{array}} \]")
    if block.note:
        lines.append(rf"{latex_text(block.note)}\par")
    return lines


def _in_math(text: str) -> str:
    """A power of ten as LaTeX has it."""
    mantissa, e, power = text.partition("e")
    return rf"{mantissa} \cdot 10^{{{int(power)}}}" if e else text
