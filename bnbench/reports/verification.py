"""The findings of `bnbench verify`, on a terminal, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console

from bnbench.base import files
from bnbench.reports.console import print_lines, print_table, print_text
from bnbench.reports.formats.escapes import markdown_text
from bnbench.reports.formats.markdown import markdown_table
from bnbench.reports.tables.table import Table
from bnbench.verification.findings import GROUPS, Finding, Group, Verification
from bnbench.verification.wishes import INPUTS

_NO_CAUSE = "No usual cause fits."
#: The largest number of checks that one line names.
_MANY = 8
_WORDS = {"passed": "passed", "failed": "FAILED", "skipped": "skipped"}


def print_verification(console: Console, verification: Verification) -> None:
    """Print the tables, the skipped checks with reasons, the failed checks with causes and, last, the answer."""
    for group in GROUPS:
        if any(item.group == group and item.check != WHOLE for item in verification.findings):
            print_table(console, check_table(verification, group))
    for title, lines in (("Skipped", skipped_lines(verification)), ("Notes", verification.notes)):
        if lines:
            print_lines(console, title, lines)
    for number, (cause, lines) in enumerate(failed_lines(verification), start=1):
        print_text(console, f"{number}. {cause}", style="bold")
        for line in lines:
            print_text(console, line, indent=3)
        console.print()
    for line in answer_lines(verification):
        print_text(console, line, style="bold")


_TITLES: dict[Group, str] = {"mathematics": "The mathematics", "library": "As a library layer"}


def check_table(verification: Verification, group: Group) -> Table:
    """One row per check of the group, one column per input shape."""
    inputs = [name for name in INPUTS if any(item.input == name for item in verification.findings)]
    by_cell = {(item.check, item.input): _WORDS[item.status] for item in verification.findings}
    checks = dict.fromkeys(
        item.check for item in verification.findings if item.group == group and item.check != WHOLE
    )
    whole = {item.input: _WORDS[item.status] for item in verification.findings if item.check == WHOLE}
    rows = tuple(
        (check, *(whole.get(name) or by_cell.get((check, name), "-") for name in inputs)) for check in checks
    )
    caption = (
        f"Against the paper's equations in float64; {_conventions(verification)}. "
        "Errors are relative to the channel's largest value. -: has no meaning there."
        if group == "mathematics"
        else "Other precisions, sizes, layouts and tools. Reported; exit code 4 only with --strict."
    )
    title = f"{_TITLES[group]}: {verification.layer}"
    return Table(title, caption, ("check", *inputs), rows, "l" * (1 + len(inputs)))


#: The check of a finding that stands for a whole column.
WHOLE = "any"


def skipped_lines(verification: Verification) -> list[str]:
    """One line per reason."""
    reasons: dict[str, list[Finding]] = {}
    for item in verification.having("skipped"):
        reasons.setdefault(item.message, []).append(item)
    return [f"{_where(items, verification)}: {reason}." for reason, items in reasons.items()]


def failed_lines(verification: Verification) -> list[tuple[str, list[str]]]:
    """Pairs of a cause and its lines (checks and errors); failures without a known cause come last."""
    return [
        (_sentence(cause) if cause else _NO_CAUSE, _places(items, verification))
        for cause, items in verification.by_cause().items()
    ]


def answer(verification: Verification) -> str:
    """The answer in two sentences, on one line."""
    return " ".join(answer_lines(verification))


def answer_lines(verification: Verification) -> list[str]:
    """The mathematics, and the use as a library layer: how many checks passed, and why the others did not."""
    lines = []
    for group in GROUPS:
        failed, passed = len(verification.having("failed", group)), len(verification.having("passed", group))
        skipped = len(verification.having("skipped", group))
        if not failed + passed:
            continue
        aside = f" ({skipped} skipped)" if skipped else ""
        if failed:
            lines.append(
                f"{_TITLES[group]}: {failed} of {failed + passed} checks FAILED{aside}: {_why(verification, group)}."
            )
        else:
            end = ": this is a batch norm." if group == "mathematics" else "."
            lines.append(f"{_TITLES[group]}: all {passed} checks passed{aside}{end}")
    return lines


def _why(verification: Verification, group: Group) -> str:
    causes = {cause for item in verification.having("failed", group) for cause in item.causes}
    if not causes:
        return "no usual cause fits"
    return f"{len(causes)} {'cause' if len(causes) == 1 else 'causes'} found"


def to_json(verification: Verification) -> str:
    """The verification as strict JSON."""
    return files.to_json(verification.to_json(), ascii=True)


def to_markdown(verification: Verification) -> str:
    """The answer, the causes and the table, for an issue or a course's feedback."""
    parts = [f"# {markdown_text(verification.layer)}", markdown_text(answer(verification))]
    for cause, lines in failed_lines(verification):
        parts.append(
            "\n".join([f"**{markdown_text(cause)}**", "", *(f"- {markdown_text(line)}" for line in lines)])
        )
    parts += [markdown_table(check_table(verification, group)) for group in GROUPS]
    for title, entries in (("Skipped", skipped_lines(verification)), ("Notes", verification.notes)):
        if entries:
            parts.append(f"## {title}\n\n" + "\n".join(f"- {markdown_text(line)}" for line in entries))
    return "\n\n".join(parts) + "\n"


#: Name -> function that writes a verification in that format.
FORMATS: dict[str, Callable[[Verification], str]] = {"json": to_json, "markdown": to_markdown}


def _places(items: Sequence[Finding], verification: Verification) -> list[str]:
    """One line per check or message: the inputs, the largest error and its tolerance."""
    lines = []
    for key in dict.fromkeys(map(_line_key, items)):
        same = [item for item in items if _line_key(item) == key]
        worst = max(same, key=lambda item: (item.size is None, item.size or 0.0))
        allowed = f" ({worst.tolerance:.1g} is allowed)" if worst.tolerance else ""
        lines.append(f"{_where(same, verification)}: {worst.message}{allowed}")
    return lines


def _line_key(item: Finding) -> tuple[str, str]:
    """One line per check; checks that failed with the same message, without a number, share one line."""
    return (item.check, "") if item.size is not None else ("", item.message)


def _where(items: Sequence[Finding], verification: Verification) -> str:
    """For example "forward, dx", with the inputs where it is not every one that these checks ran on."""
    checks = list(dict.fromkeys(item.check for item in items))
    inputs = list(dict.fromkeys(item.input for item in items))
    if checks == [WHOLE]:
        return ", ".join(inputs)
    ran = {item.input for item in verification.findings if item.check in checks}
    if len(checks) > _MANY:
        checks = [*checks[: _MANY - 1], f"and {len(checks) - _MANY + 1} more"]
    return ", ".join(checks) + ("" if set(inputs) == ran else f" on {', '.join(inputs)}")


def _conventions(verification: Verification) -> str:
    used = verification.conventions
    momentum = (
        "none (the plain average over all batches)"
        if used["momentum"] is None
        else f"{used['momentum']:g} (weight of the {used['momentum_is_weight_of']} value)"
    )
    return f"eps {used['eps']:g}, momentum {momentum}, running_var {used['running_var']}"


def _sentence(text: str) -> str:
    return text if text.endswith((".", ")")) else f"{text}."
