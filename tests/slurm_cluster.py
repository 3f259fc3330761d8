"""A real SLURM on this machine, for tests: slurmctld, slurmd and munged in a temporary folder, bound to 127.0.0.1.

`python tests/slurm_cluster.py` starts one and prints the variable that the commands of SLURM need; it ends at the end
of standard input.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

_BINARIES = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel")
_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
_CPUS = 2
_SECONDS_TO_START = 30

_CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={controller}
SlurmdPort={worker}
SrunPortRange={first}-{last}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=5
SchedulerParameters=sched_min_interval=20000,batch_sched_delay=0,sched_interval=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=usual Nodes={host} Default=YES MaxTime=60 PriorityTier=1 PreemptMode=REQUEUE GraceTime=20 State=UP
PartitionName=urgent Nodes={host} MaxTime=60 PriorityTier=9 PreemptMode=OFF State=UP
"""


def why_not() -> str:
    """Why no SLURM can be started here; "" where it can."""
    absent = [name for name in _BINARIES if not shutil.which(name, path=_PATH)]
    if absent:
        return f"SLURM is not installed (apt install slurm-wlm munge): {', '.join(absent)}"
    if os.getuid() != 0:
        return "SLURM's daemons need root here"
    with contextlib.suppress(KeyError):
        import pwd

        pwd.getpwnam("munge")
        return ""
    return "there is no user munge"


@contextlib.contextmanager
def slurm() -> Iterator[Mapping[str, str]]:
    """One node of two CPUs, no accounting. Gives the environment that sbatch, squeue and jobs need.

    Partitions: usual, and urgent, whose jobs preempt those of usual: 20 seconds after SIGTERM. On leaving, jobs are
    killed and daemons ended; nothing stays, even where this process is killed.
    """
    with subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as keeper:
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        name, _, value = keeper.stdout.readline().strip().removeprefix("export ").partition("=")
        if not name:
            raise RuntimeError("SLURM did not start; what it said is above")
        try:
            yield {name: value}
        finally:
            keeper.stdin.close()
            keeper.wait()


@contextlib.contextmanager
def _started() -> Iterator[Mapping[str, str]]:
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    environment = {"SLURM_CONF": str(folder / "slurm.conf")}
    try:
        _write(folder)
        daemons = _start(folder, environment)
        try:
            _wait(folder, environment)
            yield environment
        finally:
            _stop(daemons, environment)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def command(environment: Mapping[str, str], *words: str) -> str:
    """What a command of SLURM prints."""
    result = subprocess.run(
        words, env={**os.environ, "PATH": _PATH, **environment}, capture_output=True, text=True, timeout=30
    )
    return result.stdout if result.returncode == 0 else f"{result.stdout}{result.stderr}"


def _write(folder: Path) -> None:
    folder.chmod(0o755)
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir()
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    for path in (folder / "munge", key):
        shutil.chown(path, "munge", "munge")
    controller, worker, first = _free_ports(12)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 - 500
    text = _CONFIGURATION.format(
        host=socket.gethostname().split(".")[0], folder=folder, controller=controller, worker=worker,
        first=first, last=first + 9, memory=memory, cpus=_CPUS,
    )  # fmt: skip
    (folder / "slurm.conf").write_text(text)
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")


def _free_ports(count: int) -> tuple[int, int, int]:
    """The first three of a row of free ports: of the controller, of the worker, and of what jobs need."""
    for first in range(26000 + os.getpid() % 3000, 32000, count):
        with contextlib.ExitStack() as open_sockets, contextlib.suppress(OSError):
            for port in range(first, first + count):
                one = open_sockets.enter_context(socket.socket())
                one.bind(("127.0.0.1", port))
            return first, first + 1, first + 2
    raise RuntimeError("no free ports")


def _start(folder: Path, environment: Mapping[str, str]) -> list[subprocess.Popen[bytes]]:
    munge = folder / "munge"
    commands = {
        "munged": [
            "munged", "--foreground", f"--socket={munge}/socket", f"--key-file={munge}/key", f"--pid-file={munge}/pid",
            f"--log-file={munge}/log", f"--seed-file={munge}/seed", "--num-threads=2",
        ],
        "slurmctld": ["slurmctld", "-D", "-c"],
        "slurmd": ["slurmd", "-D", "-c", "-N", socket.gethostname().split(".")[0]],
    }  # fmt: skip
    started = []
    for name, words in commands.items():
        munged = name == "munged"
        with (folder / f"{name}.out").open("wb") as output:
            started.append(
                subprocess.Popen(
                    words,
                    env={**os.environ, "PATH": _PATH, **environment},
                    stdout=output,
                    stderr=output,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                    user="munge" if munged else None,
                    group="munge" if munged else None,
                    cwd=munge if munged else folder,
                )
            )
        if munged:
            _until((munge / "socket").exists)
    return started


def _until(condition, seconds: float = _SECONDS_TO_START) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _wait(folder: Path, environment: Mapping[str, str]) -> None:
    def idle() -> bool:
        return "idle" in command(environment, "sinfo", "-h", "-o", "%T")

    if not _until(idle):
        logs = [*folder.glob("*.log"), *folder.glob("*.out"), folder / "munge" / "log"]
        said = "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in logs if path.is_file())
        raise RuntimeError(f"SLURM did not start within {_SECONDS_TO_START} s.\n{said}")


def _stop(daemons: list[subprocess.Popen[bytes]], environment: Mapping[str, str]) -> None:
    """Kill the jobs, then the daemons, then what is left of either: known by the configuration that it was given."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        command(environment, "scancel", "--signal=KILL", "--full", "--user=root")
        command(environment, "scancel", "--user=root")
        _until(lambda: not command(environment, "squeue", "-h"), 5)
    for process in reversed(daemons):
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for process_id in _left(environment):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process_id, signal.SIGKILL)


def _left(environment: Mapping[str, str]) -> list[int]:
    """Processes other than this one and its parents that have the cluster's SLURM_CONF in their environment."""
    wanted = f"SLURM_CONF={environment['SLURM_CONF']}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(folder.name) != os.getpid() and wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def main() -> None:
    """Start one, and keep it until the end of standard input."""
    if why_not():
        raise SystemExit(why_not())
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _started() as environment, contextlib.suppress(KeyboardInterrupt):
        print(f"export SLURM_CONF={environment['SLURM_CONF']}", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
