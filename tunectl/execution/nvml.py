"""What NVML says about the GPUs of this machine: the thin edge to the driver, replaced in tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunectl.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class MigInstance:
    """One MIG device of a GPU: what CUDA sees of it as a GPU of its own."""

    uuid: str
    gpu_instance: int
    compute_instance: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. `instances` is None where MIG mode is off; `uuid` is "" for a GPU that does not answer."""

    uuid: str
    name: str = ""
    instances: tuple[MigInstance, ...] | None = None


def read_gpus() -> tuple[Gpu, ...]:
    """The GPUs of this machine in the order of the PCI bus; none where there is no NVIDIA driver.

    Raises UsageError when the driver is there and does not answer (a driver updated under a running system).
    """
    try:
        import pynvml
    except ImportError:
        return ()
    absent = (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED, pynvml.NVML_ERROR_NOT_FOUND)
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        if error.value in absent:
            return ()
        raise UsageError(
            f"resources.devices: the GPUs cannot be listed, NVML says: {error}; "
            "mend the driver, or train on the CPU with `devices: cpu`"
        ) from error
    try:
        return tuple(_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount()))
    finally:
        pynvml.nvmlShutdown()


def _gpu(nvml: Any, index: int) -> Gpu:
    # A GPU that fell off the bus, or that this user may not open, keeps its index so that the others keep theirs.
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        return Gpu(
            _text(nvml.nvmlDeviceGetUUID(handle)), _text(nvml.nvmlDeviceGetName(handle)), _instances(nvml, handle)
        )
    except nvml.NVMLError:
        return Gpu("")


def _instances(nvml: Any, handle: Any) -> tuple[MigInstance, ...] | None:
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError:  # a GPU without MIG
        return None
    if current != nvml.NVML_DEVICE_MIG_ENABLE:
        return None
    found = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            mig = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except nvml.NVMLError:  # fewer instances than fit
            continue
        found.append(
            MigInstance(
                _text(nvml.nvmlDeviceGetUUID(mig)),
                int(nvml.nvmlDeviceGetGpuInstanceId(mig)),
                int(nvml.nvmlDeviceGetComputeInstanceId(mig)),
                _text(nvml.nvmlDeviceGetName(mig)),
            )
        )
    return tuple(found)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
