"""Plain values and files as one piece of bytes: JSON, then the files as they are, with a checksum of all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from bnbench.base.files import to_json

#: How it begins; the last byte is the version of the form.
_MAGIC = b"bnbench-job\x01"
_DIGEST = 16
_LENGTH = 8


def pack(values: Mapping[str, Any], files: Mapping[str, bytes]) -> bytes:
    """One piece of bytes. values: what JSON has."""
    sizes = {name: len(content) for name, content in files.items()}
    header = to_json({"values": values, "files": sizes}, compact=True).encode("utf-8", "surrogatepass")
    body = b"".join([len(header).to_bytes(_LENGTH, "big"), header, *files.values()])
    return b"".join([_MAGIC, hashlib.blake2b(body, digest_size=_DIGEST).digest(), body])


def unpack(content: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The values and the files. Raises ValueError where the bytes were made by something else, or are damaged."""
    start = len(_MAGIC) + _DIGEST
    if not isinstance(content, bytes) or not content.startswith(_MAGIC):
        raise ValueError("these bytes are not of this version of bnbench")
    body = content[start:]
    if hashlib.blake2b(body, digest_size=_DIGEST).digest() != content[len(_MAGIC) : start]:
        raise ValueError("these bytes were damaged on their way")
    length = int.from_bytes(body[:_LENGTH], "big")
    header = json.loads(body[_LENGTH : _LENGTH + length].decode("utf-8", "surrogatepass"))
    files, place = {}, _LENGTH + length
    for name, size in header["files"].items():
        files[name] = body[place : place + size]
        place += size
    return dict(header["values"]), files
