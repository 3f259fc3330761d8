"""Plugins: what one reaches is what identifies its runs; it is loaded as it is now, and leaves the process as found."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnbench.api.plugins import Names, known_names
from bnbench.base.errors import PluginError, UnknownNameError
from bnbench.data import Sizes
from bnbench.engine.networks import Networks
from bnbench.norms import norms
from bnbench.study import Study, load_study

PLUGIN = """
import torch
from bnbench.norms import norms
{before}

class Mine(torch.nn.Module):
    def forward(self, x):
        {inside}
        return x

@norms.register("mine")
def mine(num_features, dim):
    {factory}
    return Mine()
"""
STUDY = """
dataset: digits
model: {name: mlp, hidden: [8]}
optimizer: {name: sgd, lr: 0.1}
variants: {none: {norm: none}, mine: {norm: mine}}
"""
#: What the digits look like, for building a network.
DIGITS = Sizes((1, 8, 8), 10)

Load = Callable[..., Names]


@pytest.fixture
def project(tmp_path: Path) -> Any:
    """Writes files of a project; afterwards no module of it is left, nor any plugin."""
    before = set(sys.modules)

    def write(**files: str) -> Path:
        for name, text in files.items():
            path = tmp_path / (name.replace("__", "/") + ".py").replace("/init.py", "/__init__.py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        return tmp_path

    yield write
    known_names()
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def plugin(before: str = "", inside: str = "pass", factory: str = "pass") -> str:
    return PLUGIN.format(before=before, inside=inside, factory=factory)


def content(folder: Path, variant: str = "mine", *plugins: str) -> dict[str, str]:
    """What identifies a variant beside its settings and data."""
    names = known_names([folder / name for name in plugins or ("plug.py",)])
    (folder / "s.yaml").write_text(STUDY)
    study: Study = load_study(folder / "s.yaml", [], names.vocabulary)
    settings = study.variants[variant]
    return names.reached(settings, Networks().objects(settings, DIGITS, 0)).content()


HELPER = "SCALE = 1.0\n"
WAYS: dict[str, dict[str, str]] = {
    "import": {"plug": plugin("import helper"), "helper": HELPER},
    "from import": {"plug": plugin("from helper import SCALE"), "helper": HELPER},
    "star": {"plug": plugin("from helper import *"), "helper": HELPER},
    "inside a function": {"plug": plugin(inside="import helper"), "helper": HELPER},
    "in a factory": {"plug": plugin(factory="from helper import SCALE"), "helper": HELPER},
    "in a branch that is not taken": {"plug": plugin("if False:\n    import helper"), "helper": HELPER},
    "missing, optional": {
        "plug": plugin("try:\n    import nowhere\nexcept ImportError:\n    import helper"), "helper": HELPER,
    },
    "by name": {"plug": plugin("import importlib\nimportlib.import_module('helper')"), "helper": HELPER},
    "by __import__": {"plug": plugin("__import__('helper')"), "helper": HELPER},
    "by a name that is put together": {
        "plug": plugin("import importlib, parts\nimportlib.import_module('parts.' + 'hel' + 'per')"),
        "parts__init": "", "parts__helper": HELPER,
    },
    "by a name in a table": {
        "plug": plugin("import importlib\nTABLE = {'a': 'helper'}\nfound = importlib.import_module(TABLE['a'])"),
        "helper": HELPER,
    },
    "every module of a package": {
        "plug": plugin("import parts"),
        "parts__init": "import importlib, pkgutil\nfor m in pkgutil.iter_modules(__path__):\n"
        "    importlib.import_module(f'{__name__}.{m.name}')\n",
        "parts__helper": HELPER,
    },
    "by its path": {
        "plug": plugin(
            "import importlib.util, pathlib\n"
            "spec = importlib.util.spec_from_file_location('h', pathlib.Path(__file__).with_name('helper.py'))\n"
            "h = importlib.util.module_from_spec(spec); spec.loader.exec_module(h)"
        ),
        "helper": HELPER,
    },
    "executed": {
        "plug": plugin("import pathlib\nexec(pathlib.Path(__file__).with_name('helper.py').read_text())"),
        "helper": HELPER,
    },
    "a module of a package": {
        "plug": plugin("from parts import helper"), "parts__init": "", "parts__helper": HELPER,
    },
    "a package's __init__": {"plug": plugin("import parts"), "parts__init": HELPER},
    "what a package names in __all__": {
        "plug": plugin("from parts import *"), "parts__init": "__all__ = ['helper']", "parts__helper": HELPER,
    },
    "a folder without __init__": {"plug": plugin("import parts.helper"), "parts__helper": HELPER},
    "relative": {
        "plug": plugin("import parts.a"), "parts__init": "", "parts__a": "from .helper import SCALE",
        "parts__helper": HELPER,
    },
    "relative, two levels": {
        "plug": plugin("import parts.deep.a"), "parts__init": "", "parts__deep__init": "",
        "parts__deep__a": "from .. import helper", "parts__helper": HELPER,
    },
    "through another, and in a circle": {
        "plug": plugin("import one"), "one": "import two\ndef f():\n    import helper",
        "two": "import one", "helper": HELPER,
    },
    "a class whose name is not read off the source": {
        "plug": plugin("import importlib\nload = getattr(importlib, 'import' + '_module')",
                       factory="return load('hel' + 'per').Layer()"),
        "helper": HELPER + "import torch\nclass Layer(torch.nn.Identity):\n    pass\n",
    },
    "a function that a layer holds": {
        "plug": plugin("import importlib\nload = getattr(importlib, 'import' + '_module')",
                       factory="made = Mine(); made.f = {'a': [load('hel' + 'per').f]}; return made"),
        "helper": "def f(x):\n    return x\n",
    },
    "with an error that nobody reaches": {
        "plug": plugin(inside="import broken"), "broken": "import helper\n)", "helper": HELPER,
    },
}  # fmt: skip


@pytest.mark.parametrize("files", WAYS.values(), ids=WAYS.keys())
def test_a_change_of_any_module_that_is_reached_is_another_run(files: dict[str, str], project: Any) -> None:
    folder = project(**files)
    before = content(folder)
    assert before
    assert content(folder) == before  # and nothing else makes one
    target = next(name for name in ("helper", "parts__helper", "parts__init", "broken") if name in files)
    if "broken" in files:
        target = "broken"
    project(**{target: files[target] + "# changed\n"})
    changed = content(folder)
    assert changed != before
    assert len([name for name in changed if changed[name] != before.get(name)]) == 1


def test_what_is_not_reached_does_not_count(project: Any) -> None:
    folder = project(plug=plugin("import helper, torch, numpy, yaml"), helper=HELPER, other="x = 1")
    assert set(content(folder)) == {"plug.py", "helper"}
    assert content(folder, "none") == {}
    project(other="x = 2")
    assert set(content(folder)) == {"plug.py", "helper"}


def test_of_two_plugins_the_one_that_is_used_counts(project: Any) -> None:
    second = plugin("import second_helper").replace('"mine"', '"second"')
    folder = project(plug=plugin(), second=second, second_helper=HELPER)
    assert set(content(folder, "mine", "plug.py", "second.py")) == {"plug.py"}


def test_a_factory_of_a_helper_counts_with_the_plugin_that_registers_it(project: Any) -> None:
    helper = "import torch\ndef make(num_features, dim):\n    return torch.nn.Identity()\n"
    folder = project(
        plug="import helper\nfrom bnbench.norms import norms\nnorms.register('mine')(helper.make)",
        helper=helper,
    )
    assert set(content(folder)) == {"plug.py", "helper"}


def test_a_project_may_be_moved(project: Any, tmp_path: Path) -> None:
    folder = project(plug=plugin("import helper"), helper=HELPER)
    before = content(folder)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("plug.py", "helper.py"):
        (folder / name).rename(moved / name)
    assert content(moved) == before


def test_a_package_that_is_installed_to_be_edited_counts_and_one_in_site_packages_does_not(
    project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An editable install is a path on sys.path (by a .pth file), a finder, or a link in site-packages."""
    folder = project(
        plug=plugin("import edited_one, linked_one, installed_one"),
        src__edited_one__init="x = 1",
        dev__linked_one__init="x = 1",
        lib__installed_one__init="x = 1",
    )
    (tmp_path / "lib").rename(tmp_path / "site-packages")
    (tmp_path / "site-packages" / "linked_one").symlink_to(tmp_path / "dev" / "linked_one")
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    monkeypatch.syspath_prepend(str(tmp_path / "site-packages"))
    assert set(content(folder)) == {"plug.py", "edited_one", "linked_one"}
    names = known_names([folder / "plug.py"])
    study = load_study(folder / "s.yaml", [], names.vocabulary)
    assert "installed_one" in names.reached(study.variants["mine"]).installed


def scale(folder: Path) -> float:
    """What the layer of the plugin multiplies with, as it is loaded now."""
    known_names([folder / "plug.py"])
    made = norms.get("mine").factory(3, 1)
    return float(made(1.0))


USES_HELPER = plugin("import helper", inside="return x * helper.SCALE")


def test_a_helper_that_changed_is_loaded_anew_even_with_equal_size_and_time(project: Any) -> None:
    folder = project(plug=USES_HELPER, helper="SCALE = 2.0")
    assert scale(folder) == 2
    state = (folder / "helper.py").stat()
    (folder / "helper.py").write_text("SCALE = 3.0")
    os.utime(folder / "helper.py", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert scale(folder) == 3
    assert not list(folder.rglob("*.pyc"))


def test_a_helper_behind_an_unchanged_one_is_loaded_anew(project: Any) -> None:
    folder = project(plug=USES_HELPER, helper="from values import SCALE", values="SCALE = 2.0")
    assert scale(folder) == 2
    project(values="SCALE = 30.0")
    assert scale(folder) == 30


def test_helpers_of_one_name_beside_two_plugins(project: Any, tmp_path: Path) -> None:
    for name, value in (("a", 2), ("b", 3)):
        project(**{f"{name}__plug": USES_HELPER, f"{name}__helper": f"SCALE = {value}"})
    assert [scale(tmp_path / name) for name in ("a", "b", "a")] == [2, 3, 2]


def test_an_import_inside_a_function_finds_the_file_beside(project: Any) -> None:
    folder = project(plug=plugin(inside="import helper; return x * helper.SCALE"), helper="SCALE = 5")
    before = list(sys.path)
    assert scale(folder) == 5
    assert sys.path == before


def test_a_file_beside_does_not_stand_for_the_standard_library_or_a_folder_for_a_package(
    project: Any,
) -> None:
    folder = project(
        plug=plugin("import json, yaml\nassert json.loads and yaml.safe_load"), json="", yaml__data=""
    )
    (folder / "yaml" / "data.py").unlink()
    assert set(content(folder)) == {"plug.py"}


def test_one_plugin_twice_in_one_process_and_then_none(project: Any) -> None:
    folder = project(plug=plugin())
    for _ in range(2):
        known_names([folder / "plug.py", folder / ".." / folder.name / "plug.py"])
    assert "mine" in norms.names()
    known_names()
    with pytest.raises(UnknownNameError):
        norms.get("mine")


def test_a_plugin_that_fails_half_way_registers_nothing(project: Any) -> None:
    folder = project(
        plug=plugin() + "\nraise RuntimeError('half')\n", good=plugin().replace('"mine"', '"good"')
    )
    with pytest.raises(PluginError, match=r"plug.py:16: RuntimeError: half"):
        known_names([folder / "good.py", folder / "plug.py"])
    assert not {"mine", "good"} & set(norms.names())
    project(plug=plugin())
    known_names([folder / "plug.py"])
    assert "mine" in norms.names()


@pytest.mark.parametrize(
    ("helper", "said"),
    [
        ("x = 1\n)\n", r"plug.py:4: .*helper.py:2: SyntaxError"),
        ("x = 1\ny = 1 / 0\n", r"plug.py:4: .*helper.py:2: ZeroDivisionError"),
        ("import nowhere\n", r"plug.py:4: .*helper.py:1: ModuleNotFoundError: No module named 'nowhere'"),
        ("raise SystemExit(0)\n", r"plug.py:4: .*helper.py:1: SystemExit: 0"),
        ("import os\nos._exit(0)\n", r"plug.py:4: .*helper.py:2: SystemExit: 0"),
        ("raise KeyboardInterrupt\n", r"helper.py:1: KeyboardInterrupt"),
        ("raise GeneratorExit\n", r"helper.py:1: GeneratorExit"),
    ],
)
def test_an_error_in_a_helper_names_its_file_and_line(helper: str, said: str, project: Any) -> None:
    from bnbench.base.user_code import signals_handled

    folder = project(plug=plugin("import helper"), helper=helper)
    with signals_handled(), pytest.raises(PluginError, match=said):
        known_names([folder / "plug.py"])
    project(helper=HELPER)
    known_names([folder / "plug.py"])


def test_a_registry_that_can_not_be_loaded_says_so_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from bnbench.base.registry import Registry

    registry = Registry("thing", "bnbench.no_such_package")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="no_such_package"):
            registry.names()
