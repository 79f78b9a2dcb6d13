"""Where a run finds its Ray cluster; without Ray itself."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tunectl.core import regular_files
from tunectl.core.errors import UsageError

LOCAL = "local"
"""The address of a cluster that the run starts and ends itself, as Ray calls it."""

_VARIABLE = "RAY_ADDRESS"
_REACH_SECONDS = 5.0


def cluster_address(wanted: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """The address of the cluster: `wanted`, else what Ray itself would take.

    That is RAY_ADDRESS, then the cluster that `ray start` has started on this host, then one of its own (LOCAL). Raises
    UsageError where RAY_ADDRESS is for another purpose: to submit jobs by the dashboard, or for Ray's clients.
    """
    if wanted is not None and wanted != "auto":
        return wanted
    named = environ.get(_VARIABLE, "")
    kind, separator, _ = named.partition("://")
    if separator:
        use = {"http": "the dashboard", "https": "the dashboard", "ray": "Ray's clients"}.get(kind, "something else")
        raise UsageError(
            f"{_VARIABLE}: expected host:port, auto or local, got {named}, an address for {use}; write the host and "
            "the port of `ray start --head` (6379 by default), there or in resources.ray.address"
        )
    return named or _started_here(environ) or (wanted or LOCAL)


def _started_here(environ: Mapping[str, str]) -> str:
    """The address that `ray start` has left on this host, if something answers there; else ""."""
    folder = Path(environ.get("RAY_TMPDIR") or tempfile.gettempdir(), "ray")
    try:
        address = regular_files.text(folder / "ray_current_cluster").strip()
        reach(address)
    except (OSError, ValueError):
        return ""
    return address


def reach(address: str) -> None:
    """Raise OSError where nothing answers at host:port; for other addresses it does nothing.

    Ray itself would try for a minute.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _REACH_SECONDS).close()
