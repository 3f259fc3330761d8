"""Draws the pictures of README and docs, all from real runs.

Run from the repository's root, after `pip install -e '.[test]'` and with a Chromium: python docs/screenshots.py
It writes to docs/images: compare.svg, verify_right.svg and verify_wrong.svg (what the commands print, at 80 columns),
report-desktop.png and report-phone.png (the first screen of the quickstart's report), inside-*.png (figures of
`bnbench look`), what `bnbench report` prints of committed studies, the sheets of samples of the GAN, and, of the
studies in results/ whose runs are there, the first screens and figures that docs/results shows.
"""

from __future__ import annotations

import base64
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.text import Text

IMAGES, RESULTS = Path("docs/images"), Path("results")
WIDTH = 80
DESKTOP, PHONE = (1280, 800), (390, 844)
#: Colours of a picture of a page: letters on white and a few lines need no more.
COLOURS = 64
#: Study -> its picture, and the figure that it shows; "" for the first screen of its report.
STUDIES = {
    "mnist_mlp": ("report-mnist.png", ""),
    "learning_rates": ("report-learning-rates.png", ""),
    "normalizers": ("normalizers.png", "differences_accuracy"),
    "batch_size": ("batch_size.png", "sweep"),
}

#: Studies whose verdicts are shown as the terminal prints them; their summaries are in results/.
VERDICTS = ("char_lm", "dcgan", "text_topics", "cifar_resnet18", "cifar_unet")
#: Study -> variants whose sheets of samples stand side by side.
SHEETS = {"dcgan": ("none", "none_he", "batch_g", "batch_d", "batch")}
#: Margin around a sheet, and the height of its title, in pixels.
MARGIN, TITLE = 8, 22

#: Study in docs/examples -> the picture of what `bnbench look` finds, and its figure.
LOOKS = {
    "tanh": ("inside-tanh.png", "inside_strips_post"),
    "deep_relu": ("inside-gradients.png", "inside_gradients_first"),
    "sigmoid": ("inside-unit.png", "inside_unit"),
}


def run(command: str, *options: str, folder: Path = Path()) -> str:
    """What `bnbench COMMAND OPTIONS` prints in that folder, with its colours."""
    return subprocess.run(
        [sys.executable, "-m", "bnbench", *command.split(), *options],
        env={**os.environ, "COLUMNS": str(WIDTH), "FORCE_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=folder,
    ).stdout


def draw_output(command: str, target: Path, folder: Path = Path()) -> None:
    """The picture of what a command prints in that folder."""
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(f"$ bnbench {command}\n", markup=False, highlight=False)
    console.print(Text.from_ansi(run(command, folder=folder).rstrip("\n")))
    # a fixed id: the same run gives the same bytes
    console.save_svg(str(target), title="bnbench", unique_id=target.stem)


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser without a window."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    names = ("chromium", "chromium-browser", "google-chrome")
    options.binary_location = next(filter(None, map(shutil.which, names)), "")
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def photograph(driver: Any, report: Path, target: Path, size: tuple[int, int]) -> None:
    """The first screen of a report, on a screen of that size."""
    from selenium.webdriver.support.ui import WebDriverWait

    width, height = size
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    driver.get(report.absolute().as_uri())
    WebDriverWait(driver, 30).until(
        lambda page: page.execute_script("return document.body.dataset.ready === 'true'")
    )
    picture = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]
    write_small(base64.b64decode(picture), target)


def write_small(picture: bytes, target: Path) -> None:
    """A picture with few colours, which is a third of the size."""
    with Image.open(io.BytesIO(picture)) as image:
        few = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        few.save(target, optimize=True)


def draw_sheets(name: str, variants: Sequence[str]) -> None:
    """The sheets of samples of some variants side by side, each under the variant's name."""
    sheets = {
        variant: Image.open(RESULTS / name / "samples" / f"{variant}-seed-0.png") for variant in variants
    }
    width, height = next(iter(sheets.values())).size
    size = len(sheets) * (width + MARGIN) + MARGIN, height + TITLE + MARGIN
    picture = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(picture)
    for index, (variant, sheet) in enumerate(sheets.items()):
        left = MARGIN + index * (width + MARGIN)
        pen.text((left, 4), variant, fill="black", font=ImageFont.load_default(14))
        picture.paste(sheet, (left, TITLE))
    picture.save(IMAGES / f"{name}-samples.png", optimize=True)


def draw_study(driver: Any, name: str, picture: str, figure: str, folder: Path) -> None:
    """A study's report or one of its figures, from the runs in its results folder."""
    results = folder / name
    shutil.copytree(RESULTS / name, results)
    run("report", str(results), "--figures", str(folder), "--figure-format", "png")
    if figure:
        write_small((folder / f"{figure}.png").read_bytes(), IMAGES / picture)
    else:
        photograph(driver, results / "report.html", IMAGES / picture, DESKTOP)


def draw_look(name: str, picture: str, figure: str, folder: Path) -> None:
    """A figure of the inside of the networks of a study in docs/examples."""
    study, figures = f"docs/examples/{name}.yaml", folder / f"figures-{name}"
    output = ("--output", str(folder / name), "--figures", str(figures), "--figure-format", "png")
    run("look", study, *output)
    write_small((figures / f"{figure}.png").read_bytes(), IMAGES / picture)


if __name__ == "__main__":
    with chromium() as driver, tempfile.TemporaryDirectory() as folder:
        quickstart = Path(folder) / "results" / "quickstart"
        draw_output("compare", IMAGES / "compare.svg", Path(folder))
        photograph(driver, quickstart / "report.html", IMAGES / "report-desktop.png", DESKTOP)
        photograph(driver, quickstart / "report.html", IMAGES / "report-phone.png", PHONE)
        for kind in ("right", "wrong"):
            draw_output(f"verify docs/examples/{kind}_layer.py:BatchNorm", IMAGES / f"verify_{kind}.svg")
        for name in VERDICTS:
            draw_output(f"report results/{name}", IMAGES / f"{name}.svg")
        for name, variants in SHEETS.items():
            draw_sheets(name, variants)
        for name, (picture, figure) in STUDIES.items():
            if (RESULTS / name / "runs").is_dir():
                draw_study(driver, name, picture, figure, Path(folder))
        for name, (picture, figure) in LOOKS.items():
            draw_look(name, picture, figure, Path(folder))
