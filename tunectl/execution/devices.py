"""Which devices a study may use: the GPUs inside CUDA_VISIBLE_DEVICES, or the CPU."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tunectl.core.errors import UsageError
from tunectl.execution.nvml import Gpu, read_gpus


@dataclass(frozen=True, slots=True)
class Device:
    """The CPU, a GPU, or a MIG instance of a GPU.

    `index` counts the devices that were found. `visible` is the value of CUDA_VISIBLE_DEVICES with which a process sees
    this device alone: the UUID, not an index, whose meaning depends on CUDA_DEVICE_ORDER; "" for the CPU.
    """

    device_type: Literal["cpu", "cuda"]
    index: int = 0
    name: str = "cpu"
    visible: str = ""

    @property
    def label(self) -> str:
        """The name in the tables: "cpu", or the UUID, which is the same GPU in every run."""
        return self.visible or self.device_type


CPU = Device("cpu")


def find_devices(
    wanted: str | Sequence[int | str], environ: Mapping[str, str], gpus: Callable[[], Sequence[Gpu]] = read_gpus
) -> tuple[Device, ...]:
    """The devices to train on; never empty.

    `wanted` (`resources.devices`) is "auto" (the visible GPUs, or the CPU where there is none), "cpu", or indices into
    the visible GPUs and GPU- or MIG-UUIDs (a unique beginning is enough). Raises UsageError, with the visible GPUs,
    where a device is not found, is ambiguous or is listed twice. For "cpu" the driver is not called.
    """
    if wanted == "cpu":
        return (CPU,)
    visible = _visible(tuple(gpus()), environ.get("CUDA_VISIBLE_DEVICES"))
    if wanted == "auto":
        return visible or (CPU,)
    asked = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    if not asked:
        raise UsageError("resources.devices: expected auto, cpu, or a list of GPU indices or UUIDs, got an empty list")
    chosen = tuple(_chosen(item, visible) for item in asked)
    if len(set(chosen)) < len(chosen):
        raise UsageError(f"resources.devices: expected each device once, got {', '.join(map(str, asked))}")
    return chosen


def _chosen(item: int | str, visible: tuple[Device, ...]) -> Device:
    if isinstance(item, str) and not re.fullmatch(r"\d+", item):
        found = [device for device in visible if device.visible == item] or [
            device for device in visible if item.startswith(("GPU-", "MIG-")) and device.visible.startswith(item)
        ]
    else:
        found = [device for device in visible if device.index == int(item)]
    if len(found) == 1:
        return found[0]
    there = ", ".join(f"{device.index} ({device.visible}, {device.name})" for device in visible) or "none"
    problem = "is the beginning of more than one UUID" if found else "was not found"
    raise UsageError(f"resources.devices: {item} {problem}; the visible GPUs are: {there}")


def _visible(gpus: tuple[Gpu, ...], mask: str | None) -> tuple[Device, ...]:
    """The devices inside a mask, as CUDA reads it (CUDA Programming Guide, "CUDA Environment Variables").

    Without a mask all are visible. An entry that names no device hides itself and all entries after it. Where a device
    is named twice, none is visible (as for the driver and torch.cuda). Indices count in the order of the PCI bus, as
    nvidia-smi prints them: CUDA's default order (fastest first) differs only on machines with different GPUs, and no
    driver call gives it without starting CUDA. Where MIG mode is on, a GPU's instances take its place. CUDA would show
    only the first one to a process, but each trial is a separate process, so all named instances are usable.
    """
    entries: list[tuple[tuple[str, str], ...]] = []
    if mask is None:
        entries = [_parts(gpu) for gpu in gpus]
    else:
        for entry in mask.split(","):
            parts = _named(entry, mask, gpus)
            if not parts:
                break
            entries.append(parts)
    flat = [part for parts in entries for part in parts]
    if len(set(flat)) < len(flat):
        return ()
    return tuple(Device("cuda", index, name, uuid) for index, (uuid, name) in enumerate(flat))


def _parts(gpu: Gpu) -> tuple[tuple[str, str], ...]:
    if gpu.instances is not None:
        return tuple((instance.uuid, instance.name or gpu.name) for instance in gpu.instances)
    return ((gpu.uuid, gpu.name),) if gpu.uuid else ()


def _named(entry: str, mask: str, gpus: tuple[Gpu, ...]) -> tuple[tuple[str, str], ...]:
    # The first entry decides whether entries are UUIDs or indices; an entry of the other form names no device.
    if mask.startswith("GPU-"):
        found = [gpu for gpu in gpus if entry.startswith("GPU-") and gpu.uuid.startswith(entry)]
        return _parts(found[0]) if len(found) == 1 else ()
    if mask.startswith("MIG-"):
        return _named_instance(entry, gpus)
    # Like C's strtoul: leading blanks and a sign are read; what follows the digits is ignored.
    number = re.match(r"\s*([+-]?\d+)", entry, re.ASCII)
    index = int(number[1]) if number else -1
    return _parts(gpus[index]) if 0 <= index < len(gpus) else ()


def _named_instance(entry: str, gpus: tuple[Gpu, ...]) -> tuple[tuple[str, str], ...]:
    instances = [(gpu, instance) for gpu in gpus for instance in gpu.instances or ()]
    old_form = re.fullmatch(r"MIG-(GPU-[^/]+)/(\d+)/(\d+)", entry, re.ASCII)
    if old_form:
        place = (int(old_form[2]), int(old_form[3]))
        found = [
            (instance.uuid, instance.name or gpu.name)
            for gpu, instance in instances
            if gpu.uuid.startswith(old_form[1]) and (instance.gpu_instance, instance.compute_instance) == place
        ]
    else:
        found = [
            (instance.uuid, instance.name or gpu.name)
            for gpu, instance in instances
            if entry.startswith("MIG-") and len(entry) > len("MIG-") and instance.uuid.startswith(entry)
        ]
    return tuple(found) if len(found) == 1 else ()
