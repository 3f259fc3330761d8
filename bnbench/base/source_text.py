"""What a Python source says of the modules that it may load, read off without running it."""

from __future__ import annotations

import ast
import functools
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Calls that load code by a name or a path.
_LOADERS = {
    "import_module", "__import__", "spec_from_file_location", "run_path", "run_module", "exec", "execfile",
    "iter_modules", "walk_packages", "SourceFileLoader", "SourcelessFileLoader", "zipimporter", "resolve_name",
    "locate", "safeimport", "load_module", "load_source", "exec_module", "module_from_spec", "import_string",
    "import_object", "import_file", "instantiate", "get_class", "get_object", "hub",
}  # fmt: skip
#: Those that run a text, which may lie in a file of any suffix; as attributes, eval and compile are something else.
_RUNNERS = {"exec", "eval", "compile", "run_path", "SourceFileLoader", "load_source"}
_NAME = re.compile(r"\.*[A-Za-z_][\w.]*")
_SUFFIX = re.compile(r"[^\n]*\.[A-Za-z]\w{0,9}")
#: Longest text that may be a name or a path.
_LONGEST = 200


@dataclass(frozen=True)
class SourceText:
    """starred: `from base import parts`; words: texts that may be names; files: texts that may be names of sources.

    listed: what __all__ names; texts: all short texts, which may name folders.
    """

    names: frozenset[str] = frozenset()
    starred: tuple[tuple[str, tuple[str, ...]], ...] = ()
    dynamic: bool = False
    words: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    listed: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()


@functools.lru_cache(1024)
def read_source(file: str, state: tuple[int, ...]) -> SourceText:
    """Of a file, or of all sources in a zip archive; of nothing where it is neither, or does not parse.

    state: what tells one content of the file from the next.
    """
    nodes = [node for tree in _trees(file) for node in ast.walk(tree)]
    texts = {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    called = {name for node in nodes for name in _called(node)}
    runs = bool(called & _RUNNERS)
    dynamic = runs or bool((called | texts) & _LOADERS)
    if runs:
        nodes += [
            node for text in texts if "import" in text for tree in _parsed(text) for node in ast.walk(tree)
        ]
    short = frozenset(text for text in texts if len(text) < _LONGEST) if dynamic else frozenset()
    named = [text.partition(":")[0].rstrip(".") for text in short]
    return SourceText(
        frozenset(alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names),
        tuple(
            ("." * node.level + (node.module or ""), tuple(alias.name for alias in node.names))
            for node in nodes
            if isinstance(node, ast.ImportFrom)
        ),
        dynamic,
        frozenset(name for name in named if _NAME.fullmatch(name)),
        frozenset(text for text in short if text.endswith(".py") or (runs and _SUFFIX.fullmatch(text))),
        frozenset(text for node in nodes for text in _listed(node)),
        frozenset(text for text in texts if len(text) < _LONGEST and text.isprintable()),
    )


def _trees(file: str) -> Iterator[ast.AST]:
    try:
        if not zipfile.is_zipfile(file):
            yield from _parsed(Path(file).read_bytes())
            return
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                if name.endswith(".py"):
                    yield from _parsed(archive.read(name))
    except Exception:  # a damaged archive may raise anything
        return


def _parsed(source: bytes | str) -> Iterator[ast.AST]:
    try:
        yield ast.parse(source)
    except (ValueError, SyntaxError, RecursionError, MemoryError):  # no source, or one that does not load
        return


def _called(node: ast.AST) -> Iterator[str]:
    """Names that may stand for a function that loads code."""
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute) and node.attr not in ("eval", "compile"):
        yield node.attr
    elif isinstance(node, ast.ImportFrom):
        yield from (alias.name for alias in node.names)


def _listed(node: ast.AST) -> Iterator[str]:
    if not isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
        return
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
        inside = (n.value for n in ast.walk(node) if isinstance(n, ast.Constant))
        yield from (value for value in inside if isinstance(value, str))
