"""What docstrings and comments name is there: files, modules, and everything in a package's map of itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "bnbench"
MODULES = sorted(PACKAGE.rglob("*.py"))
#: What a run writes, and a user's own.
NOT_OURS = {
    "FILE.yaml",
    "workloads.json", "claims.json", "probes.csv", "steps.csv", "history.csv", "summary.json", "summary.csv",
    "run.json", "plan.json", "report.html", "X.json",
    "study.yaml", "environment.json", "file.yaml", "path.py", "FILE.py", "train.csv", "val.csv", "test.csv",
}  # fmt: skip


def texts(module: Path) -> Iterator[str]:
    """The docstrings and comments of a module."""
    source = module.read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""
    yield from re.findall(r"(?:^|\s)(#.*)", source)


def test_every_file_that_is_named_is_there() -> None:
    tracked = {
        str(path.relative_to(ROOT))
        for folder in ("bnbench", "docs", "tests", "configs")
        for path in (ROOT / folder).rglob("*")
    }
    names = {f"/{path}" for path in tracked} | {f"/{path.name}" for path in ROOT.iterdir()}
    for module in MODULES:
        for text in texts(module):
            for name in re.findall(
                r"(?<![\w./*>-])(?!my_)[\w/-]+\.(?:py|md|yaml|html|css|js|json|csv)\b", text
            ):
                assert name in NOT_OURS or any(known.endswith(f"/{name}") for known in names), (module, name)


def test_every_dotted_name_of_ours_is_there() -> None:
    for module in MODULES:
        for text in texts(module):
            for name in re.findall(r"`(bnbench(?:\.\w+)+)`", text):
                assert _is_there(name.split(".")[1:]), (module, name)


def _is_there(parts: list[str]) -> bool:
    place = PACKAGE
    for index, part in enumerate(parts):
        if (place / part).is_dir():
            place = place / part
        elif (place / f"{part}.py").is_file():
            return all(
                re.search(rf"\b{name}\b", (place / f"{part}.py").read_text()) for name in parts[index + 1 :]
            )
        else:
            return re.search(rf"\b{part}\b", (place / "__init__.py").read_text()) is not None
    return True


@pytest.mark.parametrize("package", [path for path in MODULES if path.name == "__init__.py"], ids=str)
def test_a_map_of_a_package_has_all_of_it(package: Path) -> None:
    """Where the docstring of a package lists its files, it lists each of them."""
    listed = re.findall(
        r"(?m)(?:^|[; ])(?!my_)(\w+)(?:\.py\b|/\s)", ast.get_docstring(ast.parse(package.read_text())) or ""
    )
    if len(listed) < 3:
        pytest.skip("no map")
    there = {
        path.stem
        for path in package.parent.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert set(listed) == there - {"__init__"}
