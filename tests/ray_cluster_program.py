"""A Ray cluster of several nodes on this host, for tests: a program that does what its standard input says.

`add CPUS GPUS` starts a node and prints its number, `remove NUMBER` kills one. The first line that it prints is the
address. At the end of its input it ends all.
"""

# ruff: noqa: T201

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster


def main() -> None:
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": 100 * 2**20},
    )
    print(cluster.address, flush=True)
    nodes = []
    try:
        for line in sys.stdin:
            order, *numbers = line.split()
            if order == "add":
                cpus, gpus = map(int, numbers)
                nodes.append(cluster.add_node(num_cpus=cpus, num_gpus=gpus, object_store_memory=100 * 2**20))
                print(len(nodes) - 1, flush=True)
            else:
                cluster.remove_node(nodes[int(numbers[0])], allow_graceful=False)
                print("removed", flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
