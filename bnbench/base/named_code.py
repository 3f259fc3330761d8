"""Code that is named by its place: FILE.py:Name or module:Name, for a layer or for a whole network."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from bnbench.base.errors import BnbenchError, nearest
from bnbench.base.user_code import first_line, raise_interrupt
from bnbench.base.user_file import NO_PACKAGE, import_file, line_of

#: The function that imports a file.
Importer = Callable[[Path], ModuleType]


@dataclass(frozen=True)
class Thing:
    """What is named. noun: in messages; file, name: of an example; error: what is raised."""

    noun: str
    file: str
    name: str
    error: type[BnbenchError]

    def import_path(self, path: Path, load: Importer | None = None) -> ModuleType:
        """The module of a file. load: imports it; by default with its folder on sys.path from then on.

        Raises `error` where it is not there, does not import, or ends the program.
        """
        if not path.is_file():
            others = [str(file) for file in sorted(path.parent.glob("*.py"))] if path.parent.is_dir() else []
            guess = nearest(str(path), others)
            raise self.error(f"{path}: no such file." + (f' Did you mean "{guess}"?' if guess else ""))
        try:
            return (load or self._import_with_neighbours)(path)
        except BnbenchError:
            raise
        except (SystemExit, KeyboardInterrupt) as error:
            raise_interrupt(error)
            raise self.error(
                f"{path}:{line_of(error, path)}: it ends the program (sys.exit) while it is imported.",
                fix='put what the file does when it is run under if __name__ == "__main__":.',
            ) from error
        except BaseException as error:
            fix = NO_PACKAGE if "no known parent package" in str(error) else ""
            raise self.error(f"{path}:{line_of(error, path)}: {first_line(error)}", fix=fix) from error

    def _import_with_neighbours(self, path: Path) -> ModuleType:
        folder = str(path.resolve().parent)
        if folder not in sys.path:  # the files beside it can be imported, as when the file is run
            sys.path.insert(0, folder)
        return import_file(path, f"bnbench_{self.noun}")

    def import_module(self, name: str) -> ModuleType:
        """An installed module, or one on sys.path. Raises `error`."""
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise self.error(
                f'no module "{error.name}" can be imported.',
                fix=f"for a file, end its name in .py: {name.replace('.', '/')}.py:Name.",
            ) from error
        except BaseException as error:
            raise_interrupt(error)
            raise self.error(f"{name}: {first_line(error)}") from error

    def refuse_other_files(self, path: Path, name: str) -> None:
        """Raises `error` for a notebook, a folder or another kind of file: nothing in it can be imported."""
        if path.suffix == ".ipynb":
            script = path.with_suffix(".py")
            raise self.error(
                f"{path} is a notebook, and a {self.noun} is imported from a Python file.",
                fix=f"jupyter nbconvert --to script {path}, then name {script}:{name}; or copy the class and its "
                f"imports into {script}.",
            )
        if path.is_dir() or (path.suffix != ".py" and (path.exists() or "/" in str(path))):
            kind = (
                "a folder"
                if path.is_dir()
                else "not a Python file (.py)"
                if path.exists()
                else "no such file"
            )
            raise self.error(
                f"{path}: {kind}.", fix=f"name a file and a class in it: {self.file}:{self.name}"
            )
