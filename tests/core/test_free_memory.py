"""How much memory is free, from the system's files."""

from __future__ import annotations

import pytest

from tunectl.core.free_memory import free_bytes, killed_for_memory

MIB = 2**20


@pytest.fixture
def system(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:  4096 kB\n")
    (tmp_path / "cgroup").write_text("4:memory:/jobs/mine\n3:cpuset:/\n0::/\n")

    def free(files=None):
        for name, content in (files or {}).items():
            path = tmp_path / "groups" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return free_bytes(tmp_path / "meminfo", tmp_path / "cgroup", tmp_path / "groups")

    return free


def test_without_a_limit_all_that_the_machine_has_available_is_free(system):
    assert system() == 4 * MIB
    assert system({"memory/jobs/mine/memory.limit_in_bytes": "9223372036854771712"}) == 4 * MIB
    assert system({"memory.max": "max", "memory.current": "100"}) == 4 * MIB


def test_the_tightest_control_group_binds_and_what_it_can_drop_counts_as_free(system):
    parent = {"memory/jobs/memory.limit_in_bytes": f"{3 * MIB}", "memory/jobs/memory.usage_in_bytes": f"{MIB}"}
    assert system(parent) == 2 * MIB
    assert system({"memory/jobs/memory.stat": f"cache 7\ntotal_inactive_file {MIB // 2}\n"}) == 2 * MIB + MIB // 2
    # The unified hierarchy of v2.
    assert system({"memory.max": f"{2 * MIB}\n", "memory.current": f"{MIB}\n"}) == MIB
    assert system({"memory.current": f"{5 * MIB}"}) == 0


@pytest.mark.parametrize("file", ["jobs/mine/memory.events", "memory/jobs/mine/memory.oom_control"])
def test_how_many_processes_of_the_own_group_were_killed_for_want_of_memory_is_counted(tmp_path, file):
    (tmp_path / "cgroup").write_text("4:memory:/jobs/mine\n0::/jobs/mine\n")
    assert killed_for_memory(tmp_path / "cgroup", tmp_path) is None
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text("oom 5\noom_kill 3\noom_group_kill 0\n")
    assert killed_for_memory(tmp_path / "cgroup", tmp_path) == 3


def test_nothing_is_known_where_the_system_has_no_such_files(tmp_path):
    assert free_bytes(tmp_path / "none", tmp_path / "none", tmp_path) is None
