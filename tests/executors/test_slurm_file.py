"""The file of slurm:FILE.yaml. Oracle: the lines of the file, and sbatch's own words for what they ask."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bnbench.base.errors import ConfigError
from bnbench.executors.slurm_file import read_slurm_file

Write = Callable[[str], Path]


def mistakes(path: Path) -> dict[int, str]:
    """What is wrong with a file, by line."""
    with pytest.raises(ConfigError) as error:
        read_slurm_file(path)
    return {int(one.place.rpartition(":")[2]): one.message for one in error.value.mistakes}


def test_every_mistake_is_named_at_once_with_its_line(write_study: Write) -> None:
    path = write_study("""\
        partiton: gpu
        time: soon
        cpus: zero
        slurm_array: 3
        slurm_reservation: [night]
        further: {a: 1}
        pack_minutes: -1
        cluster: pbs
        memory: 4 GB
        memory: 5 GB
        """)
    found = mistakes(path)
    assert list(found) == [1, 2, 3, 4, 5, 6, 7, 8, 10]
    assert found[1].startswith(
        'unknown key "partiton" in a file for SLURM. Did you mean "partition"? Known: account,'
    )
    assert "further" not in found[1]
    assert found[2] == "time: 'soon' is wrong: it should be minutes, or a time such as 2h, 90m or 1:30:00."
    assert found[4] == "slurm_array: bnbench sets --array itself. Fix: max_jobs: 3."
    assert "duplicate key" in found[10]


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90),
        ("2h", 120),
        ("90m", 90),
        ("1:30:00", 90),
        ("2-12:00:00", 3600),
        ("45:30", 45.5),
        ("1d", 1440),
    ],
)
def test_a_time_is_minutes_or_as_sbatch_writes_it(write_study: Write, text: str, minutes: float) -> None:
    assert read_slurm_file(write_study(f"time: {text}")).time == minutes


@pytest.mark.parametrize(
    ("text", "gigabytes"), [("4", 4), ("4 GB", 4), ("512M", 0.5), ("1T", 1024), ("2GiB", 2)]
)
def test_memory_is_gigabytes_or_has_a_unit(write_study: Write, text: str, gigabytes: float) -> None:
    assert read_slurm_file(write_study(f"memory: {text}")).memory == gigabytes


def test_what_is_packed_into_a_job_fits_into_its_time(write_study: Write) -> None:
    assert read_slurm_file(write_study("time: 60")).pack_minutes == 5
    assert read_slurm_file(write_study("time: 6")).pack_minutes == 3
    assert "do not fit into a job of 6 minutes" in mistakes(write_study("time: 6\npack_minutes: 7"))[2]


@pytest.mark.parametrize("text", ["", "# nothing", "[1, 2]", "partition"])
def test_a_file_without_keys_is_refused_with_an_example(write_study: Write, text: str) -> None:
    with pytest.raises(ConfigError, match="partition: gpu"):
        read_slurm_file(write_study(text))


def test_the_documented_file_is_right(write_study: Write) -> None:
    page = (Path(__file__).parents[2] / "docs" / "machines.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    file = read_slurm_file(write_study(text))
    assert (file.time, file.max_jobs, file.further) == (120, 50, {"reservation": "night"})
    named = set(re.findall(r"^(\w+):", text, re.MULTILINE)) | {"account", "qos", "constraint", "cluster"}
    assert set(type(file).model_fields) - named <= {"further", "name"}


@pytest.mark.skipif(importlib.util.find_spec("submitit") is None, reason="submitit is not installed")
def test_sbatch_gets_what_the_file_says(write_study: Write) -> None:
    from submitit.slurm.slurm import SlurmExecutor, _make_sbatch_string

    path = write_study("""\
        partition: gpu
        time: 1:30:00
        cpus: 2
        memory: 500M
        gpus: 1
        account: lab
        max_jobs: 7
        slurm_reservation: night
        slurm_exclusive: true
        setup: |
          module load python
          . venv/bin/activate
        folder: jobs
        """)
    file = read_slurm_file(path)
    assert file.folder == path.parent / "jobs"
    words = {key.removeprefix("slurm_"): value for key, value in file.parameters().items()}
    words = SlurmExecutor.__new__(SlurmExecutor)._convert_parameters(words)  # without a SLURM on this machine
    script = _make_sbatch_string(command="python", folder=path.parent, map_count=20, **words)
    lines = script.splitlines()
    for line in (
        "--partition=gpu",
        "--time=90",
        "--cpus-per-task=2",
        "--mem=500MB",
        "--gpus-per-node=1",
        "--account=lab",
        "--array=0-19%7",
        "--reservation=night",
        "--exclusive",
        "--signal=USR2@60",
        "--job-name=bnbench",
    ):
        assert f"#SBATCH {line}" in lines
    assert lines.index("module load python") + 1 == lines.index(". venv/bin/activate")
