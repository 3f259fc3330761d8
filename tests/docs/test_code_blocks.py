"""Every code block of the README and of docs/ works: it is run, checked, or says why it is not.

- `python`: run in a folder of its own page; one that begins with `# NAME.py` is written there first.
- `bash`: run, without its `pip install` lines. `console`: every command and option exists.
- `yaml`: a study that `bnbench check` takes (completed by a network and data where it is a part of one), a published
  finding that `bnbench replicate` takes, or a workflow, whose bnbench commands are run.
- A comment `<!-- not run: REASON -->` before a block leaves it out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import bnbench
from bnbench.api.plugins import known_names
from bnbench.api.replicate import plan_jobs
from bnbench.cli.app import app
from bnbench.study import Vocabulary, load_study

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    if not {"_build", "generated"} & set(path.parts)
)
LANGUAGES = {
    "python",
    "bash",
    "console",
    "yaml",
    "text",
    "{toctree}",
    "{eval-rst}",
    "{include}",
    "{list-table}",
    "{literalinclude}",
}
MINIMAL = {
    "dataset": "digits",
    "model": "mlp",
    "optimizer": {"name": "sgd", "lr": 0.01},
    "variants": {"none": {}, "batch": {"norm": "batch"}},
}
#: What a page needs that bnbench does not depend on, stood in for.
PRELUDES = {
    "docs/trackers.md": "import sys, types\n"
    "class SummaryWriter:\n"
    "    def __init__(self, folder, purge_step=1): self.folder = folder; assert purge_step == 1\n"
    "    def __enter__(self): return self\n"
    "    def __exit__(self, *error): print('closed', self.folder)\n"
    "    def add_scalar(self, key, value, step): assert isinstance(value, float) and isinstance(step, int)\n"
    "sys.modules['torch.utils.tensorboard'] = types.SimpleNamespace(SummaryWriter=SummaryWriter)\n",
}
#: Results that a page finds in its folder.
RESULTS = {
    "docs/trackers.md": "quickstart seeds=2 epochs=2 --output results/quickstart",
    "docs/ci.md": "quickstart seeds=3 --output ci-results",
}


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    reason: str  # why it is not run

    @property
    def file(self) -> str:
        """The name of the file that it says it is."""
        match = re.match(r"# (\w+\.(?:py|yaml))\b", self.text)
        return match[1] if match else ""


def blocks(page: Path) -> list[Block]:
    pattern = r"(?:<!-- not run: ([^>]+) -->\s*\n)?^( *)```([^\s`]+)[^\n]*\n(.*?)^\2```"
    found = re.findall(pattern, page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [
        Block(language, re.sub(f"(?m)^{indent}", "", text), reason)
        for reason, indent, language, text in found
    ]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def of(*languages: str) -> list[object]:
    """Parameters: every block of these languages that is to be run or checked."""
    return [
        pytest.param(block, id=f"{name(page)}-{number}")
        for page in PAGES
        for number, block in enumerate(blocks(page))
        if block.language in languages and not block.reason
    ]


def test_every_fence_is_of_a_known_kind() -> None:
    for page in PAGES:
        for block in blocks(page):
            assert block.language in LANGUAGES, (name(page), block)
        assert page.read_text(encoding="utf-8").count("```") >= 2 * len(blocks(page)), name(page)


def test_every_page_is_read() -> None:
    languages = [block.language for page in PAGES for block in blocks(page)]
    assert languages.count("python") >= 8
    assert languages.count("bash") >= 6
    assert languages.count("yaml") >= 8
    assert languages.count("console") >= 5


@pytest.mark.parametrize("block", of("yaml"))
def test_every_study_passes_check(block: Block, tmp_path: Path, vocabulary: Vocabulary) -> None:
    content = yaml.safe_load(block.text)
    if isinstance(content, list) or "jobs" in content:
        pytest.skip("a workflow: its commands are run")
    if "citation" in content:
        (tmp_path / "finding.yaml").write_text(block.text)
        assert plan_jobs([str(tmp_path / "finding.yaml")], known_names(), tmp_path)
        return
    missing = {key: value for key, value in MINIMAL.items() if key not in content}
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(missing) + block.text if missing else block.text)
    study = load_study(path, [], vocabulary)
    assert len(study.cells) > 1 or "validation" in content or "dataset" in content
    assert not study.warnings


@pytest.mark.parametrize("block", of("console"))
def test_every_command_and_option_exists(block: Block) -> None:
    lines = [line for line in block.text.splitlines() if line.startswith("$ bnbench ")]
    for line in lines:
        command = line.split()[2:3] or ["compare"]
        if command == ["replicate"]:
            command = line.split()[2:4]
        help_text = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "300"}).output
        for option in re.findall(r"\s(--[a-z-]+)", line.partition(" #")[0]):
            assert option in help_text, line


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [
        page
        for page in PAGES
        if any(block.language in ("python", "bash") and not block.reason for block in blocks(page))
    ],
    ids=name,
)
def test_every_program_runs(page: Path, tmp_path: Path) -> None:
    """The blocks of a page one after the other, as a reader runs them."""
    shell(
        tmp_path, "bnbench() { " + f'"{sys.executable}" -m bnbench "$@"; }}; declare -f bnbench > bnbench.sh'
    )
    if name(page) in RESULTS:
        shell(tmp_path, f"bnbench compare {RESULTS[name(page)]} --quiet")
    for block in blocks(page):
        if block.reason:
            continue
        if block.file:
            (tmp_path / block.file).write_text(block.text)
        if block.language == "python":
            python(tmp_path, PRELUDES.get(name(page), "") + block.text)
        elif block.language == "bash":
            shell(tmp_path, re.sub(r"(?m)^pip install.*$", "", block.text))


@pytest.mark.slow
def test_the_workflow_in_ci_md_runs_in_a_checkout(tmp_path: Path) -> None:
    """Verbatim but for its length; the folder holds results/, as the repository does."""
    (tmp_path / "results" / "mnist_mlp").mkdir(parents=True)
    (block,) = (block for block in blocks(ROOT / "docs" / "ci.md") if block.language == "yaml")
    steps = yaml.safe_load(block.text)["jobs"]["compare"]["steps"]
    commands = [step["run"] for step in steps if "bnbench" in step.get("run", "")]
    assert len(commands) == 2
    for command in commands:
        shell(tmp_path, command.replace("bnbench ", f'"{sys.executable}" -m bnbench '))
    assert "| none" in (tmp_path / "summary.md").read_text()


def environment(folder: Path) -> dict[str, str]:
    source = str(Path(bnbench.__file__).parents[1])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "GITHUB_STEP_SUMMARY": str(folder / "summary.md")}


def shell(folder: Path, script: str) -> None:
    load = "[ -f bnbench.sh ] && . ./bnbench.sh\n"
    run(["bash", "-euo", "pipefail", "-c", load + script], folder)


def python(folder: Path, program: str) -> None:
    path = folder / "block.py"
    path.write_text(program)
    run([sys.executable, str(path)], folder)


def run(command: list[str], folder: Path) -> None:
    result = subprocess.run(
        command,
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == 0, f"{command[-1]}\n{result.stdout}"
