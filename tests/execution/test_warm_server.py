"""The servers of tests that are forks of a warm process are as those that are started. Tests tests/warm_server.py."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy_trials import Toys, wait_until
from warm_server import WarmServers

from tunectl.core.records import WorkloadReference
from tunectl.execution import processes
from tunectl.execution.backends.local import LocalBackend

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux alone gives orphans a new parent")


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalBackend]:
    monkeypatch.chdir(tmp_path)
    made = LocalBackend({**os.environ, "TUNECTL_TEST_SEEN": "yes"})
    made.start()
    yield made
    made.close()


def pid_of(backend: LocalBackend) -> int:
    assert backend._server is not None
    return backend._server.process.pid


def is_warm(pid: int) -> bool:
    return b"warm_server.py" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_it_has_its_own_session_mark_and_folder_and_is_a_child_of_this_process(
    backend: LocalBackend, tmp_path: Path
) -> None:
    backend.load(WorkloadReference("tunectl.workloads.digits:mlp", "mlp", module="tunectl.workloads.digits"), {})
    assert backend.wait_ready() is not None
    pid = pid_of(backend)
    assert is_warm(pid)
    assert backend.launch_mode == "fork"
    assert os.getsid(pid) == pid
    assert pid in processes.children()
    assert processes.with_mark(backend._mark) == {pid}
    assert Path(f"/proc/{pid}/cwd").readlink() == tmp_path
    backend.close()
    assert not processes.is_alive(pid)


@pytest.fixture(scope="module")
def set_by_a_fixture() -> str:
    os.environ["MADE_UP_BY_A_FIXTURE"] = "yes"
    return "MADE_UP_BY_A_FIXTURE"


@pytest.mark.parametrize("time", ["first", "second"])
def test_what_a_test_or_a_library_that_it_imports_sets_is_gone_in_the_next_test(
    time: str, set_by_a_fixture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "SET_BY_A_TEST" not in os.environ, time
    assert os.environ.pop(set_by_a_fixture) == "yes"  # each test of the file has it
    os.environ["SET_BY_A_TEST"] = "yes"  # as scikit-learn sets KMP_INIT_AT_FORK
    monkeypatch.setenv("SET_AND_PUT_BACK", "yes")


def test_one_that_is_killed_while_it_loads_is_waited_for_and_another_is_started(backend: LocalBackend) -> None:
    first = pid_of(backend)
    os.kill(first, signal.SIGKILL)
    backend.load(WorkloadReference("tunectl.workloads.digits:mlp", "mlp", module="tunectl.workloads.digits"), {})
    assert backend.wait_ready() is not None
    assert pid_of(backend) != first
    wait_until(lambda: not Path(f"/proc/{first}").exists(), "the first is no zombie")


def test_so_is_one_of_toys_which_imports_them_itself(tmp_path: Path) -> None:
    toys = Toys(tmp_path)
    toys.start()
    try:
        assert is_warm(pid_of(toys.backend))
        folder = toys.launch(0, "reports")
        toys.until_ended(0)
        facts = json.loads((folder / "facts.json").read_text())
        assert facts["loaded_pid"] == pid_of(toys.backend)
    finally:
        toys.backend.close()


def test_a_worker_whose_trials_are_toys_is_a_process_of_its_own_that_ends_with_its_exit_code(
    tmp_path: Path, fast_machine: WarmServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    program = fast_machine.start_toy_program(["worker", "nowhere"])
    assert program.pid in processes.children()
    assert program.wait(60) == 3


def test_a_command_is_a_process_and_session_of_its_own_that_ends_with_its_words_and_exit_code(
    tmp_path: Path, fast_machine: WarmServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        program = fast_machine.start_program(["worker", "nowhere"], os.environ, out, err)
    assert os.getsid(program.pid) != os.getsid(0)
    assert program.wait(60) == 3
    assert "nowhere: is not a study folder" in (tmp_path / "err").read_text()
    assert (tmp_path / "out").read_text() == ""


def test_what_python_reads_at_its_start_is_heeded_by_a_start_in_earnest() -> None:
    backend = LocalBackend({**os.environ, "PYTHONHASHSEED": "7"})
    backend.start()
    try:
        assert not is_warm(pid_of(backend))
    finally:
        backend.close()
