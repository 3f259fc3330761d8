"""The README: short, its layer trains, its links lead somewhere. Its code blocks: see test_code_blocks.py."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 260


@pytest.mark.slow
def test_its_layer_trains(tmp_path: Path) -> None:
    (layer,) = (block for block in blocks("python") if block.startswith("# my_layers.py"))
    (tmp_path / "my_layers.py").write_text(layer)
    (line,) = (line for line in "\n".join(blocks("console")).splitlines() if "my_layers.py:" in line)
    command = line.removeprefix("$ bnbench ").split()
    result = subprocess.run(
        [sys.executable, "-m", "bnbench", *command, "seeds=1", "epochs=2"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "max" in result.stdout


def test_the_reference_has_every_exit_code() -> None:
    from bnbench.base import errors

    table = (ROOT / "docs" / "reference" / "exit_codes.md").read_text(encoding="utf-8")
    codes = [getattr(errors, name) for name in dir(errors) if name.startswith("EXIT_")]
    assert len(codes) >= 6
    for code in codes:
        assert f"| {code} |" in table


def links() -> list[tuple[Path, str]]:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return [
        (page, link)
        for page in pages
        if not {"_build", "generated"} & set(page.parts)
        for link in sorted(set(re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))))
    ]


@pytest.mark.parametrize(("page", "link"), links(), ids=lambda value: str(getattr(value, "name", value)))
def test_every_link_leads_somewhere(page: Path, link: str) -> None:
    if "generated" in link:
        pytest.skip("written when the site is built")
    folder = ROOT if page.parent == ROOT else page.parent
    assert (folder / link).exists(), f"{page}: {link}"
