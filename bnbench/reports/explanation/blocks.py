"""The steps in order: a title, formulas, rows of numbers with their letters, and sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bnbench.base.words import ENGLISH, Say, phrases
from bnbench.base.worked_steps import Matrix, Row, WorkedSteps
from bnbench.reports.explanation.formulas import Formula, Formulas

#: Below this a number of the example is 0 but for rounding.
ROUNDING = 1e-12
#: Numbers that are all smaller are written with their powers of ten.
TINY = 1e-4


@dataclass(frozen=True)
class Numbers:
    """Rows of numbers of one kind, each with its letter."""

    labels: tuple[Formula, ...]
    rows: Matrix


@dataclass(frozen=True)
class Block:
    """One step. part: the heading that it is the first step of, "" in the middle of a part."""

    title: str
    formulas: tuple[Formula, ...] = ()
    numbers: Numbers | None = None
    note: str = ""
    part: str = ""


def title_of(worked: WorkedSteps, language: str = ENGLISH) -> str:
    """What is shown."""
    say = phrases(language)
    return say("explain.title", norm=worked.norm, samples=len(worked.x), features=len(worked.x[0]))


def blocks(worked: WorkedSteps, language: str = ENGLISH) -> list[Block]:
    """All steps of a normalizer, in the order in which they are computed."""
    say, formulas = phrases(language), Formulas(worked)
    return [
        *_forward(worked, formulas, say),
        *_backward(worked, formulas, say),
        *_evaluation(worked, formulas, say),
        _alone(worked, say),
        Block(
            say("explain.checked"), note=say("explain.gap", norm=worked.norm, gap=f"{worked.largest_gap:.0e}")
        ),
    ]


def _forward(worked: WorkedSteps, formulas: Formulas, say: Say) -> Iterator[Block]:
    parts = say("explain.parts", size=worked.part) if _is_parted(worked) else ""
    yield Block(
        say("explain.batch"), numbers=_samples("x", worked.x), note=parts, part=say("explain.forward")
    )
    scale = [(Formula("γ", r"\gamma"), worked.gamma), (Formula("β", r"\beta"), worked.beta)]
    known = [(label, row) for label, row in scale if row is not None]
    if known:
        yield Block(
            say("explain.scale"),
            numbers=Numbers(tuple(label for label, _ in known), tuple(r for _, r in known)),
        )
    if worked.centres:
        mean = _statistics(worked, formulas.mean_of, worked.mean)
        yield Block(say("explain.mean"), (formulas.mean(),), mean)
    if worked.divides:
        square = _statistics(worked, formulas.square, worked.var)
        yield Block(say("explain.var" if worked.centres else "explain.square"), (formulas.var(),), square)
    epsilon = f"ε = {worked.eps:g}" if worked.divides else ""
    hat = _samples("x̂", worked.x_hat, r"\hat{x_%s}")
    yield Block(say("explain.x_hat"), (formulas.x_hat(),), hat, epsilon)
    yield Block(say("explain.y"), (formulas.y(),), _samples("y", worked.y))


def _backward(worked: WorkedSteps, formulas: Formulas, say: Say) -> Iterator[Block]:
    yield Block(
        say("explain.dy"),
        numbers=_samples("dy", worked.dy),
        note=say("explain.dy_is"),
        part=say("explain.backward"),
    )
    steps = (formulas.g(), *formulas.means_of_g(), formulas.dx())
    yield Block(say("explain.dx"), steps, _samples("dx", worked.dx))
    over = say("explain.over_samples" if worked.over_samples else "explain.over_features")
    zero, almost = worked.sums
    if worked.centres:
        label = Formula("Σ dx", r"\textstyle\sum dx")
        yield Block(say("explain.sum", over=over), numbers=_sums(label, zero), note=say("explain.zero"))
    if worked.divides:
        label = Formula("Σ dx x̂", r"\textstyle\sum dx\,\hat{x}")
        yield Block(
            say("explain.sum_hat", over=over), numbers=_sums(label, almost), note=say("explain.almost")
        )


def _evaluation(worked: WorkedSteps, formulas: Formulas, say: Say) -> Iterator[Block]:
    if not worked.updated:
        yield Block(
            say("explain.no_running"), note=say("explain.no_running_note"), part=say("explain.evaluation")
        )
        return
    note = say("explain.momentum", momentum=f"{worked.momentum:.4g}")
    yield Block(say("explain.running"), tuple(formulas.running()), note=note, part=say("explain.evaluation"))
    for one in worked.updated:
        first = Formula("y_1", "y_1")
        labels = (Formula("μ_R", r"\mu_R"), Formula("σ_R²", r"\sigma_R^2"), first)
        yield Block(
            say("explain.after", updates=one.updates), numbers=Numbers(labels, (one.mean, one.var, one.y[0]))
        )
    in_training = Numbers((Formula("y_1", "y_1"),), (worked.y[0],))
    yield Block(
        say("explain.in_training"),
        numbers=in_training,
        note="" if worked.biased else say("explain.never_equal"),
    )


def _alone(worked: WorkedSteps, say: Say) -> Block:
    numbers = Numbers((Formula("x_1", "x_1"), Formula("y_1", "y_1")), (worked.x[0], worked.alone[0]))
    if not worked.refusal:
        return Block(
            say("explain.alone"), numbers=numbers, note=say("explain.alone_same"), part=say("explain.one")
        )
    why = say(
        "explain.alone_refused" if worked.divides else "explain.alone_refused_mean", message=worked.refusal
    )
    return Block(say("explain.alone"), numbers=numbers, note=why, part=say("explain.one"))


def _samples(letter: str, rows: Matrix, latex: str = "") -> Numbers:
    """One row a sample."""
    pattern = latex or f"{letter}_%s"
    numbers = range(1, len(rows) + 1)
    return Numbers(tuple(Formula(f"{letter}_{n}", pattern % n) for n in numbers), rows)


def _statistics(worked: WorkedSteps, letter: Formula, rows: Matrix) -> Numbers:
    """One row for the batch, for each part of it, or for each sample."""
    if len(rows) == 1:
        return Numbers((letter,), rows)
    if worked.over_samples:
        return Numbers(
            tuple(
                Formula(letter.text.replace("B", f"B{n}"), letter.latex.replace("_B", f"_{{B{n}}}"))
                for n in range(1, len(rows) + 1)
            ),
            rows,
        )
    return Numbers(
        tuple(
            Formula(letter.text.replace("_i", f"_{n}"), letter.latex.replace("_i", f"_{n}"))
            for n in range(1, len(rows) + 1)
        ),
        rows,
    )


def _sums(label: Formula, rows: Matrix) -> Numbers:
    """Sums without their rounding."""
    clean = tuple(tuple(0.0 if abs(value) < ROUNDING else value for value in row) for row in rows)
    return Numbers((label,) * len(rows), clean)


def _is_parted(worked: WorkedSteps) -> bool:
    return worked.over_samples and worked.part < len(worked.x)


def number_texts(rows: Sequence[Row]) -> list[list[str]]:
    """Numbers of one kind with the same decimals: as few as give them exactly, else three to five."""
    values = [value for row in rows for value in row]
    sizes = [abs(value) for value in values if value]
    if sizes and max(sizes) < TINY:
        return [[f"{value:.1e}" if value else "0" for value in row] for row in rows]
    exact = (n for n in (0, 1, 2) if all(abs(value - round(value, n)) < ROUNDING for value in values))
    enough = next((n for n in (3, 4) if min(sizes, default=1.0) >= 10 ** (1 - n)), 5)
    decimals = next(exact, enough)
    return [[f"{value:.{decimals}f}" for value in row] for row in rows]
