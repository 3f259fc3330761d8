"""The section on the networks' inside in a browser: every figure is drawn, and follows the buttons of the variants."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fabricated_probes import probed, usual
from tests.reports.browsing import MARKS, PHONE, opened, wait, write_page

pytestmark = MARKS

PICTURES = "return document.querySelectorAll('[data-figure=inside_strips_pre] image').length"


@pytest.mark.parametrize("size", [(1280, 800), PHONE])
def test_the_figures_of_the_inside(size: tuple[int, int], tmp_path: Path) -> None:
    page = write_page(probed(usual(2)), tmp_path)
    with opened(page, tmp_path, size) as browser:
        boxes = browser.find_elements("css selector", "section[aria-labelledby=inside] .chart")
        assert len(boxes) == 8
        assert all(box.find_elements("css selector", "svg.marks") for box in boxes)
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert browser.execute_script(PICTURES) == 8  # two names and twice three layers
        browser.execute_script("document.querySelector('#legend button').click()")
        wait(browser, PICTURES.replace("length", "length === 4"))
        names = browser.execute_script(
            "return [...document.querySelectorAll('[data-figure=inside_strips_pre] .role-axis-label text')]"
            ".map(text => text.textContent)"
        )
        assert "batch" in names
        assert "none" not in names
        assert [entry["message"] for entry in browser.get_log("browser")] == []
