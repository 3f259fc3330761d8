"""The tables of docs/census.md, from the census's JSON."""
from pathlib import Path


def write_page(content, page: Path) -> None:
    raise NotImplementedError
