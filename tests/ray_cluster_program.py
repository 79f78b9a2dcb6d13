"""A Ray cluster of several nodes on this host, for tests: a program that does what its standard input says.

`add CPUS GPUS` starts a node and prints its number, `remove NUMBER` kills one. The first line that it prints is the
address. At the end of its input it ends all.
"""

# ruff: noqa: T201

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from ray.cluster_utils import Cluster

TRIES = 3
Started = TypeVar("Started")


def started(start: Callable[[], Started]) -> Started:
    """Start a node; again where its helpers, programs in Python, were not there within the 15 seconds of Ray's."""
    for _ in range(TRIES - 1):
        try:
            return start()
        except Exception as error:
            print(f"Ray did not start: {error}", file=sys.stderr)
    return start()


def head() -> Cluster:
    options = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 100 * 2**20}
    return Cluster(initialize_head=True, head_node_args=options)


def main() -> None:
    cluster = started(head)
    print(cluster.address, flush=True)
    nodes = []
    try:
        for line in sys.stdin:
            order, *numbers = line.split()
            if order == "add":
                cpus, gpus = map(int, numbers)

                def add(cpus: int = cpus, gpus: int = gpus) -> object:
                    return cluster.add_node(num_cpus=cpus, num_gpus=gpus, object_store_memory=100 * 2**20)

                nodes.append(started(add))
                print(len(nodes) - 1, flush=True)
            else:
                cluster.remove_node(nodes[int(numbers[0])], allow_graceful=False)
                print("removed", flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
