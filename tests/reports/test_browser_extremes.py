"""Every extreme study in a browser on a phone: all figures are drawn, nothing is complained of, nothing sticks out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bnbench.results import StudyResults
from tests.fabricated import cell, record, results
from tests.fabricated_extremes import STUDIES
from tests.reports.browsing import MARKS, PHONE, opened, wait, write_page

pytestmark = [*MARKS, pytest.mark.slow]


def names(*given: str) -> StudyResults:
    """A study whose variants have these names, and a description of the same kind."""
    made = results(*(cell(n, [record(n, s, (2.3, 1.0, 0.5 + s / 20)) for s in range(3)]) for n in given))
    return replace(made, study={"name": "demo", "description": given[-1]})


MORE = {
    "right to left": lambda: names("none", "תקן אצווה", "تطبيع الدفعات", "\u202dabc\u2066def"),
    "emoji": lambda: names("none", "🧪🔬", "👩‍👩‍👧‍👦 family", "e\u0301\u0301\u0301" * 8),
    "markup": lambda: names("none", "<svg onload=alert(1)>", "{{ 7*7 }}", "${alert(1)}"),
    "names of JavaScript": lambda: names("none", "__proto__", "constructor", "toString", "hasOwnProperty"),
    "quotes": lambda: names("none", "it's", '"double"', "back\\slash", "a\u2028b"),
    "one step": lambda: results(*(cell(v, [record(v, 0, (0.5,), steps=1)]) for v in ("none", "batch"))),
    "40 variants": lambda: names("none", *(f"variant_{i:02d}" for i in range(40))),
}  # fmt: skip


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    page = write_page(names("none", "batch"), tmp_path_factory.mktemp("page"))
    with opened(page, tmp_path_factory.mktemp("browser"), PHONE) as driver:
        yield driver


@pytest.mark.parametrize("name", [*STUDIES, *MORE])
def test_a_study_is_drawn_whole(name: str, phone: Any, tmp_path: Path) -> None:
    phone.get_log("browser")
    phone.get(write_page((STUDIES | MORE)[name](), tmp_path).as_uri())
    wait(phone, "return document.body.dataset.ready === 'true' || !document.getElementById('data')")
    assert [entry["message"] for entry in phone.get_log("browser")] == []
    assert phone.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    empty = "[...document.querySelectorAll('.chart')].filter(box => !box.querySelector('svg.marks path'))"
    assert phone.execute_script(f"return {empty}.map(box => box.dataset.figure)") == []
    assert (
        phone.execute_script("return document.querySelectorAll('img, iframe, svg.marks [onload]').length")
        == 0
    )
    cut = """
    return [...document.querySelectorAll('svg.marks')].flatMap(svg => {
      const box = svg.getBoundingClientRect();
      return [...svg.querySelectorAll('text')].filter(text => text.checkVisibility({opacityProperty: true}))
        .filter(text => {
          const r = text.getBoundingClientRect();
          return text.textContent.includes('…') || r.right > box.right + 1 || r.left < box.left - 1;
        }).map(text => text.textContent);
    });
    """
    assert phone.execute_script(cut) == []
