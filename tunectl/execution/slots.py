"""Slots: places for one trial each, on a device or on some of the cores."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunectl.core.errors import UsageError
from tunectl.core.free_memory import cgroup_folders
from tunectl.execution.devices import Device


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for one trial at a time.

    `environment` is added to the trial's. Its CUDA_VISIBLE_DEVICES shows the trial its own device alone, so
    `torch_device` is "cuda:0" on every GPU, and "cpu" elsewhere. Where a trial has several GPUs, `device` is all of
    them. `is_queue`: it is no such place, but takes any number of trials, which start when a worker takes them; with
    `is_alone` no other trial may be on the worker's device.
    """

    index: int
    device: Device
    environment: Mapping[str, str]
    torch_device: str
    is_queue: bool = False
    is_alone: bool = False


def make_slots(
    devices: Sequence[Device],
    trials_per_device: int = 1,
    threads_per_trial: int = 1,
    count: int | None = None,
    cores: int | None = None,
    devices_per_trial: int = 1,
) -> tuple[Slot, ...]:
    """The slots of these devices.

    Each GPU gives `trials_per_device` slots, in an order in which the first slots are on different GPUs. The CPU gives
    as many slots as trials of `threads_per_trial` threads fit on `cores` (default: `available_cores()`), at least one.
    Where a trial has several devices, neighbouring GPUs of one type are taken together; on the CPU it has as many
    processes. `count` (`--slots`) takes fewer of the GPUs' slots, and sets the number on the CPU. Raises UsageError for
    a count below 1, for more than the GPUs have (only `trials_per_device` puts two trials on one GPU), and where a
    trial needs more GPUs than there are.
    """
    if count is not None and count < 1:
        raise UsageError(f"--slots: expected at least 1, got {count}")
    if all(device.device_type == "cpu" for device in devices):
        threads = max(1, threads_per_trial) * devices_per_trial
        by_cores = max(1, (available_cores() if cores is None else cores) // threads)
        places = [devices[0]] * (count or by_cores)
    else:
        places = [device for _ in range(trials_per_device) for device in _together(devices, devices_per_trial)]
        if count is not None and count > len(places):
            raise UsageError(
                f"--slots: expected at most {len(places)} (GPUs: {len(devices)}, trials_per_device: "
                f"{trials_per_device}), got {count}; raise resources.trials_per_device to let trials share a GPU"
            )
        places = places[:count]
    return tuple(
        Slot(
            index,
            device,
            {"CUDA_VISIBLE_DEVICES": device.visible, **thread_environment(threads_per_trial)},
            "cpu" if device.device_type == "cpu" else "cuda:0",
        )
        for index, device in enumerate(places)
    )


def _together(devices: Sequence[Device], count: int) -> list[Device]:
    """Groups of `count` devices, each as one device: neighbours among those of one type, and of two types only where
    no others are left. Devices that are left over stay unused.
    """
    if count == 1:
        return list(devices)
    if len(devices) < count:
        raise UsageError(
            f"resources.devices_per_trial: expected at most {len(devices)}, the number of GPUs, got {count}"
        )
    names = dict.fromkeys(device.name for device in devices)
    whole = [[device for device in devices if device.name == name] for name in names]
    groups = [each[first : first + count] for each in whole for first in range(0, len(each) - count + 1, count)]
    left = [device for each in whole for device in each[len(each) - len(each) % count :]]
    groups += [left[first : first + count] for first in range(0, len(left) - count + 1, count)]
    return [
        Device(
            "cuda",
            index,
            ", ".join(dict.fromkeys(device.name for device in group)),
            ",".join(device.visible for device in group),
        )
        for index, group in enumerate(groups)
    ]


def thread_environment(threads: int) -> dict[str, str]:
    """The environment variables that limit numerical libraries to this number of threads."""
    return {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def available_cores(
    membership: Path = Path("/proc/self/cgroup"), hierarchy: Path = Path("/sys/fs/cgroup"), affinity: int | None = None
) -> int:
    """The number of cores that this process may use: its affinity, under the CPU quota of its control groups (v1, v2).

    A quota of 2.5 cores counts as 2. At least 1.
    """
    if affinity is None:
        affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in cgroup_folders(membership, hierarchy, "cpu") if (quota := _quota(folder)) is not None]
    return max(1, int(min([affinity, *quotas])))


def core_places(
    membership: Path = Path("/proc/self/cgroup"),
    hierarchy: Path = Path("/sys/fs/cgroup"),
    affinity: Sequence[int] | None = None,
) -> tuple[str, ...]:
    """The names of the cores that this process may use, as many as `available_cores`.

    Two processes that may use the same core have the same name for it, also in different containers. Under a quota the
    names are those of parts of the quota of that control group, which has no cores of its own.
    """
    if affinity is None:
        known = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        affinity = list(known)
    quotas = [(quota, folder) for folder in cgroup_folders(membership, hierarchy, "cpu") if (quota := _quota(folder))]
    least = min(quotas, key=lambda item: item[0], default=None)
    if least is None or int(least[0]) >= len(affinity):
        return tuple(f"core-{core}" for core in affinity)
    status = least[1].stat()  # of the group: its path is another one in each container
    return tuple(f"quota-{status.st_dev}-{status.st_ino}-{part}" for part in range(max(1, int(least[0]))))


def _quota(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        microseconds, of = int(quota), int(period)
    except ValueError:  # "max": no quota
        return None
    return microseconds / of if microseconds > 0 and of > 0 else None
