"""Clusters that tests share: a real SLURM, and a Ray of two nodes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ray_cluster import RayNodes, ray_nodes
from tests.ray_cluster import why_not as no_ray
from tests.slurm_cluster import slurm
from tests.slurm_cluster import why_not as no_slurm

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def found_by_workers() -> Iterator[None]:
    """Workers import bnbench and these tests from this checkout."""
    with pytest.MonkeyPatch.context() as patch:
        paths = [str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        yield


@pytest.fixture(scope="session")
def slurm_cluster(found_by_workers: None) -> Iterator[None]:
    """A SLURM of two CPUs; its commands and submitit find it by the environment."""
    pytest.importorskip("submitit")
    if reason := no_slurm():
        pytest.skip(reason)
    with slurm() as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def two_nodes(found_by_workers: None) -> Iterator[RayNodes]:
    """A Ray cluster of two nodes with a CPU each; ray:auto finds it by the environment."""
    if reason := no_ray():
        pytest.skip(reason)
    with ray_nodes() as nodes, pytest.MonkeyPatch.context() as patch:
        for name, value in nodes.environment.items():
            patch.setenv(name, value)
        yield nodes
