"""What `bnbench verify` found, on a terminal, as Markdown and as JSON."""

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
#: So many checks are named where the same is said of all.
_MANY = 8
_WORDS = {"passed": "passed", "failed": "FAILED", "skipped": "skipped"}


def print_verification(console: Console, found: Verification) -> None:
    """The tables, what was skipped and why, the causes of what failed; the answer stands last."""
    for group in GROUPS:
        if any(item.group == group and item.check != WHOLE for item in found.findings):
            print_table(console, check_table(found, group))
    for title, lines in (("Skipped", skipped_lines(found)), ("Notes", found.notes)):
        if lines:
            print_lines(console, title, lines)
    for number, (cause, lines) in enumerate(failed_lines(found), start=1):
        print_text(console, f"{number}. {cause}", style="bold")
        for line in lines:
            print_text(console, line, indent=3)
        console.print()
    for line in answer_lines(found):
        print_text(console, line, style="bold")


_TITLES: dict[Group, str] = {"mathematics": "The mathematics", "library": "As a library layer"}


def check_table(found: Verification, group: Group) -> Table:
    """A row a check of the group, a column a shape of input."""
    inputs = [name for name in INPUTS if any(item.input == name for item in found.findings)]
    by_cell = {(item.check, item.input): _WORDS[item.status] for item in found.findings}
    checks = dict.fromkeys(
        item.check for item in found.findings if item.group == group and item.check != WHOLE
    )
    whole = {item.input: _WORDS[item.status] for item in found.findings if item.check == WHOLE}
    rows = tuple(
        (check, *(whole.get(name) or by_cell.get((check, name), "-") for name in inputs)) for check in checks
    )
    caption = (
        f"Against the paper's equations in float64; {_conventions(found)}. "
        "Errors are relative to the channel's largest value. -: has no meaning there."
        if group == "mathematics"
        else "Other precisions, sizes, layouts and tools. Reported; exit code 4 only with --strict."
    )
    title = f"{_TITLES[group]}: {found.layer}"
    return Table(title, caption, ("check", *inputs), rows, "l" * (1 + len(inputs)))


#: The check of a finding that stands for a whole column.
WHOLE = "any"


def skipped_lines(found: Verification) -> list[str]:
    """One line a reason."""
    reasons: dict[str, list[Finding]] = {}
    for item in found.having("skipped"):
        reasons.setdefault(item.message, []).append(item)
    return [f"{_where(items, found)}: {reason}." for reason, items in reasons.items()]


def failed_lines(found: Verification) -> list[tuple[str, list[str]]]:
    """Cause -> where it shows and how much; the unexplained last, each with what was seen."""
    return [
        (_sentence(cause) if cause else _NO_CAUSE, _places(items, found))
        for cause, items in found.by_cause().items()
    ]


def answer(found: Verification) -> str:
    """The answer in two sentences, on one line."""
    return " ".join(answer_lines(found))


def answer_lines(found: Verification) -> list[str]:
    """The mathematics, and the use as a library layer: how many checks passed, and why the others did not."""
    lines = []
    for group in GROUPS:
        failed, passed = len(found.having("failed", group)), len(found.having("passed", group))
        skipped = len(found.having("skipped", group))
        if not failed + passed:
            continue
        aside = f" ({skipped} skipped)" if skipped else ""
        if failed:
            lines.append(
                f"{_TITLES[group]}: {failed} of {failed + passed} checks FAILED{aside}: {_why(found, group)}."
            )
        else:
            end = ": this is a batch norm." if group == "mathematics" else "."
            lines.append(f"{_TITLES[group]}: all {passed} checks passed{aside}{end}")
    return lines


def _why(found: Verification, group: Group) -> str:
    causes = {cause for item in found.having("failed", group) for cause in item.causes}
    if not causes:
        return "no usual cause fits"
    return f"{len(causes)} {'cause' if len(causes) == 1 else 'causes'} found"


def to_json(found: Verification) -> str:
    """Everything; strict JSON."""
    return files.to_json(found.to_json(), ascii=True)


def to_markdown(found: Verification) -> str:
    """The answer, the causes and the table, for an issue or a course's feedback."""
    parts = [f"# {markdown_text(found.layer)}", markdown_text(answer(found))]
    for cause, lines in failed_lines(found):
        parts.append(
            "\n".join([f"**{markdown_text(cause)}**", "", *(f"- {markdown_text(line)}" for line in lines)])
        )
    parts += [markdown_table(check_table(found, group)) for group in GROUPS]
    for title, said in (("Skipped", skipped_lines(found)), ("Notes", found.notes)):
        if said:
            parts.append(f"## {title}\n\n" + "\n".join(f"- {markdown_text(line)}" for line in said))
    return "\n\n".join(parts) + "\n"


#: Name -> function that writes a verification in that format.
FORMATS: dict[str, Callable[[Verification], str]] = {"json": to_json, "markdown": to_markdown}


def _places(items: Sequence[Finding], found: Verification) -> list[str]:
    """One line a check or a message: where, the largest error and what was allowed."""
    lines = []
    for key in dict.fromkeys(map(_line_key, items)):
        same = [item for item in items if _line_key(item) == key]
        worst = max(same, key=lambda item: (item.size is None, item.size or 0.0))
        allowed = f" ({worst.tolerance:.1g} is allowed)" if worst.tolerance else ""
        lines.append(f"{_where(same, found)}: {worst.message}{allowed}")
    return lines


def _line_key(item: Finding) -> tuple[str, str]:
    """A line a check; checks that failed with the same words, and no number, share theirs."""
    return (item.check, "") if item.size is not None else ("", item.message)


def _where(items: Sequence[Finding], found: Verification) -> str:
    """ "forward, dx", with the inputs where it is not every one that these checks ran on."""
    checks = list(dict.fromkeys(item.check for item in items))
    inputs = list(dict.fromkeys(item.input for item in items))
    if checks == [WHOLE]:
        return ", ".join(inputs)
    ran = {item.input for item in found.findings if item.check in checks}
    if len(checks) > _MANY:
        checks = [*checks[: _MANY - 1], f"and {len(checks) - _MANY + 1} more"]
    return ", ".join(checks) + ("" if set(inputs) == ran else f" on {', '.join(inputs)}")


def _conventions(found: Verification) -> str:
    used = found.conventions
    momentum = (
        "none (the plain average over all batches)"
        if used["momentum"] is None
        else f"{used['momentum']:g} (weight of the {used['momentum_is_weight_of']} value)"
    )
    return f"eps {used['eps']:g}, momentum {momentum}, running_var {used['running_var']}"


def _sentence(text: str) -> str:
    return text if text.endswith((".", ")")) else f"{text}."
