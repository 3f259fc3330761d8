"""`--shard 2/8`: one of so many parts of a study's runs, the same on every machine and whatever is finished already."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bnbench.base.errors import BnbenchError, GateError
from bnbench.study.plan import RunSpec
from bnbench.study.schema import Study


def check_shard(study: Study, gates: Sequence[str]) -> None:
    """Raises BnbenchError where a part of the study can't be trained alone, or where gates would judge one."""
    if study.looks:
        raise BnbenchError(
            f"--shard: {study.name} has `seeds: auto`.",
            "Each of its looks needs every run before it, and a shard has only some of them.",
            f"a fixed number, such as seeds={study.looks[0]}; or, for many machines on `seeds: auto`, --executor.",
        )
    if gates:
        raise GateError(
            f"--fail-if '{gates[0]}': a shard has only some of the runs, so its answer is not the study's.",
            "",
            "--fail-if at `bnbench merge`, which has all of them.",
        )


def part_of(
    runs: Sequence[RunSpec], shard: tuple[int, int], seconds: Callable[[RunSpec], float]
) -> tuple[RunSpec, ...]:
    """The runs of the k-th of n parts: each run is in exactly one of them.

    All variants of a seed are in one part, so that they are trained on one machine. With more parts than seeds, the
    variants of a seed are spread over some parts, so that these take about as long. seconds: predicted for a run; the
    same on every machine.
    """
    part, parts = shard[0] - 1, shard[1]
    seeds = list(dict.fromkeys(run.seed for run in runs))
    place = part % len(seeds)  # of the seeds that this part has, or shares with others
    if parts <= len(seeds):
        own = {seed for index, seed in enumerate(seeds) if index % parts == part}
        return tuple(run for run in runs if run.seed in own)
    sharing = range(place, parts, len(seeds))
    load = dict.fromkeys(sharing, 0.0)
    mine = set()
    of_seed = [run for run in runs if run.seed == seeds[place]]
    for run in sorted(of_seed, key=seconds, reverse=True):  # stable: equal ones stay in the plan's order
        least = min(sharing, key=load.__getitem__)
        load[least] += seconds(run)
        if least == part:
            mine.add(run.key)
    return tuple(run for run in runs if run.key in mine)
