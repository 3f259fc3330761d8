"""The data set of a study that names its task alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bnbench.base.errors import ConfigError
from bnbench.data import datasets
from bnbench.study import Settings, Vocabulary, load_study
from bnbench.tasks import tasks

STUDY = {"optimizer": {"name": "adam", "lr": 0.001}, "steps": 2, "seeds": 2, "variants": ["none"]}


def settings_of(vocabulary: Vocabulary, folder: Path, **keys: object) -> Settings:
    path = folder / "s.yaml"
    path.write_text(yaml.safe_dump({"name": "s", **STUDY, **keys}))
    return load_study(path, [], vocabulary).cells[0].settings


@pytest.mark.parametrize(
    ("task", "dataset"),
    [
        ("language_model", "stdlib_text"),
        ("text_classification", "text_topics"),
        ("gan", "digits"),
        ("vae", "digits"),
        ("denoising", "digits"),
        ("autoencoder", "digits"),
        ("segmentation", "shapes"),
        ("tabular", "breast_cancer"),
        ("tabular_regression", "diabetes"),
    ],
)
def test_a_task_names_the_embedded_data_set_of_a_study_without_one(
    task: str, dataset: str, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    assert settings_of(vocabulary, tmp_path, task=task).dataset.name == dataset
    assert datasets.get(dataset).facts.embedded
    assert "dataset" not in tasks.get(task).facts.plain()  # a results folder names the data set itself


def test_its_options_and_another_data_set_are_the_study_s_own(vocabulary: Vocabulary, tmp_path: Path) -> None:
    with_option = settings_of(vocabulary, tmp_path, task="language_model", dataset={"window": 16})
    assert (with_option.dataset.name, with_option.dataset.options["window"]) == ("stdlib_text", 16)
    assert settings_of(vocabulary, tmp_path, task="gan", dataset="mnist").dataset.name == "mnist"
    with pytest.raises(ConfigError, match="dataset is missing"):
        settings_of(vocabulary, tmp_path, model={"name": "mlp"})
    with pytest.raises(ConfigError, match="dataset is missing"):
        settings_of(vocabulary, tmp_path, task="image_classification", model={"name": "mlp"})
