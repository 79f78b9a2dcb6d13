"""A case for each backend: `case` was made, `ready` has loaded its workload."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cases import CASES, MARKED, Case
from ray_clusters import RayNodes, need_ray
from slurm_node import SlurmNode, missing_programs, running_node

from tunectl.execution.backends.backend import BackendReady


@pytest.fixture(scope="session")
def ray_nodes() -> Iterator[RayNodes]:
    need_ray()
    nodes = RayNodes()
    nodes.add(2)
    nodes.add(2)
    yield nodes
    nodes.close()


@pytest.fixture(scope="session")
def slurm_node() -> Iterator[SlurmNode]:
    if missing := missing_programs():
        pytest.skip(f"Slurm is missing ({', '.join(missing)}); apt install slurmctld slurmd munge")
    with contextlib.ExitStack() as running:
        try:
            node = running.enter_context(running_node())
        except RuntimeError as error:
            if os.environ.get("TUNECTL_CLUSTERS") != "startable":
                raise
            pytest.skip(str(error))
        yield node


@pytest.fixture(params=[pytest.param(name, marks=MARKED.get(name, ())) for name in sorted(CASES)])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    with CASES[request.param](tmp_path / "study", request) as made:
        yield made
        made.close()


@pytest.fixture
def ready(case: Case) -> Case:
    case.begin()
    assert isinstance(case.backend.wait_ready(), BackendReady)
    return case
