"""What a worker asks for on a Ray cluster, and how many have room. Tests execution/engines/ray_room.py."""

from __future__ import annotations

from typing import Any

import pytest

from tunectl.execution.engines.ray_room import WorkerSize, amounts, no_node_has, room
from tunectl.execution.worker_engine import GPUS_VARIABLE
from tunectl.language.study_spec import RaySection, ResourcesSection


def size(has_gpus: bool, ray: RaySection | None = None, **resources: Any) -> WorkerSize:
    return WorkerSize.of(ResourcesSection(ray=ray or RaySection(), **resources), has_gpus=has_gpus)


@pytest.mark.parametrize(
    ("found", "cpus", "gpus", "slots"),
    [
        (size(False), 1, 0, 1),
        (size(True), 1, 1, 1),
        (size(True, devices="cpu"), 1, 0, 1),
        (size(True, trials_per_device=3), 1, 1, 3),
        (size(True, threads_per_trial=4), 4, 1, 1),
        (size(False, threads_per_trial=4, devices_per_trial=2), 8, 0, 1),
        (size(True, devices_per_trial=4), 4, 4, 1),
        (size(True, devices_per_trial=2, threads_per_trial=3), 6, 2, 1),
        (size(True, RaySection(num_gpus=8, num_cpus=16), devices_per_trial=4), 16, 8, 2),
        (size(True, RaySection(num_gpus=0.5)), 1, 0.5, 1),
        (size(True, RaySection(num_gpus=0)), 1, 0, 1),
        (size(False, RaySection(num_cpus=8), threads_per_trial=2), 8, 0, 4),
        (size(False, RaySection(num_cpus=0.5)), 0.5, 0, 1),
    ],
)
def test_a_worker_has_the_size_of_one_trial_or_what_the_study_says(
    found: WorkerSize, cpus: float, gpus: float, slots: int
) -> None:
    assert (found.cpus, found.gpus, found.slots) == (cpus, gpus, slots)
    assert found.options == {"num_cpus": cpus, "num_gpus": gpus}
    assert found.environment(is_ours=False) == ({GPUS_VARIABLE: f"{gpus:g}"} if gpus else {"CUDA_VISIBLE_DEVICES": ""})


def test_on_a_cluster_of_the_runs_own_only_parts_of_a_gpu_are_known_to_be_shared() -> None:
    """Such a cluster knows nothing of other runs on its host: whole GPUs are not a worker's alone."""
    assert size(True).environment(is_ours=True) == {}
    assert size(True, RaySection(num_gpus=0.5)).environment(is_ours=True) == {GPUS_VARIABLE: "0.5"}
    assert size(False).environment(is_ours=True) == {"CUDA_VISIBLE_DEVICES": ""}


def test_other_options_are_passed_on_and_what_they_ask_of_a_node_counts() -> None:
    found = size(True, RaySection(additional={"resources": {"fast": 1}, "memory": 5, "scheduling_strategy": "SPREAD"}))
    assert found.options["scheduling_strategy"] == "SPREAD"
    assert found.needs == {"CPU": 1, "GPU": 1, "fast": 1, "memory": 5}
    assert room([{"CPU": 9, "GPU": 9, "memory": 9}], found.needs) == 0
    assert room([{"CPU": 9, "GPU": 9, "memory": 9, "fast": 1}], found.needs) == 1


def test_workers_have_room_node_by_node() -> None:
    nodes = [{"CPU": 4, "GPU": 3}, {"CPU": 64, "GPU": 1}, {"CPU": 1}]
    assert room(nodes, {"CPU": 1, "GPU": 2}) == 1, "two GPUs of two nodes are not two GPUs of one"
    assert room(nodes, {"CPU": 1, "GPU": 1}) == 4
    assert room(nodes, {"CPU": 2, "GPU": 0.5}) == 4
    assert room(nodes, {"CPU": 0.1, "GPU": 0}) == 40 + 640 + 10
    assert room([], {"CPU": 1}) == 0


def test_what_no_node_has_is_said_with_what_the_best_ones_have() -> None:
    nodes = [{"CPU": 4, "GPU": 3}, {"CPU": 64, "GPU": 1}]
    assert no_node_has(nodes, {"CPU": 1, "GPU": 3}) == ""
    assert no_node_has(nodes, {"CPU": 1, "GPU": 4}) == (
        "no node of the Ray cluster has 1 CPU and 4 GPU for one worker (the most on one node: 64 CPU and 3 GPU)"
    )
    assert no_node_has([], {"CPU": 1}).endswith("(the most on one node: 0 CPU)")


def test_amounts_are_listed_without_those_that_are_zero() -> None:
    assert amounts({"CPU": 1.0, "GPU": 0}) == "1 CPU"
    assert amounts({"CPU": 1.0, "GPU": 0.5, "fast": 2}) == "1 CPU, 0.5 GPU and 2 fast"
