"""Ray clusters for tests: whether there is Ray, and a cluster of several nodes on this host."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tunectl.core.installation import install_command

PROGRAM = Path(__file__).with_name("ray_cluster_program.py")
SUBSTITUTE = Path(__file__).with_name("substitute_worker.py")


def need_ray() -> None:
    """Skip the test where Ray is missing, or fail it where it was asked for; Ray itself is not imported."""
    if importlib.util.find_spec("ray") is not None:
        return
    message = f"ray is missing; {install_command('ray')}"
    if os.environ.get("TUNECTL_CLUSTERS") == "required":
        pytest.fail(message)
    pytest.skip(message)


class RayNodes:
    """A Ray cluster whose head has no CPU; nodes are added, and killed with all that runs on them.

    `environ` is added to the environment of the nodes: that of the tests, and of runs, does not reach their workers.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        # Short: Ray makes sockets in it. `ray start` and others would find the cluster by the usual folder.
        self._folder = tempfile.mkdtemp(prefix="tunectl-ray-", dir="/tmp")
        self._program = subprocess.Popen(
            [sys.executable, PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "RAY_TMPDIR": self._folder, **(environ or {})},
        )
        self.address = self._answer()

    def add(self, cpus: int, gpus: int = 0) -> int:
        """Start a node with as many GPUs as Ray shall believe it has; gives its number."""
        return int(self._ask(f"add {cpus} {gpus}"))

    def remove(self, node: int) -> None:
        """Kill the node's processes, as a power cut would."""
        assert self._ask(f"remove {node}") == "removed"

    def close(self) -> None:
        """End the cluster."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.close()
        self._program.wait()
        self._program.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _ask(self, order: str) -> str:
        assert self._program.stdin is not None
        self._program.stdin.write(f"{order}\n")
        self._program.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self._program.stdout is not None
        line = self._program.stdout.readline().strip()
        assert line, "the cluster has ended"
        return line
