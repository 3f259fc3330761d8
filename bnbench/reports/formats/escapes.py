r"""Escapes for users' text in Markdown, LaTeX and CSV: it never acts as markup or as a formula."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from bnbench.base.terminal import one_line, visible

_MARKDOWN = re.compile(r"[\\|*_`<>\[\]~$&]|:(?=[\w+-]+:)|#(?=\w)|@(?=\w)")
#: At the start of a line these make a heading, a list or a rule.
_MARKDOWN_START = re.compile(r"^(?:[-+=#](?=[-+=# ])|\d{1,9}(?=[.)] ))")


def markdown_text(text: str) -> str:
    """Escaped for CommonMark and GitHub: a name with a "|", "*", "&lt;" or ":x:" stays that name."""
    escaped = _MARKDOWN.sub(lambda match: f"\\{match[0]}", one_line(text))
    return _MARKDOWN_START.sub(
        lambda match: f"{match[0]}\\" if match[0].isdigit() else f"\\{match[0]}", escaped
    )


_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "`": r"\textasciigrave{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "<": "$<$", ">": "$>$", "|": "$|$", '"': "''",
    "±": r"$\pm$", "√": r"$\surd$", "×": r"$\times$", "÷": r"$\div$", "·": r"$\cdot$", "−": "$-$", "≤": r"$\leq$",
    "≥": r"$\geq$", "≠": r"$\neq$", "≈": r"$\approx$", "∞": r"$\infty$", "→": r"$\rightarrow$",
    "←": r"$\leftarrow$", "–": "--", "—": "---", "…": r"\ldots{}", "‘": "`", "’": "'", "“": "``", "”": "''",
    "°": r"$^\circ$", "µ": r"$\mu$", "²": "$^2$", "³": "$^3$", "ß": r"\ss{}", "ø": r"\o{}", "Ø": r"\O{}",
    "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "å": r"\aa{}", "Å": r"\AA{}", "ł": r"\l{}",
    "Ł": r"\L{}", "\0": "{}", "ı": r"\i{}", "\u00a0": "~",
}  # fmt: skip
_LATEX_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".",
    "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c",
}  # fmt: skip
_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho varsigma sigma tau "
    "upsilon phi chi psi omega"
).split()


def latex_text(text: str) -> str:
    r"""Escaped, in ASCII alone: ± as $\pm$, é as \'{e}, and a sign that LaTeX has no command for by its number."""
    # LaTeX makes one sign of two hyphens, apostrophes or commas
    apart = re.sub(r"([-',])(?=\1)", "\\1\0", one_line(text))
    escaped = "".join(map(_latex_character, apart))
    escaped = escaped.replace("$<$=", r"$\leq$").replace("$>$=", r"$\geq$")
    return re.sub(r"(?<![\w.)}])-(?=\d)", "$-$", escaped)


def _latex_character(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    if character.isascii():
        return character
    parts = unicodedata.normalize("NFD", character)
    if len(parts) == 2 and parts[0].isascii() and parts[1] in _LATEX_ACCENTS:
        return f"\\{_LATEX_ACCENTS[parts[1]]}{{{parts[0]}}}"
    if "α" <= character <= "ω" and character != "ο":
        return f"$\\{_GREEK[ord(character) - ord('α')]}$"
    return rf"\texttt{{U+{ord(character):04X}}}"


#: What a spreadsheet takes for the start of a formula; the wide forms too, which some read as the narrow ones.
_FORMULA = ("=", "+", "-", "@", "\t", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def csv_cell(value: Any) -> Any:
    """The value; a text that a spreadsheet would compute gets an apostrophe in front. Numbers stay numbers."""
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if text.startswith(_FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
