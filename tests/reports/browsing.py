"""Chromium for tests: report.html opened as a phone, a desktop, on paper, in the dark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bnbench.analysis.summary import summarize
from bnbench.reports.page.html import to_html
from bnbench.results import StudyResults

DRIVER = shutil.which("chromedriver")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MARKS = [
    pytest.mark.browser,
    pytest.mark.skipif(not (DRIVER and BROWSER), reason="no Chromium with its driver on this machine"),
]
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
PHONE, DESKTOP = (390, 844), (1280, 800)


def write_page(results: StudyResults, folder: Path) -> Path:
    """report.html of made-up results."""
    path = folder / "report.html"
    path.write_text(to_html(summarize(results), results), encoding="utf-8")
    return path


@contextmanager
def opened(page: Path, profile: Path, size: tuple[int, int] = DESKTOP) -> Iterator[Any]:
    """A browser that shows the page, every figure drawn; what it saves goes to profile/saved."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*_FLAGS, f"--user-data-dir={profile / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        width, height = size
        shape = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shape)
        saved = {"behavior": "allow", "downloadPath": str(profile / "saved")}
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", saved)
        driver.get(page.as_uri())
        wait(driver, "return document.body.dataset.ready === 'true' || !document.getElementById('data')")
        yield driver
    finally:
        driver.quit()


def emulate(driver: Any, *, media: str = "screen", dark: bool = False) -> None:
    """Show the page as on paper, or as at night."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": [scheme]})


def wait(driver: Any, script: str) -> None:
    """Until the script gives true."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 30).until(lambda here: here.execute_script(script))
