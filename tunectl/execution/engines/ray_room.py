"""What one worker asks for on a Ray cluster, and how many of them have room there; without Ray itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunectl.execution.worker_engine import GPUS_VARIABLE

if TYPE_CHECKING:
    from tunectl.language.study_spec import ResourcesSection

Needs = Mapping[str, float]
"""An amount of each resource of Ray, such as {"CPU": 1, "GPU": 2}."""

_ROUNDING = 1e-6  # Ray counts in parts of 1e-4


@dataclass(frozen=True, slots=True)
class WorkerSize:
    """What one worker asks for: `cpus`, `gpus`, and `more` resources, as options of its actor. It has `slots` trials.

    All devices of one worker are on one node: Ray never divides an actor.
    """

    cpus: float
    gpus: float
    slots: int
    more: Mapping[str, Any]

    @classmethod
    def of(cls, resources: ResourcesSection, *, has_gpus: bool) -> WorkerSize:
        """The size by the study's resources; by default that of one trial, on GPUs where the cluster `has_gpus`."""
        asked, each = resources.ray, resources.devices_per_trial
        on_gpus = has_gpus and resources.devices != "cpu"
        gpus = asked.num_gpus if asked.num_gpus is not None else float(each if on_gpus else 0)
        cores = max(1, resources.threads_per_trial) * each
        cpus = asked.num_cpus if asked.num_cpus is not None else float(cores)
        if gpus >= 1:
            slots = max(1, int(gpus) // each) * resources.trials_per_device
        else:
            slots = 1 if gpus else max(1, int(cpus) // cores)
        return cls(cpus, gpus, slots, asked.additional)

    @property
    def needs(self) -> Needs:
        """The amounts that a node must have."""
        custom = self.more.get("resources")
        memory = self.more.get("memory")
        return {
            "CPU": self.cpus,
            "GPU": self.gpus,
            **({name: float(amount) for name, amount in custom.items()} if isinstance(custom, dict) else {}),
            **({"memory": float(memory)} if isinstance(memory, (int, float)) else {}),
        }

    @property
    def options(self) -> Mapping[str, Any]:
        """The options of the actor."""
        return {**self.more, "num_cpus": self.cpus, "num_gpus": self.gpus}

    def environment(self, *, is_ours: bool) -> Mapping[str, str]:
        """What is added to the worker's environment: no GPU that Ray did not assign, and whether it has its GPUs alone.

        `is_ours`: the cluster is one of the run's own, and knows nothing of others on this host.
        """
        if not self.gpus:
            return {"CUDA_VISIBLE_DEVICES": ""}
        return {} if is_ours and self.gpus >= 1 else {GPUS_VARIABLE: f"{self.gpus:g}"}

    @property
    def waiting(self) -> str:
        """Why a worker waits."""
        return f"waits until the cluster has {amounts(self.needs)} free"


def room(nodes: Sequence[Needs], needs: Needs) -> int:
    """How many workers fit on these nodes at once, by all that the nodes have."""
    return sum(_room_on(node, needs) for node in nodes)


def _room_on(node: Needs, needs: Needs) -> int:
    parts = [node.get(name, 0.0) / wanted for name, wanted in needs.items() if wanted > 0]
    return math.floor(min(parts) + _ROUNDING) if parts else 0


def no_node_has(nodes: Sequence[Needs], needs: Needs) -> str:
    """Says that no node could ever run such a worker, and what the best ones have; "" where one could."""
    if room(nodes, needs):
        return ""
    most = {name: max((node.get(name, 0.0) for node in nodes), default=0.0) for name in needs}
    return f"no node of the Ray cluster has {amounts(needs)} for one worker (the most on one node: {amounts(most)})"


def amounts(needs: Needs) -> str:
    """The amounts in words: `2 GPU and 1 CPU`."""
    shown = [f"{amount:g} {name}" for name, amount in needs.items() if amount or name == "CPU"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
