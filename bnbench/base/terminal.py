r"""The one way to the terminal: foreign text is printed, never obeyed, and a failing stream stops nothing.

What comes from a file, a folder or a plugin can hold escape sequences, which a terminal obeys, and
marks that turn the order of letters around. `visible` writes them out: ESC becomes the four letters
`\x1b`. Everything that bnbench prints goes through `echo` or through a console of `terminal_console`; the
command line also puts a `Door` in the place of both streams, for what a library or a plugin prints.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import sys
import unicodedata
from typing import Any, TextIO

#: Controls (C0 without tab and newline, DEL, C1), line and paragraph separators, and what shows nothing or turns
#: text around (Unicode's Cf); the two joiners that some scripts need stay.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
#: Colours, the one kind of sequence that a library may send to a terminal by itself.
_COLOUR = re.compile("\x1b\\[[0-9;]*m")
#: For a terminal without these signs.
_PLAIN = {
    "±": "+/-", "–": "-", "—": "-", "−": "-", "→": "->", "←": "<-", "×": "x", "√": "sqrt ", "≤": "<=", "≥": ">=",
    "…": "...", "·": ".", "’": "'", "‘": "'", "“": '"', "”": '"', "„": '"', "²": "^2", "½": "1/2", "‖": "||",
    "α": "alpha", "β": "beta", "γ": "gamma", "ε": "eps", "λ": "lambda", "μ": "mu", "π": "pi", "σ": "sigma",
    "Δ": "Delta ", "Σ": "sum", "∂": "d", "\N{COMBINING CIRCUMFLEX ACCENT}": "_hat",
}  # fmt: skip


def visible(text: str) -> str:
    r"""The text with every control character written out, e.g. `\x1b`; tabs and newlines stay."""
    return _UNSAFE.sub(_escape, text)


def one_line(text: str) -> str:
    r"""The text on one line: a newline or tab in it is written out too."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def indented(text: str) -> str:
    """The text with every line after the first set in, so that no name with a newline can pose as a line of bnbench."""
    return visible(text).replace("\n", "\n    ")


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if unicodedata.category(character) == "Cs":  # half a character: a byte of a file name that is not UTF-8
        code = ord(character)
        return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"
    return character.encode("unicode_escape").decode()


def encodable(text: str, encoding: str) -> str:
    r"""The text in signs that the encoding has: "+/-" for "±", "mu" for "μ", and `\xf6` for another letter."""
    try:
        text.encode(encoding)
        return text
    except UnicodeEncodeError:
        pass
    in_ascii = "".join(_PLAIN.get(sign, sign) if not _fits(sign, encoding) else sign for sign in text)
    return in_ascii.encode(encoding, errors="backslashreplace").decode(encoding)


def _fits(sign: str, encoding: str) -> bool:
    try:
        sign.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def echo(text: str, *, err: bool = False, newline: bool = True) -> None:
    """Print text on stdout or stderr; without a stream, nowhere."""
    stream = sys.stderr if err else sys.stdout
    if stream is not None:
        stream.write(encodable(visible(text), stream.encoding or "utf-8") + ("\n" if newline else ""))
        stream.flush()


class Door(io.TextIOWrapper):
    """A standard stream that lets no control sequence out, but colours on a terminal, and that never raises.

    failure: why nothing more can be written: the reader went away, the disk is full. What is written
    then goes nowhere, so that showing stops no work.
    """

    failure: OSError | None = None

    def __init__(self, stream: TextIO) -> None:
        super().__init__(
            stream.buffer,
            encoding=stream.encoding,
            errors="backslashreplace",
            line_buffering=stream.isatty(),
        )
        wanted = ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS")
        self._coloured = stream.isatty() or any(name in os.environ for name in wanted)

    def write(self, text: str) -> int:
        """Write text of anyone."""
        parts = _COLOUR.split(text) if self._coloured else [text]
        colours = _COLOUR.findall(text) if self._coloured else []
        safe = visible(parts[0]) + "".join(
            colour + visible(part) for colour, part in zip(colours, parts[1:], strict=True)
        )
        self.write_rendered(safe)
        return len(text)

    def write_rendered(self, text: str) -> None:
        """Write the text of a console, whose controls are its own."""
        if self.failure is None:
            try:
                super().write(encodable(text, self.encoding))
            except OSError as error:
                self._give_up(error)

    def flush(self) -> None:
        """Write the waiting text, or give up for good."""
        if self.failure is None and not self.closed:
            try:
                super().flush()
            except OSError as error:
                self._give_up(error)

    def rendered(self) -> Rendered:
        """The same stream, for a console."""
        return Rendered(self)

    def _give_up(self, error: OSError) -> None:
        self.failure = error
        nowhere = os.open(os.devnull, os.O_WRONLY)  # what is still in the buffers goes there
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        with contextlib.suppress(OSError):
            super().flush()


class Rendered:
    """A stream for bnbench's own console, whose text is safe and whose controls move bars."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def write(self, text: str) -> int:
        """Write the text of a console."""
        self._door.write_rendered(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._door, name)


def open_doors() -> None:
    """Put a door before both streams; a stream that is closed becomes one that goes nowhere."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except (
            OSError
        ):  # else the next file that is opened gets its number, and what is printed lands in there
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and not isinstance(stream, Door):
            stream.flush()
            setattr(sys, name, Door(stream))


def close_doors(code: int) -> int:
    """The exit code once everything is written: 1 where stdout could not take it all and the command went well.

    A reader that goes away (`bnbench list | head`) has seen what it wanted.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    failure = getattr(sys.stdout, "failure", None)
    if failure is None or failure.errno == errno.EPIPE:
        return code
    echo(f"Error: standard output: {failure.strerror or failure}. What it shows is not complete.", err=True)
    return code or 1
