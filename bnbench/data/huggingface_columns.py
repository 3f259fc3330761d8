"""The columns of a table of Hugging Face that hold images and classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bnbench.base.errors import DataError, nearest
from bnbench.data.class_names import in_order, read_as
from bnbench.data.huggingface_source import Part, Place
from bnbench.data.tally import listed, printable

#: What a column of classes is called where its type does not say that it holds classes.
LABELS = ("label", "labels", "target", "class", "y")


@dataclass(frozen=True)
class Columns:
    """The names of the two columns; None where the table says it itself."""

    image: str | None
    label: str | None


def columns_of(place: Place, parts: Mapping[str, Part], wanted: Columns) -> tuple[str, str]:
    """The columns of images and of classes, as they are named or found in train. Raises DataError with all columns."""
    features = parts["train"].features
    image = _image(place, features, wanted.image)
    label = _label(place, features, wanted.label, image)
    for part, each in parts.items():
        for column in (image, label):
            if str(each.features.get(column)) != str(features[column]):
                kind = each.features.get(column)
                raise DataError(
                    f"{printable(place)}: the column {column} of {part} is "
                    f"{'missing' if kind is None else kind}, and in train {features[column]}.",
                    "One network takes all parts.",
                    f"save {part} with the features of train: ds.cast(train.features).",
                )
    return image, label


def _kind(feature: Any) -> str:
    return str(getattr(feature, "_type", type(feature).__name__))


def _all(features: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} ({_kind(each)}{_dtype(each)})" for name, each in features.items())


def _dtype(feature: Any) -> str:
    return f" of {feature.dtype}" if _kind(feature) == "Value" else ""


def _named(place: Place, features: Mapping[str, Any], name: str, option: str) -> str:
    if name not in features:
        guess = nearest(name, features)
        raise DataError(
            f'{printable(place)}: there is no column "{printable(name)}".',
            f"The columns are {_all(features)}.",
            f"{option}: {guess}." if guess else f"{option}: one of them.",
        )
    return name


def _image(place: Place, features: Mapping[str, Any], wanted: str | None) -> str:
    there = [name for name, each in features.items() if _kind(each) == "Image"]
    if wanted is not None:
        name = _named(place, features, wanted, "image")
        if name not in there:
            raise DataError(
                f"{printable(place)}: the column {name} holds {_kind(features[name])}{_dtype(features[name])}.",
                f"A column of images is wanted; the columns are {_all(features)}.",
                f"image: {there[0]}."
                if there
                else f"ds.cast_column('{name}', datasets.Image()), and save it again.",
            )
        return name
    if len(there) == 1:
        return there[0]
    if there:
        raise DataError(
            f"{printable(place)}: {len(there)} columns hold images: {', '.join(there)}.",
            "A network takes one image a sample.",
            f"image: {there[0]}, or another one.",
        )
    texts = [name for name, each in features.items() if _kind(each) == "Value" and each.dtype == "string"]
    fix = (
        "dataset: text (docs/text.md) reads a CSV: ds['train'].to_csv('train.csv')."
        if texts
        else "dataset: npz takes rows of numbers: ds['train'].to_pandas(), then np.savez('data.npz', x_train=..., "
        "y_train=..., x_test=..., y_test=...)."
    )
    raise DataError(f"{printable(place)}: no column holds images.", f"The columns are {_all(features)}.", fix)


def _label(place: Place, features: Mapping[str, Any], wanted: str | None, image: str) -> str:
    if wanted is not None:
        return _named(place, features, wanted, "label")
    there = [name for name, each in features.items() if _kind(each) == "ClassLabel"]
    there = there or [name for name in LABELS if name in features and name != image]
    if len(there) == 1:
        return there[0]
    what = f"{len(there)} columns hold classes: {', '.join(there)}" if there else "no column holds classes"
    others = [name for name in features if name != image]
    raise DataError(
        f"{printable(place)}: {what}.",
        f"The columns are {_all(features)}.",
        f"label: {(there or others or ['...'])[0]}, or another one.",
    )


def labels_of(place: Place, parts: Mapping[str, Part], name: str) -> tuple[dict[str, list[int]], list[str]]:
    """The class index of each sample of each part, and the names of the classes. Raises DataError.

    name: of the column.
    """
    given = {part: each.columns[name].to_pylist() for part, each in parts.items()}
    feature = parts["train"].features[name]
    for part, values in given.items():
        for index, value in enumerate(values):
            if value is None or (isinstance(value, int) and value < 0):
                raise DataError(
                    f"{printable(place)}: {part}[{index}] has the label {value} in the column {name}.",
                    "It stands for no label: test parts of the hub have it where their labels are secret.",
                    "leave those samples out, or split a part that has labels: ds.train_test_split(0.2, seed=0).",
                )
            if not isinstance(value, int | str):
                raise DataError(
                    f"{printable(place)}: {part}[{index}] has {type(value).__name__} in the column {name}.",
                    "A label is a class: a whole number or a text.",
                    "label: the column of the classes, or ds.cast_column.",
                )
    if _kind(feature) == "ClassLabel":
        return given, [read_as(one) for one in feature.names]
    names = in_order({read_as(str(value)) for value in given["train"]})
    return {part: _indices(place, part, values, names) for part, values in given.items()}, names


def _indices(place: Place, part: str, values: Sequence[object], names: Sequence[str]) -> list[int]:
    numbers = {name: number for number, name in enumerate(names)}
    texts = [read_as(str(value)) for value in values]
    if unknown := in_order(set(texts) - set(names)):
        raise DataError(
            f"{printable(place)}: {part} has classes that train lacks: {listed(unknown)}.",
            "No network can learn a class that it never sees.",
            "split the samples again, so that each class is in train.",
        )
    return [numbers[text] for text in texts]
