"""What a command does before it trains: imports that go on beside, those that it is spared, memory that stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bnbench.api import early
from bnbench.engine.workers import server


@pytest.mark.parametrize(
    ("text", "overrides", "device", "jobs", "starts"),
    [
        ("dataset: mnist\n", [], "cpu", None, True),
        ("dataset: digits\n", [], "cpu", None, False),
        ("dataset: {name: digits}\n", [], "cpu", None, False),
        ("dataset: digits\n", ["dataset=mnist"], "cpu", None, True),
        ("dataset: mnist\n", ["epochs=1", "dataset.name=digits"], "cpu", None, False),
        ("dataset: mnist\n", [], "cpu", 1, False),
        ("dataset: mnist\n", [], "cuda", None, False),
    ],
)
def test_workers_imports_start_early_where_workers_will_be_wanted(
    text: str,
    overrides: list[str],
    device: str,
    jobs: int | None,
    starts: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "s.yaml").write_text(text)
    started: list[bool] = []
    monkeypatch.setattr(server, "start_server", lambda: started.append(True))
    monkeypatch.setattr(server, "count_cores", lambda: 2)
    early.start_workers_early([str(tmp_path / "s.yaml")], overrides, device, jobs)
    assert bool(started) == starts


def test_a_study_that_is_not_there_starts_nothing_and_is_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "start_server", lambda: pytest.fail("started"))
    early.start_workers_early(["nosuch"], [], "cpu", None)


STACKED = """
import sys
from pathlib import Path
from bnbench.cli.app import main
words = ["compare", "quickstart", "epochs=1", "seeds=2", "--quiet", "--format", "csv", "--output", sys.argv[1]]
sys.argv = ["bnbench", *words]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
assert "torch" in sys.modules
print("compiler" if "torch._dynamo" in sys.modules else "no compiler", file=sys.stderr)
"""


@pytest.mark.slow
def test_a_study_of_stacks_does_not_import_the_compiler(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STACKED, str(tmp_path / "out")], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "no compiler"


FAULTS = """
import resource, sys, torch
from bnbench.engine.memory import keep_freed_memory
torch.set_num_threads(1)
if sys.argv[1] == "keep":
    keep_freed_memory()
for step in range(30):  # the first few fill what the allocator keeps for itself
    if step == 25:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    large = torch.ones(4 << 20)  # 16 MiB
    del large
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_is_not_asked_for_again() -> None:
    faults = {
        how: int(
            subprocess.run(
                [sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True
            ).stdout
        )
        for how in ("keep", "give back")
    }
    if faults["give back"] < 1000:
        pytest.skip("this C library keeps it anyway")
    assert faults["keep"] < faults["give back"] / 10
