"""The first screen of report.html has the answer: sentence, table, curves with their legend, and forest plot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bnbench.study import Target
from tests.fabricated import cell, record, results
from tests.reports.browsing import DESKTOP, MARKS, PHONE, opened, write_page

pytestmark = MARKS


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cells = [
        cell(name, [record(name, s, (2.3, 1.0 - s / 20, 0.5 - i / 10 + s * s / 90)) for s in range(5)])
        for i, name in enumerate(("none", "batch_custom", "batch"))
    ]
    made = results(*cells, targets=(Target("val_loss", 0.9),))
    return write_page(made, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module", params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def browser(
    request: pytest.FixtureRequest, page: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    with opened(page, tmp_path_factory.mktemp("browser"), request.param) as driver:
        yield driver


def edge(browser: Any, selector: str, side: str) -> float:
    shift = "scrollY" if side == "bottom" else "scrollX"
    script = f"return document.querySelector(arguments[0]).getBoundingClientRect().{side} + {shift}"
    return float(browser.execute_script(script, selector))


def test_the_answer_is_on_the_first_screen(browser: Any) -> None:
    width, height = browser.execute_script("return [innerWidth, innerHeight]")
    first = browser.execute_script("return document.querySelector('.headline li').textContent")
    assert first.startswith("batch")
    assert edge(browser, ".headline", "bottom") < edge(browser, "main table", "bottom") < height
    if width == DESKTOP[0]:
        for selector in ("#figure-val_accuracy .key", "#figure-differences_accuracy svg.marks"):
            assert edge(browser, selector, "bottom") < height, selector


def test_the_difference_is_beside_its_variant_on_a_phone_too(browser: Any) -> None:
    heading = "document.querySelector('main thead th:nth-child(3)').textContent"
    assert browser.execute_script(f"return {heading}") == "against none"
    width = browser.execute_script("return innerWidth")
    assert edge(browser, "main tbody tr:last-child td:nth-child(3)", "right") <= width


def test_the_first_column_stays_and_a_caption_does_not_scroll(browser: Any) -> None:
    assert browser.execute_script("""
      return [...document.querySelectorAll('.scroll')].every(box => {
        const caption = document.getElementById(box.querySelector('table').getAttribute('aria-describedby'));
        const stays = getComputedStyle(box.querySelector('tbody th')).position === 'sticky';
        return stays && (!caption || !box.contains(caption));
      })""")
    moved = """
      const box = [...document.querySelectorAll('.scroll')].find(box => box.scrollWidth > box.clientWidth + 40);
      if (!box) return 0;
      const name = box.querySelector('tbody th'), before = name.getBoundingClientRect().left;
      box.scrollLeft = 40;
      const after = name.getBoundingClientRect().left;
      box.scrollLeft = 0;
      return Math.abs(after - before);
    """
    assert browser.execute_script(moved) < 1


def test_what_a_finger_has_to_meet_is_large_enough(browser: Any) -> None:
    if browser.execute_script("return innerWidth") != PHONE[0]:
        pytest.skip("a mouse meets smaller ones")
    small = """
      return [...document.querySelectorAll('button, select, label, summary, nav a')]
        .filter(item => item.checkVisibility() && item.getBoundingClientRect().height < 40)
        .map(item => item.textContent);
    """
    assert browser.execute_script(small) == []
