"""docs/house.py measures the package, and the package keeps to the plan."""

from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def house() -> ModuleType:
    import sys

    spec = spec_from_file_location("docs_house", ROOT / "docs" / "house.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["docs_house"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def build(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """A checkout with these files, and the layers hall > kitchen > cellar."""

    def write(files: dict[str, str]) -> Path:
        layers = '["bnbench.hall", "bnbench.kitchen", "bnbench.cellar"]'
        (tmp_path / "pyproject.toml").write_text(
            f'[[tool.importlinter.contracts]]\nname = "one way"\ntype = "layers"\nlayers = {layers}\n'
        )
        for name, text in files.items():
            path = tmp_path / "bnbench" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


HALL = {
    "__init__.py": "from bnbench.hall.door import enter\n",
    "hall/__init__.py": '"""Where one comes in."""\n',
    "hall/door.py": "def enter() -> None:\n    from .. import kitchen\n    from bnbench.cellar.wine import open\n",
    "kitchen/__init__.py": "import bnbench.cellar.wine\n",
    "cellar/__init__.py": "",
    "cellar/wine.py": (
        "class Bottle:\n"
        "    def open(self, a, *b, c=1, **d):\n"
        "        '''One.\n\n        Two.'''\n"
        "        return 1\n"
    ),
}


def test_the_rooms_of_a_small_house_are_counted_as_by_hand(
    house: ModuleType, build: Callable[[dict[str, str]], Path]
) -> None:
    small = house.read_house(build(HALL))

    assert small.rooms == {
        "hall": frozenset({"kitchen", "cellar"}),
        "kitchen": frozenset({"cellar"}),
        "cellar": frozenset(),
    }
    assert small.floors == [["cellar"], ["kitchen"], ["hall"]]
    assert small.arrows == [("hall", "cellar"), ("hall", "kitchen"), ("kitchen", "cellar")]
    assert small.arrows_up == []
    assert small.circles == []
    open_ = next(function for function in small.functions if function.name == "open")
    assert (open_.lines, open_.parameters, open_.place) == (2, 4, "bnbench/cellar/wine.py:2")


def test_an_arrow_up_and_a_circle_are_seen_in_functions_and_in_relative_imports(
    house: ModuleType, build: Callable[[dict[str, str]], Path]
) -> None:
    wrong = "def pour() -> None:\n    from ..hall import door\n"
    small = house.read_house(build({**HALL, "cellar/glass.py": wrong}))

    assert small.arrows_up == [("cellar", "hall")]
    assert small.circles == [("cellar", "hall", "kitchen")]
    assert small.floors == []
    assert house.measure(small)["circles"] == "1"


def test_the_package_keeps_to_the_plan_of_the_house(house: ModuleType) -> None:
    """At most 18 rooms on 9 floors; imports go down alone."""
    real = house.read_house()

    assert len(real.rooms) <= 18, sorted(real.rooms)
    assert 1 <= len(real.floors) <= 8, real.floors
    assert real.arrows_up == []
    assert real.circles == []


def test_every_room_is_in_the_declared_order(house: ModuleType) -> None:
    real = house.read_house()

    assert set(real.rooms) == {room for layer in real.layers for room in layer}


def test_the_drawing_in_the_guide_is_todays(house: ModuleType) -> None:
    text = house.GUIDE.read_text()

    assert text == house.with_drawing(text, house.draw(house.read_house())), (
        "run: python docs/house.py --write"
    )
