"""What a plugin reaches by rarer ways: archives, texts that are run, folders that it adds to sys.path, names twice."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from bnbench.api.plugins import known_names
from bnbench.base.errors import PluginError
from bnbench.norms import norms
from tests.api.test_plugins import HELPER, USES_HELPER, content, plugin, project, scale

__all__ = ["project"]  # the fixture

LATE = (
    "import sys, os; sys.path.append(os.path.join(os.path.dirname(__file__), 'lib')); import late; "
    "sys.path.pop(); return x"
)
WAYS: dict[str, tuple[str, dict[str, str]]] = {
    "a text that is run": (
        "helper",
        {"plug": plugin(inside="exec('from helper import SCALE')"), "helper": HELPER},
    ),
    "an alias of the loader": (
        "helper",
        {
            "plug": plugin("from importlib import import_module as load", inside="load('hel' 'per')"),
            "helper": HELPER,
        },
    ),
    "the loader by its name": (
        "helper",
        {
            "plug": plugin(
                "import importlib", inside="getattr(importlib, 'import_module')('helper'); return x"
            ),
            "helper": HELPER,
        },
    ),
    "pkgutil": (
        "helper",
        {"plug": plugin("import pkgutil", inside="pkgutil.resolve_name('helper:SCALE')"), "helper": HELPER},
    ),
    "pydoc": (
        "helper",
        {"plug": plugin("import pydoc", inside="pydoc.locate('helper.SCALE')"), "helper": HELPER},
    ),
    "a folder that sys.path gets while it runs": (
        "lib__late",
        {"plug": plugin(inside=LATE), "lib__late": HELPER},
    ),
    "a module beside one in such a folder": (
        "lib__below",
        {"plug": plugin(inside=LATE), "lib__late": "import below", "lib__below": HELPER},
    ),
}


@pytest.mark.parametrize(("target", "files"), WAYS.values(), ids=WAYS.keys())
def test_a_change_of_what_is_reached_by_rarer_ways_is_another_run(
    target: str, files: dict[str, str], project: Any
) -> None:
    folder = project(**files)
    before = content(folder)
    assert content(folder) == before
    project(**{target: files[target] + "# changed\n"})
    assert content(folder) != before


def test_a_source_with_another_suffix_counts_where_it_is_run(project: Any) -> None:
    folder = project(
        plug=plugin("import pathlib\nexec(pathlib.Path(__file__).with_name('layer.txt').read_text())")
    )
    (folder / "layer.txt").write_text("x = 1")
    before = content(folder)
    (folder / "layer.txt").write_text("x = 2")
    assert content(folder) != before


@pytest.mark.parametrize("package", [False, True])
def test_a_module_in_a_zip_archive_counts_and_is_loaded_anew(
    package: bool, project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project(
        plug=USES_HELPER
        if not package
        else USES_HELPER.replace("import helper", "from zipped import helper"),
        outside=HELPER,
    )

    def write(value: int) -> None:
        with zipfile.ZipFile(folder / "lib.zip", "w") as archive:
            if package:
                archive.writestr("zipped/__init__.py", "")
            archive.writestr(
                "zipped/helper.py" if package else "helper.py", f"import outside\nSCALE = {value}"
            )

    write(2)
    monkeypatch.syspath_prepend(str(folder / "lib.zip"))
    before = content(folder)
    assert (scale(folder), "outside" in before) == (2, True)
    write(3)
    changed = content(folder)
    assert (scale(folder), changed == before) == (3, False)
    project(outside=HELPER + "# changed")
    assert content(folder) != changed
    for name in ("zipped.helper", "zipped", "helper", "outside"):
        sys.modules.pop(name, None)


LAZY = plugin(inside="import helper; return x * helper.SCALE")


@pytest.mark.parametrize("source", [USES_HELPER, LAZY], ids=["at the top", "in a function"])
def test_two_modules_of_one_name_are_refused(source: str, project: Any) -> None:
    """In one process only one of them can be `helper`, so one of the plugins would get the other's."""
    folder = project(
        a__plug=source, a__helper=HELPER, b__plug=source.replace('"mine"', '"other"'), b__helper="SCALE = 9.0"
    )
    said = r'a/plug.py: it imports "helper", which is two modules: .*a/helper.py and .*b/helper.py'
    with pytest.raises(PluginError, match=said) as caught:
        known_names([folder / "a" / "plug.py", folder / "b" / "plug.py"])
    assert "give one of them another name, such as plug_helper" in caught.value.fix
    assert not {"mine", "other"} & set(norms.names())
    assert scale(folder / "a") == 1


def test_a_file_beside_the_plugin_and_one_in_the_working_folder_are_refused(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder: Path = project(sub__plug=LAZY, sub__helper=HELPER, helper="SCALE = 9.0")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend("")
    with pytest.raises(PluginError, match=r"two modules: helper.py and sub/helper.py"):
        known_names([folder / "sub" / "plug.py"])


def test_a_relative_import_gets_its_fix(project: Any) -> None:
    folder = project(parts__init="", parts__plug=plugin("from .helper import SCALE"), parts__helper=HELPER)
    with pytest.raises(PluginError, match=r"plug.py:4: ImportError: attempted relative") as caught:
        known_names([folder / "parts" / "plug.py"])
    assert "`from helper import X`, not `from .helper import X`" in caught.value.fix
