"""report.html on paper and in files: nothing is cut, every chart has its legend, and colours are those of paper."""

from __future__ import annotations

import base64
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bnbench.results import StudyResults
from bnbench.study import Target
from tests.fabricated import cell, record, results
from tests.reports.browsing import DESKTOP, MARKS, PHONE, emulate, opened, wait, write_page
from tests.reports.pictures import size_of, texts_of

pytestmark = MARKS

NAMES = ("none", "batch", "a_name_of_forty_letters_that_goes_on_and_on", "größe 雪")


def study() -> StudyResults:
    cells = [
        cell(name, [record(name, s, (2.3, 1.0 - s / 20, 0.5 - i / 10 + s / 50)) for s in range(5)])
        for i, name in enumerate(NAMES)
    ]
    return results(*cells, targets=(Target("val_loss", 0.9),))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(study(), tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module", params=["desktop", "phone"])
def browser(request: pytest.FixtureRequest, page: Path, profile: Path) -> Iterator[Any]:
    size = PHONE if request.param == "phone" else DESKTOP
    with opened(page, profile / request.param, size) as driver:
        driver.saved = profile / request.param / "saved"
        yield driver


@pytest.fixture
def paper(browser: Any) -> Iterator[Any]:
    """The page as it is laid out for a sheet of A4, from a screen that is dark."""
    shape = {
        "width": 688,
        "height": 1000,
        "deviceScaleFactor": 1,
        "mobile": False,
    }  # A4 less margins of 14 mm
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shape)
    emulate(browser, media="print", dark=True)
    yield browser
    emulate(browser)


def test_paper_is_white_though_the_screen_is_dark(paper: Any) -> None:
    style = "getComputedStyle(document.body)"
    assert paper.execute_script(f"return {style}.backgroundColor") == "rgb(255, 255, 255)"
    assert paper.execute_script(f"return {style}.color") == "rgb(28, 32, 36)"
    letters = "getComputedStyle(document.querySelector('svg.marks text')).fill"
    assert paper.execute_script(f"return {letters}") == "rgb(28, 32, 36)"


def test_the_dark_screen_has_pale_letters_in_its_figures(browser: Any) -> None:
    emulate(browser, dark=True)
    letters = "getComputedStyle(document.querySelector('svg.marks text')).fill"
    assert browser.execute_script(f"return {letters}") == "rgb(231, 234, 238)"
    emulate(browser)


def test_nothing_is_wider_than_the_sheet(paper: Any) -> None:
    script = """
    const visible = element => element.checkVisibility();
    return [...document.querySelectorAll('table, svg.marks, pre, li, p, h1, h2, h3, figure')].filter(visible)
      .filter(element => element.getBoundingClientRect().right > 688.5 && !element.closest('.aside'))
      .map(element => element.tagName + ' ' + element.textContent.slice(0, 40));
    """
    assert paper.execute_script(script) == []


def test_every_chart_has_its_legend_and_fills_the_column(paper: Any) -> None:
    figures = paper.execute_script("""
    return [...document.querySelectorAll('figure')].map(figure => ({
      rows: figure.querySelector('.key') === null,
      names: [...figure.querySelectorAll('.key li')].filter(name => name.checkVisibility())
        .map(name => name.textContent.trim()),
      width: figure.querySelector('svg.marks').getBoundingClientRect().width,
      column: figure.getBoundingClientRect().width,
      whole: getComputedStyle(figure).breakInside,
    }))""")
    assert len(figures) == 5
    for figure in figures:
        assert figure["rows"] or figure["names"] == list(NAMES)
        assert figure["width"] == pytest.approx(figure["column"], abs=1)
        assert figure["whole"] == "avoid"
    assert sum(not figure["rows"] for figure in figures) == 3


def test_buttons_and_scroll_bars_stay_on_the_screen(paper: Any) -> None:
    seen = "filter(element => element.checkVisibility()).length"
    selector = "button, select, input, nav, .hint, details, .skip"
    assert paper.execute_script(f"return [...document.querySelectorAll('{selector}')].{seen}") == 0
    boxes = "[...document.querySelectorAll('.scroll, .wide, pre')]"
    assert paper.execute_script(f"return {boxes}.every(box => getComputedStyle(box).overflowX === 'visible')")


@pytest.mark.parametrize(("width", "height"), [(8.27, 11.69), (8.5, 11.0)], ids=["A4", "letter"])
def test_it_prints(browser: Any, width: float, height: float) -> None:
    sheet = {"paperWidth": width, "paperHeight": height, "preferCSSPageSize": False}
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", sheet)["data"])
    boxes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf)
    assert boxes
    assert all(float(w) == pytest.approx(72 * width, abs=1) for w, _ in boxes)


def saved(browser: Any, figure: str, format: str) -> bytes:
    """What the button of a figure writes."""
    path = Path(browser.saved) / f"{figure}.{format}"
    path.unlink(missing_ok=True)
    browser.execute_script(f"document.querySelector('[data-of={figure}][data-save={format}]').click()")
    deadline = time.monotonic() + 30
    while not path.exists() or not path.stat().st_size:
        assert time.monotonic() < deadline, f"{path} was not saved"
        time.sleep(0.05)
    return path.read_bytes()


@pytest.fixture
def night(browser: Any) -> Iterator[Any]:
    emulate(browser, dark=True)
    yield browser
    emulate(browser)


def test_a_saved_figure_has_title_legend_and_the_colours_of_paper(night: Any) -> None:
    svg = saved(night, "val_accuracy", "svg").decode()
    texts = [text.text for text in texts_of(svg)]
    assert "Learning curves: accuracy" in texts
    assert set(NAMES) <= set(texts)
    assert re.search(r'<rect [^>]*fill="white"', svg)
    assert "var(" not in svg
    width, height = size_of(svg)
    for text in texts_of(svg):
        assert -1 <= text.left <= text.right <= width + 1, text
        assert text.bottom <= height + 1, text


def test_a_saved_forest_plot_has_its_names(night: Any) -> None:
    svg = saved(night, "differences_accuracy", "svg").decode()
    text = "".join(text.text for text in texts_of(svg))
    for name in NAMES[1:]:
        assert name.replace(" ", "") in text.replace(" ", "")
    assert "Difference in accuracy from none" in text


def test_a_saved_picture_is_white(night: Any) -> None:
    png = saved(night, "target_1", "png")
    assert png.startswith(b"\x89PNG")
    assert struct.unpack(">I", png[16:20])[0] >= 1280  # two dots a pixel
    from io import BytesIO

    from PIL import Image

    with Image.open(BytesIO(png)) as picture:
        assert picture.convert("RGBA").getpixel((2, 2)) == (255, 255, 255, 255)


def test_a_variant_that_is_switched_off_is_not_in_the_saved_legend(browser: Any) -> None:
    drawn = "document.querySelector('[data-figure=val_loss]').dataset.drawn"
    button = "document.querySelector('#legend button[data-variant=batch]')"
    for _ in range(2):  # off, and on again
        before = browser.execute_script(f"return {drawn}")
        browser.execute_script(f"{button}.click()")
        wait(browser, f"return {drawn} !== '{before}'")
        texts = [text.text for text in texts_of(saved(browser, "val_loss", "svg").decode())]
        pressed = browser.execute_script(f"return {button}.ariaPressed")
        assert ("batch" in texts) == (pressed == "true")


def test_the_methods_paragraph_can_be_copied(browser: Any) -> None:
    browser.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    browser.execute_script("document.getElementById('copy-methods').click()")
    wait(
        browser, "return document.querySelector('#methods-text ~ p [role=status]').textContent === 'Copied.'"
    )
    selected = browser.execute_script("return getSelection().toString()")
    assert selected.startswith(("We ", "The "))
