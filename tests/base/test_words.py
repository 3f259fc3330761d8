"""The catalogue of captions and claims: every language has every phrase, with the same placeholders."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from string import Formatter

import pytest

import bnbench
from bnbench.base.errors import UnknownNameError
from bnbench.base.words import LANGUAGES, catalogue, in_language, known_language, phrases
from bnbench.reports.figures.all import figures
from tests.fabricated import cell, record, study
from tests.sweep_studies import sweep

PACKAGE = Path(bnbench.__file__).parent


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


@pytest.mark.parametrize("key", catalogue())
def test_every_language_has_it_with_the_same_placeholders(key: str) -> None:
    texts = catalogue()[key]
    assert set(texts) == set(LANGUAGES)
    assert all(text.strip() for text in texts.values())
    assert {frozenset(fields(text)) for text in texts.values()} == {frozenset(fields(texts["en"]))}
    assert not re.search(r"[ěščřžýáíéúůďťňó]", texts["en"].replace("Fréchet", ""))


def test_czech_is_not_english() -> None:
    alike = {key for key, texts in catalogue().items() if texts["en"] == texts["cs"]}
    assert alike == set()


def test_every_phrase_is_used_and_every_used_one_is_there() -> None:
    """A key that the code builds from a word, such as say(f"verdict.{word}"), uses all that begin as it does."""
    source = "\n".join(path.read_text() for path in PACKAGE.rglob("*") if path.suffix in (".py", ".html"))
    used = set(re.findall(r"""\bsay\(\s*f?["']([a-z_.{]+)""", source))
    built = tuple(key.partition("{")[0] for key in used if "{" in key and key != "claims.{")
    at_column = {f"claims.{name}" for name in ("claim", "source", "measured", "interval", "verdict")}
    assert {key for key in used if "{" not in key} <= set(catalogue())
    assert at_column <= set(catalogue())
    literal = {key for key in catalogue() if f'"{key}"' in source or f"'{key}'" in source}
    unused = set(catalogue()) - literal - at_column
    assert {key for key in unused if not key.startswith((*built, "metric."))} == set()


def test_a_text_in_a_language() -> None:
    assert in_language("one", "cs") == "one"
    assert in_language({"cs": "jedna"}, "en") == "jedna"
    assert in_language({"en": "one", "cs": "jedna"}, "cs") == "jedna"
    with pytest.raises(UnknownNameError, match=r'unknown language "de"\. Known: cs, en\.'):
        known_language("de")
    assert phrases("cs")("verdict.confirmed") == "potvrzeno"


def test_captions_of_figures_in_czech() -> None:
    """No caption and no title keeps an English word of its English form, but names and settings."""
    made = [
        study(cell("none", [record("none", 0), record("none", 1)]), cell("batch", [record("batch", 0)])),
        sweep({"none": ["+++", "+++"], "batch": ["+++", "++-"]}),
    ]
    for summary in made:
        english = {figure.name: figure for figure in figures(summary)}
        czech = {figure.name: figure for figure in figures(replace(summary, language="cs"))}
        assert list(czech) == list(english)
        for name, figure in czech.items():
            assert figure.title != english[name].title
            assert figure.caption != english[name].caption
            for text in (figure.title, figure.caption):
                assert not re.search(r"\b(the|over|mean|loss|accuracy|each|at|of|runs)\b", text.lower()), text
    assert {"Výsledná testovací přesnost podle optimizer.lr"} & {
        figure.title for figure in figures(replace(made[1], language="cs"))
    }
