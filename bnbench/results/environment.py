"""environment.json: under which circumstances every run of the folder was trained, taken from the runs themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bnbench.base.files import key_text
from bnbench.study.records import RunRecord

#: What of a run's environment is its own, not its session's.
_OF_THE_RUN = ("engine", "engine_reason", "replicas", "num_threads", "resumed")


def trained_under(runs: Iterable[RunRecord]) -> dict[str, Any]:
    """The circumstances, each once, with the runs that were trained under them; empty where no run knows its own."""
    groups: dict[str, tuple[dict[str, Any], dict[str, list[int]]]] = {}
    for run in runs:
        if "session" not in run.environment:
            continue
        circumstances = {key: value for key, value in run.environment.items() if key not in _OF_THE_RUN}
        session = circumstances.pop("session")
        circumstances |= session if isinstance(session, Mapping) else {}
        key = key_text(circumstances)
        _, members = groups.setdefault(key, (circumstances, {}))
        members.setdefault(run.label, []).append(run.seed)
    if not groups:
        return {}
    return {
        "trained_under": [{**circumstances, "runs": members} for circumstances, members in groups.values()]
    }
