"""`slurm:FILE.yaml`: what SLURM gets to know of a job. Every mistake at once, with its line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from bnbench.base.errors import ConfigError, Mistake
from bnbench.study.value_faults import faults_by_path, message
from bnbench.study.yaml_source import Source, read_file

#: Keys that begin with it go to sbatch as they are: `slurm_reservation: night` becomes --reservation=night.
FURTHER = "slurm_"
#: Options of sbatch that this executor or submitit sets itself.
_OWN = {
    "array": "max_jobs",
    "job-name": "",
    "output": "folder",
    "error": "folder",
    "open-mode": "",
    "signal": "warning_seconds",
    "time": "time",
    "nodes": "",
    "ntasks": "",
    "ntasks-per-node": "",
    "partition": "partition",
    "account": "account",
    "qos": "qos",
    "constraint": "constraint",
    "cpus-per-task": "cpus",
    "mem": "memory",
    "gpus-per-node": "gpus",
}
#: Without max_jobs; on this machine it is the number of its cores.
MOST_JOBS = 100
_UNITS = {"": 1.0, "s": 1 / 60, "m": 1.0, "min": 1.0, "h": 60.0, "d": 1440.0}
_SIZES = {"k": 1 / 1024**2, "m": 1 / 1024, "g": 1.0, "t": 1024.0, "": 1.0}


def _minutes(value: Any) -> Any:
    """Minutes as a number, or as sbatch writes them (1:30:00, 2-00:00:00), or with a unit (90m, 2h)."""
    if not isinstance(value, str):
        return value
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|)", value.strip().lower()):
        return float(match[1]) * _UNITS[match[2]]
    if match := re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", value.strip()):
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return days * 1440 + hours * 60 + minutes + seconds / 60
    raise ValueError("it should be minutes, or a time such as 2h, 90m or 1:30:00")


def _gigabytes(value: Any) -> Any:
    """Gigabytes as a number, or with a unit (500M, 4 GB)."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", value.strip().lower())
    if not match:
        raise ValueError("it should be gigabytes, or a size such as 500M or 4 GB")
    return float(match[1]) * _SIZES[match[2]]


def _lines(value: Any) -> Any:
    return value.splitlines() if isinstance(value, str) else value


class SlurmFile(BaseModel):
    """The keys of the file. All have a default.

    cluster: "local" trains in processes of this machine and "debug" in this process, as submitit has them.
    partition, account, qos, constraint: as sbatch's. time: limit of a job, in minutes. cpus, gpus: of a job, which
    trains one stack at a time. memory: of a job, in GB. setup: lines of shell before Python starts. python: the
    command that starts it on a node. folder: for payloads, results and logs, on a file system that all nodes see.
    pack_minutes: predicted minutes of runs in one job, at most half its time. max_jobs: at the same time.
    warning_seconds: between the signal that lets runs save their state and the end of a job's time. poll_seconds:
    between two questions to SLURM. name: of the jobs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cluster: Literal["slurm", "local", "debug"] = "slurm"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    time: Annotated[float, BeforeValidator(_minutes), Field(ge=1, allow_inf_nan=False)] = 60.0
    cpus: Annotated[int, Field(ge=1)] = 1
    memory: Annotated[float, BeforeValidator(_gigabytes), Field(gt=0, allow_inf_nan=False)] | None = None
    gpus: Annotated[int, Field(ge=0)] = 0
    setup: Annotated[tuple[str, ...], BeforeValidator(_lines)] = ()
    python: str | None = None
    folder: Path | None = None
    pack_minutes: Annotated[float, BeforeValidator(_minutes), Field(gt=0, allow_inf_nan=False)] = 5.0
    max_jobs: Annotated[int, Field(ge=1)] | None = None
    warning_seconds: Annotated[int, Field(ge=1)] = 60
    poll_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 5.0
    name: str = "bnbench"
    further: dict[str, Any] = Field(default_factory=dict, exclude=True)

    @property
    def most_jobs(self) -> int:
        """Jobs that SLURM runs at the same time."""
        return self.max_jobs or MOST_JOBS

    def parameters(self) -> dict[str, Any]:
        """The same in submitit's words."""
        values: dict[str, Any] = {"name": self.name, "timeout_min": max(1, round(self.time))}
        if self.cluster != "slurm":
            return {**values, "slurm_setup": None, f"{self.cluster}_setup": list(self.setup) or None}
        values |= {"cpus_per_task": self.cpus, "mem_gb": self.memory, "gpus_per_node": self.gpus or None}
        values |= {
            f"slurm_{key}": getattr(self, key) for key in ("partition", "account", "qos", "constraint")
        }
        values |= {
            "slurm_setup": list(self.setup) or None,
            "slurm_array_parallelism": self.most_jobs,
            "slurm_signal_delay_s": self.warning_seconds,
            "slurm_additional_parameters": self.further or None,
        }
        return {key: value for key, value in values.items() if value is not None}


def read_slurm_file(path: Path) -> SlurmFile:
    """Read and check a file. Raises ConfigError with every mistake, each with its line."""
    source = read_file(path, "a file for SLURM", "partition: gpu")
    mistakes, values, further = list(source.mistakes), {}, {}
    for key, value in source.data.items():
        if key.startswith(FURTHER):
            option = key.removeprefix(FURTHER).replace("_", "-")
            further[option] = value
            if problem := _further_fault(key, option, value):
                mistakes.append(Mistake(source.place((key,)), problem))
        else:
            values[key] = value
    mistakes += _unknown_further(values.pop("further", None), source)
    try:
        found = SlurmFile.model_validate({**values, "further": further})
    except ValidationError as error:
        for where, details in faults_by_path(error, ()).items():
            problem = message(details, where, SlurmFile, "a file for SLURM").replace(" further,", "")
            mistakes.append(Mistake(source.place(where), problem))
    if mistakes:
        raise ConfigError(sorted(mistakes, key=lambda mistake: _line(mistake.place)))
    return _complete(found, path, source)


def _complete(found: SlurmFile, path: Path, source: Source) -> SlurmFile:
    """With an absolute folder, and with a time that holds what is packed into a job."""
    changes: dict[str, Any] = {}
    if found.pack_minutes >= found.time and "pack_minutes" in source.data:
        problem = (
            f"pack_minutes: {found.pack_minutes:g} minutes of runs do not fit into a job of {found.time:g} minutes"
            f" (time). Fix: time: {found.pack_minutes * 2:g}."
        )
        raise ConfigError([Mistake(source.place(("pack_minutes",)), problem)])
    if found.pack_minutes > found.time / 2 and "pack_minutes" not in source.data:
        changes["pack_minutes"] = found.time / 2
    if found.folder is not None:
        changes["folder"] = path.absolute().parent / found.folder.expanduser()
    return found.model_copy(update=changes)


def _further_fault(key: str, option: str, value: Any) -> str:
    if option in _OWN:
        instead = f" Fix: {_OWN[option]}: {value}." if _OWN[option] else ""
        return f"{key}: bnbench sets --{option} itself.{instead}"
    if isinstance(value, dict | list) or value is None:
        return f"{key}: {value!r} is wrong: it should be one value, such as sbatch takes for --{option}."
    return ""


def _unknown_further(value: Any, source: Source) -> list[Mistake]:
    if value is None:
        return []
    problem = (
        f'unknown key "further" in a file for SLURM. Fix: {FURTHER}OPTION: value, for any option of sbatch.'
    )
    return [Mistake(source.place(("further",)), problem)]


def _line(place: str) -> int:
    number = place.rpartition(":")[2]
    return int(number) if number.isdecimal() else 0
