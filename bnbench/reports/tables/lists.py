"""Output of `check` and `list`: a plan with its cost, and all registered names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from bnbench.base.kinds import KINDS
from bnbench.base.listing import Described
from bnbench.base.machine import Memory, amount, memory, place_text
from bnbench.base.terminal import one_line
from bnbench.reports.console import print_table, print_text
from bnbench.reports.numbers import parameters_text, target_text
from bnbench.reports.tables.layout import wrapped
from bnbench.reports.tables.table import Table
from bnbench.study import Study
from bnbench.study.layer_names import network_name
from bnbench.study.plan import CellEstimate, ProbeCost


def print_plan(console: Console, study: Study, estimates: Sequence[CellEstimate]) -> None:
    """The runs of a study and what they will cost."""
    seeds = len(study.seeds)
    least = min(study.looks, default=seeds)
    rows = tuple(
        (
            cell.label,
            parameters_text(cell.num_parameters, cell.trained_parameters),
            f"{cell.steps:,}",
            f"about {duration(cell.seconds)}",
            f"{cell.evaluation_seconds / cell.seconds:.0%}" if cell.seconds else "0%",
            f"about {cell.memory_bytes / 2**20:,.0f} MiB",
        )
        for cell in estimates
    )
    title = f"{study.name}: {_product(study, estimates)}"
    columns = ("variant", "parameters", "steps per run", "time per run", "evaluation", "memory")
    print_table(console, Table(title, "", columns, rows, "lrrrrr"))
    total = sum(cell.seconds for cell in estimates)
    time = _range(duration(least * total), duration(seeds * total))
    print_text(console, f"No mistakes. All runs together: about {time}, one after the other.")
    for text in _memory(estimates, memory()):
        print_text(console, text)
    print_text(console, f"Baseline: {study.baseline}. {_seeds(study)}.")
    for text in _probes(estimates):
        print_text(console, text)
    for text in _networks(study, estimates):
        print_text(console, text)
    for target in study.targets:
        print_text(console, f"Target: {target_text(target)}.")
    for note in dict.fromkeys(note for cell in estimates for note in cell.notes):
        print_text(console, f"Data: {note}.")
    for warning in dict.fromkeys([*study.warnings, *(text for cell in estimates for text in cell.warnings)]):
        print_text(console, f"Warning: {warning}")


def _networks(study: Study, estimates: Sequence[CellEstimate]) -> Iterator[str]:
    """What was done to the normalizers of a network that was not written for bnbench, variant by variant."""
    done: dict[str, list[str]] = {}
    for cell in estimates:
        if cell.network:
            done.setdefault(cell.network, []).append(cell.label)
    if done:
        models = [cell.settings.model for cell in study.cells]
        names = dict.fromkeys(network_name({"name": model.name, **model.options}) for model in models)
        yield f"Network: {', '.join(names)}."
    for text, labels in done.items():
        yield f"{', '.join(labels)}: {text}."


def _memory(estimates: Sequence[CellEstimate], here: Memory) -> Iterator[str]:
    """What is in memory at a time, by default, and what this machine has; a warning where it is too much."""
    workers = max(cell.workers for cell in estimates)
    if workers:
        largest = max(estimates, key=lambda cell: cell.worker_bytes)
        needed = largest.together_bytes
        text = (
            f"{_count(workers, 'worker')} at a time, each with up to {amount(largest.worker_bytes)} "
            f"({largest.label}); together about {amount(needed)}"
        )
    else:
        largest = max(estimates, key=lambda cell: cell.memory_bytes)
        needed = largest.memory_bytes
        text = f"one process, about {amount(needed)} ({largest.label})"
    place = place_text(here)
    yield f"Memory: {text}{'; ' if place else ''}{place}."
    if here.free is not None and needed > here.free:
        yield (
            "Warning: that is more than is free. Fewer workers train at a time then; what does not fit even alone "
            "may be ended by the system: a smaller batch_size needs less."
        )


def _probes(estimates: Sequence[CellEstimate]) -> Iterator[str]:
    """What the probes cost: the cheap measures together, each costly one by itself; of the variant that pays most."""
    by_measures: dict[tuple[str, ...], list[tuple[float, ProbeCost]]] = {}
    for cell in estimates:
        training = cell.seconds - cell.evaluation_seconds - sum(cost.seconds for cost in cell.probes)
        for cost in cell.probes:
            share = cost.seconds / training if training > 0 else float("inf")
            by_measures.setdefault(cost.measures, []).append((share, cost))
    for measures, costs in by_measures.items():
        share, cost = max(costs, key=lambda pair: pair[0])
        steps = sorted({each.steps for _, each in costs})
        number = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"
        noun = "step" if steps == [1] else "steps"
        part = f"{share:.0%} of" if share < 2 else f"{share:,.0f} times" if share < float("inf") else ""
        beside = f", {part} its training time" if part else ""
        yield (
            f"Probes: {', '.join(measures)}: {number} {noun} a run, about {duration(cost.seconds)} a run{beside}."
        )


def _product(study: Study, estimates: Sequence[CellEstimate]) -> str:
    """E.g. "3 variants x 3 settings x 5 to 20 seeds = 45 to 180 runs", without the settings where nothing is swept."""
    num_variants, num_cells = len({cell.variant for cell in study.cells}), len(estimates)
    least, most = min(study.looks, default=len(study.seeds)), len(study.seeds)
    factors = [_count(num_variants, "variant")]
    if num_cells != num_variants:
        even = num_cells % num_variants == 0
        factors = (
            [*factors, _count(num_cells // num_variants, "setting")] if even else [_count(num_cells, "cell")]
        )
    few = f"{least} to " if least < most else ""
    few_runs = f"{num_cells * least:,} to " if least < most else ""
    factors.append(few + _count(most, "seed"))
    return f"{' x '.join(factors)} = {few_runs}{_count(num_cells * most, 'run')}"


def _range(least: str, most: str) -> str:
    """For example "5 s to 20 s", "5 s" where both are the same."""
    return least if least == most else f"{least} to {most}"


def _seeds(study: Study) -> str:
    """Which seeds there are, or when the study looks at its result and stops."""
    if not study.looks:
        first, end, number = study.seeds[0], study.seeds[-1], len(study.seeds)
        if number > 20 and study.seeds == tuple(range(first, end + 1)):
            return f"Seeds: {first} to {end}"
        more = f", and {number - 20:,} more" if number > 20 else ""
        return f"Seeds: {', '.join(map(str, study.seeds[:20]))}{more}"
    *looks, last = map(str, study.looks)
    when = f"Looks at {', '.join(looks)} and {last} seeds" if looks else f"One look at {last} seeds"
    return f"{when}; a variant that is decided gets no more"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def print_names(
    console: Console,
    vocabulary: Mapping[str, Mapping[str, Described]],
    studies: Sequence[Path],
    collections: Mapping[str, Sequence[Path]],
) -> None:
    """All names that a study can use, with their options, and the shipped studies and collections of studies."""
    for kind in KINDS:
        entries = {
            name: (entry.summary, ", ".join(entry.option_names()))
            for name, entry in vocabulary[kind.key].items()
        }
        _print_entries(console, kind.title, entries)
    _print_entries(console, "Studies", {path.stem: (description(path), "") for path in studies})
    texts = {name: (", ".join(file.stem for file in files), "") for name, files in collections.items()}
    _print_entries(console, "Collections of studies", texts)
    print_text(console, "Run one with `bnbench compare NAME`, or copy its file and change it:", style="dim")
    print_text(console, str(studies[0].parent) if studies else "none are installed", style="dim")


def _print_entries(console: Console, title: str, entries: Mapping[str, tuple[str, str]]) -> None:
    """A name, what it is, and its options; on a narrow terminal the name stands above."""
    print_text(console, title)
    beside = max((cell_len(one_line(name)) for name in entries), default=0) + 2
    indent = beside if beside <= console.width // 3 else 2
    for name, (summary, options) in entries.items():
        lines = [Text(line) for line in wrapped(one_line(summary), console.width - indent)]
        lines += [
            Text(line, style="dim") for line in wrapped(one_line(options), console.width - indent) if options
        ]
        head = Text(one_line(name), style="bold")
        if indent == beside:
            head.pad_right(indent - cell_len(head.plain))
            head.append_text(lines.pop(0))
        for line in (head, *(Text(" " * indent).append_text(line) for line in lines)):
            console.print(line, soft_wrap=True)
    console.print()


def description(path: Path) -> str:
    """The comment at the top of a study, as one paragraph."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = []
    for line in lines:
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# "))
    return " ".join(comment)


def duration(seconds: float) -> str:
    """For example "12 s", "4 min", "1.5 h"."""
    if seconds < 99.5:
        return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
