"""A row of strips as a picture of one line of pixels: a PNG of a few hundred bytes, as Vega's image marks take it."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

#: The colour of all strips; its opacity is the share of the values, so that it can be read on any ground.
STRIP_COLOUR = (34, 135, 201)
#: Pixels between two strips.
GAP = 2
_LEVELS = 16


def strip_image(strips: Sequence[Sequence[int]]) -> str:
    """Strips side by side as a data URL. strips: levels of the opacity, from 0 (clear) to 15 (the full colour)."""
    line = bytes(level for strip in strips for level in (*[0] * GAP, *strip, *[0] * GAP))
    palette = bytes(STRIP_COLOUR) * _LEVELS
    opacities = bytes(round(255 * level / (_LEVELS - 1)) for level in range(_LEVELS))
    content = b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", len(line), 1, 8, 3, 0, 0, 0)),  # 8 bits, with a palette
            _chunk(b"PLTE", palette),
            _chunk(b"tRNS", opacities),
            _chunk(b"IDAT", zlib.compress(b"\0" + line, 9)),
            _chunk(b"IEND", b""),
        ]
    )
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
