"""What `bnbench verify` found, on a terminal, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console

from bnbench.report.console import print_lines, print_table, print_text
from bnbench.report.escapes import markdown_text
from bnbench.report.export import json_text, markdown_table
from bnbench.report.table import Table
from bnbench.verify.findings import INPUTS, Finding, Verification

_NO_CAUSE = "No usual cause fits."
#: So many checks are named where the same is said of all.
_MANY = 8
_WORDS = {"passed": "passed", "failed": "FAILED", "skipped": "skipped"}


def print_verification(console: Console, found: Verification) -> None:
    """The table, what was skipped and why, the causes of what failed; the answer stands last."""
    print_table(console, check_table(found))
    for title, lines in (("Skipped", skipped_lines(found)), ("Notes", found.notes)):
        if lines:
            print_lines(console, title, lines)
    for number, (cause, lines) in enumerate(failed_lines(found), start=1):
        print_text(console, f"{number}. {cause}", style="bold")
        for line in lines:
            print_text(console, line, indent=3)
        console.print()
    print_text(console, answer(found), style="bold")


def check_table(found: Verification) -> Table:
    """A row a check, a column a shape of input."""
    inputs = [name for name in INPUTS if any(item.input == name for item in found.findings)]
    by_cell = {(item.check, item.input): _WORDS[item.status] for item in found.findings}
    checks = [check for check in dict.fromkeys(item.check for item in found.findings) if check != WHOLE]
    refused = {item.input for item in found.findings if item.check == WHOLE}
    rows = tuple(
        (check, *("skipped" if name in refused else by_cell.get((check, name), "-") for name in inputs))
        for check in checks
    )
    caption = (
        f"Against the paper's equations in float64; {_conventions(found)}. "
        "Errors are relative to the channel's largest value. -: has no meaning there."
    )
    return Table(
        f"Checks of {found.layer}",
        caption,
        ("check", *inputs),
        rows,
        "l" * (1 + len(inputs)),
    )


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
    """One sentence: how many checks passed, and for how many causes the others did not."""
    failed, passed = len(found.having("failed")), len(found.having("passed"))
    skipped = len(found.having("skipped"))
    skips = f" ({skipped} skipped)" if skipped else ""
    if not failed:
        return f"All {passed} checks passed{skips}."
    causes = [cause for cause in found.by_cause() if cause]
    why = (
        f"{len(causes)} {'cause' if len(causes) == 1 else 'causes'} found"
        if causes
        else "no usual cause fits"
    )
    return f"{failed} of {failed + passed} checks FAILED{skips}: {why}."


def to_json(found: Verification) -> str:
    """Everything; strict JSON."""
    return json_text(found.to_json())


def to_markdown(found: Verification) -> str:
    """The answer, the causes and the table, for an issue or a course's feedback."""
    parts = [f"# {markdown_text(found.layer)}", markdown_text(answer(found))]
    for cause, lines in failed_lines(found):
        parts.append(
            "\n".join([f"**{markdown_text(cause)}**", "", *(f"- {markdown_text(line)}" for line in lines)])
        )
    parts.append(markdown_table(check_table(found)))
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
    said = found.conventions
    return (
        f"eps {said['eps']:g}, momentum {said['momentum']:g} (weight of the {said['momentum_is_weight_of']} "
        f"value), running_var {said['running_var']}"
    )


def _sentence(text: str) -> str:
    return text if text.endswith((".", ")")) else f"{text}."
