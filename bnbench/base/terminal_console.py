"""rich's console, for text of others."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from bnbench.base.terminal import Door, encodable, visible


class SafeConsole(Console):
    """Takes every string as it is: no markup, no emoji, nothing highlighted, and no control character."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """The text with its control characters written out; rich would leave some of them out."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What rich draws, with the control characters in the text written out."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            if not control and (safe := encodable(visible(text), self.encoding)) != text:
                segment = Segment(safe, style)
            yield segment


def console(*, stderr: bool) -> SafeConsole:
    """A console on stdout or stderr, which takes text as it is."""
    stream: Any = sys.stderr if stderr else sys.stdout
    return SafeConsole(file=stream.rendered()) if isinstance(stream, Door) else SafeConsole(stderr=stderr)
