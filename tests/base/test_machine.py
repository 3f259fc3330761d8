"""The limits of a machine and of its containers, read from files as Linux writes them.

The oracle is the kernel's documentation of control groups, version 1 and 2, and for this machine `os` itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from bnbench.base.errors import BnbenchError
from bnbench.base.machine import (
    LESS_MEMORY,
    amount,
    count_cores,
    killed_for_memory,
    memory,
    place_text,
    why_killed,
    why_out_of_memory,
)

MIB = 2**20
#: A machine of 16 GiB, of which 12 are free.
MACHINE = {"proc/meminfo": f"MemTotal: {16 * 2**20} kB\nMemFree: 1 kB\nMemAvailable: {12 * 2**20} kB\n"}
Machine = Callable[..., Path]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Writes files below a folder, and gives its proc; MOUNT in them is that folder's `cgroup`."""

    def make(*parts: Mapping[str, str]) -> Path:
        for name, text in {name: text for part in (MACHINE, *parts) for name, text in part.items()}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("MOUNT", str(tmp_path / "cgroup")))
        return tmp_path / "proc"

    return make


def version_2(group: str, root: str = "/") -> dict[str, str]:
    return {
        "proc/self/cgroup": f"0::{group}\n",
        "proc/self/mountinfo": f"36 25 0:31 {root} MOUNT rw,nosuid - cgroup2 cgroup2 rw\n",
    }


def version_1(group: str, root: str = "/") -> dict[str, str]:
    kinds = {"memory": "memory", "cpu": "cpu,cpuacct"}
    return {
        "proc/self/cgroup": "".join(f"4:{kind}:{group}\n" for kind in kinds.values()) + "0::/\n",
        "proc/self/mountinfo": "".join(
            f"36 25 0:31 {root} MOUNT/{name} rw - cgroup cgroup rw,{kind}\n" for name, kind in kinds.items()
        ),
    }


def test_a_machine_without_containers(machine: Machine) -> None:
    found = memory(machine())
    assert (found.limit, found.free, found.container) == (16 * 1024 * MIB, 12 * 1024 * MIB, False)
    assert place_text(found) == "the machine has 16.0 GiB, and 12.0 GiB of it are free"


def test_the_least_limit_of_all_groups_above_counts(machine: Machine) -> None:
    """Of 2 GiB in the slice and 1 GiB in the job, with 300 MiB used, of which 100 are of files that can go."""
    proc = machine(
        version_2("/slice/job"),
        {
            "cgroup/slice/memory.max": f"{2048 * MIB}\n",
            "cgroup/slice/memory.current": f"{1948 * MIB}\n",
            "cgroup/slice/job/memory.max": f"{1024 * MIB}\n",
            "cgroup/slice/job/memory.current": f"{300 * MIB}\n",
            "cgroup/slice/job/memory.stat": f"anon 5\ninactive_file {100 * MIB}\n",
        },
    )
    found = memory(proc)
    assert (found.limit, found.free, found.container) == (1024 * MIB, 100 * MIB, True)
    assert place_text(found) == "the container has 1.0 GiB, and 100 MiB of it are free"


def test_version_1_and_a_group_that_is_not_limited(machine: Machine) -> None:
    """Inside a container the folder that is mounted is the container's own group."""
    files = {
        "cgroup/memory/memory.limit_in_bytes": f"{512 * MIB}\n",
        "cgroup/memory/memory.usage_in_bytes": f"{112 * MIB}\n",
        "cgroup/memory/memory.stat": f"inactive_file 1\ntotal_inactive_file {12 * MIB}\n",
    }
    proc = machine(version_1("/docker/ab12", root="/docker/ab12"), files)
    assert (memory(proc).limit, memory(proc).free) == (512 * MIB, 412 * MIB)
    proc = machine({"cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"})
    assert (memory(proc).limit, memory(proc).container) == (16 * 1024 * MIB, False)


@pytest.mark.parametrize(
    ("quota", "right"), [("max 100000", None), ("100000 100000", 1), ("150000 100000", 2), ("5000 100000", 1)]
)
def test_cores_follow_the_quota(quota: str, right: int | None, machine: Machine) -> None:
    own = len(os.sched_getaffinity(0))
    wanted = own if right is None else min(own, right)
    assert count_cores(machine(version_2("/job"), {"cgroup/job/cpu.max": f"{quota}\n"})) == wanted
    limit, period = quota.replace("max", "-1").split()
    group = {"cgroup/cpu/job/cpu.cfs_quota_us": limit, "cgroup/cpu/job/cpu.cfs_period_us": period}
    assert count_cores(machine(version_1("/job"), group)) == wanted


def test_without_a_proc_the_machine_is_as_python_sees_it(tmp_path: Path) -> None:
    assert count_cores(tmp_path) == len(os.sched_getaffinity(0))
    assert memory(tmp_path).limit == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert killed_for_memory(tmp_path) == 0


COUNTERS = [
    (version_2("/job"), "cgroup/job/memory.events", "low 0\noom 9\noom_kill {}\noom_group_kill 0\n"),
    (
        version_1("/job"),
        "cgroup/memory/job/memory.oom_control",
        "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n",
    ),
    ({}, "proc/vmstat", "nr_free_pages 1\noom_kill {}\n"),
]


@pytest.mark.parametrize(("groups", "counter", "text"), COUNTERS, ids=["version 2", "version 1", "vmstat"])
def test_a_victim_of_the_killer_is_called_that(
    groups: dict[str, str], counter: str, text: str, machine: Machine
) -> None:
    proc = machine(groups, {counter: text.format(3)})
    assert killed_for_memory(proc) == 3
    ending, fix = why_killed(9, 3, 700 * MIB, proc)
    assert "by someone or by the system" in ending
    machine({counter: text.format(4)})
    ending, fix = why_killed(9, 3, 700 * MIB, proc)
    assert ending == (
        "was ended by the system's out-of-memory killer (its estimate: 700 MiB; the machine has 16.0 GiB)"
    )
    assert fix == LESS_MEMORY
    assert why_killed(11, 3, None, proc)[0] == "was killed by signal 11"


def test_errors_that_mean_that_memory_ran_out() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**50)
    assert "ran out at 4,194,304.0 GiB for one tensor (RuntimeError)" in why_out_of_memory(raised.value)
    assert why_out_of_memory(MemoryError()).startswith("memory ran out (MemoryError)")
    cuda = RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 3 GiB.\nSee documentation")
    assert why_out_of_memory(cuda) == f"memory ran out: {str(cuda).splitlines()[0].rstrip('.')}"
    assert why_out_of_memory(OSError(12, "Cannot allocate memory")).startswith("memory ran out (OSError)")
    assert not why_out_of_memory(ValueError("shapes differ"))
    assert not why_out_of_memory(BnbenchError("was ended by the out-of-memory killer: out of memory"))


def test_amounts() -> None:
    assert [amount(value) for value in (0, 410 * MIB, 2.3 * 2**30)] == ["0 MiB", "410 MiB", "2.3 GiB"]
