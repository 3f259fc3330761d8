"""Measures the house: its rooms, which imports which, and the sizes of files and functions.

    python docs/house.py                     # everything
    python docs/house.py --drawing           # the drawing of the rooms
    python docs/house.py --write             # puts that drawing into CONTRIBUTING.md
    python docs/house.py --metrics           # one table of sizes, in Markdown
    python docs/house.py --metrics OLDER     # the same table, with the checkout OLDER as the column "before"

A *room* is a folder or a module directly under `bnbench/`. An *arrow* is one room that imports another,
also inside a function or for types alone. The *floor* of a room is the length of the longest chain of imports below
it. An arrow that goes *up* breaks the order of the layers in `pyproject.toml`. A *circle* is a group of
rooms each of which reaches the others by imports.
"""

import argparse
import ast
import statistics
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "bnbench"
DOORS = {"__init__", "__main__"}  # they only lead into the rooms
GUIDE = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- python docs/house.py --write -->\n```text\n", "\n```\n<!-- end of the drawing -->"
MAX_FILE, MAX_FUNCTION, MAX_PARAMETERS = 300, 45, 6

AnyFunction = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Function:
    """One function or method."""

    place: str  # file:line
    name: str
    lines: int  # without its docstring
    parameters: int  # without self and cls
    public: bool


@dataclass(frozen=True)
class Module:
    """One file of the package."""

    path: str
    room: str  # empty for the package's own doors
    summary: str  # first line of its docstring
    lines: int
    imports: frozenset[str]  # other rooms
    functions: tuple[Function, ...]


@dataclass(frozen=True)
class House:
    """The package as its imports draw it."""

    modules: tuple[Module, ...]
    layers: tuple[tuple[str, ...], ...]  # the declared order, highest first

    @property
    def rooms(self) -> dict[str, frozenset[str]]:
        """Every room with the rooms that it imports."""
        imports: dict[str, set[str]] = {}
        for module in self.modules:
            if module.room:
                imports.setdefault(module.room, set()).update(module.imports)
        return {room: frozenset(others & imports.keys() - {room}) for room, others in sorted(imports.items())}

    @property
    def arrows(self) -> list[tuple[str, str]]:
        """Pairs (importing room, imported room)."""
        return [(room, other) for room, others in self.rooms.items() for other in sorted(others)]

    @property
    def arrows_up(self) -> list[tuple[str, str]]:
        """The arrows that break the declared order. Rooms of one layer may import each other in one direction."""
        level = {room: i for i, layer in enumerate(self.layers) for room in layer}
        return [(a, b) for a, b in self.arrows if a in level and b in level and level[a] > level[b]]

    @property
    def circles(self) -> list[tuple[str, ...]]:
        """Groups of rooms that import one another, directly or through others."""
        reach = {room: _reachable(room, self.rooms) for room in self.rooms}
        groups = {tuple(sorted(b for b in reach[a] if a in reach[b])) for a in reach if a in reach[a]}
        return sorted(groups)

    @property
    def floors(self) -> list[list[str]]:
        """The rooms by the longest chain of imports below them, ground floor first."""
        height: dict[str, int] = {}
        try:
            for room in TopologicalSorter(self.rooms).static_order():
                height[room] = max((height[other] + 1 for other in self.rooms[room]), default=0)
        except CycleError:
            return []
        return [sorted(r for r in height if height[r] == n) for n in range(max(height.values()) + 1)]

    @property
    def functions(self) -> list[Function]:
        """Every function of the package."""
        return [function for module in self.modules for function in module.functions]


def _reachable(room: str, rooms: dict[str, frozenset[str]]) -> set[str]:
    reached: set[str] = set()
    waiting = list(rooms[room])
    while waiting:
        other = waiting.pop()
        if other not in reached:
            reached.add(other)
            waiting.extend(rooms[other])
    return reached


def read_house(checkout: Path = ROOT) -> House:
    """The house in this checkout of the repository."""
    package = checkout / PACKAGE
    names = {
        path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    modules = [_read_module(path, package, names - DOORS) for path in sorted(package.rglob("*.py"))]
    return House(tuple(modules), _declared_layers(checkout))


def _declared_layers(checkout: Path) -> tuple[tuple[str, ...], ...]:
    contracts = tomllib.loads((checkout / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    lines = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return tuple(
        tuple(name.strip().removeprefix(f"{PACKAGE}.") for name in line.split(":")) for line in lines
    )


def _read_module(path: Path, package: Path, names: set[str]) -> Module:
    text = path.read_text()
    tree = ast.parse(text)
    parts = path.relative_to(package).with_suffix("").parts
    place = str(path.relative_to(package.parent))
    return Module(
        path=place,
        room="" if parts[0] in DOORS else parts[0],
        summary=(ast.get_docstring(tree) or "").split("\n")[0],
        lines=len(text.splitlines()),
        imports=frozenset(_imported_rooms(tree, parts, names)),
        functions=tuple(_functions(tree, place)),
    )


def _imported_rooms(tree: ast.AST, parts: Sequence[str], names: set[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                origin = ".".join([PACKAGE, *parts[: -node.level], *filter(None, [node.module])])
            modules = [f"{origin}.{alias.name}" for alias in node.names] if origin == PACKAGE else [origin]
        else:
            continue
        for module in modules:
            first, *rest = module.split(".")
            if first == PACKAGE and rest and rest[0] in names:
                yield rest[0]


def _functions(tree: ast.AST, place: str) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, AnyFunction):
            arguments = node.args
            plain = [*arguments.posonlyargs, *arguments.args]
            if plain and plain[0].arg in ("self", "cls"):
                del plain[0]
            variable = [argument for argument in (arguments.vararg, arguments.kwarg) if argument]
            yield Function(
                place=f"{place}:{node.lineno}",
                name=node.name,
                lines=(node.end_lineno or node.lineno) - node.lineno + 1 - _docstring_lines(node),
                parameters=len(plain) + len(arguments.kwonlyargs) + len(variable),
                public=not node.name.startswith("_"),
            )


def _docstring_lines(node: AnyFunction) -> int:
    if ast.get_docstring(node) is None:
        return 0
    return (node.body[0].end_lineno or 0) - node.body[0].lineno + 1


def spread(values: Sequence[int], percentile: int) -> str:
    """Median, a percentile and the maximum, e.g. "6, 22, 45"."""
    quantiles = statistics.quantiles(values, n=100, method="inclusive")
    return f"{statistics.median(values):.0f}, {quantiles[percentile - 1]:.0f}, {max(values)}"


def measure(house: House) -> dict[str, str]:
    """The table of sizes, row by row."""
    functions = house.functions
    public = sum(function.public for function in functions)
    return {
        "modules, lines": f"{len(house.modules)}, {sum(m.lines for m in house.modules):,}",
        "functions (public, private)": f"{len(functions):,} ({public}, {len(functions) - public})",
        "lines per file: median, p90, max": spread([m.lines for m in house.modules], 90),
        "lines per function without docstring: median, p95, max": spread([f.lines for f in functions], 95),
        "parameters per function: median, p95, max": spread([f.parameters for f in functions], 95),
        "rooms": str(len(house.rooms)),
        "floors": str(len(house.floors)) if house.floors else "none: the rooms import in a circle",
        "arrows": str(len(house.arrows)),
        "arrows up": str(len(house.arrows_up)),
        "circles": str(len(house.circles)),
        f"files > {MAX_FILE} lines": str(len(long_files(house))),
        f"functions > {MAX_FUNCTION} lines": str(len(long_functions(house))),
        f"functions > {MAX_PARAMETERS} parameters": str(len(long_signatures(house))),
    }


def long_files(house: House) -> list[Module]:
    """Files over the limit, longest first."""
    return sorted((m for m in house.modules if m.lines > MAX_FILE), key=lambda m: -m.lines)


def long_functions(house: House) -> list[Function]:
    """Functions over the limit, longest first."""
    return sorted((f for f in house.functions if f.lines > MAX_FUNCTION), key=lambda f: -f.lines)


def long_signatures(house: House) -> list[Function]:
    """Functions with too many parameters, longest list first."""
    return sorted((f for f in house.functions if f.parameters > MAX_PARAMETERS), key=lambda f: -f.parameters)


def draw(house: House) -> str:
    """The rooms by floors, then each room with what it imports."""
    lines = []
    for number, rooms in reversed(list(enumerate(house.floors, 1))):
        lines += [f"  floor {number}   " + "   ".join(f"[ {room} ]" for room in rooms)]
        lines += ["             |"] if number > 1 else []
    wide = max(map(len, house.rooms))
    lines += ["", f"  {'room':<{wide}}  imports"]
    for room in (room for floor in reversed(house.floors) for room in floor):
        lines.append(f"  {room:<{wide}}  {' '.join(sorted(house.rooms[room])) or '-'}")
    return "\n".join(lines)


def with_drawing(text: str, drawing: str) -> str:
    """The text of CONTRIBUTING.md with this drawing in place of its own."""
    head, rest = text.split(BEGIN)
    return head + BEGIN + drawing + END + rest.split(END)[1]


def table(columns: dict[str, dict[str, str]]) -> str:
    """Measures side by side, in Markdown."""
    rows = ["| measure | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for name in next(iter(columns.values())):
        rows.append(f"| {name} | " + " | ".join(column[name] for column in columns.values()) + " |")
    return "\n".join(rows)


def _over_the_limits(house: House) -> str:
    lines = [f"{module.path}: {module.lines} lines" for module in long_files(house)]
    lines += [f"{f.place}: {f.name}, {f.lines} lines" for f in long_functions(house)]
    lines += [f"{f.place}: {f.name}, {f.parameters} parameters" for f in long_signatures(house)]
    lines += [f"arrow up: {a} imports {b}" for a, b in house.arrows_up]
    lines += ["circle: " + ", ".join(circle) for circle in house.circles]
    return "\n".join(lines) or "nothing"


def main() -> None:
    """Prints what was asked for."""
    parser = argparse.ArgumentParser(description="Measures the package: rooms, imports and sizes.")
    parser.add_argument("older", nargs="?", type=Path, help="an older checkout, for the column before")
    parser.add_argument("--drawing", action="store_true", help="only the rooms by floors")
    parser.add_argument("--metrics", action="store_true", help="only the table of sizes")
    parser.add_argument("--write", action="store_true", help="write the drawing into CONTRIBUTING.md")
    arguments = parser.parse_args()
    house = read_house()
    if arguments.write:
        GUIDE.write_text(with_drawing(GUIDE.read_text(), draw(house)))
        return
    columns = {"before": measure(read_house(arguments.older))} if arguments.older else {}
    columns["now"] = measure(house)
    parts = []
    if not arguments.metrics:
        parts.append(draw(house))
    if not arguments.drawing:
        parts.append(table(columns))
    if not (arguments.metrics or arguments.drawing):
        parts.append("Over the limits:\n" + _over_the_limits(house))
    print("\n\n".join(parts))


if __name__ == "__main__":
    main()
