"""Slots: how many, on which device, with which environment."""

from __future__ import annotations

import pytest

from tunectl.core.errors import UsageError
from tunectl.execution.devices import CPU, Device
from tunectl.execution.slots import available_cores, core_places, make_slots

TWO_GPUS = (Device("cuda", 0, "H100", "GPU-a"), Device("cuda", 1, "H100", "GPU-b"))


@pytest.mark.parametrize(
    ("cores", "threads", "count", "expected"),
    [(2, 1, None, 2), (8, 3, None, 2), (2, 4, None, 1), (1, 1, None, 1), (2, 1, 5, 5), (8, 1, 1, 1)],
)
def test_cpu_slots_share_the_cores_and_count_sets_their_number(cores, threads, count, expected):
    slots = make_slots([CPU], 1, threads, count, cores)
    assert [slot.index for slot in slots] == list(range(expected))
    assert {slot.torch_device for slot in slots} == {"cpu"}
    assert slots[0].environment["CUDA_VISIBLE_DEVICES"] == ""
    assert slots[0].environment["OMP_NUM_THREADS"] == str(threads)


def test_each_gpu_slot_sees_its_own_gpu_alone_as_cuda_0():
    slots = make_slots(TWO_GPUS, trials_per_device=2)
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["GPU-a", "GPU-b", "GPU-a", "GPU-b"]
    assert {slot.torch_device for slot in slots} == {"cuda:0"}
    assert [slot.index for slot in slots] == [0, 1, 2, 3]


def test_fewer_slots_than_gpus_lie_on_different_ones():
    assert [slot.device.index for slot in make_slots(TWO_GPUS, 2, count=3)] == [0, 1, 0]


@pytest.mark.parametrize(
    ("devices", "per_device", "count", "said"),
    [
        (
            TWO_GPUS,
            1,
            3,
            "--slots: expected at most 2 (GPUs: 2, trials_per_device: 1), got 3; raise resources.trials_per_device",
        ),
        (TWO_GPUS[:1], 1, 2, "--slots: expected at most 1 (GPUs: 1, trials_per_device: 1), got 2"),
        (TWO_GPUS, 1, 0, "at least 1"),
        ((CPU,), 1, -1, "at least 1"),
    ],
)
def test_a_count_that_cannot_be_is_refused(devices, per_device, count, said):
    with pytest.raises(UsageError) as caught:
        make_slots(devices, per_device, count=count, cores=2)
    assert said in str(caught.value)


def cgroups(tmp_path, membership, files):
    (tmp_path / "cgroup").write_text(membership)
    for path, content in files.items():
        file = tmp_path / "fs" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return available_cores(tmp_path / "cgroup", tmp_path / "fs", affinity=16)


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {}, 16),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 16),
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "400000 100000"}, 4),
        ("0::/host/only\n", {"cpu.max": "300000 100000"}, 3),
        (
            "4:cpu,cpuacct:/x\n0::/\n",
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "600000", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"},
            6,
        ),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 16),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "500000", "cpu/cpu.cfs_period_us": "0"}, 16),
        ("3:cpuset:/\n", {"cpuset/cpu.cfs_quota_us": "100000", "cpuset/cpu.cfs_period_us": "100000"}, 16),
        ("0::/\n", {"cpu.max": "odd"}, 16),
        ("odd\n", {}, 16),
    ],
)
def test_the_cpu_quota_of_the_control_group_limits_the_cores(tmp_path, membership, files, expected):
    assert cgroups(tmp_path, membership, files) == expected


def test_affinity_alone_counts_where_there_are_no_control_groups(tmp_path):
    assert available_cores(tmp_path / "none", tmp_path, affinity=3) == 3
    assert available_cores() >= 1


FOUR_GPUS = tuple(Device("cuda", index, "H100", f"GPU-{name}") for index, name in enumerate("abcd"))


def test_a_trial_of_several_gpus_has_a_group_of_its_own():
    slots = make_slots((*FOUR_GPUS, Device("cuda", 4, "H100", "GPU-e")), devices_per_trial=2)
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["GPU-a,GPU-b", "GPU-c,GPU-d"]
    assert [slot.device.label for slot in slots] == ["GPU-a,GPU-b", "GPU-c,GPU-d"]
    shared = make_slots(FOUR_GPUS, trials_per_device=2, devices_per_trial=4)
    assert [slot.device for slot in shared] == [shared[0].device] * 2


def test_gpus_of_one_type_are_taken_together_first():
    types = ["H100", "A100", "H100", "A100", "H100", "A100"]
    gpus = [Device("cuda", index, name, f"GPU-{index}") for index, name in enumerate(types)]
    slots = make_slots(gpus, devices_per_trial=2)
    assert [slot.device.visible for slot in slots] == ["GPU-0,GPU-2", "GPU-1,GPU-3", "GPU-4,GPU-5"]
    assert [slot.device.name for slot in slots] == ["H100", "A100", "H100, A100"]


def test_a_trial_of_several_processes_has_as_many_shares_of_the_cores():
    assert len(make_slots([CPU], threads_per_trial=2, cores=8, devices_per_trial=2)) == 2
    assert len(make_slots([CPU], cores=2, devices_per_trial=4)) == 1


def test_more_gpus_for_a_trial_than_there_are_is_refused():
    with pytest.raises(
        UsageError, match=r"resources\.devices_per_trial: expected at most 2, the number of GPUs, got 4"
    ):
        make_slots(TWO_GPUS, devices_per_trial=4)


def test_the_cores_have_the_names_of_those_that_this_process_may_use(tmp_path):
    (tmp_path / "cgroup").write_text("0::/\n")
    places = core_places(tmp_path / "cgroup", tmp_path / "fs", affinity=[3, 7])
    assert places == ("core-3", "core-7"), "a run with other cores does not wait for these"


def test_under_a_quota_they_are_parts_of_that_group_s_quota(tmp_path):
    def places(group, quota):
        (tmp_path / "cgroup").write_text(f"0::/{group}\n")
        (tmp_path / "fs" / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / group / "cpu.max").write_text(f"{quota} 100000\n")
        return core_places(tmp_path / "cgroup", tmp_path / "fs", affinity=range(8))

    first, second = places("a", 250_000), places("b", 50_000)
    assert len(first) == available_cores(tmp_path / "none", affinity=2) == 2
    assert len(second) == 1, "half a core is one place"
    assert not {*first} & {*second}, "two containers with a quota each do not wait for each other"
    assert places("a", 250_000) == first
    assert places("c", 800_000) == tuple(f"core-{core}" for core in range(8))
