"""Files that appear whole, JSON and CSV are written in one place. Oracle: the syntax trees of all other modules."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import bnbench

PACKAGE = Path(bnbench.__file__).parent
#: Modules that may: the one place itself, the exchange of whole run folders, the child process of `verify`, which
#: keeps the standard library's functions before it runs a user's layer, the question whether a default
#: is JSON, and the state of a run, in which NaN has to stay NaN.
EXEMPT = {
    "base/files.py",
    "results/placing.py",
    "verification/child.py",
    "norms/named_factory.py",
    "engine/state/content.py",
}
FORBIDDEN = {
    "os": {"replace", "rename", "renames"},
    "shutil": {"move"},
    "tempfile": {"NamedTemporaryFile", "mkstemp"},
    "csv": {"writer", "DictWriter"},
    "json": {"dump", "dumps"},
}
WRITERS = {"write_text", "write_bytes"}


def faults(tree: ast.AST) -> list[str]:
    """Every call that writes on its own, with its line."""
    lines = []
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        name, owner = node.func.attr, node.func.value
        module = owner.id if isinstance(owner, ast.Name) else ""
        renames_a_path = name in ("replace", "rename") and len(node.args) == 1 and not node.keywords
        if name in FORBIDDEN.get(module, ()) or name in WRITERS or renames_a_path:
            lines.append(f"{node.lineno}: {ast.unparse(node)[:60]}")
    return lines


MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("module", [name for name in MODULES if name not in EXEMPT])
def test_no_other_module_writes_files_json_or_csv_by_itself(module: str) -> None:
    assert faults(ast.parse((PACKAGE / module).read_text())) == []


@pytest.mark.parametrize(
    "line",
    [
        "os.replace(a, b)",
        "path.replace(target)",
        "path.rename(target)",
        "tempfile.NamedTemporaryFile()",
        "csv.DictWriter(file)",
        "json.dumps(values)",
        "path.write_text(text)",
    ],
)
def test_the_search_sees_such_a_line(line: str) -> None:
    assert len(faults(ast.parse(line))) == 1


@pytest.mark.parametrize("line", ["text.replace('a', 'b')", "replace(run, seed=1)", "json.loads(text)"])
def test_the_search_passes_other_lines(line: str) -> None:
    assert faults(ast.parse(line)) == []
