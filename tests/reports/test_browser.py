"""report.html in a real browser: it draws, its controls work, it fits a phone, and it asks the network for nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bnbench.results import Cell, StudyResults
from bnbench.study import Target
from bnbench.study.records import HistoryRow, RunRecord
from tests.reports.browsing import DESKTOP, MARKS, PHONE, opened, wait, write_page

pytestmark = MARKS

NASTY = "<img src=https://example.org/x onerror=alert(1)>"
SIZES = {"phone": PHONE, "desktop": DESKTOP}


def run(variant: str, seed: int, lr: float) -> RunRecord:
    losses = [2.0, 1.0 - lr / 2, 0.1 * (1 + seed)]
    history = tuple(
        HistoryRow(10 * i, float(i), 0.5 * i, None, {
            "train_loss": loss / 2, "val_loss": loss, "train_accuracy": 1 - loss / 4, "val_accuracy": 1 - loss / 2,
        })
        for i, loss in enumerate(losses)
    )  # fmt: skip
    last = {"loss": losses[-1], "accuracy": 1 - losses[-1]}
    final = {f"{split}_{name}": value for split in ("train", "val", "test") for name, value in last.items()}
    return RunRecord(
        variant, {"optimizer.lr": lr}, seed, "c", variant, "finished", None, 20, 20, 10, 1.0, 7, final, final, 20,
        history, layers=("0: Linear",),
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cells = tuple(
        Cell(v, {"optimizer.lr": lr}, "c", (0, 1, 2), tuple(run(v, s, lr) for s in range(3)))
        for lr in (0.01, 0.1)
        for v in ("none", "batch", NASTY)
    )
    results = StudyResults("demo", "none", (Target("val_loss", 0.5),), cells, {"epochs": 2}, {})
    return write_page(results, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module", params=list(SIZES))
def browser(
    request: pytest.FixtureRequest, page: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    with opened(page, tmp_path_factory.mktemp("browser"), SIZES[request.param]) as driver:
        yield driver


def click(driver: Any, selector: str, figure: str = "val_loss") -> None:
    """Click by keyboard focus and script, then wait until that figure is drawn anew."""
    box = f"document.querySelector('[data-figure={figure}]').dataset.drawn"
    before = driver.execute_script(f"return {box}")
    driver.execute_script("document.querySelector(arguments[0]).click()", selector)
    wait(driver, f"return {box} !== '{before}'")


def texts(driver: Any, figure: str = "val_loss") -> list[str]:
    found = "document.querySelectorAll(`[data-figure=${arguments[0]}] svg.marks text`)"
    script = f"return [...{found}].map(text => text.textContent)"
    return list(driver.execute_script(script, figure))


def lines(driver: Any) -> int:
    script = "return document.querySelectorAll('[data-figure=val_loss] g.mark-line path').length"
    return int(driver.execute_script(script))


def test_every_figure_is_drawn(browser: Any) -> None:
    script = "return [...document.querySelectorAll('.chart')].map(box => box.querySelectorAll('svg.marks path').length)"
    assert len(counts := browser.execute_script(script)) == 8
    assert all(count > 5 for count in counts)


def test_the_page_itself_never_scrolls_sideways(browser: Any) -> None:
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    edges = (
        "(svg.closest('.wide') || svg).getBoundingClientRect().right"  # what is wider scrolls in its own box
    )
    right = f"[...document.querySelectorAll('svg.marks')].map(svg => {edges})"
    assert browser.execute_script(f"return {right}.every(right => right <= innerWidth)")


def test_axis_scale_and_split_can_be_changed(browser: Any) -> None:
    assert {"step", "val loss"} <= set(texts(browser))
    click(browser, "[name=axis][value=epoch]")
    assert "epoch" in texts(browser)
    assert "epoch" in texts(browser, "target_1")
    click(browser, "[name=split][value=train]")
    assert "train loss" in texts(browser)
    plain = texts(browser)
    click(browser, "[name=scale][value=log]")
    assert texts(browser) != plain
    label = "return document.querySelector('[data-figure=val_loss]').getAttribute('aria-label')"
    assert browser.execute_script(label).startswith(
        "Changed: Learning curves: loss, of the training set, over epoch."
    )
    for selector in ("[name=axis][value=step]", "[name=split][value=val]", "[name=scale][value=linear]"):
        click(browser, selector)
    assert {"step", "val loss"} <= set(texts(browser))


def test_a_variant_can_be_switched_off_and_on(browser: Any) -> None:
    assert lines(browser) == 3 * (
        3 + 1
    )  # three seeds and their mean, of three variants at their best setting
    click(browser, "#legend button[data-variant=batch]")
    assert lines(browser) == 2 * (3 + 1)
    pressed = (
        "return document.querySelector('#legend button[data-variant=batch]').getAttribute('aria-pressed')"
    )
    assert browser.execute_script(pressed) == "false"
    click(browser, "#legend button[data-variant=batch]")
    assert lines(browser) == 3 * (3 + 1)


def test_another_setting_can_be_chosen(browser: Any) -> None:
    box = "document.querySelector('[data-figure=val_loss]')"
    before = browser.execute_script(f"return {box}.dataset.drawn")
    browser.execute_script(
        "const s = document.querySelector('select'); s.value = 'optimizer.lr=0.01';"
        "s.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    wait(browser, f"return {box}.dataset.drawn !== '{before}'")
    assert "at optimizer.lr=0.01" in browser.execute_script(f"return {box}.getAttribute('aria-label')")


def test_a_point_tells_its_numbers_and_a_name_stays_text(browser: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    points = browser.find_elements(By.CSS_SELECTOR, "[data-figure=val_loss] g.mark-symbol path")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", points[-2])
    ActionChains(browser).move_to_element(points[-2]).perform()
    wait(browser, "return document.querySelector('#vg-tooltip-element.visible') !== null")
    tooltip = browser.find_element(By.ID, "vg-tooltip-element")
    text = tooltip.get_attribute("textContent")
    assert NASTY in text
    assert "mean - std" in text
    assert not tooltip.find_elements(By.TAG_NAME, "img")


def test_the_keyboard_reaches_every_control(browser: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
    reached = []
    for _ in range(25):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        element = browser.switch_to.active_element
        reached.append(element.get_attribute("name") or element.get_attribute("id") or element.text)
    for control in ("Skip to the verdict", "axis", "scale", "split", "setting", "reset-zoom"):
        assert control in reached
    assert browser.find_element(By.ID, "main")


def test_nothing_leaves_the_page_and_nothing_is_complained_of(browser: Any, page: Path) -> None:
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    urls = [found["request"]["url"] for found in asked if found["documentURL"].startswith("file:")]
    assert page.as_uri() in urls
    assert all(url.startswith(("file:", "data:", "blob:")) for url in urls), urls
    assert [entry["message"] for entry in browser.get_log("browser")] == []


def test_no_name_of_a_figure_is_cut(browser: Any) -> None:
    """Every letter of every text lies inside its picture, on a phone too."""
    script = """
    return [...document.querySelectorAll('svg.marks')].flatMap(svg => {
      const box = svg.getBoundingClientRect();
      return [...svg.querySelectorAll('text')].filter(text => {
        const r = text.getBoundingClientRect();
        return text.textContent.includes('…') || r.right > box.right + 1 || r.left < box.left - 1;
      }).map(text => text.textContent);
    });
    """
    assert browser.execute_script(script) == []
