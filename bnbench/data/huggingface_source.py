"""Where a data set of Hugging Face is, and its parts as Arrow columns. The package is imported where it is needed."""

from __future__ import annotations

import contextlib
import importlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnbench.base.errors import DataError
from bnbench.base.user_code import guarded, raise_interrupt
from bnbench.data.progress import say
from bnbench.data.tally import listed, printable

#: How the name of a data set on the hub begins.
HUB = "hf://"
#: What splits are called, by part.
SPLITS = {
    "train": ("train", "training"),
    "val": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
FORMATS = {".parquet": "parquet", ".arrow": "arrow"}


@dataclass(frozen=True)
class Place:
    """A data set: a path here, or hf://OWNER/NAME on the hub, with its revision and config."""

    path: Path | str
    revision: str | None = None
    config: str | None = None

    @property
    def hub(self) -> str:
        """Its name on the hub; "" where it is here."""
        return self.path.removeprefix(HUB).removeprefix("datasets/") if isinstance(self.path, str) else ""

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class Part:
    """A split. features: by column. columns: Arrow arrays, by name."""

    features: Mapping[str, Any]
    columns: Mapping[str, Any]


def files_of(place: Place) -> tuple[Path, list[Path]]:
    """The folder, and the files in it, hidden ones left out. Raises DataError where there is nothing."""
    path = Path(place.path)
    if place.revision is not None:
        raise DataError(
            f"dataset.revision: {place.revision}, and {printable(path)} is here.",
            "A revision is of a data set on the hub; local files are known by their content.",
            "leave it out.",
        )
    if not path.exists():
        name = "/".join(path.parts[-2:])
        raise DataError(
            f"huggingface: {printable(path.absolute())} does not exist.",
            "A parquet or arrow file, a folder of them, an imagefolder, or what save_to_disk wrote is wanted.",
            f"the right path; path: {HUB}{printable(name)}, if it is a name on the hub, from which it is downloaded.",
        )
    if path.is_file():
        return path.parent, [path]
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and not _is_hidden(file, path)]
    if not files:
        raise DataError(f"huggingface: {printable(path.absolute())} holds no files.", fix="the right path.")
    return path, files


def _is_hidden(file: Path, root: Path) -> bool:
    return any(part.startswith((".", "__")) for part in file.relative_to(root).parts)


@contextlib.contextmanager
def load_parts(place: Place) -> Iterator[dict[str, Part]]:
    """The parts train, val and test, in that order. Raises DataError."""
    package = _package()
    with tempfile.TemporaryDirectory() as folder, guarded(), _quiet(package):
        try:
            given = _loaded(package, place, folder)
        except BaseException as error:
            raise_interrupt(error)
            raise _why(place, error) from error
        splits = (
            {str(name): each for name, each in given.items()} if hasattr(given, "items") else {"train": given}
        )
        by_part = _by_part(place, splits)
        tables = {part: each.with_format("arrow")[:] for part, each in by_part.items()}
        for part, each in by_part.items():
            if not len(each):
                raise DataError(f"{printable(place)}: {part} holds no samples.")
        yield {
            part: Part(dict(by_part[part].features), {name: table[name] for name in table.column_names})
            for part, table in tables.items()
        }


def _package() -> Any:
    """The package datasets. Raises DataError where it is missing."""
    try:
        return importlib.import_module("datasets")
    except ModuleNotFoundError as error:
        missing = "its package datasets" if error.name == "datasets" else f"the module {error.name}"
        raise DataError(
            f"dataset: huggingface: {missing} is not installed.",
            fix="pip install 'bnbench[huggingface]' (from a checkout: pip install '.[huggingface]').",
        ) from None
    except Exception as error:
        text = str(error).partition("\n")[0]
        raise DataError(
            f"dataset: huggingface: the package datasets can't be imported: {type(error).__name__}: {text}",
            fix="pip install -U 'bnbench[huggingface]'.",
        ) from error


@contextlib.contextmanager
def _quiet(package: Any) -> Iterator[None]:
    """Without progress bars and log lines, which are as they were afterwards."""
    bars, level = not package.are_progress_bars_disabled(), package.utils.logging.get_verbosity()
    package.utils.logging.set_verbosity_error()
    package.disable_progress_bars()
    try:
        yield
    finally:
        package.utils.logging.set_verbosity(level)
        if bars:
            package.enable_progress_bars()


def _loaded(package: Any, place: Place, folder: str) -> Any:
    """Splits by name, or a single one."""
    if place.hub:
        say(f"Looking for {place.hub} on the hub of Hugging Face, or in its cache ...")
        return package.load_dataset(place.hub, name=place.config, revision=place.revision)
    path = Path(place.path)
    if path.is_file():
        if path.suffix not in FORMATS:
            raise DataError(
                f"huggingface: {printable(path)} ends in {printable(path.suffix) or 'nothing'}.",
                "Files are read by their suffix: .parquet or .arrow.",
                "ds.to_parquet('train.parquet'); or a folder.",
            )
        return package.load_dataset(FORMATS[path.suffix], data_files=str(path), cache_dir=folder)
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        return package.load_from_disk(str(path))
    return package.load_dataset(str(path), name=place.config, cache_dir=folder)


def _why(place: Place, error: BaseException) -> DataError:
    """One message for whatever the package raises."""
    if isinstance(error, DataError):
        return error
    cause = error
    while (inner := cause.__cause__ or cause.__context__) is not None and not isinstance(inner, KeyError):
        cause = inner
    text = f"{type(cause).__name__}: {' '.join(str(cause).split())[:200]}".rstrip(".")
    if not place.hub:
        return DataError(
            f"huggingface: {printable(place)} can't be read: {text}.",
            "At least one of its files is damaged, or of another format.",
            "write it again, such as by ds.to_parquet('train.parquet') or ds.save_to_disk('folder').",
        )
    if os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0", "false"):
        why, fix = (
            "HF_HUB_OFFLINE is set, and it is not in the cache.",
            "unset HF_HUB_OFFLINE, or give a local path.",
        )
    elif isinstance(error, ConnectionError | TimeoutError):
        why = "The hub can't be reached from here, and the data set is not in the cache."
        fix = "look at the connection; or copy it here by ds.save_to_disk('folder'), and path: folder."
    else:
        why = f"The hub says: {' '.join(str(error).split())[:200]}"
        fix = "look at the name, the revision and the config; a private one needs `hf auth login`."
    return DataError(f"huggingface: {place.hub} could not be loaded.", why, fix)


def _by_part(place: Place, splits: Mapping[str, Any]) -> dict[str, Any]:
    """train, val and test in that order. Raises DataError where train or test is missing."""
    by_part = {
        part: splits[name]
        for part, names in SPLITS.items()
        for name in [next((name for name in names if name in splits), None)]
        if name is not None
    }
    for part in ("train", "test"):
        if part not in by_part:
            raise DataError(
                f"huggingface: {printable(place)} has no split {part}.",
                f"It has {listed(splits)}; bnbench holds the validation part out of train by itself.",
                "ds = ds['train'].train_test_split(0.2, seed=0); ds.save_to_disk('folder'), and path: folder."
                if "train" in splits
                else "name the splits train and test.",
            )
    return {part: by_part[part] for part in SPLITS if part in by_part}
