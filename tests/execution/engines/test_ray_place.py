"""Where a run finds its Ray cluster. Tests execution/engines/ray_place.py."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunectl.core.errors import UsageError
from tunectl.execution.engines.ray_place import LOCAL, cluster_address, reach


@pytest.fixture
def listening() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def started(folder: Path, address: str) -> dict[str, str]:
    """The environment of a host where `ray start` has written this address."""
    (folder / "ray").mkdir()
    (folder / "ray" / "ray_current_cluster").write_text(address)
    return {"RAY_TMPDIR": str(folder)}


def test_the_study_comes_first_then_ray_address_then_what_runs_here_then_one_of_its_own(
    tmp_path: Path, listening: str
) -> None:
    environ = started(tmp_path, listening)
    named = {**environ, "RAY_ADDRESS": "10.0.0.1:6379"}
    assert cluster_address("10.0.0.2:6379", named) == "10.0.0.2:6379"
    assert cluster_address(LOCAL, named) == LOCAL
    assert cluster_address(None, named) == cluster_address("auto", named) == "10.0.0.1:6379"
    assert cluster_address(None, environ) == cluster_address("auto", environ) == listening
    nothing = {"RAY_TMPDIR": str(tmp_path / "empty")}
    assert cluster_address(None, nothing) == LOCAL
    assert cluster_address("auto", nothing) == "auto", "Ray says that it finds none"


@pytest.mark.parametrize(
    ("named", "use"),
    [
        ("http://head:8265", "the dashboard"),
        ("https://head", "the dashboard"),
        ("ray://head:10001", "Ray's clients"),
        ("x://head", "something else"),
    ],
)
def test_an_address_in_ray_address_that_is_for_another_purpose_is_refused(named: str, use: str) -> None:
    with pytest.raises(UsageError, match=f"^RAY_ADDRESS: expected host:port, .* got {named}, an address for {use}; "):
        cluster_address(None, {"RAY_ADDRESS": named})
    assert cluster_address("head:6379", {"RAY_ADDRESS": named}) == "head:6379", "the study comes first"


def test_a_cluster_that_has_ended_does_not_count(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = f"127.0.0.1:{server.getsockname()[1]}"
    assert cluster_address(None, started(tmp_path, ended)) == LOCAL
    with pytest.raises(ConnectionRefusedError):
        reach(ended)


def test_what_has_no_port_is_left_to_ray(listening: str) -> None:
    reach(listening)
    reach("auto")
